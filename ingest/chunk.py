"""From regions to chunks that fit the text encoder. Knows the encoder only by its `count_tokens` and `max_tokens`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple, Protocol

from mmrag.text import split_sentences
from mmrag.types import BBox, Chunk, Page, Region, RegionKind, Span

TEXT_TOKENS = 200
"""Size aimed at for running text, about 130 English words. Measured: see eval/LOG.md."""
CONTEXT_TOKENS = 64
"""Room for the section title or caption that a chunk stands under; a quarter of an encoder that reads little."""
DESCRIPTION_TOKENS = 128
"""Room for what a model says of a picture, two or three sentences; a quarter of an encoder that reads little."""
MIN_PICTURE_AREA = 0.01
"""Share of the page below which a picture is an ornament (a logo, a rule, a bullet) and makes no chunk of its own."""


class Tokens(Protocol):
    """What chunking needs of an encoder."""

    max_tokens: int

    def count_tokens(self, texts: list[str]) -> list[int]: ...


def chunk_pages(document_id: str, pages: Sequence[Page], encoder: Tokens) -> list[Chunk]:
    """Chunks of a whole document, in reading order; section titles are carried into the chunks under them."""
    heading = ""
    chunks: list[Chunk] = []
    for page in pages:
        made, heading = _chunk_page(document_id, page, heading, encoder)
        chunks.extend(made)
    return chunks


def _chunk_page(document_id: str, page: Page, heading: str, encoder: Tokens) -> tuple[list[Chunk], str]:
    ids = (f"{document_id}-p{page.number}-c{i}" for i in count(1))
    by_id = {region.id: region for region in page.regions}
    chunks = []
    for kind, group, title in _groups(page, heading):
        caption = by_id[group[0].caption_id].text if group[0].caption_id else ""
        context, description = _clip("\n".join(filter(None, (title, caption))), encoder), ""
        if kind is RegionKind.TABLE:
            pieces = _table_pieces(group[0], encoder)
        elif kind is RegionKind.PICTURE:
            pieces = _picture_pieces(group[0], encoder)
            context = context if caption or group[0].text else _clip(f"{context}\n{around(page, group[0])}", encoder)
            description = _clip(group[0].description, encoder, DESCRIPTION_TOKENS)
        else:
            pieces = _text_pieces(group, encoder)
        for text, spans in pieces:
            box = BBox.union([by_id[span.region_id].box for span in spans])
            place = (next(ids), document_id, page.number, kind)
            chunks.append(Chunk(*place, text, box, spans, context.strip(), description))
            context = context or _clip(_last_heading(group, ""), encoder)  # the first piece holds the title itself
        heading = _last_heading(group, title)
    return chunks, heading


Piece = tuple[str, tuple[Span, ...]]
_Group = tuple[RegionKind, list[Region], str]


def _groups(page: Page, heading: str) -> Iterator[_Group]:
    """Runs of text under one section title, and tables and pictures by themselves; furniture left out.

    The third item is the title that the group stands under, empty when the group starts with it.
    """
    run: list[Region] = []
    title = heading
    for region in page.regions:
        if region.kind.is_furniture or _is_ornament(region):
            continue
        alone = region.kind in (RegionKind.TABLE, RegionKind.PICTURE)
        if run and (alone or region.kind is RegionKind.SECTION_HEADER):
            # Titles that follow each other (a chapter and its first section) stay together.
            if not alone and all(r.kind is RegionKind.SECTION_HEADER for r in run):
                run.append(region)
                continue
            yield RegionKind.TEXT, run, title
            title, run = _last_heading(run, title), []
        if alone:
            yield region.kind, [region], title
            continue
        if not run and region.kind is RegionKind.SECTION_HEADER:
            title = ""
        run.append(region)
    if run:
        yield RegionKind.TEXT, run, title


def _is_ornament(region: Region) -> bool:
    return region.kind is RegionKind.PICTURE and not region.text and region.box.area < MIN_PICTURE_AREA


def _last_heading(group: Sequence[Region], otherwise: str) -> str:
    return next((r.text for r in reversed(group) if r.kind is RegionKind.SECTION_HEADER), otherwise)


def around(page: Page, picture: Region) -> str:
    """The words of the text region nearest to a picture."""
    texts = [r for r in page.regions if r.kind in (RegionKind.TEXT, RegionKind.LIST_ITEM) and r.text]
    x, y = picture.box.center
    nearest = min(texts, key=lambda r: (r.box.center[0] - x) ** 2 + (r.box.center[1] - y) ** 2, default=None)
    return nearest.text if nearest else ""


def _text_pieces(regions: Sequence[Region], encoder: Tokens, taken: int = 0) -> Iterator[Piece]:
    texts = [region.text for region in regions]
    starts = [sum(len(text) + 1 for text in texts[:i]) for i in range(len(texts))]
    joined = "\n".join(texts)
    cursor = 0
    for text in _split(joined, min(TEXT_TOKENS, _room(encoder) - taken), encoder):
        start = joined.index(text, cursor)
        cursor = start + len(text)
        yield text, tuple(_overlaps(regions, starts, start, cursor))


def _overlaps(regions: Sequence[Region], starts: Sequence[int], start: int, end: int) -> Iterator[Span]:
    """Which part of which region stands in `joined[start:end]`."""
    for region, offset in zip(regions, starts, strict=True):
        first, last = max(start, offset), min(end, offset + len(region.text))
        if first < last:
            yield Span(region.id, first - start, last - start, first - offset)


def _table_pieces(table: Region, encoder: Tokens) -> Iterator[Piece]:
    """The whole table where it fits; else runs of rows, each under the rows that name the columns."""
    rows = [_Row(row.start, table.text[row.start : row.end]) for row in table.sentences]
    sizes = dict(zip(rows, encoder.count_tokens([f"{row.text}\n" for row in rows]), strict=True))
    header, body = rows[: table.header_rows], rows[table.header_rows :]
    room = _room(encoder) - sum(sizes[row] for row in header)
    if room < _room(encoder) // 2:  # a header as long as a paragraph is text that the layout took for one
        header, body, room = [], rows, _room(encoder)
    run: list[_Row] = []
    for row in body:
        if run and sum(sizes[r] for r in [*run, row]) > room:
            yield _joined_rows(table, [*header, *run])
            run = []
        if sizes[row] > room:
            yield from _cut_row(table, row, room, encoder)
        else:
            run.append(row)
    if run or (header and all(sizes[row] > room for row in body)):
        yield _joined_rows(table, [*header, *run])


class _Row(NamedTuple):
    start: int
    text: str


def _joined_rows(table: Region, rows: Sequence[_Row]) -> Piece:
    text, spans = "", []
    for row in rows:
        spans.append(Span(table.id, len(text), len(text) + len(row.text), row.start))
        text += row.text + "\n"
    return text[:-1], tuple(spans)


def _picture_pieces(picture: Region, encoder: Tokens) -> Iterator[Piece]:
    """The words inside a chart or diagram; a picture without any is one empty piece, found by its context."""
    if not picture.text:
        yield "", (Span(picture.id, 0, 0, 0),)
        return
    yield from _text_pieces([picture], encoder, _lead_room(encoder, DESCRIPTION_TOKENS) if picture.description else 0)


def _cut_row(table: Region, row: _Row, room: int, encoder: Tokens) -> Iterator[Piece]:
    cursor = row.start
    for text in _split(row.text, room, encoder):
        start = table.text.index(text, cursor)
        cursor = start + len(text)
        yield text, (Span(table.id, 0, len(text), start),)


def _room(encoder: Tokens) -> int:
    # Two for the marks that an encoder puts around a text.
    return encoder.max_tokens - 2 - _lead_room(encoder, CONTEXT_TOKENS)


def _lead_room(encoder: Tokens, limit: int) -> int:
    return min(limit, encoder.max_tokens // 4)


def _clip(lead: str, encoder: Tokens, limit: int = CONTEXT_TOKENS) -> str:
    """As many leading words (or Chinese characters) as have room before a chunk's text."""
    while lead and encoder.count_tokens([lead])[0] >= _lead_room(encoder, limit):
        lead = lead[: int(len(lead) * 0.8)].rstrip()
    return lead


def _split(text: str, room: int, encoder: Tokens) -> list[str]:
    """Cut at sentences where possible; every piece is a verbatim part of `text` and takes at most `room` tokens."""
    if encoder.count_tokens([text])[0] <= room:
        return [text] if text.strip() else []
    from llama_index.core.node_parser import SentenceSplitter

    def tokenize(part: str) -> list[int]:  # the splitter only asks for the length
        return [0] * encoder.count_tokens([part])[0]

    sentences: Callable[[str], list[str]] = split_sentences
    splitter = SentenceSplitter(
        chunk_size=room,
        chunk_overlap=0,
        tokenizer=tokenize,
        paragraph_separator="\n",
        chunking_tokenizer_fn=sentences,
    )
    return [piece for part in splitter.split_text(text) for piece in _force(part, room, encoder)]


def _force(text: str, room: int, encoder: Tokens) -> list[str]:
    """Halve what the splitter cannot cut, such as a page-long string without a space."""
    if encoder.count_tokens([text])[0] <= room:
        return [text]
    middle = text.rfind(" ", 1, len(text) // 2 + 1)
    middle = middle if middle > 0 else len(text) // 2
    return [*_force(text[:middle].strip(), room, encoder), *_force(text[middle:].strip(), room, encoder)]
