"""The store against real SQLite and Chroma: what is read back, searched, replaced, removed, and swept after a crash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from mmrag import fulltext
from mmrag import index as index_module
from mmrag.errors import StoreBusy, StoreError, StoreMismatch, StoreNotFound
from mmrag.index import Index
from mmrag.testing import HashEncoder
from mmrag.types import BBox, Chunk, Document, Page, Region, RegionKind, Span, TextSpan, Word
from mmrag.vectors import IMAGE, TEXT

ROOT = Path(__file__).resolve().parents[1]
ENCODER = HashEncoder()
NOTHING = {"documents": 0, "pages": 0, "regions": 0, "chunks": 0, "text_vectors": 0, "image_vectors": 0}


class Sample(NamedTuple):
    document: Document
    pages: list[Page]
    chunks: list[Chunk]
    source: Path

    def add_to(self, index: Index) -> Document:
        vectors = {chunk.id: ENCODER.get_text_embedding(chunk.encoded_text) for chunk in self.chunks}
        pictures = {chunk.id: vectors[chunk.id] for chunk in self.chunks if chunk.kind is RegionKind.PICTURE}
        with index.writing():
            index.add(
                self.document,
                self.pages,
                self.chunks,
                source=self.source,
                text_vectors=vectors,
                image_vectors=pictures,
            )
        return self.document


def sample(folder: Path, name: str, *pages: str, kind: RegionKind = RegionKind.TEXT) -> Sample:
    """A file at `folder / name` whose pages hold one region and one chunk each."""
    source = folder / name
    source.write_bytes("\f".join(pages).encode())
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    document = Document(sha256[:16], sha256, name, str(source), "application/pdf", "", len(pages), 1)
    regions = [
        Region(f"{document.id}-p{n}-r1", kind, BBox(0.1, 0.1, 0.9, 0.2), text, sentences=(TextSpan(0, len(text)),))
        for n, text in enumerate(pages, start=1)
    ]
    chunks = [
        Chunk(f"{document.id}-p{n}-c1", document.id, n, kind, r.text, r.box, (Span(r.id, 0, len(r.text), 0),))
        for n, r in enumerate(regions, start=1)
    ]
    return Sample(document, [Page(n, 595, 842, (r,)) for n, r in enumerate(regions, start=1)], chunks, source)


def rows(index: Index, table: str) -> int:
    database = sqlite3.connect(index.path / "ledger.sqlite3")
    count = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    database.close()
    return int(count)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index.open(tmp_path / "store", create=True)
    yield index
    index.close()


# -- what goes in comes out ------------------------------------------------------------------------------------------


def test_pages_regions_and_chunks_are_read_back_equal(index: Index, tmp_path: Path) -> None:
    source = tmp_path / "report.pdf"
    source.write_bytes(b"content")
    document = Document("d1", "f" * 64, "报告 2025.pdf", str(source), "application/pdf", "Title", 2, 7)
    words = (
        Word("Segment", BBox(0.10001, 0.2, 0.33333, 0.21999), 0),
        Word("收入", BBox(0.5, 0.2, 0.99999, 0.22), 10),
        Word("Wind", BBox(0.1, 0.25, 0.15, 0.27), 13),
    )
    rows_of_table = (TextSpan(0, 12), TextSpan(13, 17))
    table = Region(
        "d1-p1-r2", RegionKind.TABLE, BBox(0.1, 0.2, 1.0, 0.3), "Segment | 收入\nWind", words, rows_of_table, 1
    )
    caption = Region("d1-p1-r1", RegionKind.CAPTION, BBox(0.1, 0.15, 0.9, 0.19), "Table 1", (), (TextSpan(0, 7),))
    tied = Region(
        table.id, table.kind, table.box, table.text, table.words, table.sentences, table.header_rows, caption.id
    )
    pages = [Page(1, 612.5, 792.0, (caption, tied), "ocr"), Page(2, 595.0, 842.0, (), "none")]
    spans = (Span(tied.id, 0, 12, 0), Span(tied.id, 13, 17, 13))
    chunk = Chunk("d1-p1-c1", "d1", 1, RegionKind.TABLE, tied.text, tied.box, spans, "Results\nTable 1")
    with index.writing():
        index.add(document, pages, [chunk], source=source, text_vectors={chunk.id: [1.0, 0.0]}, image_vectors={})

    assert index.documents() == [document]
    assert index.document("d1") == index.at_path(str(source)) == document
    assert [index.page("d1", number) for number in (1, 2, 3)] == [*pages, None]
    assert index.regions([tied.id, caption.id, "d1-p9-r9"]) == {tied.id: tied, caption.id: caption}
    assert index.chunks([chunk.id, "d1-p9-c9"]) == {chunk.id: chunk}
    assert index.chunks_of([("d1", 1), ("d1", 2)]) == [chunk]
    assert index.pages_of([chunk.id, chunk.id]) == {chunk.id: ("d1", 1)}
    assert index.source(document).read_bytes() == b"content"
    assert index.counts() == {
        "documents": 1,
        "pages": 2,
        "regions": 2,
        "chunks": 1,
        "text_vectors": 1,
        "image_vectors": 0,
    }


def test_a_reopened_store_holds_the_same(index: Index, tmp_path: Path) -> None:
    added = sample(tmp_path, "a.pdf", "wind", "water")
    added.add_to(index)
    again = Index.open(index.path)
    assert again.documents() == [added.document]
    assert again.page(added.document.id, 2) == added.pages[1]
    assert again.counts() == index.counts()
    again.close()


def test_the_store_does_not_lean_on_the_working_folder(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = sample(tmp_path, "a.pdf", "wind").add_to(index)
    monkeypatch.chdir(tmp_path)
    relative = Index.open("store")
    monkeypatch.chdir("/")
    assert relative.source(document).read_bytes() == b"wind"
    relative.close()


# -- full text -------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(index: Index, tmp_path: Path) -> dict[str, Document]:
    """Documents by name: two English ones, one Chinese."""
    pages = {
        "rotor.pdf": (
            "Barnacles reduced the peak power of the rotor, and barnacles grow on every rotor blade.",
            "The rotor was painted in 2021 with 1,284 litres of copper epoxy.",
        ),
        "quay.pdf": ("Revenue of the quay rose from 23.8 to 41.5 million. No rotor stands there.", "Eight cranes."),
        "简报.pdf": ("澜屿海上风电项目总投资为86.6亿元。", "总部大楼的统计资料，共12层。"),
    }
    return {name: sample(tmp_path, name, *texts).add_to(index) for name, texts in pages.items()}


def pages_for(index: Index, query: str, **options: object) -> list[tuple[str, int]]:
    names = {document.id: document.name for document in index.documents()}
    return [(names[key[0]], key[1]) for key, _ in index.match_pages(query, top_k=10, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("what do barnacles do to a rotor?", ("rotor.pdf", 1)),
        ("growing barnacle", ("rotor.pdf", 1)),  # stems, not forms
        ("REVENUE", ("quay.pdf", 1)),
        ("23.8", ("quay.pdf", 1)),
        ("1284 litres", ("rotor.pdf", 2)),
        ("1,284", ("rotor.pdf", 2)),
        ("总投资是多少", ("简报.pdf", 1)),
        ("86.6亿元", ("简报.pdf", 1)),
        ("统计资料", ("简报.pdf", 2)),
    ],
)
def test_bm25_puts_the_page_first(
    index: Index, library: dict[str, Document], query: str, first: tuple[str, int]
) -> None:
    assert pages_for(index, query)[0] == first
    (chunk_id, _), *_ = index.match_chunks(query, top_k=10)
    assert chunk_id == f"{library[first[0]].id}-p{first[1]}-c1"


@pytest.mark.parametrize("query", ["23", "8", "84", "1.284", "turbine", "总统", "", "?!", '"'])
def test_bm25_finds_nothing_where_no_token_is_shared(index: Index, library: dict[str, Document], query: str) -> None:
    assert pages_for(index, query) == []
    assert index.match_chunks(query, top_k=10) == []


def test_a_question_of_stop_words_alone_keeps_them(index: Index, library: dict[str, Document]) -> None:
    assert pages_for(index, "with the of") == [("rotor.pdf", 2), ("rotor.pdf", 1), ("quay.pdf", 1)]


@pytest.mark.parametrize(
    "query", ['rotor" OR "quay', "rotor AND NOT quay", "NEAR(rotor quay)", "tokens:rotor", "rotor*", "'; --"]
)
def test_the_query_language_of_fts5_is_only_words(index: Index, library: dict[str, Document], query: str) -> None:
    assert set(pages_for(index, query)) <= {("rotor.pdf", 1), ("rotor.pdf", 2), ("quay.pdf", 1)}


def test_chinese_words_of_three_characters_outrank_their_pairs(index: Index, tmp_path: Path) -> None:
    sample(tmp_path, "分.pdf", "利润上升，净利下降。").add_to(index)
    sample(tmp_path, "合.pdf", "公司去年的净利润。其他事项。").add_to(index)
    assert pages_for(index, "净利润")[0] == ("合.pdf", 1)


def test_words_in_the_order_of_the_question_outrank_the_same_words_apart(index: Index, tmp_path: Path) -> None:
    sample(
        tmp_path, "apart.pdf", "The quay. Revenue, revenue, revenue. The cost of the crane rose; so did the crane."
    ).add_to(index)
    sample(
        tmp_path, "verbatim.pdf", "A crane and other things, of which the revenue of the quay is but one of many."
    ).add_to(index)
    assert pages_for(index, "revenue of the quay")[0] == ("verbatim.pdf", 1)


def test_a_long_list_verbatim_outranks_pages_with_all_its_words_many_times(index: Index, tmp_path: Path) -> None:
    words = [where + what for where in ("quay", "dock", "rotor", "keel") for what in ("side", "man", "oil")]
    asked = " ".join(words)
    sample(tmp_path, "balance.pdf", ". ".join(sorted(words) * 3), *["Nothing of it. " * 20] * 9).add_to(index)
    sample(tmp_path, "list.pdf", f"It holds {asked}, as we said. {'More of that. ' * 15}").add_to(index)
    assert pages_for(index, asked) == [("list.pdf", 1), ("balance.pdf", 1)]


def test_scores_fall_and_more_mentions_score_higher(index: Index, library: dict[str, Document]) -> None:
    hits = index.match_pages("rotor", top_k=10)
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
    assert hits[0][0] == (library["rotor.pdf"].id, 1)
    assert len(hits) == 3


def test_full_text_keeps_to_the_documents_and_to_top_k(index: Index, library: dict[str, Document]) -> None:
    quay, rotor = library["quay.pdf"].id, library["rotor.pdf"].id
    assert pages_for(index, "rotor", documents=[quay]) == [("quay.pdf", 1)]
    assert {i for i, _ in index.match_chunks("rotor", top_k=10, documents=[rotor])} == {
        f"{rotor}-p1-c1",
        f"{rotor}-p2-c1",
    }
    assert len(index.match_pages("rotor", top_k=1)) == len(index.match_chunks("rotor", top_k=1)) == 1
    assert index.match_chunks("rotor", top_k=10, documents=["unknown"]) == []


@pytest.mark.parametrize(
    ("most", "ranked"),
    [(9, {"both", "rare", "common 1", "common 2"}), (3, {"rare", "common 1", "common 2"}), (1, {"rare"}), (0, None)],
)
def test_in_a_large_store_rows_with_the_rarer_words_are_ranked(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, ranked: set[str] | None
) -> None:
    texts = {"rare": "A zeppelin, and more of that.", "both": "The airship, an airship, over the harbour."}
    texts |= {f"common {n}": f"The airship, the harbour, nothing else. {n}" for n in (1, 2)}
    for name, text in texts.items():
        sample(tmp_path, name, text).add_to(index)
    asked = "zeppelin harbour" if most < 3 else "zeppelin nothing harbour airship"
    every = dict(index.match_pages(asked, top_k=9))
    assert len(every) == 4
    monkeypatch.setattr(fulltext, "RANKED_ROWS", most)
    found = dict(index.match_pages(asked, top_k=9))
    names = {document.id: document.name for document in index.documents()}
    assert {names[document_id] for document_id, _ in found} == (ranked or set(texts))
    among_all = {place: every[place] for place in found}
    assert found == pytest.approx(among_all, rel=1e-12)


# -- vectors ---------------------------------------------------------------------------------------------------------


def test_nearest_gives_cosines_best_first(index: Index, tmp_path: Path) -> None:
    for name, vector in (("a.pdf", [1.0, 0.0]), ("b.pdf", [3.0, 4.0]), ("c.pdf", [0.0, -2.0])):
        document, pages, (chunk,), source = sample(tmp_path, name, name)
        with index.writing():
            index.add(document, pages, [chunk], source=source, text_vectors={chunk.id: vector}, image_vectors={})
    names = {f"{document.id}-p1-c1": document.name for document in index.documents()}
    hits = index.nearest(TEXT, [2.0, 0.0], top_k=3)
    assert [names[chunk_id] for chunk_id, _ in hits] == ["a.pdf", "b.pdf", "c.pdf"]
    assert [cosine for _, cosine in hits] == pytest.approx([1.0, 0.6, 0.0], abs=1e-6)
    assert index.nearest(TEXT, [2.0, 0.0], top_k=1) == hits[:1]


def test_nearest_keeps_to_the_documents(index: Index, library: dict[str, Document]) -> None:
    query = ENCODER.get_query_embedding("barnacles on the rotor")
    quay = library["quay.pdf"].id
    assert index.nearest(TEXT, query, top_k=1)[0][0] == f"{library['rotor.pdf'].id}-p1-c1"
    assert {chunk_id for chunk_id, _ in index.nearest(TEXT, query, top_k=9, documents=[quay])} == {
        f"{quay}-p1-c1",
        f"{quay}-p2-c1",
    }


def test_a_page_number_counts_more_where_it_is_printed(index: Index, tmp_path: Path) -> None:
    roman = sample(tmp_path, "roman.pdf", "title", "contents", "first chapter", "last chapter")
    printed = roman._replace(
        pages=[replace(p, labels=(str(p.number - 2),)) if p.number > 2 else p for p in roman.pages]
    ).add_to(index)
    plain = sample(tmp_path, "plain.pdf", "one", "two").add_to(index)
    assert dict(index.numbered_pages([1])) == {(printed.id, 3): 1.0, (printed.id, 1): 0.5, (plain.id, 1): 0.5}
    assert dict(index.numbered_pages([-1])) == {(printed.id, 4): 0.5, (plain.id, 2): 0.5}
    assert dict(index.numbered_pages([2], documents=[plain.id])) == {(plain.id, 2): 0.5}
    assert index.numbered_pages([77]) == []


def test_pages_are_found_by_the_labels_of_captions_and_titles(index: Index, tmp_path: Path) -> None:
    texts = ("Figure 2: Sales", "Figure 22: Costs", "As Figure 2 shows")
    caption = sample(tmp_path, "caption.pdf", *texts, kind=RegionKind.CAPTION).add_to(index)
    title = sample(tmp_path, "title.pdf", "Appendix C Methods", kind=RegionKind.SECTION_HEADER).add_to(index)
    sample(tmp_path, "text.pdf", "Figure 2 shows sales.").add_to(index)
    assert index.labelled_pages(["figure 2"]) == [((caption.id, 1), 1.0)]
    assert dict(index.labelled_pages(["figure 22", "appendix C"])) == {(caption.id, 2): 1.0, (title.id, 1): 1.0}
    assert index.labelled_pages(["figure 2"], documents=[title.id]) == []


def test_sentences_are_those_of_running_text_in_order(index: Index, library: dict[str, Document]) -> None:
    quay = library["quay.pdf"].id
    assert [text for document_id, page, text in index.sentences() if (document_id, page) == (quay, 2)] == [
        "Eight cranes."
    ]
    assert len(list(index.sentences())) == 6


def test_an_empty_collection_has_no_nearest(index: Index) -> None:
    assert index.nearest(TEXT, [1.0, 0.0], top_k=5) == []
    assert index.nearest(IMAGE, [1.0, 0.0], top_k=5, documents=["unknown"]) == []


def test_pictures_have_a_collection_of_their_own(index: Index, tmp_path: Path) -> None:
    picture = sample(tmp_path, "p.png", "a chart", kind=RegionKind.PICTURE).add_to(index)
    sample(tmp_path, "t.pdf", "a chart of words").add_to(index)
    query = ENCODER.get_query_embedding("a chart")
    assert [chunk_id for chunk_id, _ in index.nearest(IMAGE, query, top_k=9)] == [f"{picture.id}-p1-c1"]
    assert len(index.nearest(TEXT, query, top_k=9)) == 2


# -- replacing, linking, removing ------------------------------------------------------------------------------------


def test_remove_leaves_nothing(index: Index, tmp_path: Path) -> None:
    documents = [
        sample(tmp_path, "a.pdf", "wind", "water").add_to(index),
        sample(tmp_path, "b.png", "a chart", kind=RegionKind.PICTURE).add_to(index),
    ]
    assert index.counts() == dict(zip(NOTHING, (2, 3, 3, 3, 3, 1), strict=True))
    with index.writing():
        for document in documents:
            index.remove(document.id)
    assert index.counts() == NOTHING
    assert list((index.path / "files").iterdir()) == []
    for table in ("chunks_fts", "pages_fts", "sources", "journal"):
        assert rows(index, table) == 0, table
    assert index.match_pages("wind", top_k=5) == index.match_chunks("wind", top_k=5) == []
    assert documents[0].path
    assert Path(documents[0].path).exists()


def test_remove_spares_the_others(index: Index, library: dict[str, Document]) -> None:
    with index.writing():
        index.remove(library["rotor.pdf"].id)
    assert pages_for(index, "rotor") == [("quay.pdf", 1)]
    assert index.counts()["text_vectors"] == rows(index, "chunks_fts") == 4
    assert index.source(library["quay.pdf"]).exists()


def test_new_content_at_a_path_replaces_the_old(index: Index, tmp_path: Path) -> None:
    old = sample(tmp_path, "a.pdf", "one", "two", "three").add_to(index)
    new = sample(tmp_path, "a.pdf", "four").add_to(index)
    assert index.documents() == [new]
    assert index.at_path(new.path) == new
    assert index.counts() == dict(zip(NOTHING, (1, 1, 1, 1, 1, 0), strict=True))
    assert [file.name for file in (index.path / "files").iterdir()] == [index.source(new).name]
    assert index.match_pages("three", top_k=5) == []
    assert index.document(old.id) is None


def test_a_version_of_the_same_content_replaces_the_one_before_and_keeps_its_copies(
    index: Index, tmp_path: Path
) -> None:
    first = sample(tmp_path, "a.pdf", "wind", "water", kind=RegionKind.PICTURE)
    first.add_to(index)
    with index.writing():
        index.link(str(tmp_path / "copy.pdf"), "copy.pdf", first.document.id)
    (page, _), (chunk, _) = first.pages, first.chunks
    told = replace(page.regions[0], description="A zeppelin.", tags=("photo", "map"))
    second = first._replace(
        document=replace(first.document, described_by="a model", undescribed=1),
        pages=[replace(page, regions=(told,))],
        chunks=[replace(chunk, description=told.description)],
    )
    second.add_to(index)
    assert index.documents() == [second.document]
    assert index.at_path(str(tmp_path / "copy.pdf")) == index.at_path(second.document.path) == second.document
    assert (index.page(first.document.id, 1), index.page(first.document.id, 2)) == (second.pages[0], None)
    assert index.chunks_of([(first.document.id, 1)]) == second.chunks
    assert [chunk_id for chunk_id, _ in index.match_chunks("zeppelin", top_k=5)] == [chunk.id]
    assert index.match_pages("zeppelin", top_k=5) == index.match_pages("water", top_k=5) == []
    assert index.counts() == dict(zip(NOTHING, (1, 1, 1, 1, 1, 1), strict=True))
    assert index.nearest(TEXT, ENCODER.get_text_embedding("A zeppelin.\nwind"), top_k=5)[0][1] == pytest.approx(1.0)
    assert rows(index, "chunks_fts") == rows(index, "pages_fts") == 1
    assert index.source(second.document).is_file()


def test_a_copy_keeps_content_whose_first_path_is_replaced(index: Index, tmp_path: Path) -> None:
    shared = sample(tmp_path, "a.pdf", "shared words")
    shared.add_to(index)
    (tmp_path / "copy.pdf").write_bytes(shared.source.read_bytes())
    with index.writing():
        index.link(str(tmp_path / "copy.pdf"), "copy.pdf", shared.document.id)
    new = sample(tmp_path, "a.pdf", "new words").add_to(index)
    assert index.at_path(str(tmp_path / "copy.pdf")).id == shared.document.id  # type: ignore[union-attr]
    assert index.at_path(str(tmp_path / "a.pdf")) == new
    assert {document.id: document.name for document in index.documents()} == {
        shared.document.id: "copy.pdf",
        new.id: "a.pdf",
    }


def test_a_moved_file_takes_its_new_name(index: Index, tmp_path: Path) -> None:
    document, *_, source = moved = sample(tmp_path, "a.pdf", "words")
    moved.add_to(index)
    target = source.rename(tmp_path / "b.pdf")
    with index.writing():
        index.link(str(target), target.name, document.id)
    (found,) = index.documents()
    assert (found.id, found.name, found.path) == (document.id, "b.pdf", str(target))
    assert index.at_path(str(source)) is None


def test_a_copy_leaves_the_name_of_a_file_that_is_still_there(index: Index, tmp_path: Path) -> None:
    document = sample(tmp_path, "a.pdf", "words").add_to(index)
    with index.writing():
        index.link(str(tmp_path / "copy.pdf"), "copy.pdf", document.id)
    assert index.documents() == [document]
    assert index.at_path(str(tmp_path / "copy.pdf")) == index.at_path(document.path) == document


def test_linking_other_content_drops_what_the_path_held(index: Index, tmp_path: Path) -> None:
    first = sample(tmp_path, "a.pdf", "first words").add_to(index)
    second = sample(tmp_path, "b.pdf", "second words").add_to(index)
    with index.writing():
        index.link(first.path, first.name, second.id)
    assert [document.id for document in index.documents()] == [second.id]
    assert index.counts() == dict(zip(NOTHING, (1, 1, 1, 1, 1, 0), strict=True))


# -- crashes and locks -----------------------------------------------------------------------------------------------

KILLED = """
import os, pkgutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_index as t
store, folder, place, action = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5]
index = t.Index.open(store)
doomed = t.sample(folder, "doomed.pdf", "doomed words", "more of them", kind=t.RegionKind.PICTURE)
if action == "remove":
    doomed.add_to(index)
