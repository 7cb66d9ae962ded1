"""The order in which the blocks of a page are read: pure geometry. Knows boxes and kinds, no words and no model.

The layout model sorts its boxes by their left edges, whatever spans the columns. Here a page is cut along its white
space: into columns where these hold prose, else into rows; what lies across the columns separates what is above it from
what is below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mmrag.types import BBox, RegionKind

# Shares of the page: by how much the boxes of neighbours in a row may overlap, columns must stand apart.
_OVERLAP = 0.004
_GUTTER = 0.006
# Boxes that share less than this of their heights (and never more than that of the page) stand in different rows.
_EDGE_SHARE = 0.2
_EDGE = 0.01
# Letters that make a block prose; labels, dates and cells have fewer.
_PROSE = 40
# Share of a block inside another that makes it a part of that: labels in a chart.
_INSIDE = 0.8
# Letters that the title or a note of a figure has at most; how far it may stand from that, and reach beyond its right.
_NOTE = 200
_NOTE_GAP = 0.03
_NOTE_REACH = 0.1
# More blocks than any text has: a map or a drawing, not worth the time, which grows with their square.
_MOST_BLOCKS = 200
_HEADS = (RegionKind.PAGE_HEADER,)
_FEET = (RegionKind.PAGE_FOOTER,)
_COLUMN_KINDS = (RegionKind.TEXT, RegionKind.LIST_ITEM, RegionKind.TABLE)
_BODY = tuple(kind for kind in RegionKind if not kind.is_furniture)


class Block(NamedTuple):
    """What is put in order."""

    box: BBox
    kind: RegionKind
    letters: int
    """How much text it holds; a Chinese character counts twice."""
    number: tuple[int, ...] = ()
    """What a title begins with: (2, 1) for "2.1 Lamps"."""

    @property
    def is_note(self) -> bool:
        return self.kind is not RegionKind.TABLE and self.letters < _NOTE

    @property
    def makes_column(self) -> bool:
        return self.kind in _COLUMN_KINDS and self.letters >= _PROSE


def reading_order(blocks: Sequence[Block]) -> list[int]:
    """Indexes of `blocks` in the order of reading: running heads, body, running feet."""
    if len(blocks) > _MOST_BLOCKS:
        return sorted(range(len(blocks)), key=lambda i: (blocks[i].box.y0, blocks[i].box.x0))
    order: list[int] = []
    for kinds in (_HEADS, _BODY, _FEET):
        outer, inner = _nested([i for i, block in enumerate(blocks) if block.kind in kinds], blocks)
        for i in _with_pictures(outer, blocks):
            order += [i, *_with_pictures(inner[i], blocks)]
    return order


def _with_pictures(indexes: Sequence[int], blocks: Sequence[Block]) -> list[int]:
    """Text cut into columns as if there were no figures, which often lie across these or behind; then they too."""
    figures = _figures(indexes, blocks)
    apart = {i for figure in figures for i in figure}
    order = _ordered([i for i in indexes if i not in apart], blocks)
    for figure in figures:
        box = BBox.union([blocks[i].box for i in figure])
        place = _place(box, [blocks[j].box for j in order])
        order[place:place] = figure
    return order


def _figures(indexes: Sequence[int], blocks: Sequence[Block]) -> list[list[int]]:
    """Pictures from top to bottom, each with the title right above it and the notes right below."""
    down = sorted(indexes, key=lambda i: (blocks[i].box.y0, blocks[i].box.x0))
    figures = {i: [i] for i in down if blocks[i].kind is RegionKind.PICTURE}
    free = [i for i in down if i not in figures and blocks[i].is_note]
    for figure in figures.values():
        for i in [*reversed(free), *free]:  # upwards from the picture, then downwards
            if i in free and _adjoins(blocks[i].box, BBox.union([blocks[j].box for j in figure])):
                figure.append(i)
                free.remove(i)
    return [sorted(figure, key=down.index) for figure in figures.values()]


def _adjoins(note: BBox, figure: BBox) -> bool:
    gap = max(note.y0 - figure.y1, figure.y0 - note.y1)
    return -_EDGE < gap < _NOTE_GAP and figure.x0 - _NOTE_GAP < note.x0 and note.x1 < figure.x1 + _NOTE_REACH


def _place(box: BBox, order: Sequence[BBox]) -> int:
    """Where a block goes among ordered ones: before what follows it in its column, else after what precedes it."""
    column = [i for i, other in enumerate(order) if min(other.x1, box.x1) > max(other.x0, box.x0)]
    if column:
        return next((i for i in column if order[i].y0 >= box.y0), column[-1] + 1)
    return next((i for i, other in enumerate(order) if other.y0 >= box.y1), len(order))


def _nested(indexes: Sequence[int], blocks: Sequence[Block]) -> tuple[list[int], dict[int, list[int]]]:
    """Blocks that lie in no other, and for each of these the ones inside it."""
    outer: list[int] = []
    hosts: list[int] = []
    inner: dict[int, list[int]] = {}
    for i in sorted(indexes, key=lambda i: -blocks[i].box.area):
        box = blocks[i].box
        home = next((j for j in hosts if box.intersection(blocks[j].box) > _INSIDE * box.area), None)
        if home is None:
            outer.append(i)
            inner[i] = []
            if blocks[i].kind in (RegionKind.PICTURE, RegionKind.TABLE):
                hosts.append(i)
        else:
            inner[home].append(i)
    return outer, inner


def _ordered(indexes: list[int], blocks: Sequence[Block]) -> list[int]:
    if len(indexes) < 2:
        return indexes
    bands = _bands(indexes, blocks)
    parts = _sections(bands, blocks) if len(bands) > 1 else []
    if len(parts) < 2:
        parts = _columns(indexes, blocks, -_OVERLAP)
    if len(parts) < 2:
        return _untangled(indexes, blocks)
    return [i for part in parts for i in _ordered(part, blocks)]


def _untangled(indexes: list[int], blocks: Sequence[Block]) -> list[int]:
    """Without the largest block, which stands in the way of every cut; then it too."""
    largest = max(indexes, key=lambda i: (blocks[i].box.area, -i))
    order = _ordered([i for i in indexes if i != largest], blocks)
    order.insert(_place(blocks[largest].box, [blocks[i].box for i in order]), largest)
    return order


def _bands(indexes: Sequence[int], blocks: Sequence[Block]) -> list[list[int]]:
    def core(i: int) -> tuple[float, float]:
        box = blocks[i].box
        edge = min(_EDGE_SHARE * box.height, _EDGE)
        return box.y0 + edge, box.y1 - edge

    return _parts(indexes, core, 0.0)


def _columns(indexes: Sequence[int], blocks: Sequence[Block], gap: float) -> list[list[int]]:
    return _parts(indexes, lambda i: (blocks[i].box.x0, blocks[i].box.x1), gap)


def _parts(indexes: Sequence[int], extent: Callable[[int], tuple[float, float]], gap: float) -> list[list[int]]:
    """Groups along one axis with at least `gap` between them; a negative one is an overlap that still divides."""
    parts: list[list[int]] = []
    end = 0.0
    for i in sorted(indexes, key=extent):
        start, stop = extent(i)
        if parts and start < end + gap:
            parts[-1].append(i)
            end = max(end, stop)
        else:
            parts.append([i])
            end = stop
    return parts


def _sections(bands: Sequence[list[int]], blocks: Sequence[Block]) -> list[list[int]]:
    """Bands of the page, joined where the same columns of prose run through them."""
    sections = []
    start = 0
    while start < len(bands):
        stop = _stop_of_columns(bands, start, blocks)
        sections += _cards(bands[start:stop], blocks)
        start = stop
    return sections


def _stop_of_columns(bands: Sequence[list[int]], start: int, blocks: Sequence[Block]) -> int:
    """The band before which the columns end that begin at band `start`; where none do, the next."""
    spans: list[tuple[float, float]] = []  # the columns so far, along x
    stop = start + 1
    for end, band in enumerate(bands[start:], start=start + 1):
        spans = _merged([*spans, *((blocks[i].box.x0, blocks[i].box.x1) for i in band)])
        if len(spans) > 1:
            stop = end
    columns = _columns([i for band in bands[start:stop] for i in band], blocks, _GUTTER)
    held = [column for column in columns if any(blocks[i].makes_column for i in column)]
    if len(held) < 2 or _stands_over(bands[start], columns, blocks):
        return start + 1
    # A title below columns belongs to what follows it.
    while stop > start + 1 and all(blocks[i].kind is RegionKind.SECTION_HEADER for i in bands[stop - 1]):
        stop -= 1
    return stop


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans along x, those joined between which there is no gutter."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1] + _GUTTER:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _stands_over(band: Sequence[int], columns: Sequence[list[int]], blocks: Sequence[Block]) -> bool:
    """Whether a band is one short line that reaches beyond the column under it: a title of all the columns."""
    first = blocks[band[0]]
    if len(band) > 1 or first.makes_column:
        return False
    under = [blocks[i].box for column in columns if band[0] in column for i in column if i != band[0]]
    return not under or first.box.x0 < BBox.union(under).x0 - _EDGE or first.box.x1 > BBox.union(under).x1 + _EDGE


def _cards(bands: Sequence[list[int]], blocks: Sequence[Block]) -> list[list[int]]:
    """One section of columns; or, where numbered titles count along its rows, a section for every row of titles."""
    section = [i for band in bands for i in band]
    along = _numbers(bands, 0, blocks)
    down = _numbers(_columns(section, blocks, _GUTTER), 1, blocks)
    if along != sorted(along) or down == sorted(down):
        return [section]
    cards: list[list[int]] = []
    for band in bands:
        if not cards or any(blocks[i].number for i in band):
            cards.append([])
        cards[-1] += band
    return cards


def _numbers(parts: Sequence[list[int]], axis: int, blocks: Sequence[Block]) -> list[tuple[int, ...]]:
    """The numbers of the titles, part after part, along x (0) or down y (1) in each."""
    ordered = (i for part in parts for i in sorted(part, key=lambda i: blocks[i].box[axis]))
    return [blocks[i].number for i in ordered if blocks[i].number]
