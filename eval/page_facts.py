"""How truly a page is read: published facts (text present or absent, reading order, table cells) against our regions.

The facts and their meaning are olmOCR-bench's. Knows how regions are read, no index. Formulae are counted apart: the
text layer holds their letters, not their LaTeX.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ingest.pdf import read_page
from mmrag.errors import UsageError, require
from mmrag.tables import Cell, cells, column_names
from mmrag.types import Page, Region, RegionKind

Fact = dict[str, Any]


class FactResult(NamedTuple):
    id: str
    type: str
    holds: bool


def check_page_facts(data: Path) -> list[FactResult]:
    """Every fact of `page_facts.jsonl` against the pages in `ocr_pages/`."""
    path = data / "page_facts.jsonl"
    if not path.is_file():
        raise UsageError(f"There is no page_facts.jsonl in {data}: name a folder with it and with ocr_pages/.")
    facts: list[Fact] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pages = {
        (fact["pdf"], fact["page"]): read_page(data / "ocr_pages" / fact["pdf"], "facts", fact["page"])
        for fact in {(f["pdf"], f["page"]): f for f in facts}.values()
    }
    return [FactResult(f["id"], f["type"], holds(f, pages[f["pdf"], f["page"]])) for f in facts]


def holds(fact: Fact, page: Page) -> bool:
    """Whether one fact is true of a page as it was read."""
    checks: dict[str, Callable[[Fact, Page], bool]] = {
        "present": lambda f, p: _place(f["text"], _body(p), f.get("max_diffs", 0)) is not None,
        "absent": lambda f, p: _place(f["text"], _part(_body(p), f), f.get("max_diffs", 0)) is None,
        "order": _in_order,
        "table": lambda f, p: any(_in_table(f, t) for t in p.regions if t.kind is RegionKind.TABLE),
        "math": lambda f, p: _plain(f["math"]) in _plain(_body(p)),
    }
    return checks[fact["type"]](fact, page)


def _body(page: Page) -> str:
    """What is chunked: everything but running heads and feet, in reading order."""
    return _normal(" ".join(region.text for region in page.regions if not region.kind.is_furniture))


def _part(text: str, fact: Fact) -> str:
    """The beginning or end that a fact is about, in letters; all of the text where it names neither."""
    first, last = fact.get("first_n"), fact.get("last_n")
    return text[:first] if first else text[-last:] if last else text


def _normal(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(
        {0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-"}
    )
    return " ".join(text.replace("''", '"').split())


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9=+]", "", text.lower())


def _place(wanted: str, text: str, max_diffs: int) -> int | None:
    """Where `wanted` begins in `text`, with at most `max_diffs` letters different; None when it is not there."""
    fuzz = require("rapidfuzz", extra="eval").fuzz
    wanted = _normal(wanted)
    found = fuzz.partial_ratio_alignment(wanted, text)
    # A ratio of two strings of length n with d substitutions is 1 - d / n.
    return found.dest_start if found and found.score / 100 >= 1 - (max_diffs + 0.01) / len(wanted) else None


def _in_order(fact: Fact, page: Page) -> bool:
    text, diffs = _body(page), fact.get("max_diffs", 0)
    before, after = _place(fact["before"], text, diffs), _place(fact["after"], text, diffs)
    return before is not None and after is not None and before < after


def _in_table(fact: Fact, table: Region) -> bool:
    """Whether the table has the cell, with the neighbours and headings that the fact names."""
    rows = [cells(table, row) for row in table.sentences]
    return any(
        _same(cell.text, fact["cell"]) and all(_neighbour(fact, side, rows, y, x) for side in _SIDES if fact.get(side))
        for y, row in enumerate(rows)
        for x, cell in enumerate(row)
    )


_SIDES = ("left", "right", "up", "down", "top_heading", "left_heading")


def _neighbour(fact: Fact, side: str, rows: Sequence[Sequence[Cell]], y: int, x: int) -> bool:
    row, cell = rows[y], rows[y][x]
    candidates: dict[str, list[str]] = {
        "left": [other.text for other in row[max(0, x - 1) : x]],
        "right": [other.text for other in row[x + 1 : x + 2]],
        "up": column_names(rows[max(0, y - 1) : y], cell.box),
        "down": column_names(rows[y + 1 : y + 2], cell.box),
        "top_heading": column_names(rows[:y], cell.box),
        "left_heading": [row[0].text] if x else [],
    }
    return any(_same(other, fact[side]) for other in candidates[side])


def _same(found: str, wanted: str) -> bool:
    return _normal(found).lower().strip("$ ") == _normal(wanted).lower().strip("$ ")
