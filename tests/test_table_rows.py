"""Rows and cells of ruled tables, from words and grids that are put where they are wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from build import ADVANCE, ASPECT, LINE, RELAXED, printed
from hypothesis import given
from hypothesis import strategies as st

from ingest.layout import LayoutBox, PlacedWord, build_regions
from ingest.tables import Grid, table_rows, visual_rows
from mmrag.tables import named_row
from mmrag.types import BBox, Region, RegionKind

PLACE = st.integers(0, 40).map(lambda i: i / 40)
TEXTS = st.sampled_from(["lamp", "1,234,5", "67.00", "-", "2020/12/2", "9", "12", "1.5%", "灯", "合计", "("])
EDGES = st.lists(PLACE, min_size=2, max_size=5, unique=True).map(sorted)


def grid_of(xs: Sequence[float], ys: Sequence[float]) -> Grid:
    cells = [BBox(x0, y0, x1, y1) for y0, y1 in pairwise(ys) for x0, x1 in pairwise(xs)]
    return Grid(BBox.union(cells), tuple(cells))


def one_line(text: str, x: float, y: float, width: float) -> PlacedWord:
    return PlacedWord(text, BBox(x, y, min(1.0, x + width), min(1.0, y + LINE)), 0)


GRIDS = st.lists(st.builds(grid_of, EDGES, EDGES), max_size=3)
LINES = st.lists(st.builds(one_line, TEXTS, PLACE, PLACE, PLACE), max_size=25)
SPAN = st.tuples(PLACE, PLACE)
BOXES = st.builds(lambda xs, ys: BBox(min(xs), min(ys), max(xs), max(ys)), SPAN, SPAN)
WORDS = st.lists(st.builds(PlacedWord, TEXTS, BOXES, st.just(0)), max_size=25)


def region_of(words: list[PlacedWord], *grids: Grid) -> Region:
    box = BBox.union([*(word.box for word in words), *(grid.box for grid in grids)])
    (region,) = build_regions("d-p1", words, [LayoutBox(box, RegionKind.TABLE)], aspect=ASPECT, grids=grids)
    return region


def rows_of(words: list[PlacedWord], *grids: Grid) -> list[list[str]]:
    return [row.split("\t") for row in region_of(words, *grids).text.split("\n")]


def in_column(x: float, y: float, *lines: str) -> list[PlacedWord]:
    """Lines of one cell, from its upper left corner."""
    return [word for i, line in enumerate(lines) for word in printed(line, x + ADVANCE, y + LINE * (0.25 + 1.1 * i))]


# -- what holds for all words and grids ------------------------------------------------------------------------------


@RELAXED
@given(WORDS | LINES, GRIDS)
def test_every_word_is_in_one_cell(words: list[PlacedWord], grids: list[Grid]) -> None:
    rows = table_rows(words, grids, ASPECT)
    found = Counter((word.text, word.box) for row in rows for cell in row for word in cell)
    assert found == Counter((word.text, word.box) for word in words)
    assert all(cell for row in rows for cell in row)
    assert all(rows)


@RELAXED
@given(LINES, st.builds(grid_of, EDGES, EDGES))
def test_rows_go_down_the_page(words: list[PlacedWord], grid: Grid) -> None:
    tops = [min(word.box.y0 for cell in row for word in cell) for row in table_rows(words, [grid], ASPECT)]
    assert all(below > above - LINE for above, below in pairwise(tops))


@RELAXED
@given(WORDS)
def test_without_rules_rows_are_printed_lines(words: list[PlacedWord]) -> None:
    rows = [sorted(word for cell in row for word in cell) for row in table_rows(words, [], ASPECT)]
    assert sorted(rows) == sorted(sorted(row) for row in visual_rows(words))


@RELAXED
@given(LINES, GRIDS)
def test_the_order_of_the_words_does_not_matter(words: list[PlacedWord], grids: list[Grid]) -> None:
    def texts(rows: list[list[list[PlacedWord]]]) -> list[list[Counter[str]]]:
        return [[Counter(word.text for word in cell) for cell in row] for row in rows]

    assert len(table_rows(words, grids, ASPECT)) == len(table_rows(words[::-1], grids, ASPECT))
    distinct = list({word.box.center: word for word in words}.values())
    spread = [word for i, word in enumerate(distinct) if all(abs(w.box.y0 - word.box.y0) > LINE for w in distinct[:i])]
    assert texts(table_rows(spread, grids, ASPECT)) == texts(table_rows(spread[::-1], grids, ASPECT))


# -- cells -----------------------------------------------------------------------------------------------------------

XS, YS = (0.1, 0.3, 0.5, 0.7), (0.2, 0.26, 0.32, 0.38)
GRID = grid_of(XS, YS)


def test_cells_that_wrap_are_one_row() -> None:
    words = in_column(0.1, 0.2, "Region", "of sale") + in_column(0.3, 0.2, "2023") + in_column(0.5, 0.2, "2024")
    words += in_column(0.1, 0.26, "North and", "west and", "east") + in_column(0.3, 0.26, "1,200")
    words += in_column(0.1, 0.32, "South") + in_column(0.5, 0.32, "7", "restated")
    region = region_of(words, GRID)
    assert region.text == "Region of sale\t2023\t2024\nNorth and west and east\t1,200\nSouth\t7 restated"
    assert named_row(region, region.sentences[1]) == "North and west and east — 2023: 1,200"
    assert named_row(region, region.sentences[2]) == "South — 2024: 7 restated"


def test_a_band_with_two_figures_in_a_column_is_cut_into_lines() -> None:
    words = in_column(0.1, 0.2, "Region") + in_column(0.3, 0.2, "2023")
    words += in_column(0.1, 0.26, "North", "South", "East") + in_column(0.3, 0.26, "1,200", "90", "NIL")
    assert rows_of(words, GRID) == [["Region", "2023"], ["North", "1,200"], ["South", "90"], ["East", "NIL"]]


def test_a_head_over_two_columns_names_both() -> None:
    plain = GRID.cells
    grid = Grid(GRID.box, (BBox.union([plain[0], plain[3]]), BBox.union(plain[1:3]), *plain[4:]))
    words = in_column(0.1, 0.22, "Region") + in_column(0.38, 0.2, "Sales")
    words += in_column(0.3, 0.26, "plan") + in_column(0.5, 0.26, "actual")
    words += in_column(0.1, 0.32, "North") + in_column(0.3, 0.32, "12") + in_column(0.5, 0.32, "13")
    region = region_of(words, grid)
    assert region.text == "Region\tSales\nplan\tactual\nNorth\t12\t13"
    assert region.header_rows == 2
    assert named_row(region, region.sentences[2]) == "North — Sales plan: 12; Sales actual: 13"


def test_words_above_and_below_a_grid_are_rows_of_their_own() -> None:
    words = printed("Sales in EUR m", 0.1, 0.15) + in_column(0.1, 0.26, "North") + in_column(0.3, 0.26, "12")
    words += printed("All restated", 0.1, 0.4)
    assert rows_of(words, GRID) == [["Sales in EUR m"], ["North", "12"], ["All restated"]]


@pytest.mark.parametrize("x", [0.02, 0.71], ids=["left", "right"])
def test_words_beside_a_row_belong_to_it(x: float) -> None:
    words = in_column(0.3, 0.2, "2023") + in_column(0.5, 0.2, "2024")
    words += in_column(0.3, 0.26, "12") + in_column(0.5, 0.26, "13") + in_column(x, 0.26, "North", "and west")
    words += in_column(0.3, 0.32, "8") + in_column(0.5, 0.32, "9") + in_column(x, 0.33, "South")
    around = [["12", "13"], ["8", "9"]]
    beside = ["North and west", "South"]
    expected = [[label, *row] if x < 0.3 else [*row, label] for row, label in zip(around, beside, strict=True)]
    assert rows_of(words, GRID) == [["2023", "2024"], *expected]


def test_lines_beside_a_band_of_several_figures_go_with_theirs() -> None:
    words = in_column(0.3, 0.26, "12", "8") + in_column(0.02, 0.26, "North", "South")
    words += printed("note", 0.8, 0.2 + 0.06 + 0.25 * LINE)
    assert rows_of(words, GRID) == [["North", "12", "note"], ["South", "8"]]


def test_two_columns_beside_a_grid_stay_two() -> None:
    words = in_column(0.3, 0.26, "12") + in_column(0.72, 0.26, "first", "column") + in_column(0.85, 0.26, "second")
    assert rows_of(words, GRID) == [["12", "first column", "second"]]


def test_grids_side_by_side_share_their_rows() -> None:
    left, right = grid_of((0.1, 0.2, 0.3), YS), grid_of((0.32, 0.4, 0.5), [y + 0.0006 for y in YS])
    words = [word for x in (0.1, 0.2, 0.32, 0.4) for y in YS[:2] for word in in_column(x, y, f"x{x}")]
    assert rows_of(words, left, right) == [["x0.1", "x0.2", "x0.32", "x0.4"]] * 2


def test_low_rows_beside_a_tall_cell_stay_apart() -> None:
    tall = BBox(0.1, 0.2, 0.3, 0.38)
    low = [BBox(0.3, 0.2 + 0.015 * i, 0.5, 0.215 + 0.015 * i) for i in range(12)]
    grid = Grid(BBox.union([tall, *low]), (tall, *low))
    words = in_column(0.1, 0.28, "Total") + [one_line(f"{i}", 0.35, 0.2015 + 0.015 * i, 0.01) for i in range(12)]
    assert rows_of(words, grid) == [["Total", "0"], *([str(i)] for i in range(1, 12))]


# -- figures that the edge of a cell cuts ----------------------------------------------------------------------------


def cell_text(*lines: str, padding: float = 2, columns: int | None = None) -> str:
    """The text of a cell that is as wide as its longest line, or so many letters, and `padding` letters more."""
    width = ADVANCE * (padding + (columns or max(map(len, lines))))
    grid = grid_of((0.1, 0.1 + width, 0.9), (0.2, 0.3, 0.35))
    words = in_column(0.1, 0.2, *lines) + in_column(0.1 + width, 0.2, "label") + in_column(0.1, 0.31, "7")
    return "|".join(row[0] for row in rows_of(words, grid)[:-1])


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["2020/12/2", "9"], "2020/12/29"),
        (["2020/12/", "29"], "2020/12/29"),
        (["2020-1", "2-29"], "2020-12-29"),
        (["-", "1,522,916.90"], "-1,522,916.90"),
        (["-1,522,91", "6.90"], "-1,522,916.90"),
        (["2,559,710,", "000.00"], "2,559,710,000.00"),
        (["199,401,7", "99.16"], "199,401,799.16"),
        (["1,522,", "916,", "000.90"], "1,522,916,000.90"),
        (["52,790,713.8", "0"], "52,790,713.80"),
        (["(1,522,91", "6.90)"], "(1,522,916.90)"),
    ],
)
def test_a_figure_cut_by_the_edge_of_its_cell_is_one(lines: list[str], text: str) -> None:
    assert cell_text(*lines) == text


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["1,200", "350"], "1,200|350"),
        (["12", "34"], "12|34"),
        (["99", "1,000"], "99|1,000"),
        (["12.5", "7.25"], "12.5|7.25"),
        (["2019", "2020"], "2019|2020"),
        (["2019/1/1", "2020/1/1"], "2019/1/1 2020/1/1"),
        (["7.5%", "8"], "7.5%|8"),
        (["3-", "4 years"], "3- 4 years"),
        (["A-", "1,200"], "A- 1,200"),
        (["lamps", "1,200"], "lamps 1,200"),
    ],
)
def test_two_figures_stay_two(lines: list[str], text: str) -> None:
    assert cell_text(*lines) == text


def test_what_would_have_fitted_the_line_was_not_cut() -> None:
    assert cell_text("2020/12/2", "9", columns=20) == "2020/12/2 9"
    assert cell_text("-", "1,522.90", columns=20) == "- 1,522.90"
    assert cell_text("199,401,7", "99.16", columns=20) == "199,401,7|99.16"


def test_both_halves_of_a_cut_figure_keep_their_place() -> None:
    words = in_column(0.1, 0.2, "2020/12/2", "9")
    region = region_of(words, grid_of((0.1, 0.1 + 11 * ADVANCE, 0.9), (0.2, 0.3, 0.4)))
    assert [(w.text, w.box) for w in region.words] == [(w.text, w.box) for w in words]
    assert region.text == "2020/12/29"
    assert [region.text[w.start : w.end] for w in region.words] == ["2020/12/2", "9"]


def test_beside_a_grid_no_figure_is_joined() -> None:
    words = in_column(0.01, 0.26, "2020/12/2", "9") + in_column(0.3, 0.26, "12")
    assert rows_of(words, GRID) == [["2020/12/2 9", "12"]]
