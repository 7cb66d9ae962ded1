"""Rows and cells of a table from where its words stand, and from its rules where it has any. Pure geometry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, groupby, pairwise
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
# Share of the cells of a ruled table that have words: reports leave many empty.
_FILLED = 0.3


class Grid(NamedTuple):
    """A ruled table: cells in reading order, those that no rule divides joined."""

    box: BBox
    cells: tuple[BBox, ...]


def holds_words(grid: Grid, words: Sequence[PlacedWord]) -> bool:
    """Whether words stand in the cells, as in a table; in a chart they stand beside the lines."""
    filled = sum(any(cell.contains(word.box.center) for word in words) for cell in grid.cells)
    return filled >= max(3, _FILLED * len(grid.cells))


def table_rows(words: Sequence[PlacedWord], grids: Sequence[Grid], aspect: float) -> list[Row]:
    """Rows from top to bottom. `grids` are its rules, if there are any; `aspect` is page height / width.

    Between two rules a row may hold several printed lines: one row whose cells wrap, unless a column has two figures.
    """
    held: dict[BBox, list[PlacedWord]] = {}
    free: list[PlacedWord] = []
    cells = [cell for grid in grids for cell in grid.cells]
    for word in words:
        homes = [cell for cell in cells if cell.contains(word.box.center)]
        (held.setdefault(min(homes, key=lambda cell: cell.area), []) if homes else free).append(word)
    found: list[tuple[float, Row]] = []
    for top, group in groupby(sorted(held, key=lambda c: (c.y0, c.x0)), key=lambda c: c.y0):
        columns = [held[cell] for cell in group]
        if any(sum(_is_figure(line) for line in visual_rows(column)) > 1 for column in columns):
            found += [(line[0].box.y0, _by(columns, line)) for line in visual_rows([*chain(*columns)])]
        else:
            found.append((top, [[*chain(*visual_rows(column))] for column in columns]))
    found += [(line[0].box.y0, _by_gaps(line, aspect)) for line in visual_rows(free)]
    return [row for _, row in sorted(found, key=lambda item: item[0])]


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


def _by_gaps(line: Sequence[PlacedWord], aspect: float) -> Row:
    # Between words of a cell stands a space of about a quarter of the type size, between cells a whole one or more.
    wide = 0.8 * median(w.box.height for w in line) * aspect
    cells = [[line[0]]]
    for previous, word in pairwise(line):
        if word.box.x0 - previous.box.x1 > wide:
            cells.append([word])
        else:
            cells[-1].append(word)
    return cells
