"""Work on a real Ray cluster: the same results as here, whatever dies, and nothing of Ray's in the terminal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from chroma_server import free_port
from PIL import Image, ImageDraw, ImageFont
from ray_cluster import ray_cluster

from ingest.cluster import ClusterPool
from ingest.encode import _encode_texts
from ingest.limits import Limits
from ingest.pdf import read_page
from ingest.pipeline import ingest_files
from ingest.worker import Pool, TooCostly
from mmrag.bundled import text_vectors
from mmrag.encoders import BundledTextEncoder
from mmrag.errors import ClusterError, UnreadableFile, UsageError
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.vectors import TEXT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="Ray's clusters are not for Windows")]
pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def tasks_of_this_module() -> Iterator[None]:
    """Are found by Ray's workers, as mmrag is where it is installed on each machine."""
    here = Path(__file__).resolve().parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))
        yield


@pytest.fixture(scope="module")
def pool(tasks_of_this_module: None) -> Iterator[ClusterPool]:
    """On a cluster of this machine alone."""
    with closing(ClusterPool("local", Limits(page_seconds=2), workers=2)) as pool:
        yield pool


def pdf(path: Path, *subjects: str) -> Path:
    with pymupdf.open() as document:
        for subject in subjects:
            page = document.new_page()
            page.insert_text((72, 100), subject.capitalize(), fontsize=18)
            page.insert_textbox((72, 130, 520, 400), f"The {subject} was rebuilt in 1987. It has seven cranes. " * 4)
        document.save(path)
    return path


def scan(path: Path, *texts: str) -> Path:
    """A PDF with a picture of some words on each page."""
    with pymupdf.open() as document:
        for text in texts:
            image = Image.new("RGB", (1000, 300), "white")
            ImageDraw.Draw(image).text((60, 100), text, fill="black", font=ImageFont.load_default(48))
            image.save(path.with_suffix(".png"))
            page = document.new_page(width=500, height=150)
            page.insert_image(page.rect, filename=path.with_suffix(".png"))
        document.save(path)
    return path


def worker_of(path: Path, number: int) -> int:
    """The process of Ray's above the one that this runs in."""
    time.sleep(0.5)
    return os.getppid()


def told(named: Path | dict[str, Path], number: int) -> tuple[bytes, str, int]:
    path = named["file"] if isinstance(named, dict) else named
    return path.read_bytes(), path.suffix, number


def raises(path: Path) -> None:
    raise UnreadableFile(f"{path.read_text()}: not read.")


def hangs() -> None:
    while True:
        time.sleep(1)


def burns() -> None:
    while True:
        pass


