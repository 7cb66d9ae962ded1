"""Rows and cells of a table from where its words stand, and from its rules where it has any. Pure geometry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from mmrag.types import BBox

if TYPE_CHECKING:
    from ingest.layout import PlacedWord

Row = list[list["PlacedWord"]]
"""Cells, left to right; empty ones are left out."""

_NUMBER = re.compile(r"^[(\[\-–−+]?\s*[$€£¥]?\s*\d[\d.,\s]*\s*[%)\]]?$")
_YEAR = re.compile(r"^(19|20)\d\d$")
_MAX_HEADER_ROWS = 4
# Share of the cells of a ruled table that have words, or of its first column: reports leave many others empty.
_FILLED, _LABELLED = 0.3, 0.8
# What the edge of a cell may cut: a figure with thousands separators or a date, as far as it is printed; what may
# stand under a sign; a figure that is whole, and so needs nothing more.
_CUTTABLE = re.compile(r"[(\-−]?\d{1,3}(,\d{3})+(,\d{0,2}|\.\d{0,2})?[)%]?|\d{4}([/.-])\d{1,2}(\3\d{0,2})?")
_UNSIGNED = re.compile(r"\d[\d,]*(\.\d+)?[)%]?")
_WHOLE = re.compile(r"[(\-−]?\d{1,3}(,\d{3})*(\.\d\d)?[)%]?")
_SIGNS = ("-", "−", "(")
# Letters between the words and the rules of a cell, left and right together.
_PADDING = 4


class Grid(NamedTuple):
    """A ruled table: cells in reading order, those that no rule divides joined."""

    box: BBox
    cells: tuple[BBox, ...]


def holds_words(grid: Grid, words: Sequence[PlacedWord]) -> bool:
    """Whether words stand in the cells, as in a table; in a chart they stand beside the lines."""
    filled = {cell for cell in grid.cells if any(cell.contains(word.box.center) for word in words)}
    labels = {cell for cell in grid.cells if cell.x0 == grid.box.x0}
    return len(filled) >= max(3, _FILLED * len(grid.cells)) or len(filled & labels) >= max(3, _LABELLED * len(labels))


def table_rows(words: Sequence[PlacedWord], grids: Sequence[Grid], aspect: float) -> list[Row]:
    """Rows from top to bottom. `grids` are its rules, if there are any; `aspect` is page height / width.

    Between two rules a row may hold several printed lines: one row whose cells wrap, unless a column has two figures.
    Words beside a grid, as the labels of a table that is open there, are cells of the row that they stand beside.
    """
    cells = [cell for grid in grids for cell in grid.cells]
    margins = [margin for grid in grids for margin in _margins(grid)]
    held: dict[BBox, list[PlacedWord]] = {}
    free: list[PlacedWord] = []
    for word in words:
        homes = _around(word, cells) or _around(word, margins)
        (held.setdefault(min(homes, key=lambda cell: cell.area), []) if homes else free).append(word)
    found: list[tuple[float, Row]] = []
    for band in _bands(held):
        columns = [
            (cell, column)
            for cell in band
            for column in (_columns(held[cell], aspect) if cell in margins else [held[cell]])
        ]
        wrapped = [_wrapped(column, cell) for cell, column in columns]
        if any(sum(_is_figure(line) and not line[0].goes_on for line in lines) > 1 for lines in wrapped):
            lines = visual_rows([word for _, column in columns for word in column])
            found += [(line[0].box.y0, _by([column for _, column in columns], line)) for line in lines]
        else:
            found.append((band[0].y0, [[*chain(*lines)] for lines in wrapped]))
    found += [(line[0].box.y0, _columns(line, aspect)) for line in visual_rows(free)]
    return [row for _, row in sorted(found, key=lambda item: item[0])]


def _around(word: PlacedWord, boxes: Sequence[BBox]) -> list[BBox]:
    return [box for box in boxes if box.contains(word.box.center)]


def _margins(grid: Grid) -> list[BBox]:
    """What is left and right of each row of a grid."""
    tops = [*sorted({cell.y0 for cell in grid.cells}), grid.box.y1]
    return [
        margin
        for y0, y1 in pairwise(tops)
        for margin in (BBox(0.0, y0, grid.box.x0, y1), BBox(grid.box.x1, y0, 1.0, y1))
    ]


def _bands(cells: Iterable[BBox]) -> list[list[BBox]]:
    """Cells that begin at one height, each band left to right; those of two grids may differ by the width of a rule."""
    bands: list[list[BBox]] = []
    for cell in sorted(cells, key=lambda cell: (cell.y0, cell)):
        if bands and cell.y0 - bands[-1][0].y0 < 0.3 * min(other.height for other in [*bands[-1], cell]):
            bands[-1].append(cell)
        else:
            bands.append([cell])
    return [sorted(band) for band in bands]


def _wrapped(words: Sequence[PlacedWord], cell: BBox) -> list[list[PlacedWord]]:
    """The printed lines of a cell; words that finish a figure or date of the line above are marked so."""
    lines = visual_rows(words)
    run = ""
    for above, line in pairwise(lines):
        run = (run if len(above) == 1 and above[0].goes_on else "") + above[-1].text
        if _is_cut(run, line[0].text) and _fills(above, line[0], cell):
            line[0] = line[0]._replace(goes_on=True)
    return lines


def _is_cut(first: str, second: str) -> bool:
    """Whether two texts are the halves of one figure or date rather than one each."""
    if first in _SIGNS:
        return _UNSIGNED.fullmatch(second) is not None
    whole = _WHOLE.fullmatch(first) and _WHOLE.fullmatch(second)
    return not whole and _CUTTABLE.fullmatch(first + second) is not None


def _fills(line: Sequence[PlacedWord], following: PlacedWord, cell: BBox) -> bool:
    """Whether what follows did not fit behind a line of a cell: all of it after a sign, else its first letter."""
    letter = following.box.width / len(following.text)
    needed = following.box.width if line[-1].text in _SIGNS else letter
    return cell.width - (line[-1].box.x1 - line[0].box.x0) < needed + _PADDING * letter


def visual_rows(words: Sequence[PlacedWord]) -> list[list[PlacedWord]]:
    """Words that stand on one printed line, top to bottom, each line left to right."""
    rows: list[list[PlacedWord]] = []
    for word in sorted(words, key=lambda w: w.box.center[1]):
        anchor = rows[-1][0].box if rows else None
        if anchor and abs(word.box.center[1] - anchor.center[1]) < 0.5 * min(anchor.height, word.box.height):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [sorted(row, key=lambda w: w.box.x0) for row in rows]


def header_rows(rows: Sequence[Sequence[str]]) -> int:
    """Rows before the first that holds a figure (years name columns); one if that comes late or never."""
    if rows[0][0].endswith((":", "：")):
        return 0  # a form: its first column holds the names
    for i, row in enumerate(rows):
        if any(_NUMBER.match(cell) and not _YEAR.match(cell) for cell in row[1:]):
            return i if i <= _MAX_HEADER_ROWS else 1
    return min(1, len(rows) - 1)


def _is_figure(line: Sequence[PlacedWord]) -> bool:
    return _NUMBER.match(" ".join(word.text for word in line)) is not None


def _by(columns: Sequence[Sequence[PlacedWord]], line: Sequence[PlacedWord]) -> Row:
    """One printed line cut where its words belong to different columns."""
    cells = [[word for word in line if word in column] for column in columns]
    return [cell for cell in cells if cell]


def _columns(words: Sequence[PlacedWord], aspect: float) -> Row:
    """Words parted by gaps that go through all their lines."""
    # Between words of a cell stands a space of about a quarter of the type size, between cells a whole one or more.
    wide = 0.8 * median(w.box.height for w in words) * aspect
    columns: Row = []
    end = 0.0
    for word in sorted(words, key=lambda w: w.box.x0):
        if columns and word.box.x0 - end <= wide:
            columns[-1].append(word)
            end = max(end, word.box.x1)
        else:
            columns.append([word])
            end = word.box.x1
    return columns
