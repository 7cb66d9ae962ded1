"""Cells and column names, read back from table regions that the layout code made."""

from __future__ import annotations

import pytest
from build import ASPECT, LINE, printed_rows

from ingest.layout import LayoutBox, PlacedWord, build_regions
from mmrag.tables import CELL, cells, named_row
from mmrag.types import BBox, Region, RegionKind


def table(*rows: dict[float, str]) -> Region:
    box = LayoutBox(BBox(0.05, 0.25, 0.95, 0.9), RegionKind.TABLE)
    (region,) = build_regions("d-p1", printed_rows(rows), [box], aspect=ASPECT)
    return region


SALES = table(
    {0.1: "Region", 0.4: "2023", 0.6: "2024", 0.8: "Change"},
    {0.1: "North and west", 0.4: "1,200", 0.6: "1,350", 0.8: "12.5%"},
    {0.1: "South", 0.6: "90", 0.8: "n/a"},
    {0.1: "East", 0.4: "7"},
    {0.1: "All figures in EUR m"},
)


def test_cells_with_the_boxes_of_their_words() -> None:
    found = cells(SALES, SALES.sentences[1])
    assert [cell.text for cell in found] == ["North and west", "1,200", "1,350", "12.5%"]
    words = {w.text: w.box for w in SALES.words}
    assert found[0].box == BBox.union([words["North"], words["west"]])
    assert found[2].box == words["1,350"]


def test_cells_are_the_rows_words_in_order() -> None:
    for row in SALES.sentences:
        assert CELL.join(cell.text for cell in cells(SALES, row)) == SALES.text[row.start : row.end]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (1, "North and west — 2023: 1,200; 2024: 1,350; Change: 12.5%"),
        (2, "South — 2024: 90; Change: n/a"),  # the 2023 cell is missing: no other column takes its name
        (3, "East — 2023: 7"),
        (4, "All figures in EUR m"),
    ],
)
def test_a_row_names_its_columns_by_where_they_stand(row: int, said: str) -> None:
    assert named_row(SALES, SALES.sentences[row]) == said


def test_two_header_rows_are_read_from_top_to_bottom() -> None:
    region = table(
        {0.4: "Revenue in EUR m", 0.6: "Profit in EUR m"},
        {0.1: "Region", 0.4: "planned", 0.48: "actual", 0.6: "planned", 0.68: "actual"},
        {0.1: "North", 0.4: "12.5", 0.48: "13", 0.6: "3", 0.68: "4"},
    )
    assert named_row(region, region.sentences[2]) == (
        "North — Revenue in EUR m planned: 12.5; Revenue in EUR m actual: 13; "
        "Profit in EUR m planned: 3; Profit in EUR m actual: 4"
    )


def test_a_column_without_a_name_is_read_without() -> None:
    region = table({0.1: "Region", 0.4: "Sales"}, {0.1: "North", 0.4: "12", 0.7: "(restated)"})
    assert named_row(region, region.sentences[1]) == "North — Sales: 12; (restated)"


def test_a_right_aligned_figure_is_named_by_the_wide_head_above_it() -> None:
    region = table({0.1: "Region", 0.4: "Net interest income"}, {0.1: "North", 0.5: "12"})
    assert named_row(region, region.sentences[1]) == "North — Net interest income: 12"


def test_a_form_has_no_column_names() -> None:
    region = table({0.1: "Name:", 0.5: "A. Smith"}, {0.1: "Born:", 0.5: "1980"})
    assert "A. Smith" not in named_row(region, region.sentences[1])
    assert named_row(region, region.sentences[1]) == "Born: 1980"


def test_a_bar_printed_inside_a_cell_does_not_split_it() -> None:
    words = printed_rows([{0.1: "Key", 0.4: "Value"}, {0.1: "Norm", 0.4: "a | b"}])
    box = LayoutBox(BBox(0.05, 0.25, 0.95, 0.9), RegionKind.TABLE)
    (region,) = build_regions("d-p1", words, [box], aspect=ASPECT)
    assert [cell.text for cell in cells(region, region.sentences[1])] == ["Norm", "a | b"]


def test_a_header_above_a_narrow_gap_names_the_column_it_overlaps_most() -> None:
    def word(text: str, x0: float, x1: float, y: float) -> PlacedWord:
        return PlacedWord(text, BBox(x0, y, x1, y + LINE), 0)

    words = [
        *(word("Region", 0.1, 0.2, 0.3), word("Plan", 0.4, 0.5, 0.3), word("Actual", 0.52, 0.62, 0.3)),
        *(word("North", 0.1, 0.2, 0.33), word("1,234,567", 0.45, 0.6, 0.33)),
    ]
    box = LayoutBox(BBox(0.05, 0.25, 0.95, 0.9), RegionKind.TABLE)
    (region,) = build_regions("d-p1", words, [box], aspect=ASPECT)
    assert named_row(region, region.sentences[1]) == "North — Actual: 1,234,567"
