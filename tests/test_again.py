"""Known content read once more, and what a program that watches an ingest hears of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_pipeline import ENCODERS, outcomes, pdf

from ingest import pipeline
from ingest.pipeline import FileResult, Outcome, Progress, ingest_files
from mmrag.encoders import BundledTextEncoder
from mmrag.errors import UnreadableFile
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.types import Page

pytestmark = pytest.mark.slow


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "store", create=True) as index:
        yield index


def without_words(index: Index, document_id: str) -> None:
    """Leaves the document as if an earlier version of mmrag had found nothing on its first page."""
    document = index.document(document_id)
    assert document is not None
    numbers = range(1, document.page_count + 1)
    pages = [page for n in numbers if (page := index.page(document_id, n))]
    chunks = index.chunks_of([(document_id, n) for n in numbers if n > 1])
    with index.writing():
        index.add(
            document,
            [replace(page, regions=page.regions if page.number > 1 else ()) for page in pages],
            chunks,
            source=index.source(document),
            text_vectors={chunk.id: [1.0] * 64 for chunk in chunks},
            image_vectors={},
        )


def test_every_file_is_heard_of_at_once_and_its_pages_are_counted(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    harbour = pdf(tmp_path / "a" / "harbour.pdf", *(f"harbour {n}" for n in range(6)))
    broken = tmp_path / "a" / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\n" + bytes(range(256)))
    pdf(tmp_path / "a" / "island.pdf", "island")
    shutil.copy(harbour, tmp_path / "a" / "z copy.pdf")
    heard: list[FileResult | Progress] = []
    sources = [tmp_path / "missing.pdf", tmp_path / "a"]
    report = ingest_files(index, sources, ENCODERS, workers=1, on_progress=heard.append, on_result=heard.append)
    results = [item for item in heard if isinstance(item, FileResult)]
    assert sorted(results, key=lambda r: r.path) == sorted(report.results, key=lambda r: r.path)
    assert [r.path.name for r in results] == ["missing.pdf", "broken.pdf", "harbour.pdf", "z copy.pdf", "island.pdf"]
    steps = [item for item in heard if isinstance(item, Progress)]
    counted = [(s.file, s.file_pages_done, s.file_pages_total, s.pages_done, s.pages_total) for s in steps]
    assert counted == [("harbour.pdf", n, 6, n, 7) for n in range(7)] + [
        ("island.pdf", 0, 1, 6, 7),
        ("island.pdf", 1, 1, 7, 7),
    ]
    assert steps[0].path == harbour
    assert heard.index(results[0]) < heard.index(steps[0])  # what fails at once is heard at once

    again: list[FileResult] = []
    ingest_files(index, [tmp_path / "a"], ENCODERS, workers=1, on_result=again.append)
    assert [(r.path.name, str(r.outcome)) for r in again][:3] == [
        ("harbour.pdf", "unchanged"),
        ("island.pdf", "unchanged"),
        ("z copy.pdf", "unchanged"),
    ]


def test_known_content_is_read_again_where_that_is_wished(index: Index, tmp_path: Path) -> None:
    path = pdf(tmp_path / "harbour.pdf", "harbour", "island")
    ingest_files(index, [path], ENCODERS, workers=1)
    (document,) = index.documents()
    copy = Path(shutil.copy(path, tmp_path / "copy.pdf"))
    ingest_files(index, [copy], ENCODERS)
    before, page = index.counts(), index.page(document.id, 1)
    without_words(index, document.id)
    assert index.counts() != before

    assert outcomes(ingest_files(index, [path], ENCODERS)) == {"harbour.pdf": "unchanged"}
    assert outcomes(ingest_files(index, [copy], ENCODERS, workers=1, again=True)) == {"copy.pdf": "replaced"}
    assert index.documents() == [document]  # under the name that it has
    assert index.at_path(str(copy)) == index.at_path(str(path)) == document
    assert (index.counts(), index.page(document.id, 1)) == (before, page)


def test_a_document_whose_file_is_gone_is_read_from_the_own_copy(index: Index, tmp_path: Path) -> None:
    path = pdf(tmp_path / "harbour.pdf", "harbour", "island")
    ingest_files(index, [path], ENCODERS, workers=1)
    (document,) = index.documents()
    before = index.counts()
    without_words(index, document.id)
    path.unlink()
    assert outcomes(ingest_files(index, [path], ENCODERS)) == {"harbour.pdf": "failed"}
    report = ingest_files(index, [path, tmp_path / "never.pdf"], ENCODERS, workers=1, again=True)
    assert outcomes(report) == {"harbour.pdf": "replaced", "never.pdf": "failed"}
    assert (index.documents(), index.counts()) == ([document], before)
    assert index.at_path(str(path)) == document

    index.source(document).write_bytes(b"damaged")
    (row,) = ingest_files(index, [path], ENCODERS, again=True).results
    assert (row.outcome, row.path) == (Outcome.FAILED, path)
    assert "store's own copy is damaged" in row.reason
    assert (index.documents(), index.counts()) == ([document], before)


def test_a_document_is_stored_while_a_long_one_after_it_is_read(index: Index, tmp_path: Path) -> None:
    short, long = pdf(tmp_path / "a.pdf", "island"), pdf(tmp_path / "b.pdf", *(f"harbour {n}" for n in range(90)))
    heard: list[FileResult | Progress] = []
    encoders = Encoders(BundledTextEncoder())
    ingest_files(index, [short, long], encoders, workers=1, on_progress=heard.append, on_result=heard.append)
    stored = next(i for i, item in enumerate(heard) if isinstance(item, FileResult))
    assert heard[stored].path == short
    read = [s.file_pages_done for s in heard[:stored] if isinstance(s, Progress) and s.path == long]
    assert max(read) < 45


def test_files_without_pages_are_laid_out_a_few_at_a_time(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "files", tmp_path / "temporary"
    folder.mkdir()
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    for n in range(12):
        (folder / f"{n:02}.md").write_text(f"# Harbour {n}\n\nThe harbour was rebuilt in {1900 + n}.\n")
    (folder / "06.fb2").write_bytes(b"no book")
    pdf(folder / "z.pdf", "island")
    counts, results = list[int](), list[FileResult]()
    ingest_files(
        index,
        [folder],
        ENCODERS,
        workers=1,
        on_progress=lambda _: counts.append(len(list(kept.rglob("*.pdf")))),
        on_result=results.append,
    )
    assert max(counts) <= 4  # one that is laid out, one that is read, and what waits for its vectors
    assert len(index.documents()) == 13
    assert [r.path.name for r in results if r.path.suffix != ".fb2"] == ["z.pdf", *(f"{n:02}.md" for n in range(12))]
    assert [r.path.name for r in results if r.outcome is Outcome.FAILED] == ["06.fb2"]


def fail(path: Path, document_id: str, number: int, *, ocr: bool) -> Page:
    raise UnreadableFile("A page took more than 60 s to read.")


def test_a_reading_that_fails_leaves_the_version_before(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pdf(tmp_path / "harbour.pdf", "harbour")
    ingest_files(index, [path], ENCODERS, workers=1)
    before = index.documents(), index.counts()

    monkeypatch.setattr(pipeline, "read_page", fail)
    (row,) = ingest_files(index, [path], ENCODERS, workers=1, again=True).results
    assert (row.outcome, row.reason) == (Outcome.FAILED, "A page took more than 60 s to read.")
    assert (index.documents(), index.counts()) == before
    assert index.source(before[0][0]).read_bytes() == path.read_bytes()


def test_descriptions_outlive_a_reading_without_a_describer(index: Index, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "sky.png"
    Image.linear_gradient("L").resize((800, 400)).save(path)
    ingest_files(index, [path], ENCODERS, workers=1)
    (document,) = index.documents()
    page = index.page(document.id, 1)
    assert page is not None
    told = replace(page, regions=tuple(replace(region, description="A sky.") for region in page.regions))
    described = replace(document, described_by="a model")
    with index.writing():
        index.add(described, [told], [], source=path, text_vectors={}, image_vectors={})
    ingest_files(index, [path], ENCODERS, workers=1, again=True)
    assert index.documents() == [described]
    assert index.page(document.id, 1) == told
    (chunk,) = index.chunks_of([(document.id, 1)])
    assert chunk.description == "A sky."
