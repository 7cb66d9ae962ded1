"""From words and layout boxes to regions: pure geometry on fractions of the page. Knows no file format and no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from ingest.order import Block, reading_order
from ingest.tables import Grid, header_rows, table_rows
from mmrag.tables import CELL
from mmrag.text import is_spaceless, sentence_spans
from mmrag.types import WHOLE_PAGE, BBox, Region, RegionKind, TextSpan, Word

_CAPTION = re.compile(r"^\s*(figure|fig\.?|table|chart|exhibit|图|表)\s*[\dIVX一二三四五六七八九十]+", re.IGNORECASE)
_YEAR = re.compile(r"^(19|20)\d\d$")
# A caption stands within this share of the page height of what it names, as measured on reports and papers.
_CAPTION_GAP = 0.08
# "12", "- 12 -", "Page 12 of 40", "第12页", "12 Annual report", "Annual report 12"
_PAGE_LABEL = re.compile(r"\W*(?:page|p\.|第)?\s*(\d{1,4})\b(?!\.\d)|.*\s(\d{1,4})\W*$", re.IGNORECASE | re.DOTALL)
# The same without a title
_PAGE_NUMBER = re.compile(r"\W*(?:page|p\.|第)?\s*(\d{1,4})\s*(?:(?:of|/)\s*\d{1,4}|页)?\W*", re.IGNORECASE)
# What numbers a title: "2", "2.", "2.1", "2.1.3)"
_TITLE_NUMBER = re.compile(r"^(\d{1,3}(?:\.\d{1,3})*)[.):]?$")
_EDGE = 0.08
# Shares of the page's height: above and below stand running heads and feet, of less than so many letters.
_MARGIN = 0.06
_MARGIN_TEXT = 120


class PlacedWord(NamedTuple):
    """A word on the page; `block` is the paragraph that the reader of the file put it in."""

    text: str
    box: BBox
    block: int
    goes_on: bool = False
    """Whether it finishes a figure or date that the line above it begins."""


class LayoutBox(NamedTuple):
    """What the layout model saw."""

    box: BBox
    kind: RegionKind


def build_regions(
    page_id: str,
    words: Sequence[PlacedWord],
    boxes: Sequence[LayoutBox],
    *,
    aspect: float,
    grids: Sequence[Grid] = (),
) -> tuple[Region, ...]:
    """Put every word into one region. `aspect` is page height / width, so that gaps along x and y compare.

    `grids` are the ruled tables of the page: a table that overlaps one has its box and cells.

    Words that no layout box holds keep their paragraph as a region of kind text. A page without words or pictures is a
    picture itself: a scan that could not be read or a photo can still be found and shown.
    """
    boxes = [_ruled(box, grids) for box in boxes]
    held = _assign(words, boxes)
    drafts = [
        (box.box, RegionKind.PICTURE if box.kind is RegionKind.TABLE and not held[i] else box.kind, held[i])
        for i, box in enumerate(boxes)
        if held[i] or box.kind in (RegionKind.PICTURE, RegionKind.TABLE)
    ]
    for _, block in groupby(held[-1], key=lambda word: word.block):
        stray = list(block)
        drafts.append((BBox.union([w.box for w in stray]), RegionKind.TEXT, stray))
    if not drafts:
        drafts = [(WHOLE_PAGE, RegionKind.PICTURE, [])]
    drafts = _with_furniture(drafts)
    if all(kind.is_furniture for _, kind, _ in drafts):  # the only line of a page is its content, wherever it stands
        drafts = [(box, RegionKind.TEXT, inside) for box, _, inside in drafts]
    drafts = [drafts[i] for i in reading_order([_block(*draft) for draft in drafts])]
    regions = [
        _region(f"{page_id}-r{i}", box, kind, inside, grids, aspect)
        for i, (box, kind, inside) in enumerate(drafts, start=1)
    ]
    return tuple(_with_captions(regions))


def _ruled(box: LayoutBox, grids: Sequence[Grid]) -> LayoutBox:
    """A table as large as its rules: the model's box often ends with the words."""
    inside = [grid.box for grid in grids if box.box.intersection(grid.box) > 0.5 * min(box.box.area, grid.box.area)]
    return box._replace(box=BBox.union([box.box, *inside])) if box.kind is RegionKind.TABLE else box


_Draft = tuple[BBox, RegionKind, list[PlacedWord]]


def _with_furniture(drafts: Sequence[_Draft]) -> list[_Draft]:
    """The same regions, short lines in the margins marked as running heads and feet.

    Further in, only what reads like one is taken, where nothing of the body stands between it and the edge.
    """
    heads = {i for i, (_, kind, words) in enumerate(drafts) if _is_short(kind, words) and _is_running_head(words)}
    body = [box for i, (box, _, words) in enumerate(drafts) if words and i not in heads and not _margin(box, _MARGIN)]
    top, bottom = min((b.y0 for b in body), default=1.0), max((b.y1 for b in body), default=0.0)
    marked = []
    for i, (box, kind, words) in enumerate(drafts):
        furniture = _margin(box, _MARGIN) if _is_short(kind, words) else None
        if i in heads and (box.y1 <= top or box.y0 >= bottom):
            furniture = _margin(box, 2 * _MARGIN)
        marked.append((box, furniture or kind, words))
    return marked


def _margin(box: BBox, depth: float) -> RegionKind | None:
    if box.y1 < depth:
        return RegionKind.PAGE_HEADER
    return RegionKind.PAGE_FOOTER if box.y0 > 1 - depth else None


def _is_short(kind: RegionKind, words: Sequence[PlacedWord]) -> bool:
    fixed = kind in (RegionKind.TABLE, RegionKind.SECTION_HEADER)
    return not fixed and 0 < sum(len(w.text) for w in words) < _MARGIN_TEXT


