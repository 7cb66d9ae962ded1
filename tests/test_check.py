"""A store damaged in every way that is known: the check names it, the repair mends it, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_index import ENCODER, Sample, sample

from ingest import repair as repair_module
from ingest.repair import Repaired, repair
from mmrag.check import Finding, What, check
from mmrag.errors import StoreBusy, StoreMismatch
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.types import RegionKind
from mmrag.vectors import IMAGE, TEXT, Key, Place, VectorStore

pytestmark = pytest.mark.slow

ENCODERS = Encoders(ENCODER)
MANY = 1200
"""Vectors: more than Chroma keeps in its log before it writes its graph to the disk."""


class Shelf:
    """A store with a few documents, closed, and what one needs to damage it."""

    def __init__(self, folder: Path, samples: list[Sample]) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.samples = samples
        self.ids = [s.document.id for s in samples]

    def sql(self, *statements: str) -> None:
        with sqlite3.connect(self.store / "ledger.sqlite3") as db:
            for statement in statements:
                db.execute(statement)
        db.close()

    def with_vectors(self, name: str, change: Callable[[Any], None]) -> None:
        """Lets `change` have Chroma's own collection, past everything that keeps count."""
        vectors = VectorStore.shared(Place(self.store / "chroma"))
        vectors.count(name, version=0)
        change(vectors._collections[name])
        vectors.release()

    def check(self) -> list[Finding]:
        with Index.open(self.store) as index:
            return check(index)

    def repair(self) -> Repaired:
        with Index.open(self.store) as index:
            return repair(index, lambda: ENCODERS)

    def found(self) -> dict[str, Any]:
        """What a search finds, by every leg, and what is stored."""
        with Index.open(self.store) as index:
            query = ENCODER.get_query_embedding("wind and water")
            return {
                "documents": index.documents(),
                "pages": [index.page(i, 1) for i in self.ids],
                "chunks": index.chunks_of([(i, page) for i in self.ids for page in (1, 2, 3)]),
                "text": index.match_chunks("wind water crane", top_k=20),
                "whole": index.match_pages("wind water crane", top_k=20),
                TEXT: index.nearest(TEXT, query, top_k=5),
                IMAGE: index.nearest(IMAGE, query, top_k=5),
                "counts": index.counts(),
                "files": sorted(path.name for path in (self.store / "files").iterdir()),
            }


def build(folder: Path, **documents: tuple[str, ...]) -> Shelf:
    samples = []
    with Index.open(folder / "store", create=True) as index:
        index.require_encoders(text=ENCODERS.text_identity, image=ENCODERS.image_identity)
        for name, texts in documents.items():
            kind = RegionKind.PICTURE if name == "picture" else RegionKind.TEXT
            samples.append(sample(folder, f"{name}.pdf", *texts, kind=kind))
            samples[-1].add_to(index)
    return Shelf(folder, samples)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return build(
        tmp_path_factory.mktemp("built"),
        wind=("wind and water", "wind and rain", "calm"),
        quay=("quay and crane", "crane and ferry"),
        picture=("a chart of the wind",),
    )


@pytest.fixture
def shelf(built: Shelf, tmp_path: Path) -> Shelf:
    shutil.copytree(built.folder, tmp_path, dirs_exist_ok=True)
    shelf = Shelf(tmp_path, built.samples)
    shelf.sql(*(f"UPDATE {table} SET path = replace(path, '{built.folder}', '{tmp_path}')" for table in PATHS))
    return shelf


PATHS = ("documents", "sources")


def test_a_whole_store_has_nothing_wrong(shelf: Shelf) -> None:
    assert shelf.check() == []
    before = shelf.found()
    assert shelf.repair() == Repaired([], [], [])
    assert shelf.found() == before
    assert len(before[IMAGE]) == 1


# -- one damage after the other --------------------------------------------------------------------------------------


def _erase_a_vector(shelf: Shelf) -> None:
    shelf.with_vectors(TEXT, lambda c: c.delete(ids=[f"{shelf.ids[0]}-p1-c1@1"]))


def _erase_a_picture(shelf: Shelf) -> None:
    shelf.with_vectors(IMAGE, lambda c: c.delete(ids=[f"{shelf.ids[2]}-p1-c1@1"]))


def _flatten_a_vector(shelf: Shelf) -> None:
    shelf.with_vectors(TEXT, lambda c: c.update(ids=[f"{shelf.ids[0]}-p1-c1@1"], embeddings=[[0.0] * 64]))


def _add_orphans(shelf: Shelf) -> None:
    """One of no document, one of a generation that was never committed, one that is no key of ours."""
    ids = ["gone-p1-c1@1", f"{shelf.ids[0]}-p1-c1@7", "stranger"]
    metadatas = [{"document": of, "page": 1} for of in ("gone", shelf.ids[0], shelf.ids[0])]
    shelf.with_vectors(TEXT, lambda c: c.upsert(ids=ids, embeddings=[[1.0] * 64] * 3, metadatas=metadatas))


