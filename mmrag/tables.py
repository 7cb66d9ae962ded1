"""Tables as rows and cells with their column names, read back from a region's text and words. Pure logic.

The text of a table region has one row a line, cells between tabs; `Region.sentences` are its rows, the first
`Region.header_rows` of them name the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    header = [cells(table, h) for h in table.sentences[: table.header_rows]]
    if not rest:
        return label.text
    named = [f"{name}: {cell.text}" if (name := _column_name(header, cell.box)) else cell.text for cell in rest]
    between = " " if label.text.endswith((":", "：")) else " — "
    return f"{label.text}{between}{'; '.join(named)}"


def _column_name(header: Sequence[Sequence[Cell]], box: BBox) -> str:
    """Header cells above `box`, top to bottom: from each header row the one that overlaps it most along x."""
    names = []
    for row in header:
        overlap, name = max(((min(c.box.x1, box.x1) - max(c.box.x0, box.x0), c.text) for c in row), default=(0.0, ""))
        if overlap > 0:
            names.append(name)
    return " ".join(names)
