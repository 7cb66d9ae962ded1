"""Folders that are watched: what is new or changed is given out once, when nobody writes to it any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_pipeline import ENCODERS, outcomes, pdf

from ingest import watch
from ingest.pipeline import ingest_files
from ingest.watch import _Look, batches
from mmrag.errors import UsageError
from mmrag.index import Index

ROOT = Path(__file__).resolve().parents[1]


def named(paths: list[Path]) -> list[str]:
    return sorted(path.name for path in paths)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# -- what has changed ------------------------------------------------------------------------------------------------


def test_a_file_is_given_out_once_it_has_come_to_rest(tmp_path: Path) -> None:
    write(tmp_path / "old.md", "old")
    look = _Look([tmp_path], None, 2.0)
    assert look.settled(0) == []
    assert not look.is_waiting
    new = write(tmp_path / "deep" / "new.md", "a")
    write(tmp_path / "passed over.bin", "a")
    assert look.settled(1) == []
    assert look.is_waiting
    write(new, "a longer one")  # somebody is still copying it
    assert look.settled(2.9) == []
    assert look.settled(4.8) == []
    assert look.settled(4.9) == [new]
    assert look.settled(99) == []
    write(tmp_path / "old.md", "changed")
    assert look.settled(100) == []
    assert named(look.settled(102)) == ["old.md"]


def test_what_is_given_out_is_not_given_again_until_it_changes(tmp_path: Path) -> None:
    look = _Look([tmp_path], None, 0.0)
    path = write(tmp_path / "a.md", "a")
    assert look.settled(1) == [path]
    assert look.settled(2) == []
    os.utime(path, ns=(1, 1))
    assert look.settled(3) == [path]
    other = write(tmp_path / "other", "a")
    os.utime(other, ns=(1, 1))
    other.replace(path)  # of the same size and time
    assert look.settled(4) == [path]
    path.unlink()
    assert look.settled(5) == []
    write(path, "a")
    assert look.settled(6) == [path]


def test_folders_that_come_are_searched_and_links_to_nowhere_are_not_waited_for(tmp_path: Path) -> None:
    watched, store = tmp_path / "watched", tmp_path / "watched" / "store"
    store.mkdir(parents=True)
    look = _Look([watched], store, 0.0)
    write(tmp_path / "box" / "deep" / "a.md", "a")
    (tmp_path / "box").rename(watched / "box")
    (watched / "nowhere.md").symlink_to(tmp_path / "gone.md")
    write(store / "files" / "b.md", "b")
    assert named(look.settled(1)) == ["a.md"]
    assert not look.is_waiting


def test_patterns_and_files_that_are_named_are_looked_at(tmp_path: Path) -> None:
    look = _Look([tmp_path / "*.md", tmp_path / "one.txt"], None, 0.0)
    assert look.must_poll
    for name in ("a.md", "one.txt", "two.txt", "deep/b.md"):
        write(tmp_path / name, "x")
    assert named(look.settled(1)) == ["a.md", "one.txt"]
    assert not _Look([tmp_path], None, 0.0).must_poll


# -- what is told ----------------------------------------------------------------------------------------------------


class Watched:
    """The batches of a watch in a thread of its own."""

    def __init__(self, *sources: Path, exclude: Path | None = None) -> None:
        self.got: list[list[str | Path]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sources, exclude))
        self._thread.start()

    def _run(self, sources: tuple[Path, ...], exclude: Path | None) -> None:
        for batch in batches(sources, exclude=exclude, settle=0.2, stop=self._stop):
            self.got.append(list(batch))

    def wait_for(self, number: int) -> None:
        ends = time.monotonic() + 20
        while len(self.got) < number and time.monotonic() < ends:
            time.sleep(0.02)
        assert len(self.got) >= number

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


def test_a_folder_is_watched(folder: Path) -> None:
    watched = Watched(folder, exclude=folder / "store")
    try:
        watched.wait_for(1)
        assert watched.got == [[folder]]
        write(folder / "deep" / "a.md", "a")
        watched.wait_for(2)
        write(folder / "store" / "b.md", "b")
        time.sleep(0.6)
        write(folder / "c.md", "c")
        watched.wait_for(3)
    finally:
        watched.close()
    assert watched.got[1:] == [[folder / "deep" / "a.md"], [folder / "c.md"]]


def test_a_file_that_is_named_is_watched(folder: Path) -> None:
    path = write(folder / "a.md", "a")
    watched = Watched(path)
    try:
        watched.wait_for(1)
        write(path, "changed")
        watched.wait_for(2)
    finally:
        watched.close()
    assert watched.got == [[path], [path]]


def test_what_changes_during_the_first_ingest_is_not_missed(folder: Path) -> None:
    found = batches([folder], settle=0.2)
    assert list(next(found)) == [folder]
    path = write(folder / "a.md", "a")  # before anything is watched
    assert next(found) == [path]
    found.close()


def test_folders_that_cannot_be_watched_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path, **options: object) -> Iterator[object]:
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(watch, "watch_folders", refuse)
    with pytest.raises(UsageError, match="WATCHFILES_FORCE_POLLING=1"):
        list(batches([folder]))


@pytest.mark.slow
def test_a_file_that_fails_waits_for_its_change(folder: Path) -> None:
    found = batches([folder], exclude=folder / "store", settle=0.2)
    with Index.open(folder / "store", create=True) as index:
        ingest_files(index, next(found), ENCODERS, workers=1)
        path = folder / "a.pdf"
        path.write_bytes(b"%PDF-1.7 but not whole")
        assert outcomes(ingest_files(index, next(found), ENCODERS, workers=1)) == {"a.pdf": "failed"}
        pdf(path, "harbour")
        assert outcomes(ingest_files(index, next(found), ENCODERS, workers=1)) == {"a.pdf": "ingested"}
    found.close()


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_watches_until_it_is_interrupted(tmp_path: Path) -> None:
    folder, store = tmp_path / "docs", tmp_path / "store"
    pdf(write(folder / "a.pdf", ""), "harbour")
    command = [sys.executable, "-m", "mmrag", "ingest", str(folder), "--store", str(store), "--watch", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    assert process.stderr
    try:
        (first,) = json.loads(process.stdout.readline())["files"]
        assert (first["path"], first["outcome"]) == (str(folder / "a.pdf"), "ingested")
        assert "Watching" in process.stderr.readline()
        # The store is free while nothing is ingested.
        with Index.open(store) as index, index.writing():
            write(folder / "b.md", "# Lighthouse")
            time.sleep(3)  # it waits for the other writer now
        (second,) = json.loads(process.stdout.readline())["files"]
        assert (second["path"], second["outcome"]) == (str(folder / "b.md"), "ingested")
        (folder / "a.pdf").unlink()
        write(folder / "b.md", "# Lighthouse, changed")
        (third,) = json.loads(process.stdout.readline())["files"]
        assert (third["path"], third["outcome"]) == (str(folder / "b.md"), "replaced")
        with Index.open(store) as index:
            assert [document.name for document in index.documents()] == ["a.pdf", "b.md"]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines()[-1] == "No longer watching. What was committed stays."
