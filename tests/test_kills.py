"""Fifty times an ingest is killed at a random moment; in the end there is what one makes that is left in peace."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from test_pipeline import pdf, written

from mmrag.check import check
from mmrag.index import Index
from mmrag.testing import HashEncoder
from mmrag.vectors import IMAGE, TEXT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]

KILLS = int(os.environ.get("MMRAG_TEST_KILLS", "50"))
SEED = 7
ROOT = Path(__file__).resolve().parents[1]
STAGES = ("ingest", "change", "remove", "again")
QUERIES = ("the harbour was rebuilt", "ferry and island", "revenue by quarter", "lighthouse")
ENCODER = HashEncoder()


# -- the collection --------------------------------------------------------------------------------------------------


def table(path: Path) -> None:
    with pymupdf.open() as document:
        page = document.new_page()
        page.insert_text((72, 80), "Revenue by quarter", fontsize=16)
        for row in range(6):
            for column in range(4):
                cell = pymupdf.Rect(72 + 110 * column, 120 + 30 * row, 182 + 110 * column, 150 + 30 * row)
                page.draw_rect(cell)
                page.insert_text((cell.x0 + 6, cell.y1 - 10), f"Q{row} {2025 * row + column}")
        document.save(path)


def collection(folder: Path) -> None:
    folder.mkdir()
    pdf(folder / "again 1.pdf", "harbour", "breakwater")
    pdf(folder / "again 2.pdf", "ferry")
    shutil.copy(folder / "again 1.pdf", folder / "copy.pdf")
    pdf(folder / "gone.pdf", "windmill")
    pdf(folder / "island.pdf", *(f"island number {n}" for n in range(5)))
    pdf(folder / "new.pdf", "gangway")
    written("LIGHTHOUSE", (600, 300), (40, 40)).save(folder / "photo.png")
    table(folder / "table.pdf")


def changed(folder: Path) -> None:
    """What the second stage finds: one file replaced, one written over with the content of another."""
    pdf(folder / "island.pdf", *(f"island number {n}, seen from the ferry" for n in range(3)))
    shutil.copy(folder / "again 2.pdf", folder / "new.pdf")


@dataclass(frozen=True)
class Place:
    """A folder in which all stores find the same files under the same paths. No PDF is made twice alike."""

    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def store(self) -> Path:
        """That nobody disturbed."""
        return self.folder / "store"

    def make(self) -> None:
        collection(self.folder / "first")
        shutil.copytree(self.folder / "first", self.folder / "second")
        changed(self.folder / "second")

    def lay_out(self, stage: str) -> None:
        if self.files.exists():
            shutil.rmtree(self.files)
        shutil.copytree(self.folder / ("first" if stage == "ingest" else "second"), self.files)


# -- runs and kills --------------------------------------------------------------------------------------------------


class Run:
    """One process of kills.py, imported and waiting, at the head of a process group."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("kills.py"))]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdin=-1, stdout=-1, text=True, env=environment, start_new_session=True
        )
        self.said: list[tuple[float, str]] = []
        self._news = threading.Condition()
        self._ended = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.said.append((time.monotonic(), line.strip()))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, word: str, count: int = 1, timeout: float = 120) -> bool:
        """Whether it was said so often, before the process ended."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._count(word) >= count, timeout)
            return self._count(word) >= count

    def _count(self, word: str) -> int:
        return sum(said == word for _, said in self.said)

    def go(self, store: Path, stage: str, files: Path) -> None:
        assert self.wait_for("ready")
        assert self.process.stdin is not None
        self.process.stdin.write(f"{store}\t{stage}\t{files}\n")
        self.process.stdin.flush()
        self.began = time.monotonic()

    def finish(self) -> None:
        assert self.wait_for("done")
        assert self.process.wait(30) == 0
        self._close()

    def _close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._listener.join(10)  # until no process of the group has it open any more
        assert self._ended
        self.process.stdin.close()
        self.process.stdout.close()

    def kill(self, *, group: bool) -> bool:
        """Whether it was not done before."""
        target = os.killpg if group else os.kill
        target(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()
        return self._count("done") == 0


@dataclass(frozen=True)
class Pace:
    """How long a stage takes that nobody disturbs, and each commit in it. Seconds."""

    whole: float
    commit: float


def undisturbed(place: Place, watch: Callable[[], None]) -> dict[str, Pace]:
    paces = {}
    for stage in STAGES:
        place.lay_out(stage)
        run = Run()
        run.go(place.store, stage, place.files)
        run.finish()
        commits = [at for at, said in run.said if said == "writing"]
        end = run.said[-1][0]
        paces[stage] = Pace(end - run.began, (end - commits[0]) / len(commits) if commits else 0.1)
        watch()
    return paces


def disturb(run: Run, pace: Pace, chance: random.Random) -> bool:
    """Kills at any moment, or in the moments after a commit has begun; whether it was in time."""
    if chance.random() < 0.4:
        run.wait_for("done", timeout=chance.uniform(0.0, pace.whole))
    elif run.wait_for("writing", chance.choice((1, 1, 2, 3))):
        run.wait_for("done", timeout=chance.uniform(0.0, 1.5 * pace.commit))
    return run.kill(group=chance.random() < 0.5)


# -- what a store holds ----------------------------------------------------------------------------------------------

TABLES = {
    "documents": "SELECT * FROM documents ORDER BY id",
    "sources": "SELECT * FROM sources ORDER BY path",
    "pages": "SELECT document_id, number, width, height, text_source, labels FROM pages ORDER BY 1, 2",
    "regions": "SELECT * FROM regions ORDER BY id",
    "chunks": "SELECT id, document_id, page, kind, box, text, context, spans, description FROM chunks ORDER BY id",
    "words of chunks": "SELECT c.id, f.tokens FROM chunks c JOIN chunks_fts f ON f.rowid = c.rowid ORDER BY 1",
    "words of pages": "SELECT p.document_id, p.number, f.tokens FROM pages p, pages_fts f WHERE f.rowid = p.rowid"
    " ORDER BY 1, 2",
    "rows of words": "SELECT (SELECT count(*) FROM chunks_fts), (SELECT count(*) FROM pages_fts)",
    "vectors": "SELECT document_id, text, image FROM vectors ORDER BY 1",
    "journal": "SELECT * FROM journal",
}


def contents(store: Path) -> dict[str, Any]:
    with sqlite3.connect(store / "ledger.sqlite3") as db:
        held: dict[str, Any] = {name: db.execute(sql).fetchall() for name, sql in TABLES.items()}
    db.close()
    files = sorted((store / "files").iterdir())
    return held | {"files": [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]}


def vectors(store: Path) -> dict[tuple[str, str], Any]:
    with Index.open(store) as index, index.inspecting() as (ledger, kept):
        return {
            (name, item.key.chunk_id): item.vector
            for name in (TEXT, IMAGE)
            for batch in kept.kept(name, version=ledger.version())
            for item in batch
        }


def results(store: Path) -> dict[str, Any]:
    """Scores by what was found: equal scores have no order."""
    with Index.open(store) as index:
        found: dict[str, Any] = {}
        for query in QUERIES:
            vector = ENCODER.get_query_embedding(query)
            found[f"chunks {query}"] = dict(index.match_chunks(query, top_k=100))
            found[f"pages {query}"] = dict(index.match_pages(query, top_k=100))
            found[f"text {query}"] = dict(index.nearest(TEXT, vector, top_k=1000))
            found[f"image {query}"] = dict(index.nearest(IMAGE, vector, top_k=1000))
        return found


def assert_same(store: Path, expected: Path) -> None:
    assert contents(store) == contents(expected)
    mine, theirs = vectors(store), vectors(expected)
    assert mine.keys() == theirs.keys()
    for key in mine:
        np.testing.assert_allclose(mine[key], theirs[key], atol=1e-6)
    here, there = results(store), results(expected)
    for name, scores in there.items():
        assert here[name] == pytest.approx(scores, abs=1e-5), name


@dataclass
class Versions:
    """Of each document what whole versions of it hold, gathered from stores that nobody disturbed."""

    known: dict[str, tuple[int, int, int, int]]

    def learn(self, store: Path) -> None:
        with Index.open(store) as index:
            self.known |= {document.id: _size(index, document.id) for document in index.documents()}

    def assert_whole(self, store: Path) -> int:
        """That it opens, and shows every document whole, or not at all; returns how many."""
        if not (store / "ledger.sqlite3").exists():
            return 0
        with Index.open(store, create=True) as index:
            documents = index.documents()
            for document in documents:
                assert _size(index, document.id) == self.known[document.id], document.name
                copy = index.source(document).read_bytes()
                assert hashlib.sha256(copy).hexdigest() == document.sha256
            ids = {document.id for document in documents}
            for query in QUERIES:
                hits = index.nearest(TEXT, ENCODER.get_query_embedding(query), top_k=1000)
                assert {chunk.document_id for chunk in index.chunks([i for i, _ in hits]).values()} == ids
                assert {i for (i, _), _ in index.match_pages(query, top_k=100)} <= ids
        return len(documents)


def _size(index: Index, document_id: str) -> tuple[int, int, int, int]:
    """Pages, regions, chunks, and chunks that are found by their vectors."""
    document = index.document(document_id)
    assert document is not None
    pages = [index.page(document_id, number) for number in range(1, document.page_count + 1)]
    chunks = index.chunks_of([(document_id, number) for number in range(1, document.page_count + 1)])
    hits = index.nearest(TEXT, [1.0] * 64, top_k=1000, documents=[document_id])
    regions = sum(len(page.regions) for page in pages if page)
    return sum(page is not None for page in pages), regions, len(chunks), len(hits)


# -- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Versions, dict[str, Pace]]:
    """A store that nobody disturbed, what its documents held after every stage, and how long each stage took."""
    place, versions = Place(tmp_path_factory.mktemp("peace")), Versions({})
    place.make()
    return place, versions, undisturbed(place, lambda: versions.learn(place.store))


def test_fifty_kills_leave_no_trace(
    peaceful: tuple[Place, Versions, dict[str, Pace]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, versions, paces = peaceful
    chance, kills, stores, began = random.Random(SEED), Counter[str](), 0, time.monotonic()
    next_run = Run()  # imports while the one before is at work

    def start(store: Path, stage: str) -> Run:
        nonlocal next_run
        run, next_run = next_run, Run()
        run.go(store, stage, place.files)
        return run

    try:
        while kills.total() < KILLS:
            store = tmp_path / f"store-{(stores := stores + 1)}"
            for stage in STAGES:
                place.lay_out(stage)
                while kills.total() < KILLS and disturb(start(store, stage), paces[stage], chance):
                    kills[stage] += 1
                    versions.assert_whole(store)
                start(store, stage).finish()
            assert_same(store, place.store)
            with Index.open(store) as index:
                assert check(index) == []
    finally:
        next_run.kill(group=True)
    with capsys.disabled():
        print(f"\n{dict(kills)} kills, {stores} stores, {time.monotonic() - began:.0f} s, {paces}")
