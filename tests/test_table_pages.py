"""Pages with ruled tables, drawn, scanned, turned and cropped, through the reading of a file to regions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import pymupdf
import pytest

from ingest.pdf import read_page
from mmrag.tables import cells, named_row
from mmrag.types import BBox, Page, Region, RegionKind

WIDTHS, HEIGHTS = (150, 90, 90, 110), (24, 40, 24, 40)
ENGLISH = (
    ("Region of sale", "Plan", "Actual", "Remarks"),
    ("Northern and western islands", "1,200.50", "1,350.25", "restated after the merger"),
    ("Southern coast", "90.10", "87.20", ""),
    ("Eastern hills and valleys", "", "7.75", "first year"),
)
CHINESE = (
    ("销售地区", "计划数", "实际数", "备注"),
    ("北部与西部岛屿以及其他沿海地区合计", "1,200.50", "1,350.25", "合并后重新列报的数据说明"),
    ("南部沿海", "90.10", "87.20", ""),
    ("东部山区", "", "7.75", "首年"),
)


def drawn(rows: Sequence[Sequence[str]], *, font: str = "helv", fontsize: float = 10) -> pymupdf.Document:
    """A page with a title, a ruled table whose cells wrap, and a line of prose below."""
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 90), "Sales by region" if font == "helv" else "按地区销售", fontsize=18, fontname=font)
    xs, ys = list(accumulate(WIDTHS, initial=72)), list(accumulate(HEIGHTS, initial=130))
    for y in ys:
        page.draw_line((xs[0], y), (xs[-1], y), width=0.7)
    for x in xs:
        page.draw_line((x, ys[0]), (x, ys[-1]), width=0.7)
    for (y0, y1), row in zip(pairwise(ys), rows, strict=True):
        for (x0, x1), text in zip(pairwise(xs), row, strict=True):
            left = page.insert_textbox((x0 + 4, y0 + 4, x1 - 4, y1), text, fontsize=fontsize, fontname=font)
            assert left >= 0
    prose = "The figures of the year before were audited by nobody in particular, as the board had asked."
    page.insert_textbox((72, 300, 520, 400), prose, fontsize=11)
    return document


def scanned(document: pymupdf.Document) -> pymupdf.Document:
    copy = pymupdf.open()
    page = copy.new_page()
    page.insert_image(page.rect, pixmap=document[0].get_pixmap(dpi=150))
    return copy


def turned(document: pymupdf.Document, turn: int) -> pymupdf.Document:
    """The same to the eye, on a page that is stored lying on its side or on its head."""
    copy = pymupdf.open()
    width, height = document[0].rect.br
    page = copy.new_page(width=height, height=width) if turn % 180 else copy.new_page(width=width, height=height)
    page.show_pdf_page(page.rect, document, 0, rotate=turn)
    page.set_rotation(turn)
    return copy


def cropped(document: pymupdf.Document) -> pymupdf.Document:
    document[0].set_cropbox(pymupdf.Rect(40, 60, 550, 420))
    return document


def page_of(document: pymupdf.Document, path: Path) -> Page:
    document.save(path)
    document.close()
    return read_page(path, "d", 1)


def table_of(page: Page) -> Region:
    (table,) = [region for region in page.regions if region.kind is RegionKind.TABLE]
    return table


def filled(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[text for text in row if text] for row in rows]


def rows_of(table: Region) -> list[list[str]]:
    return [[cell.text for cell in cells(table, row)] for row in table.sentences]


def assert_words_inside(page: Page) -> None:
    for region in page.regions:
        for word in region.words:
            assert region.box == BBox.union([region.box, word.box])
            assert region.text[word.start : word.end] == word.text


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(drawn(ENGLISH), tmp_path_factory.mktemp("upright") / "a.pdf")


def test_a_ruled_table_has_the_cells_that_its_rules_enclose(upright: Page) -> None:
    page, table = upright, table_of(upright)
    assert page.text_source == "native"
    assert rows_of(table) == filled(ENGLISH)
    assert table.header_rows == 1
    assert named_row(table, table.sentences[1]) == (
        "Northern and western islands — Plan: 1,200.50; Actual: 1,350.25; Remarks: restated after the merger"
    )
    assert named_row(table, table.sentences[3]) == "Eastern hills and valleys — Actual: 7.75; Remarks: first year"
    assert tuple(table.box) == pytest.approx((72 / 595, 130 / 842, 512 / 595, 258 / 842), abs=0.01)
    assert_words_inside(page)


def test_chinese_cells_that_wrap_have_no_spaces(tmp_path: Path) -> None:
    table = table_of(page_of(drawn(CHINESE, font="china-s"), tmp_path / "a.pdf"))
    assert rows_of(table) == filled(CHINESE)
    assert named_row(table, table.sentences[1]) == (
        "北部与西部岛屿以及其他沿海地区合计 — 计划数: 1,200.50; 实际数: 1,350.25; 备注: 合并后重新列报的数据说明"
    )


@pytest.mark.slow
def test_a_scan_gives_the_cells_through_ocr(tmp_path: Path) -> None:
    page = page_of(scanned(drawn(ENGLISH)), tmp_path / "a.pdf")
    table = table_of(page)
    assert page.text_source == "ocr"
    assert rows_of(table) == filled(ENGLISH)
    assert table.header_rows == 1
    assert_words_inside(page)


@pytest.mark.slow
def test_a_chinese_scan_gives_the_cells_through_ocr(tmp_path: Path) -> None:
    page = page_of(scanned(drawn(CHINESE, font="china-s", fontsize=11)), tmp_path / "a.pdf")
    assert rows_of(table_of(page)) == filled(CHINESE)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_page_has_the_same_cells_in_the_same_places(tmp_path: Path, upright: Page, turn: int) -> None:
    page = page_of(turned(drawn(ENGLISH), turn), tmp_path / "b.pdf")
    table = table_of(page)
    assert (page.width, page.height) == pytest.approx((595, 842), abs=1)
    assert table.text == table_of(upright).text
    for word, same in zip(table.words, table_of(upright).words, strict=True):
        assert tuple(word.box) == pytest.approx(tuple(same.box), abs=0.003)


def test_a_cropped_page_has_the_same_cells_where_they_are_seen(tmp_path: Path, upright: Page) -> None:
    page = page_of(cropped(drawn(ENGLISH)), tmp_path / "b.pdf")
    table = table_of(page)
    assert table.text == table_of(upright).text
    for word, same in zip(table.words, table_of(upright).words, strict=True):
        x, y = same.box.center
        assert word.box.center == pytest.approx(((x * 595 - 40) / 510, (y * 842 - 60) / 360), abs=0.003)
    assert_words_inside(page)


@pytest.mark.slow
def test_a_grid_without_words_is_no_table(tmp_path: Path) -> None:
    empty = [[""] * 4] * 4
    page = page_of(drawn(empty), tmp_path / "a.pdf")
    assert [region.kind for region in page.regions if region.kind is RegionKind.TABLE] == []
    page = page_of(scanned(drawn(empty)), tmp_path / "b.pdf")
    assert [region.text for region in page.regions if region.kind is RegionKind.TABLE] == []
