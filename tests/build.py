"""Builders that several test modules share: printed words, regions, pages, documents, evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import settings

from ingest.layout import PlacedWord
from mmrag.text import sentence_spans
from mmrag.types import BBox, Chunk, Document, Evidence, Page, Region, RegionKind, Span, TextSpan

RELAXED = settings(deadline=None)
"""For property tests: a busy machine is no failure."""

LINE = 0.012
"""Height of a printed line in page heights."""
ADVANCE = 0.007
"""Width of a printed character in page widths."""
ASPECT = 1.414
"""Height / width of the page that `printed` prints on: A4."""


def printed(text: str, x: float, y: float, block: int = 0) -> list[PlacedWord]:
    """The words of one printed line that starts at `x`, `y`."""
    words = []
    for word in text.split():
        right = x + ADVANCE * len(word)
        words.append(PlacedWord(word, BBox(x, y, right, y + LINE), block))
        x = right + ADVANCE
    return words


def printed_rows(rows: Iterable[dict[float, str]], y: float = 0.3) -> list[PlacedWord]:
    """The words of a table, from {left edge: text} of each row's cells."""
    return [
        word for i, row in enumerate(rows) for x, text in row.items() for word in printed(text, x, y + 1.5 * LINE * i)
    ]


def region(
    text: str, kind: RegionKind = RegionKind.TEXT, *, id: str = "d-p1-r1", box: BBox | None = None, caption: str = ""
) -> Region:
    """A region without words. The text of a table has one row a line; the first of several names the columns."""
    is_table = kind is RegionKind.TABLE
    return Region(
        id,
        kind,
        box or BBox(0.1, 0.1, 0.9, 0.2),
        text,
        sentences=tuple(_rows(text) if is_table else sentence_spans(text)),
        header_rows=int(is_table and "\n" in text),
        caption_id=caption or None,
    )


def _rows(text: str) -> Iterator[TextSpan]:
    start = 0
    for row in text.split("\n") if text else ():
        yield TextSpan(start, start + len(row))
        start += len(row) + 1


def page(*blocks: tuple[RegionKind, str], number: int = 1) -> Page:
    """A page with these blocks in reading order; their ids are d-p<number>-r1, d-p<number>-r2, …"""
    regions = [region(text, kind, id=f"d-p{number}-r{i}") for i, (kind, text) in enumerate(blocks, start=1)]
    return Page(number, 595, 842, tuple(regions))


def document(name: str = "report.pdf") -> Document:
    return Document(id="d", sha256="d" * 64, name=name, path=f"/{name}", media_type="", title="", page_count=9, size=1)


def evidence(
    of: Region, *, score: float = 0.0, context: str = "", page_number: int = 1, name: str = "report.pdf"
) -> Evidence:
    """The region as a chunk by itself."""
    spans = (Span(of.id, 0, len(of.text), 0),)
    chunk = Chunk(f"c-{of.id}", "d", page_number, of.kind, of.text, of.box, spans, context)
    return Evidence(document(name), page_number, of, chunk, score)