def _forget_full_text(shelf: Shelf) -> None:
    shelf.sql("DELETE FROM chunks_fts WHERE rowid = 1", "INSERT INTO pages_fts (rowid, tokens) VALUES (99, 'wind')")


def _damage_full_text(shelf: Shelf) -> None:
    shelf.sql("UPDATE chunks_fts_data SET block = x'00ff00ff' WHERE id > 10")


def _drop_full_text(shelf: Shelf) -> None:
    shelf.sql("DROP TABLE pages_fts")


def _strand_rows(shelf: Shelf) -> None:
    shelf.sql("PRAGMA foreign_keys = OFF", "INSERT INTO sources VALUES ('/nowhere.pdf', 'gone')")


def _leave_a_change(shelf: Shelf) -> None:
    shelf.sql("INSERT INTO journal VALUES ('half')")
    (shelf.store / "files" / "half.pdf.partial").write_bytes(b"half")


def _leave_strays(shelf: Shelf) -> None:
    (shelf.store / "files" / "stray.pdf").write_bytes(b"stray")
    (shelf.store / "files" / f"{shelf.ids[0]}.pdf.partial").write_bytes(b"half")


def _change_a_copy(shelf: Shelf) -> None:
    (shelf.store / "files" / f"{shelf.ids[0]}.pdf").write_bytes(b"other")


def _lose_a_copy(shelf: Shelf) -> None:
    (shelf.store / "files" / f"{shelf.ids[0]}.pdf").unlink()


def _damage_chroma(shelf: Shelf) -> None:
    (shelf.store / "chroma" / "chroma.sqlite3").write_bytes(b"garbage" * 1000)


def _lose_chroma(shelf: Shelf) -> None:
    shutil.rmtree(shelf.store / "chroma")


def _forget_the_vectors(shelf: Shelf) -> None:
    shelf.sql("DELETE FROM vectors")


def _unsort_an_index(shelf: Shelf) -> None:
    """An index of SQLite's that has lost a row of its table."""
    shelf.sql(
        "CREATE TABLE kept AS SELECT * FROM sqlite_master WHERE name = 'chunks_of_page'",
        "PRAGMA writable_schema = ON",
        "DELETE FROM sqlite_master WHERE name = 'chunks_of_page'",
    )
    shelf.sql("UPDATE chunks SET page = 3 WHERE id LIKE '%p1-c1' AND rowid = 1")
    shelf.sql(
        "PRAGMA writable_schema = ON",
        "INSERT INTO sqlite_master SELECT * FROM kept",
        "PRAGMA writable_schema = OFF",
    )
    shelf.sql("UPDATE chunks SET box = box", "DROP TABLE kept")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_erase_a_vector, [(What.MISSING, 1, 0)]),
        (_erase_a_picture, [(What.MISSING, 1, 2)]),
        (_flatten_a_vector, [(What.WRONG, 1, 0)]),
        (_add_orphans, [(What.ORPHANS, 3, None)]),
        (_forget_full_text, [(What.FULL_TEXT, 1, None), (What.FULL_TEXT, 1, None)]),
        (_damage_full_text, [(What.FULL_TEXT, 1, None)]),
        (_drop_full_text, [(What.FULL_TEXT, 1, None)]),
        (_strand_rows, [(What.STRANDED, 1, None)]),
        (_leave_a_change, [(What.UNFINISHED, 1, None)]),
        (_leave_strays, [(What.STRAYS, 2, None)]),
        (_change_a_copy, [(What.COPY, 1, 0)]),
        (_lose_a_copy, [(What.COPY, 1, 0)]),
        (_damage_chroma, [(What.UNREADABLE, 1, None)]),
        (_lose_chroma, [(What.MISSING, 3, 0), (What.MISSING, 2, 1), (What.MISSING, 1, 2), (What.MISSING, 1, 2)]),
    ],
)
def test_damage_is_named_and_mended(
    shelf: Shelf, damage: Callable[[Shelf], None], expected: list[tuple[What, int, int | None]]
) -> None:
    before = shelf.found()
    damage(shelf)
    named = [(f.what, f.count, f.document and f.document.id) for f in shelf.check()]
    wanted = [(what, count, None if of is None else shelf.ids[of]) for what, count, of in expected]
    assert sorted(named, key=str) == sorted(wanted, key=str)
    result = shelf.repair()
    assert result.left == []
    assert len(result.found) == len(result.mended) == len(expected)
    assert shelf.check() == []
    assert shelf.found() == before