def marks(path: str) -> None:
    Path(path).touch()
    time.sleep(0.1)


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_files_travel_as_bytes(pool: ClusterPool, tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.png"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    futures = [pool.submit(told, path, n) for path in (first, second) for n in range(3)]
    answers = [pool.result(future) for future in futures]
    assert answers == [(b"first", ".txt", n) for n in range(3)] + [(b"second", ".png", n) for n in range(3)]
    assert pool.result(pool.submit(told, {"file": second}, 0)) == (b"second", ".png", 0)
    first.write_bytes(b"third")
    assert pool.result(pool.submit(told, first, 9)) == (b"third", ".txt", 9)


def test_what_a_task_does_costs_only_itself(
    pool: ClusterPool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("harbour")
    gone = tmp_path / "gone"
    tasks = [(told, file, 1), (raises, file), (hangs,), (burns,), (crashes,), (told, gone, 2), (told, file, 3)]
    futures = [pool.submit(*task) for task in tasks]
    assert pool.result(futures[0])[2] == 1
    with pytest.raises(UnreadableFile, match=r"^harbour: not read\.$"):
        pool.result(futures[1])
    for future, says in zip(futures[2:5], ("more than 2 s", "more than 2 s", "SIGSEGV"), strict=True):
        with pytest.raises(TooCostly, match=says):
            pool.result(future)
    with pytest.raises(FileNotFoundError):
        pool.result(futures[5])
    assert pool.result(futures[6])[2] == 3
    assert capfd.readouterr() == ("", "")


def test_pages_and_vectors_are_those_that_are_made_here(pool: ClusterPool, tmp_path: Path) -> None:
    native = pdf(tmp_path / "native.pdf", "harbour", "island")
    printed = scan(tmp_path / "scan.pdf", "The pilot met the ferry.", "Seven cranes on the quay.")
    texts = ["The wharf was rebuilt in 1987.", "A gangway leads to the ferry, which leaves at noon."]
    tasks = [(read_page, file, "d", n) for file in (native, printed) for n in (1, 2)]
    encoding = (_encode_texts, text_vectors, texts)
    with closing(Pool(1, Limits())) as here:
        expected = [here.result(here.submit(*task)) for task in tasks]
        vectors = here.result(here.submit(*encoding))
    assert expected[3].text_source == "ocr"
    assert "cranes" in expected[3].regions[0].text
    submitted = [pool.submit(*task, pages=9) for task in (*tasks, encoding)]
    *pages, elsewhere = [pool.result(future) for future in submitted]
    assert pages == expected
    assert np.array_equal(elsewhere, vectors)


def test_what_is_recalled_is_not_begun(pool: ClusterPool, tmp_path: Path) -> None:
    futures = [pool.submit(marks, str(tmp_path / str(n))) for n in range(200)]
    assert sum(future.cancel() for future in futures[100:]) == 100
    for future in futures[:100]:
        pool.result(future)
    pool.result(pool.submit(marks, str(tmp_path / "last")))
    assert 101 <= len(list(tmp_path.iterdir())) < 150
    assert pool._futures == {}


def test_an_ingest_on_the_cluster_makes_the_same_store(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    pdf(folder / "a.pdf", "harbour", "island", "wharf")
    scan(folder / "b.pdf", "The pilot met the ferry.")
    (folder / "c.pdf").write_bytes(b"%PDF-1.7 broken")
    held = []
    for ray in (None, "local"):
        with Index.open(tmp_path / f"store-{ray}", create=True) as index:
            report = ingest_files(index, [folder], Encoders(BundledTextEncoder()), workers=2, ray=ray)
            pages = [index.page(d.id, n) for d in index.documents() for n in range(1, d.page_count + 1)]
            vectors = index.nearest(TEXT, BundledTextEncoder().get_query_embedding("cranes"), top_k=99)
            rows = [(result.path.name, str(result.outcome), result.reason) for result in report.results]
            held.append((rows, index.counts(), pages, dict(vectors)))
    assert held[0] == held[1]
    assert [outcome for _, outcome, _ in held[0][0]] == ["ingested", "ingested", "ingested", "failed"]
    assert capfd.readouterr() == ("", "")


def test_a_driver_that_dies_leaves_nobody_waiting(tmp_path: Path) -> None:
    with closing(ClusterPool("local", Limits(), workers=1)) as pool:
        future = pool.submit(hangs)
        assert pool._driver.pid
        os.kill(pool._driver.pid, signal.SIGKILL)
        with pytest.raises(ClusterError, match="went away: run the same command again"):
            pool.result(future)
        with pytest.raises(ClusterError, match="went away"):
            pool.result(pool.submit(hangs))


def test_no_page_is_lost_or_doubled_when_a_node_dies(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    subjects = [f"harbour number {n}" for n in range(40)]
    file = pdf(tmp_path / "a.pdf", *subjects)
    expected = [read_page(file, "d", n) for n in range(1, 41)]
    with ray_cluster() as cluster, closing(ClusterPool(cluster.address, Limits(), workers=1)) as pool:
        assert pool.workers == 2
        seen = {pool.result(future) for future in [pool.submit(worker_of, file, n) for n in range(8)]}
        assert len(seen) == 2  # both work
        futures = [pool.submit(read_page, file, "d", n) for n in range(1, 41)]
        assert pool.result(futures[3]) == expected[3]
        cluster.kill_worker()  # with most of the pages still to be read
        later = [pool.submit(worker_of, file, n) for n in range(8)]
        assert [pool.result(future) for future in futures] == expected
        survivors = {pool.result(future) for future in later}
        assert len(survivors) == 1
        assert survivors < seen
        assert pool._futures == {}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["", "cluster", "http://h:1", "h:port", "me:hunter2@h:6379", "h:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="names no cluster: give local, auto, or its address"):
        ClusterPool(address, Limits(), workers=1)


def test_a_cluster_that_is_not_there_is_named_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"at 127.0.0.1:\d+ cannot be reached \(Connection refused\): start it"):
        ClusterPool(f"127.0.0.1:{free_port()}", Limits(), workers=1)
    assert time.monotonic() - started < 5
