"""A disk that is full: the file that did not fit is named with its reason, and nothing is left of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_pipeline import ENCODERS, outcomes, pdf

from ingest.pipeline import ingest_files
from mmrag.check import check
from mmrag.disk import copy_durably
from mmrag.errors import StoreError
from mmrag.index import Index

pytestmark = pytest.mark.slow

NO_ROOM = "No space left on the disk of"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def noise(path: Path, side: int) -> Path:
    """A picture that takes about three bytes a pixel, whatever compresses it."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_file_that_does_not_fit_costs_only_itself(disk: Path, tmp_path: Path) -> None:
    files = [pdf(tmp_path / "a.pdf", "harbour"), noise(tmp_path / "b.png", 1500), pdf(tmp_path / "c.pdf", "ferry")]
    with Index.open(disk / "store", create=True) as index:
        report = ingest_files(index, files, ENCODERS, workers=1)
        assert outcomes(report) == {"a.pdf": "ingested", "b.png": "failed", "c.pdf": "ingested"}
        (row,) = [r for r in report.results if r.path.name == "b.png"]
        assert row.reason == f"{NO_ROOM} {index.path}: make room, then run the same command again."
        assert check(index) == []


@pytest.mark.parametrize("spare", [0, 40_000, 400_000])
def test_a_store_on_a_full_disk_is_whole_once_there_is_room(disk: Path, tmp_path: Path, spare: int) -> None:
    subjects = ("harbour", "ferry", "island")
    files = [pdf(tmp_path / f"{name}.pdf", *(f"{name} {n}" for n in range(4))) for name in subjects]
    with Index.open(disk / "store", create=True) as index:
        ingest_files(index, files[:1], ENCODERS, workers=1)
        before = index.documents()
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - spare))
        report = ingest_files(index, files, ENCODERS, workers=1)
        assert {outcome for name, outcome in outcomes(report).items()} <= {"unchanged", "failed", "ingested"}
        assert outcomes(report)["island.pdf"] == "failed" or spare > 100_000
        for row in report.results:
            assert row.outcome != "failed" or row.reason.startswith(NO_ROOM), row.reason
        assert set(before) <= set(index.documents())
        assert index.match_pages("harbour", top_k=3)
    with Index.open(disk / "store") as index:
        ballast.unlink()
        report = ingest_files(index, files, ENCODERS, workers=1)
        assert set(outcomes(report).values()) <= {"ingested", "unchanged"}
        assert len(index.documents()) == 3
        assert check(index) == []


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Where no file system can be made: a limit on the size of a file, in a process of its own."""
    source, target = tmp_path / "source", tmp_path / "copies" / "target"
    source.write_bytes(os.urandom(200_000))
    target.parent.mkdir()
    program = f"""
import resource
from pathlib import Path
from mmrag.disk import copy_durably, room_on
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with room_on(Path("/somewhere")):
    copy_durably(Path({str(source)!r}), Path({str(target)!r}))
"""
    root = Path(__file__).resolve().parents[1]
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(root)}
    )
    assert done.returncode == 1
    assert f"StoreError: {NO_ROOM} /somewhere" in done.stderr
    assert list(target.parent.iterdir()) == []


def test_other_errors_keep_their_names(tmp_path: Path) -> None:
    from mmrag.disk import room_on

    with pytest.raises(FileNotFoundError), room_on(tmp_path):
        copy_durably(tmp_path / "none", tmp_path / "target")
    with pytest.raises(StoreError, match="another"), room_on(tmp_path):
        raise StoreError("another")