owner, _, name = place.rpartition(".")
setattr(pkgutil.resolve_name(owner), name, lambda *args, **options: os._exit(9))
if action == "add":
    doomed.add_to(index)
with index.writing():
    index.remove(doomed.document.id)
"""


@pytest.mark.parametrize(
    ("action", "killed_in", "left_over"),
    [
        ("add", "mmrag.vectors.VectorStore.upsert", {"text_vectors": 1, "image_vectors": 0}),  # nothing but the file
        ("add", "mmrag.index.insert", {"text_vectors": 3, "image_vectors": 2}),
        ("remove", "mmrag.vectors.VectorStore.keep_only", {"text_vectors": 3, "image_vectors": 2}),
    ],
)
def test_the_next_writer_sweeps_up_after_a_killed_one(
    index: Index,
    tmp_path: Path,
    python: Callable[..., subprocess.CompletedProcess[str]],
    action: str,
    killed_in: str,
    left_over: dict[str, int],
) -> None:
    kept = sample(tmp_path, "kept.pdf", "kept words").add_to(index)
    index.close()
    done = python("-c", KILLED, Path(__file__).parent, index.path, tmp_path, killed_in, action)
    assert done.returncode == 9, done.stderr

    survivor = Index.open(index.path)
    assert survivor.documents() == [kept]
    assert survivor.match_pages("doomed", top_k=5) == []
    assert {name: survivor.counts()[name] for name in left_over} == left_over
    assert len(list((index.path / "files").iterdir())) == 2
    with survivor.writing():
        pass
    assert survivor.counts() == dict(zip(NOTHING, (1, 1, 1, 1, 1, 0), strict=True))
    assert [file.name for file in (index.path / "files").iterdir()] == [survivor.source(kept).name]
    assert rows(survivor, "journal") == 0

    sample(tmp_path, "doomed.pdf", "doomed words", "more of them").add_to(survivor)
    assert survivor.counts() == dict(zip(NOTHING, (2, 3, 3, 3, 3, 0), strict=True))
    survivor.close()


def test_a_commit_that_fails_is_rolled_back_and_swept_at_once(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = sample(tmp_path, "a.pdf", "words")
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "link", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            failing.add_to(index)
    assert index.counts() == NOTHING
    assert rows(index, "pages_fts") == rows(index, "chunks_fts") == rows(index, "journal") == 0
    assert list((index.path / "files").iterdir()) == []


REPLACED = """
import os, pkgutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_index as t
store, folder, place = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
owner, _, name = place.rpartition(".")
index = t.Index.open(store)
t.told(t.sample(folder, "a.pdf", "wind", "water"), "quay").add_to(index)
setattr(pkgutil.resolve_name(owner), name, lambda *args, **options: os._exit(9))
t.told(t.sample(folder, "a.pdf", "wind", "water"), "ferry").add_to(index)
"""


def told(of: Sample, text: str) -> Sample:
    """Another version of the same content: an encoder makes other vectors of its chunks."""
    return of._replace(chunks=[replace(chunk, description=text) for chunk in of.chunks])


@pytest.mark.parametrize(
    ("killed_in", "visible", "left_over"),
    [
        ("mmrag.index.insert", "quay", {"text_vectors": 4}),
        ("mmrag.vectors.VectorStore.keep_only", "ferry", {"text_vectors": 4}),
    ],
)
def test_vectors_of_two_versions_never_mix(
    index: Index,
    tmp_path: Path,
    python: Callable[..., subprocess.CompletedProcess[str]],
    killed_in: str,
    visible: str,
    left_over: dict[str, int],
) -> None:
    index.close()
    done = python("-c", REPLACED, Path(__file__).parent, index.path, tmp_path, killed_in)
    assert done.returncode == 9, done.stderr

    def seen() -> list[tuple[str, float]]:
        assert len(survivor.documents()) == 1
        hits = survivor.nearest(TEXT, ENCODER.get_text_embedding(f"{visible}\nwind"), top_k=2)
        return [(survivor.chunks([i])[i].encoded_text, round(cosine, 3)) for i, cosine in hits]

    with Index.open(index.path) as survivor:
        assert {name: survivor.counts()[name] for name in left_over} == left_over
        before = seen()
        assert [text for text, _ in before] == [f"{visible}\nwind", f"{visible}\nwater"]
        assert before[0][1] == 1.0
        with survivor.writing():
            pass
        assert survivor.counts()["text_vectors"] == 2
        assert seen() == before


def test_a_killed_replacement_takes_the_old_content_along(
    index: Index, tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """What a path held before goes with the commit of what it holds now, not after it."""
    sample(tmp_path, "doomed.pdf", "old words").add_to(index)
    index.close()
    done = python(
        "-c", KILLED, Path(__file__).parent, index.path, tmp_path, "mmrag.vectors.VectorStore.keep_only", "add"
    )
    assert done.returncode == 9, done.stderr
    with Index.open(index.path) as survivor:
        (document,) = survivor.documents()
        assert survivor.at_path(document.path) == document
        assert survivor.match_pages("old", top_k=3) == []
        assert survivor.counts()["text_vectors"] == 3
        with survivor.writing():
            pass
        assert survivor.counts() == dict(zip(NOTHING, (1, 2, 2, 2, 2, 2), strict=True))
        assert [file.name for file in (index.path / "files").iterdir()] == [survivor.source(document).name]


def test_what_is_being_written_takes_nobody_elses_place(index: Index, tmp_path: Path) -> None:
    kept = sample(tmp_path, "kept.pdf", "wind").add_to(index)
    vectors = {f"new-p1-c{n}": ENCODER.get_text_embedding("wind and") for n in range(40)}
    with index.inspecting() as (ledger, store):
        store.upsert(TEXT, "new", 1, dict.fromkeys(vectors, 1), vectors, version=ledger.version())
    hits = index.nearest(TEXT, ENCODER.get_text_embedding("wind and"), top_k=3)
    assert [chunk_id for chunk_id, _ in hits] == [f"{kept.id}-p1-c1"]


HOLD = """
import sys
from mmrag.index import Index
with Index.open(sys.argv[1]).writing():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_writer_at_a_time(index: Index, tmp_path: Path) -> None:
    kept = sample(tmp_path, "kept.pdf", "kept words").add_to(index)
    command = [sys.executable, "-c", HOLD, str(index.path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env={"PYTHONPATH": str(ROOT)}) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        heard: list[str] = []
        with pytest.raises(StoreBusy) as caught, index.writing(on_wait=heard.append):
            pytest.fail("two writers at once")
        at = r"since (\d\d\d\d-\d\d-\d\d )?\d\d:\d\d"
        said = rf"Another mmrag process is writing to {index.path} \(process {other.pid}, python, {at}\): "
        assert re.match(said + "wait until it ends", str(caught.value))
        assert index.documents() == [kept]  # reading goes on
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(wait, index, heard.append)
            while not heard:
                time.sleep(0.01)
            assert re.fullmatch(said + r"waiting until it ends\.", heard[0])
            assert not waits.done()
            other.communicate()
            waits.result(10)
    with index.writing():
        index.remove(kept.id)
    assert index.documents() == []
    assert not (index.path / "writer.json").exists()


def wait(index: Index, on_wait: Callable[[str], None] | None) -> None:
    with index.writing(wait=True, on_wait=on_wait) if on_wait else index.writing():
        pass


def test_the_lock_of_a_killed_writer_is_free(index: Index, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(index.path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env={"PYTHONPATH": str(ROOT)}) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.kill()
        other.wait()
        assert json.loads((index.path / "writer.json").read_text())["pid"] == other.pid
        with index.writing():
            note = json.loads((index.path / "writer.json").read_text())
            assert note["pid"] == os.getpid()
    assert not (index.path / "writer.json").exists()


@pytest.mark.parametrize("note", ["", "{}", "[1]", '{"pid": "x", "host": "", "program": "", "since": 1e99}'])
def test_a_note_that_cannot_be_read_is_passed_over(index: Index, note: str) -> None:
    with index.writing(), ThreadPoolExecutor(1) as pool:
        (index.path / "writer.json").write_text(note)
        with pytest.raises(StoreBusy, match=rf"is writing to {index.path}: wait"):
            pool.submit(wait, index, None).result()


# -- opening ---------------------------------------------------------------------------------------------------------


def test_no_store_is_made_by_looking_for_one(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match=r"There is no store at .*nowhere: run  mmrag ingest"):
        Index.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_store_cannot_stand_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match="cannot be opened"):
        Index.open(tmp_path / "store", create=True)
    assert (tmp_path / "store").read_text() == "a file"


def test_a_store_remembers_its_encoders(index: Index) -> None:
    index.require_encoders(text="hash-64", image="captions")
    index.require_encoders(text="hash-64", image="captions")
    with pytest.raises(StoreMismatch, match="built with the text encoder hash-64, not hash-32"):
        index.require_encoders(text="hash-32", image="captions")
    with pytest.raises(StoreMismatch, match="built with the image encoder captions, not clip"):
        index.require_encoders(text="hash-64", image="clip")


def test_another_format_is_refused(index: Index) -> None:
    database = sqlite3.connect(index.path / "ledger.sqlite3")
    with database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    database.close()
    with pytest.raises(StoreMismatch, match="has format 99, this mmrag reads 5"):
        Index.open(index.path)


@pytest.mark.parametrize("start", [0, 4096])
def test_a_damaged_ledger_is_named(index: Index, start: int) -> None:
    index.close()
    ledger = index.path / "ledger.sqlite3"
    ledger.write_bytes(ledger.read_bytes()[:start] + b"\xff" * 100_000)
    with pytest.raises(StoreError, match=r"is damaged .*: remove the folder and ingest again"):
        Index.open(index.path)


def test_a_strangers_database_is_not_written_to(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "ledger.sqlite3")
    with database:
        database.execute("CREATE TABLE meta (colour TEXT)")
    with pytest.raises(StoreError, match=r"no such column: value"):
        Index.open(tmp_path)
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("meta",)]
    database.close()


def test_damaged_vectors_are_named(index: Index, tmp_path: Path) -> None:
    sample(tmp_path, "a.pdf", "words").add_to(index)
    copy = tmp_path / "copy"
    (copy / "chroma").mkdir(parents=True)
    source, target = sqlite3.connect(index.path / "ledger.sqlite3"), sqlite3.connect(copy / "ledger.sqlite3")
    source.backup(target)
    source.close()
    target.close()
    (copy / "chroma" / "chroma.sqlite3").write_bytes(b"garbage" * 1000)
    damaged = Index.open(copy)
    with pytest.raises(StoreError, match="mmrag check --repair"):
        damaged.nearest(TEXT, [1.0] * 64, top_k=1)
    damaged.close()