def test_a_document_of_which_no_vectors_are_known_gets_them(shelf: Shelf) -> None:
    before = shelf.found()
    _forget_the_vectors(shelf)
    assert {f.what for f in shelf.check()} == {What.MISSING, What.ORPHANS}
    assert shelf.repair().left == []
    assert shelf.found() == before


def test_vectors_put_aside_are_named(shelf: Shelf) -> None:
    _damage_chroma(shelf)
    (note,) = shelf.repair().notes
    aside = shelf.store / "chroma.damaged-1"
    assert str(aside) in note
    assert (aside / "chroma.sqlite3").read_bytes().startswith(b"garbage")


# -- a graph on the disk ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    words = [f"alpha{n} beta{n * 7} gamma{n * 13} delta{n * 29} wind" for n in range(MANY)]
    shelf = build(tmp_path_factory.mktemp("big"), wind=tuple(words))
    assert shelf.check() == []
    return shelf


def _graph(shelf: Shelf) -> Path:
    files = list((shelf.store / "chroma").glob("*/data_level0.bin"))
    return max(files, key=lambda file: file.stat().st_size)


def _cut_the_graph(shelf: Shelf) -> None:
    os.truncate(_graph(shelf), 1000)


def _lose_the_graph(shelf: Shelf) -> None:
    shutil.rmtree(_graph(shelf).parent)


def _empty_the_graph(shelf: Shelf) -> None:
    _graph(shelf).write_bytes(bytes(_graph(shelf).stat().st_size))


def _rot(shelf: Shelf) -> None:
    """The bits of one vector on the disk become those of no number."""
    data, size = bytearray(_graph(shelf).read_bytes()), _place(shelf)
    start = 5 * size + size - _LABEL - _VECTOR
    data[start : start + _VECTOR] = np.full(64, np.nan, np.float32).tobytes()
    _graph(shelf).write_bytes(bytes(data))


def _lose_links(shelf: Shelf) -> None:
    """Every vector is there, and no way leads from one to the next."""
    data, size = bytearray(_graph(shelf).read_bytes()), _place(shelf)
    links = size - _LABEL - _VECTOR
    for start in range(0, len(data), size):
        data[start : start + links] = bytes(links)
    _graph(shelf).write_bytes(bytes(data))


_VECTOR, _LABEL = 64 * 4, 8
"""Bytes that stand at the end of a place in the graph; before them how many neighbours it has, and which."""


def _place(shelf: Shelf) -> int:
    """Bytes of a place, of which hnswlib says for each in another file, four bytes long, how high it reaches."""
    return _graph(shelf).stat().st_size // ((_graph(shelf).parent / "length.bin").stat().st_size // 4)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_cut_the_graph, {What.UNREADABLE}),
        (_lose_the_graph, {What.UNREADABLE}),
        (_empty_the_graph, {What.UNREADABLE}),
        (_rot, {What.WRONG}),
        (_lose_links, {What.LOST}),
    ],
)
def test_a_damaged_graph_is_named_and_built_anew(
    big: Shelf, tmp_path: Path, damage: Callable[[Shelf], None], what: set[What]
) -> None:
    shutil.copytree(big.store, tmp_path / "store")
    shelf = Shelf(tmp_path, big.samples)
    before = shelf.found()
    damage(shelf)
    assert {f.what for f in shelf.check()} == what
    assert shelf.repair().left == []
    after = shelf.found()
    assert {key: after[key] for key in after if key != TEXT} == {key: before[key] for key in before if key != TEXT}
    assert [cosine for _, cosine in after[TEXT]] == pytest.approx([cosine for _, cosine in before[TEXT]], abs=1e-5)


# -- what no repair mends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "what", "count"),
    [
        ("DELETE FROM pages WHERE document_id = '{0}' AND number = 2", What.PAGES, 1),
        ("UPDATE pages SET number = 9 WHERE document_id = '{0}' AND number = 3", What.PAGES, 2),
        ("DELETE FROM regions WHERE id = '{0}-p1-r1'", What.REGIONS, 1),
        ("UPDATE regions SET caption_id = 'none' WHERE id = '{0}-p1-r1'", What.REGIONS, 1),
        ("UPDATE regions SET page = 7 WHERE id = '{0}-p1-r1'", What.REGIONS, 1),
        ("UPDATE regions SET text = 'other' WHERE id = '{0}-p1-r1'", What.REGIONS, 1),
        ("UPDATE chunks SET page = 7 WHERE id = '{0}-p1-c1'", What.REGIONS, 1),
        ("UPDATE chunks SET spans = '[[\"{0}-p1-r1\", 0, 99, 0]]' WHERE id = '{0}-p1-c1'", What.REGIONS, 1),
    ],
)
def test_what_only_reading_the_file_again_mends_says_so(shelf: Shelf, statement: str, what: What, count: int) -> None:
    shelf.sql(statement.format(shelf.ids[0]))
    (finding,) = [f for f in shelf.check() if f.what is what]
    assert finding.count == count
    assert finding.document is not None
    assert finding.document.id == shelf.ids[0]
    assert finding.remedy == f"ingest it again:  mmrag ingest '{finding.document.path}' --again"
    assert what in {f.what for f in shelf.repair().left} <= {what, What.REGIONS}


