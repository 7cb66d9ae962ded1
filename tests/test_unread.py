"""What a page shows but its text layer does not say: pages built in code, through PyMuPDF's own drawing log."""

from __future__ import annotations

import io
from pathlib import Path

import pymupdf
import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.layout import PlacedWord
from ingest.pdf import read_page
from ingest.unread import is_garbage, without_doubles
from mmrag.types import BBox, Page, RegionKind

TEXT = "The harbour lamp is lit every evening before the boats come in from the sea. " * 8


def picture_of(text: str, size: tuple[int, int] = (900, 300)) -> bytes:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((60, 100), text, "black", font=ImageFont.load_default(60))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read(document: pymupdf.Document, path: Path) -> Page:
    document.save(path)
    return read_page(path, "d", 1)


@pytest.fixture
def document() -> pymupdf.Document:
    document = pymupdf.open()
    document.new_page().insert_textbox((72, 72, 523, 300), TEXT, fontsize=11)
    return document


def words_of(page: Page) -> str:
    return " ".join(region.text for region in page.regions)


def test_a_page_of_text_is_not_given_to_ocr(document: pymupdf.Document, tmp_path: Path) -> None:
    assert read(document, tmp_path / "a.pdf").text_source == "native"


def test_words_inside_a_picture_are_read_and_belong_to_it(document: pymupdf.Document, tmp_path: Path) -> None:
    document[0].insert_image((72, 400, 372, 500), stream=picture_of("LIGHTHOUSE"))
    page = read(document, tmp_path / "a.pdf")
    assert page.text_source == "mixed"
    (picture,) = [region for region in page.regions if region.kind is RegionKind.PICTURE]
    assert picture.text == "LIGHTHOUSE"
    assert page.regions[0].text.startswith("The harbour lamp")


@pytest.mark.slow
def test_text_turned_into_outlines_is_read(tmp_path: Path) -> None:
    drawn = pymupdf.open()
    drawn.new_page().insert_textbox(
        (72, 72, 523, 200), "BANKERS: State Bank of Baroda, Union Bank and Bank of Good Hope", fontsize=18
    )
    svg = drawn[0].get_svg_image(text_as_path=True)
    outlined = pymupdf.open("pdf", pymupdf.open(stream=svg.encode(), filetype="svg").convert_to_pdf())
    assert outlined[0].get_text().strip() == ""
    outlined[0].insert_text((72, 700), "12", fontsize=10)
    page = read(outlined, tmp_path / "a.pdf")
    assert page.text_source == "mixed"
    assert "Baroda" in words_of(page)


@pytest.mark.slow
def test_an_invisible_layer_over_a_scan_is_read_anew(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=450, height=150)
    page.insert_image(page.rect, stream=picture_of("LIGHTHOUSE"))
    page.insert_text((30, 80), "L1GHTH0VSE", fontsize=30, render_mode=3)
    found = read(document, tmp_path / "a.pdf")
    assert found.text_source == "ocr"
    assert words_of(found) == "LIGHTHOUSE"


@pytest.mark.slow
def test_an_invisible_layer_stays_where_nothing_else_can_be_read(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=450, height=150)
    page.insert_image(page.rect, stream=picture_of(""))
    page.insert_text((30, 80), "LIGHTHOUSE", fontsize=30, render_mode=3)
    found = read(document, tmp_path / "a.pdf")
    assert (found.text_source, words_of(found)) == ("native", "LIGHTHOUSE")


def word(text: str, x: float = 0.1) -> PlacedWord:
    return PlacedWord(text, BBox(x, 0.1, x + 0.1, 0.12), 0)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["\ue012\ue034", "\ue056"], True),
        (["\N{REPLACEMENT CHARACTER}" * 5, "ok"], True),
        (["Xqzrt", "Bcdfg", "Klmnp"] * 10, True),
        (TEXT.replace(".", "").split(), False),
        (["营业收入", "净利润"], False),
        (["EBITDA", "GDP", "IFRS"], False),
        ([], False),
    ],
)
def test_garbage(texts: list[str], expected: bool) -> None:
    assert is_garbage([word(text) for text in texts]) is expected


def test_words_printed_twice_in_one_place_are_one() -> None:
    words = [word("Lamp"), word("Lamp", 0.101), word("Lamp", 0.5), word("Door", 0.1)]
    assert without_doubles(words) == [words[0], words[2], words[3]]
