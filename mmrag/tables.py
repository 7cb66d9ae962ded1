"""Tables as rows and cells with their column names, read back from a region's text and words. Pure logic.

The text of a table region has one row a line, cells between tabs; `Region.sentences` are its rows, the first
`Region.header_rows` of them name the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from mmrag.types import BBox, Region, TextSpan

CELL = "\t"
"""Between the cells of a row, in the text of a table region."""


class Cell(NamedTuple):
    text: str
    box: BBox


def cells(table: Region, row: TextSpan) -> list[Cell]:
    """The cells of one row, left to right, with the box of their words."""
    found, start = [], row.start
    for text in table.text[row.start : row.end].split(CELL):
        boxes = [w.box for w in table.words if w.start < start + len(text) and w.end > start]
        found.append(Cell(text, BBox.union(boxes) if boxes else table.box))
        start += len(text) + len(CELL)
    return found


def named_row(table: Region, row: TextSpan) -> str:
    """A row that reads by itself: `label — column: cell; column: cell`, all in the table's own words."""
    label, *rest = cells(table, row)
    if not rest:
        return label.text
    header = [cells(table, h) for h in table.sentences[: table.header_rows]]
    named = [": ".join(filter(None, (" ".join(column_names(header, cell.box)), cell.text))) for cell in rest]
    between = " " if label.text.endswith((":", "：")) else " — "
    return f"{label.text}{between}{'; '.join(named)}"


def column_names(header: Sequence[Sequence[Cell]], box: BBox) -> list[str]:
    """From each row above, from top to bottom, the cell that stands over `box`; a centred head names both columns."""
    names = []
    for row in header:
        reaches = _reaches(row)
        overlaps = [min(x1, box.x1) - max(x0, box.x0) for x0, x1 in reaches]
        best = max(range(len(row)), key=overlaps.__getitem__)
        if overlaps[best] > 0:
            names.append(row[best].text)
    return names


def _reaches(row: Sequence[Cell]) -> list[tuple[float, float]]:
    """From where to where along x each cell of a head names what stands below it: half-way to its neighbours.

    The last one reaches as far to the right as to the left, the first, which names the labels, no further than its own
    words; one alone names everything.
    """
    if len(row) == 1:
        return [(0.0, 1.0)]
    middles = [(a.box.x1 + b.box.x0) / 2 for a, b in pairwise(row)]
    first, last = row[0].box, row[-1].box
    return list(pairwise([first.x0, first.x1])) + list(pairwise([*middles, last.x1 + last.x0 - middles[-1]]))