def test_a_copy_is_not_taken_from_a_file_that_changed(shelf: Shelf) -> None:
    _lose_a_copy(shelf)
    original = shelf.folder / "wind.pdf"
    original.write_bytes(b"changed since")
    (finding,) = shelf.repair().left
    assert finding.what is What.COPY
    assert finding.remedy.endswith("if that is still the same file; else put that back")
    assert not (shelf.store / "files" / f"{shelf.ids[0]}.pdf").exists()


def test_a_copy_is_taken_from_another_place_of_the_same_content(shelf: Shelf) -> None:
    elsewhere = shelf.folder / "elsewhere.pdf"
    (shelf.folder / "wind.pdf").rename(elsewhere)
    shelf.sql(f"INSERT INTO sources VALUES ('{elsewhere}', '{shelf.ids[0]}')")
    _lose_a_copy(shelf)
    assert shelf.repair().left == []


def test_damage_inside_the_ledger_is_one_finding(big: Shelf, tmp_path: Path) -> None:
    shutil.copytree(big.store, tmp_path / "store")
    shelf = Shelf(tmp_path, big.samples)
    shelf.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger = shelf.store / "ledger.sqlite3"
    content = ledger.read_bytes()
    ledger.write_bytes(content[:200_000] + b"\xff" * 4096 + content[204_096:])
    (finding,) = shelf.check()
    assert finding.what is What.LEDGER
    assert "remove the folder and ingest again" in finding.remedy
    assert [f.what for f in shelf.repair().left] == [What.LEDGER]


def test_an_index_of_sqlite_is_built_anew(shelf: Shelf) -> None:
    _unsort_an_index(shelf)
    assert [f.what for f in shelf.check()] == [What.LEDGER]
    result = shelf.repair()
    assert What.LEDGER not in {f.what for f in result.left}


def test_no_encoders_are_loaded_where_none_are_needed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    _leave_strays(shelf)
    with Index.open(shelf.store) as index:
        assert repair(index, lambda: pytest.fail("loaded")).left == []


def test_other_encoders_than_those_of_the_store_mend_nothing(shelf: Shelf) -> None:
    _erase_a_vector(shelf)
    with Index.open(shelf.store) as index, pytest.raises(StoreMismatch, match="built with the text encoder hash-64"):
        repair(index, lambda: Encoders(type(ENCODER)(dim=32)))
    assert [f.what for f in shelf.check()] == [What.MISSING]


def test_nobody_checks_while_somebody_writes(shelf: Shelf) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Index.open(shelf.store) as index, index.writing(), ThreadPoolExecutor(1) as other:
        checked = other.submit(shelf.check)
        with pytest.raises(StoreBusy, match=r"process \d+"):
            checked.result()


def test_a_repair_that_dies_while_it_encodes_is_finished_by_the_next(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shelf.found()
    _damage_chroma(shelf)
    real, calls = repair_module.encode, []

    def encode(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(repair_module, "encode", encode)
        with pytest.raises(KeyboardInterrupt):
            shelf.repair()
    assert {f.what for f in shelf.check()} == {What.MISSING}
    assert shelf.repair().left == []
    assert shelf.found() == before


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_names_mends_and_exits(
    own_store: Path, demo_documents: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    clean = python("-m", "mmrag", "check", "--store", own_store)
    assert (clean.returncode, clean.stdout) == (0, "The store is whole.\n")
    with Index.open(own_store) as index:
        document = index.documents()[0]
        name = index.source(document).name
        (index.path / "files" / name).unlink()
        with index.inspecting() as (ledger, vectors):
            (first, *_) = next(vectors.kept(TEXT, version=ledger.version()))
            vectors.erase(TEXT, [first.key], version=ledger.version())
            assert first.key == Key(first.key.chunk_id, 1)
    found = python("-m", "mmrag", "check", "--store", own_store)
    assert found.returncode == 1
    assert f"{document.name}: the store's copy of the file is missing, or differs from it: 1" in found.stdout
    assert "vectors are missing: 1 (text)" in found.stdout
    assert "--repair encodes the document anew" in found.stdout
    mended = python("-m", "mmrag", "check", "--repair", "--json", "--store", own_store)
    assert mended.returncode == 0, mended.stderr
    told = json.loads(mended.stdout)
    assert told["findings"] == told["notes"] == []
    assert sorted(item["what"] for item in told["mended"]) == ["copy", "missing"]
    assert python("-m", "mmrag", "check", "--store", own_store).returncode == 0
