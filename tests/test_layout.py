"""From placed words to regions: running text, tables and forms, captions; and the grids among OCR lines."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from textwrap import wrap

import pytest
from build import ADVANCE, ASPECT, LINE, RELAXED, printed, printed_rows
from hypothesis import given
from hypothesis import strategies as st

from ingest.layout import LayoutBox, PlacedWord, build_regions, join_words
from ingest.ocr import _grids, _paragraphs
from ingest.tables import visual_rows
from mmrag.types import WHOLE_PAGE, BBox, Region, RegionKind

GRID = st.integers(0, 40).map(lambda i: i / 40)  # coarse, so that words share lines and boxes share edges
BOXES = st.builds(lambda xs, ys: BBox(min(xs), min(ys), max(xs), max(ys)), st.tuples(GRID, GRID), st.tuples(GRID, GRID))
TEXTS = st.sampled_from(
    [
        "lamp",
        "red-",
        "the",
        "soft\u00ad",
        "-",
        "A-",
        "3.5",
        "(12%)",
        "Table",
        "1",
        "name:",
        "灯是",
        "红。",
        "，",
        "한국",
        "|",
        "2024",
    ]
) | st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=5)
WORDS = st.lists(st.builds(PlacedWord, TEXTS, BOXES, st.integers(0, 3)), max_size=25)
LAYOUTS = st.lists(st.builds(LayoutBox, BOXES, st.sampled_from(RegionKind)), max_size=6)


def regions_of(words: list[PlacedWord], *boxes: LayoutBox) -> tuple[Region, ...]:
    return build_regions("d-p1", words, boxes, aspect=ASPECT)


def layout(kind: RegionKind, x0: float, y0: float, x1: float, y1: float) -> LayoutBox:
    return LayoutBox(BBox(x0, y0, x1, y1), kind)


def table(*rows: dict[float, str]) -> Region:
    (region,) = regions_of(printed_rows(rows), layout(RegionKind.TABLE, 0.05, 0.25, 0.95, 0.9))
    return region


def rows_of(region: Region) -> list[str]:
    return [region.text[span.start : span.end] for span in region.sentences]


# -- running text ----------------------------------------------------------------------------------------------------


def lines(*texts: str) -> list[PlacedWord]:
    return [word for i, text in enumerate(texts) for word in printed(text, 0.1, 0.1 + 1.5 * LINE * i)]


@RELAXED
@given(WORDS)
def test_words_stand_where_they_say(words: list[PlacedWord]) -> None:
    text, placed = join_words(words)
    assert [text[w.start : w.end] for w in placed] == [w.text for w in placed]
    assert [w.box for w in placed] == [w.box for w in words]
    assert all(a.end <= b.start for a, b in pairwise(placed))


@pytest.mark.parametrize(
    ("printed_lines", "text"),
    [
        (["The lamp is", "red."], "The lamp is red."),
        (["an impor-", "tant lamp"], "an important lamp"),
        (["an impor\u00ad", "tant lamp"], "an important lamp"),
        (["a well- known lamp"], "a well- known lamp"),  # on one line: not broken there
        (["the red-", "Blue lamp"], "the red- Blue lamp"),  # a name keeps its hyphen
        (["GPT-", "based"], "GPT- based"),
        (["from 3-", "to 4"], "from 3- to 4"),
        (["a lamp -", "a red one"], "a lamp - a red one"),  # a dash
        (["灯是红的", "门是蓝的"], "灯是红的门是蓝的"),
        (["使用 GPT 模型"], "使用 GPT 模型"),
        ([], ""),
    ],
)
def test_lines_become_running_text(printed_lines: list[str], text: str) -> None:
    assert join_words(lines(*printed_lines))[0] == text


@pytest.mark.parametrize(
    ("printed_lines", "text"),
    [(["灯是红的，", "门是蓝的。", "完"], "灯是红的，门是蓝的。完"), (["红", "（灯）"], "红（灯）")],
)
def test_no_space_around_chinese_punctuation_at_a_line_end(printed_lines: list[str], text: str) -> None:
    assert join_words(lines(*printed_lines))[0] == text


def test_korean_keeps_its_spaces() -> None:
    assert join_words(lines("한국 경제는", "성장했다."))[0] == "한국 경제는 성장했다."


def test_a_closed_hyphen_keeps_both_halves_in_place() -> None:
    words = lines("an impor-", "tant lamp")
    text, placed = join_words(words)
    start = text.index("important")
    halves = [w for w in placed if w.start < start + len("important") and w.end > start]
    assert [w.text for w in halves] == ["impor", "tant"]
    assert [w.box for w in halves] == [words[1].box, words[2].box]


# -- regions ---------------------------------------------------------------------------------------------------------


@RELAXED
@given(WORDS, LAYOUTS)
def test_every_word_lands_in_one_region(words: list[PlacedWord], boxes: list[LayoutBox]) -> None:
    regions = regions_of(words, *boxes)
    assert Counter(w.box for r in regions for w in r.words) == Counter(w.box for w in words)
    assert len({r.id for r in regions}) == len(regions)
    for region in regions:
        assert all(region.text[w.start : w.end] == w.text for w in region.words)
        assert all(region.box == BBox.union([region.box, w.box]) for w in region.words)
        edges = [edge for span in region.sentences for edge in span]
        assert edges == sorted(edges)
        assert not edges or edges[-1] <= len(region.text)
        assert 0 <= region.header_rows <= len(region.sentences)


@RELAXED
@given(WORDS, LAYOUTS)
def test_every_character_of_a_region_is_in_a_quotable_sentence(words: list[PlacedWord], boxes: list[LayoutBox]) -> None:
    for region in regions_of(words, *boxes):
        inside = "".join(region.text[span.start : span.end] for span in region.sentences)
        assert "".join(inside.split()) == "".join(region.text.split())


def test_a_page_with_nothing_is_one_picture() -> None:
    (region,) = regions_of([])
    assert (region.kind, region.box, region.text, region.words) == (RegionKind.PICTURE, WHOLE_PAGE, "", ())


def test_a_page_whose_only_box_is_empty_is_one_picture() -> None:
    (region,) = regions_of([], layout(RegionKind.TEXT, 0.1, 0.1, 0.9, 0.2))
    assert (region.kind, region.box) == (RegionKind.PICTURE, WHOLE_PAGE)


def test_words_outside_every_box_keep_their_paragraphs() -> None:
    words = printed("First one.", 0.1, 0.1, block=1) + printed("Second one.", 0.1, 0.15, block=2)
    words += printed("Inside.", 0.1, 0.5, block=3)
    first, second, inside = regions_of(words, layout(RegionKind.LIST_ITEM, 0.05, 0.48, 0.9, 0.55))
    assert [first.text, second.text, inside.text] == ["First one.", "Second one.", "Inside."]
    assert [first.kind, second.kind, inside.kind] == [RegionKind.TEXT, RegionKind.TEXT, RegionKind.LIST_ITEM]
    assert first.box == BBox.union([w.box for w in words[:2]])


def test_a_stray_paragraph_goes_before_what_stands_below_it() -> None:
    words = printed("Left.", 0.1, 0.5, block=1) + printed("Right.", 0.6, 0.5, block=2)
    words += printed("Stray.", 0.6, 0.3, block=3)
    boxes = [layout(RegionKind.TEXT, 0.1, 0.5, 0.4, 0.55), layout(RegionKind.TEXT, 0.6, 0.5, 0.9, 0.55)]
    assert [r.text for r in regions_of(words, *boxes)] == ["Stray.", "Left.", "Right."]


@pytest.mark.parametrize(
    ("titles", "read"),
    [
        (["1. Lamps", "2. Doors", "3. Rooms", "4. Walls"], "1. 2. 3. 4."),
        (["1. Lamps", "3. Doors", "2. Rooms", "4. Walls"], "1. 2. 3. 4."),
        (["1.1 Lamps", "1.2 Doors", "1.10 Rooms", "1.11 Walls"], "1.1 1.2 1.10 1.11"),
        (["1. Lamps", "4. Doors", "3. Rooms", "2. Walls"], "1. 3. 4. 2."),
        (["A) Lamps", "B) Doors", "C) Rooms", "D) Walls"], "A) C) B) D)"),
    ],
    ids=["along the rows", "down the columns", "in parts", "neither", "without numbers"],
)
def test_the_numbers_of_titles_tell_how_cards_are_read(titles: list[str], read: str) -> None:
    words, boxes = [], []
    for title, (x, y) in zip(titles, [(0.1, 0.1), (0.6, 0.1), (0.1, 0.5), (0.6, 0.5)], strict=True):
        words += printed(title, x, y) + printed("lamps that stand in the hall and doors that are red", x, y + 0.05)
        boxes.append(layout(RegionKind.SECTION_HEADER, x, y, x + 0.3, y + 0.02))
        boxes.append(layout(RegionKind.TEXT, x, y + 0.05, x + 0.38, y + 0.07))
    found = [r.text.split()[0] for r in regions_of(words, *boxes) if r.kind is RegionKind.SECTION_HEADER]
    assert " ".join(found) == read


def test_columns_of_chinese_are_prose_at_half_the_characters() -> None:
    words, boxes = [], []
    for x, y in [(0.1, 0.1), (0.6, 0.1), (0.1, 0.2), (0.6, 0.2)]:
        words.append(PlacedWord("灯是红色的并且立在房子的大门旁边没有人知道为", BBox(x, y, x + 0.3, y + LINE), 0))
        boxes.append(layout(RegionKind.TEXT, x, y, x + 0.3, y + LINE))
    assert [r.box.x0 for r in regions_of(words, *boxes)] == [0.1, 0.1, 0.6, 0.6]


def test_a_word_goes_to_the_smallest_box_around_it() -> None:
    outer, inner = layout(RegionKind.PICTURE, 0.0, 0.0, 1.0, 1.0), layout(RegionKind.TEXT, 0.05, 0.05, 0.5, 0.2)
    picture, text = regions_of(printed("Inside.", 0.1, 0.1) + printed("Outside.", 0.1, 0.8), outer, inner)
    assert (picture.text, text.text) == ("Outside.", "Inside.")


def test_a_box_without_words_stays_only_if_it_may_be_a_picture() -> None:
    boxes = [layout(kind, 0.1, 0.1 * i, 0.9, 0.1 * i + 0.05) for i, kind in enumerate(RegionKind)]
    assert [r.kind for r in regions_of([], *boxes)] == [
        RegionKind.PICTURE
    ] * 2  # a table without words is a picture too


def test_a_region_grows_to_hold_the_words_that_its_box_cuts() -> None:
    words = printed("Ascenders", 0.1, 0.1)
    (region,) = regions_of(words, layout(RegionKind.TEXT, 0.11, 0.104, 0.9, 0.2))
    assert region.box == BBox(0.1, 0.1, 0.9, 0.2)


# -- running heads and feet ------------------------------------------------------------------------------------------


def kinds(*placed: tuple[str, float, float], kind: RegionKind = RegionKind.TEXT) -> dict[str, RegionKind]:
    """The kinds of printed lines, each in a box of its own, on a page with a paragraph in the middle."""
    lines = [*placed, ("The lamp is red.", 0.1, 0.5)]
    boxes = [layout(kind, x, y, x + 0.4, y + LINE) for _, x, y in lines]
    words = [word for text, x, y in lines for word in printed(text, x, y)]
    return {region.text: region.kind for region in regions_of(words, *boxes)}


@pytest.mark.parametrize(
    ("text", "y", "kind"),
    [
        ("Lamps and doors", 0.04, RegionKind.PAGE_HEADER),
        ("Lamps and doors", 0.95, RegionKind.PAGE_FOOTER),
        ("Lamps and doors", 0.9, RegionKind.TEXT),
        ("LAMPS 2024", 0.09, RegionKind.PAGE_HEADER),
        ("LAMPS 2024", 0.89, RegionKind.PAGE_FOOTER),
        ("LAMPS 2024", 0.8, RegionKind.TEXT),
        ("14", 0.09, RegionKind.PAGE_HEADER),
        ("14", 0.93, RegionKind.PAGE_FOOTER),
        ("- 14 -", 0.93, RegionKind.PAGE_FOOTER),
        ("Page 14 of 20", 0.93, RegionKind.PAGE_FOOTER),
        ("第14页", 0.93, RegionKind.PAGE_FOOTER),
        ("14 lamps", 0.93, RegionKind.TEXT),
        ("14.5", 0.93, RegionKind.TEXT),
        ("2024", 0.93, RegionKind.TEXT),  # the year on a cover
    ],
)
def test_what_reads_like_a_head_or_foot_may_stand_further_in(text: str, y: float, kind: RegionKind) -> None:
    assert kinds((text, 0.3, y))[text] is kind


def test_two_parts_of_one_running_head_are_both_furniture() -> None:
    assert kinds(("LAMPS 2024", 0.1, 0.09), ("14", 0.55, 0.09))["14"] is RegionKind.PAGE_HEADER


def test_a_page_number_may_stand_over_a_running_foot() -> None:
    assert kinds(("14", 0.3, 0.92), ("Lamps and doors", 0.3, 0.95))["14"] is RegionKind.PAGE_FOOTER


@pytest.mark.parametrize("y", [0.93, 0.915], ids=["beside", "above"])
def test_a_number_with_text_of_the_body_beside_or_below_it_is_no_page_number(y: float) -> None:
    assert kinds(("14", 0.1, y), ("lamps in the hall", 0.55, 0.93))["14"] is RegionKind.TEXT


def test_a_number_in_a_title_or_table_is_no_page_number() -> None:
    assert kinds(("14", 0.3, 0.93), kind=RegionKind.SECTION_HEADER)["14"] is RegionKind.SECTION_HEADER
    assert kinds(("14", 0.3, 0.93), kind=RegionKind.TABLE)["14"] is RegionKind.TABLE


# -- captions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Figure 3: Lamps by colour", RegionKind.CAPTION),
        ("Fig. 2 Lamps", RegionKind.CAPTION),
        ("TABLE IV. Doors", RegionKind.CAPTION),
        ("图 3 灯", RegionKind.CAPTION),
        ("表一 门", RegionKind.CAPTION),
        ("Table of contents", RegionKind.TEXT),
        ("As Figure 3 shows, lamps", RegionKind.TEXT),
        ("Figure 3 shows " + "lamps " * 60, RegionKind.TEXT),  # a paragraph that begins so
    ],
)
def test_captions_are_told_by_how_they_begin(text: str, kind: RegionKind) -> None:
    (region,) = regions_of(lines(*wrap(text, 90)), layout(RegionKind.TEXT, 0.0, 0.05, 1.0, 0.3))
    assert region.kind is kind


def caption_of(regions: tuple[Region, ...], kind: RegionKind) -> list[str | None]:
    texts = {r.id: r.text for r in regions}
    return [texts[r.caption_id] if r.caption_id else None for r in regions if r.kind is kind]


def test_each_picture_gets_the_caption_next_to_it() -> None:
    captions = {0.32: "Figure 1: Lamps", 0.62: "Figure 2: Doors"}
    words = [word for y, text in captions.items() for word in printed(text, 0.1, y)]
    boxes = [
        layout(RegionKind.PICTURE, 0.1, 0.1, 0.5, 0.31),
        layout(RegionKind.CAPTION, 0.1, 0.32, 0.5, 0.335),
        layout(RegionKind.PICTURE, 0.1, 0.4, 0.5, 0.61),
        layout(RegionKind.CAPTION, 0.1, 0.62, 0.5, 0.635),
    ]
    assert caption_of(regions_of(words, *boxes), RegionKind.PICTURE) == ["Figure 1: Lamps", "Figure 2: Doors"]


def test_the_nearer_of_two_captions_wins() -> None:
    words = printed("Table 1: far", 0.1, 0.24) + printed("Lamp 12", 0.1, 0.4) + printed("Table 2: near", 0.1, 0.605)
    boxes = [
        layout(RegionKind.CAPTION, 0.1, 0.24, 0.5, 0.255),
        layout(RegionKind.TABLE, 0.1, 0.3, 0.5, 0.6),
        layout(RegionKind.CAPTION, 0.1, 0.605, 0.5, 0.62),
    ]
    assert caption_of(regions_of(words, *boxes), RegionKind.TABLE) == ["Table 2: near"]


def test_a_caption_belongs_to_one_picture_only() -> None:
    words = printed("Figure 1: Lamps", 0.1, 0.32)
    boxes = [
        layout(RegionKind.PICTURE, 0.1, 0.1, 0.5, 0.31),
        layout(RegionKind.CAPTION, 0.1, 0.32, 0.5, 0.335),
        layout(RegionKind.PICTURE, 0.1, 0.36, 0.5, 0.6),
    ]
    assert caption_of(regions_of(words, *boxes), RegionKind.PICTURE) == ["Figure 1: Lamps", None]


@pytest.mark.parametrize(
    "picture",
    [layout(RegionKind.PICTURE, 0.1, 0.1, 0.45, 0.3), layout(RegionKind.PICTURE, 0.55, 0.35, 0.9, 0.5)],
    ids=["too far above", "in the other column"],
)
def test_a_caption_elsewhere_is_not_taken(picture: LayoutBox) -> None:
    regions = regions_of(
        printed("Figure 1: Lamps", 0.1, 0.5), picture, layout(RegionKind.CAPTION, 0.1, 0.5, 0.45, 0.52)
    )
    assert caption_of(regions, RegionKind.PICTURE) == [None]


# -- tables and forms ------------------------------------------------------------------------------------------------


def test_a_table_has_one_row_a_line_and_cells_between_tabs() -> None:
    region = table(
        {0.1: "Region of sale", 0.4: "2023", 0.6: "2024"},
        {0.1: "North", 0.4: "1,200", 0.6: "1,350"},
        {0.1: "South and east", 0.4: "(3.5%)", 0.6: "n/a"},
    )
    assert region.text == "Region of sale\t2023\t2024\nNorth\t1,200\t1,350\nSouth and east\t(3.5%)\tn/a"
    assert rows_of(region) == region.text.split("\n")
    assert region.header_rows == 1  # years name columns


def test_two_rows_above_the_first_figure_are_both_header() -> None:
    region = table(
        {0.4: "Revenue", 0.6: "Profit"},
        {0.1: "Region", 0.4: "EUR m", 0.6: "EUR m"},
        {0.1: "North", 0.4: "12.5", 0.6: "3"},
    )
    assert region.header_rows == 2


@pytest.mark.parametrize(
    ("rows", "header_rows"),
    [
        ([{0.1: "Colour", 0.5: "Lamp"}, {0.1: "Red", 0.5: "Desk"}, {0.1: "Blue", 0.5: "Floor"}], 1),
        ([{0.1: "North", 0.5: "12.5"}, {0.1: "South", 0.5: "3"}], 0),  # figures from the first row on
        ([{0.1: "Alone", 0.5: "Row"}], 0),
        ([{0.1: "Name:", 0.5: "A. Smith"}, {0.1: "Born:", 0.5: "Delft"}], 0),  # a form
        ([{0.1: "姓名：", 0.5: "王伟"}, {0.1: "城市：", 0.5: "成都"}], 0),
    ],
)
def test_which_rows_name_the_columns(rows: list[dict[float, str]], header_rows: int) -> None:
    assert table(*rows).header_rows == header_rows


def test_a_figure_far_down_does_not_make_header_of_what_stands_above() -> None:
    colours = ["Red", "Blue", "Green", "Grey", "Black", "White", "Pink"]
    rows = [{0.1: "Lamp", 0.5: "Note"}, *({0.1: colour, 0.5: "in stock"} for colour in colours)]
    assert table(*rows, {0.1: "Brown", 0.5: "7"}).header_rows == 1


def test_words_of_a_table_row_that_do_not_quite_align_stay_in_it() -> None:
    words = [PlacedWord(t, BBox(x, y, x + 0.05, y + LINE), 0) for t, x, y in [("b", 0.5, 0.3), ("a", 0.1, 0.304)]]
    assert [[w.text for w in row] for row in visual_rows(words)] == [["a", "b"]]


# -- rows ------------------------------------------------------------------------------------------------------------


@RELAXED
@given(WORDS)
def test_visual_rows_hold_every_word_once_left_to_right(words: list[PlacedWord]) -> None:
    rows = visual_rows(words)
    assert Counter(word for row in rows for word in row) == Counter(words)
    assert all(a.box.x0 <= b.box.x0 for row in rows for a, b in pairwise(row))


def test_visual_rows_go_down_the_page_whatever_order_the_words_come_in() -> None:
    words = lines("The lamp is", "red and", "blue.")
    expected = [["The", "lamp", "is"], ["red", "and"], ["blue."]]
    assert [[w.text for w in row] for row in visual_rows(words[::-1])] == expected


# -- OCR lines: each one a "word" as long as the line ----------------------------------------------------------------


def ocr_line(text: str, x: float, y: float) -> PlacedWord:
    advance = ADVANCE * (2 if text[0] > "\u2e7f" else 1)  # Chinese characters are twice as wide
    return PlacedWord(text, BBox(x, y, x + advance * len(text), y + LINE), 0)


def ocr_rows(*rows: tuple[str, str]) -> list[PlacedWord]:
    return [
        ocr_line(text, x, 0.2 + 1.5 * LINE * i)
        for i, row in enumerate(rows)
        for x, text in zip((0.1, 0.55), row, strict=True)
    ]


def test_a_form_is_a_grid() -> None:
    form = ocr_rows(("Name:", "A. Smith"), ("Born:", "1 May 1980"), ("City:", "Delft"))
    around = [ocr_line("Please fill in", 0.1, 0.05), ocr_line("Signed and sealed", 0.1, 0.9)]
    assert _grids([*around, *form]) == [BBox.union([line.box for line in form])]


@pytest.mark.parametrize(
    "row",
    [
        ("the lamp was red and stood beside the doors", "of the house that had been blue since the spring"),
        ("灯是红色的并且立在房子的大门旁边没有人知道为什么", "房子的门从春天开始就是蓝色的后来又被刷成了绿色的"),
    ],
    ids=["English", "Chinese"],
)
def test_two_columns_of_prose_are_no_grid(row: tuple[str, str]) -> None:
    assert _grids(ocr_rows(row, row, row, row)) == []


def test_a_list_of_short_lines_is_no_grid() -> None:
    assert (
        _grids([ocr_line(text, 0.1, 0.2 + 1.5 * LINE * i) for i, text in enumerate(["Lamps", "Doors", "Rooms"])]) == []
    )


def test_one_row_or_rows_far_apart_are_no_grid() -> None:
    top, bottom = ocr_rows(("Name:", "A. Smith")), [ocr_line("Page", 0.1, 0.9), ocr_line("7", 0.55, 0.9)]
    assert _grids([*top, *bottom]) == []


def test_paragraphs_are_told_by_gaps_and_columns() -> None:
    placed = [
        ("left one", BBox(0.1, 0.10, 0.4, 0.112)),
        ("right one", BBox(0.6, 0.10, 0.9, 0.112)),
        ("left two", BBox(0.1, 0.118, 0.4, 0.130)),
        ("right two", BBox(0.6, 0.118, 0.9, 0.130)),
        ("left three", BBox(0.1, 0.20, 0.4, 0.212)),
    ]
    words = _paragraphs(placed)
    assert [[w.text for w in words if w.block == block] for block in range(3)] == [
        ["left one", "left two"],
        ["right one", "right two"],
        ["left three"],
    ]


def test_a_large_heading_is_no_part_of_the_paragraph_below() -> None:
    heading, body = ("Heading", BBox(0.1, 0.1, 0.5, 0.13)), ("body", BBox(0.1, 0.135, 0.5, 0.147))
    assert [w.block for w in _paragraphs([heading, body])] == [0, 1]