def _is_running_head(words: Sequence[PlacedWord]) -> bool:
    """A page number, alone or with a title in capitals, as books have it."""
    text = join_words(words)[0]
    if alone := _PAGE_NUMBER.fullmatch(text):
        return not _YEAR.match(alone[1])
    letters = [c for c in text if c.isalpha()]
    capitals = sum(c.isupper() for c in letters)
    return _PAGE_LABEL.match(text) is not None and bool(letters) and capitals > 0.6 * len(letters)


def _assign(words: Sequence[PlacedWord], boxes: Sequence[LayoutBox]) -> dict[int, list[PlacedWord]]:
    """Words by the index of the smallest box around their centre; -1 for those outside every box."""
    held: dict[int, list[PlacedWord]] = {i: [] for i in range(-1, len(boxes))}
    smallest_first = [(i, boxes[i].box) for i in sorted(range(len(boxes)), key=lambda i: boxes[i].box.area)]
    for word in words:
        center = word.box.center
        owner = next((i for i, box in smallest_first if box.contains(center)), -1)
        held[owner].append(word)
    return held


def _block(box: BBox, kind: RegionKind, words: Sequence[PlacedWord]) -> Block:
    numbered = _TITLE_NUMBER.match(words[0].text) if words and kind is RegionKind.SECTION_HEADER else None
    number = tuple(int(part) for part in numbered[1].split(".")) if numbered else ()
    return Block(box, kind, sum(text_width(word.text) for word in words), number)


def _region(
    region_id: str, box: BBox, kind: RegionKind, words: list[PlacedWord], grids: Sequence[Grid], aspect: float
) -> Region:
    box = BBox.union([box, *(word.box for word in words)])  # the model's boxes cut through ascenders and first letters
    if kind is RegionKind.TABLE and words:
        ruled = [grid for grid in grids if box.contains(grid.box.center)]
        return Region(region_id, kind, box, *_table_text(words, ruled, aspect))
    text, placed = join_words(words)
    if kind is RegionKind.TEXT and len(text) < 300 and _CAPTION.match(text):
        kind = RegionKind.CAPTION
    return Region(region_id, kind, box, text, placed, tuple(sentence_spans(text)))


def text_width(text: str) -> int:
    """In Latin letters; a Chinese one is twice as wide."""
    return sum(2 if is_spaceless(character) else 1 for character in text)


def join_words(words: Iterable[PlacedWord]) -> tuple[str, tuple[Word, ...]]:
    """Words in reading order as running text: no spaces inside Chinese, hyphens at line ends closed."""
    text = ""
    placed: list[Word] = []
    previous: PlacedWord | None = None
    for word in words:
        if previous and _is_hyphenated(previous, word):
            text = text[:-1]
            placed[-1] = placed[-1]._replace(text=placed[-1].text[:-1])
        elif previous and not word.goes_on and not (is_spaceless(previous.text[-1]) and is_spaceless(word.text[0])):
            text += " "
        placed.append(Word(word.text, word.box, len(text)))
        text += word.text
        previous = word
    return text, tuple(placed)


def _is_hyphenated(first: PlacedWord, second: PlacedWord) -> bool:
    breaks = (
        len(first.text) > 2 and first.text[-1] in "-\u00ad" and first.text[-2].islower() and second.text[0].islower()
    )
    return breaks and second.box.y0 > first.box.center[1]


def _table_text(
    words: Sequence[PlacedWord], grids: Sequence[Grid], aspect: float
) -> tuple[str, tuple[Word, ...], tuple[TextSpan, ...], int]:
    """Rows one a line, cells between tabs."""
    text = ""
    placed: list[Word] = []
    rows: list[TextSpan] = []
    texts: list[list[str]] = []
    for row in table_rows(words, grids, aspect):
        start = len(text)
        joined = [join_words(cell) for cell in row]
        for i, (cell_text, cell_words) in enumerate(joined):
            text += CELL if i else ""
            placed.extend(word._replace(start=word.start + len(text)) for word in cell_words)
            text += cell_text
        rows.append(TextSpan(start, len(text)))
        texts.append([cell_text for cell_text, _ in joined])
        text += "\n"
    return text.rstrip("\n"), tuple(placed), tuple(rows), header_rows(texts)


def page_labels(regions: Sequence[Region]) -> tuple[str, ...]:
    """Page numbers as they are printed: first or last in a running head or foot, or alone at the edge of the page."""
    found: dict[str, None] = {}
    for region in regions:
        y = region.box.center[1]
        at_edge = (y < _EDGE or y > 1 - _EDGE) and len(region.text) < 12
        if (region.kind.is_furniture or at_edge) and (match := _PAGE_LABEL.match(region.text.strip())):
            label = next(group for group in match.groups() if group)
            if not _YEAR.match(label):
                found[label.lstrip("0") or "0"] = None
    return tuple(found)


def _with_captions(regions: Sequence[Region]) -> list[Region]:
    """Tie each table and picture to the nearest free caption above or below it."""
    captions = {r.id: r for r in regions if r.kind is RegionKind.CAPTION}
    tied = []
    for region in regions:
        if region.kind in (RegionKind.TABLE, RegionKind.PICTURE):
            near = [(gap, c.id) for c in captions.values() if (gap := _gap(region.box, c.box)) < _CAPTION_GAP]
            if near:
                region = replace(region, caption_id=captions.pop(min(near)[1]).id)
        tied.append(region)
    return tied


def _gap(box: BBox, caption: BBox) -> float:
    """Vertical distance in page heights; infinite when the two do not share a column."""
    if min(box.x1, caption.x1) <= max(box.x0, caption.x0):
        return float("inf")
    return max(0.0, caption.y0 - box.y1, box.y0 - caption.y1)
