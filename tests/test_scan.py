"""Layout of pages that are known by their picture alone: the copy that the layout model reads, and what it sees."""

from __future__ import annotations

from pathlib import Path

import pymupdf
import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from ingest.layout import PlacedWord
from ingest.pdf import read_page
from ingest.scan import joined_paragraphs, readable_copy
from mmrag.types import BBox, Page, RegionKind

WHITE = Image.new("RGB", (300, 400), "white")


def word(text: str, x0: float = 0.1, y0: float = 0.1, x1: float = 0.4, y1: float = 0.12) -> PlacedWord:
    return PlacedWord(text, BBox(x0, y0, x1, y1), 0)


# -- the copy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["lamp", "灯是红的", "é", "\u202e", "\ud800", "𝔘𝔫", "(\\)", "%s", "i"])
def test_words_stand_over_their_ink(text: str) -> None:
    with readable_copy(WHITE, [word(text)], 500, 800) as page:
        ((x0, y0, x1, y1, *_),) = page.get_text("words")
    assert (x0, x1) == pytest.approx((50, 200), abs=1)
    assert y0 < 88 < y1
    assert (y0, y1) == pytest.approx((80, 96), abs=6)  # room for ascenders and descenders


@pytest.mark.parametrize("odd", ["", " ", "\x07", "a\x00b", "tab\tx", "new\nline"])
@pytest.mark.parametrize(
    "box", [(0.1, 0.1, 0.4, 0.12), (0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.6, 0.5), (0.5, 0.5, 0.5, 0.6), (0, 0, 1, 1)]
)
def test_odd_words_harm_no_others(odd: str, box: tuple[float, float, float, float]) -> None:
    with readable_copy(WHITE, [word(odd, *box), word("lamp", 0.1, 0.8, 0.2, 0.82)], 500, 800) as page:
        assert "lamp" in [found[4] for found in page.get_text("words")]
        page.get_layout()


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (3, 500), (500, 3), (14400, 14400), (200_000, 300), (20, 20_000)]
)
def test_pages_of_every_size_are_copied(width: float, height: float) -> None:
    with readable_copy(WHITE, [word("lamp")], width, height) as page:
        assert (page.rect.width, page.rect.height) == (width, height)
        (image,) = page.get_images()
        assert max(image[2:4]) <= 4000
        page.get_layout()


def test_what_the_copy_shows_is_the_image() -> None:
    image = Image.new("RGB", (600, 800), "white")
    image.paste((200, 30, 30), (60, 80, 120, 160))
    with readable_copy(image, [word("lamp", 0.6, 0.6, 0.8, 0.62)], 300, 400) as page:
        pixels = page.get_pixmap()
    assert pixels.pixel(45, 60)[0] > pixels.pixel(45, 60)[1] + 100
    assert min(pixels.pixel(210, 244)) > 240  # the word itself is not to be seen


# -- what the model sees ---------------------------------------------------------------------------------------------

PROSE = "Nobody had expected the lighthouse to last, and yet the keepers of the islands went on to paint its walls. "


def read(image: Image.Image, path: Path) -> Page:
    """As the only page of a PDF, A4."""
    picture = path.with_suffix(".png")
    image.save(picture)
    with pymupdf.open() as document:
        page = document.new_page()
        page.insert_image(page.rect, filename=picture)
        document.save(path)
    return read_page(path, "d", 1)


def sheet() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (1240, 1754), "white")
    return image, ImageDraw.Draw(image)


def print_prose(pen: ImageDraw.ImageDraw, y: int, lines: int) -> None:
    for i in range(lines):
        pen.text((120, y + 36 * i), PROSE[7 * i % 30 :][:72], fill="black", font=ImageFont.load_default(26))


@pytest.fixture(scope="module")
def chart_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A title, prose, a bar chart with labels along its axes, prose."""
    image, pen = sheet()
    small = ImageFont.load_default(22)
    pen.text((120, 110), "Visitors of the islands", fill="black", font=ImageFont.load_default(48))
    print_prose(pen, 220, 4)
    pen.line((220, 560, 220, 1060, 1100, 1060), fill="black", width=3)
    for i, (name, height) in enumerate(
        zip("Alder Birch Cedar Downs Elder".split(), (300, 420, 180, 250, 360), strict=True)
    ):
        x = 270 + 165 * i
        pen.rectangle((x, 1060 - height, x + 90, 1060), fill=(40, 90, 160))
        pen.text((x + 10, 1072), name, fill="black", font=small)
    for value in range(0, 500, 100):
        pen.text((150, 1045 - value), f"{value}", fill="black", font=small)
    print_prose(pen, 1180, 4)
    return read(image, tmp_path_factory.mktemp("chart") / "chart.pdf")


@pytest.mark.slow
def test_a_scanned_chart_is_a_picture_with_its_labels(chart_page: Page) -> None:
    (picture,) = [region for region in chart_page.regions if region.kind is RegionKind.PICTURE]
    assert set("Alder Birch Cedar Downs Elder 100 200 300 400".split()) <= set(picture.text.split())
    expected = BBox.from_size((150, 560, 1100, 1100), 1240, 1754)
    assert tuple(picture.box) == pytest.approx(tuple(expected), abs=0.1)


@pytest.mark.slow
def test_title_and_prose_stay_out_of_a_scanned_chart(chart_page: Page) -> None:
    (title,) = [region for region in chart_page.regions if "Visitors" in region.text]
    assert title.text == "Visitors of the islands"
    assert title.kind in (RegionKind.SECTION_HEADER, RegionKind.TEXT)
    prose = [region for region in chart_page.regions if "keepers" in region.text]
    assert prose
    assert all(region.kind is RegionKind.TEXT for region in prose)


@pytest.mark.slow
def test_scanned_prose_stays_prose(tmp_path: Path) -> None:
    image, pen = sheet()
    print_prose(pen, 140, 14)
    page = read(image, tmp_path / "prose.pdf")
    assert {region.kind for region in page.regions} == {RegionKind.TEXT}
    assert sum(len(region.words) for region in page.regions) == 14


# -- paragraphs ------------------------------------------------------------------------------------------------------


def line(text: str, y: float, block: int, x0: float = 0.1, x1: float = 0.8) -> PlacedWord:
    return PlacedWord(text, BBox(x0, y, x1, y + 0.02), block)


def test_lines_set_far_apart_are_one_paragraph_where_the_model_sees_one() -> None:
    label, first = line("c.", 0.10, 3, 0.15, 0.17), line("Bank records show", 0.10, 0, 0.2)
    second, end = line("that a check was", 0.15, 1), line("paid.", 0.20, 2, 0.1, 0.2)
    apart = line("Another matter.", 0.30, 4)
    words = joined_paragraphs([first, second, end, label, apart], [BBox(0.1, 0.09, 0.8, 0.23)])
    assert [(word.text, word.block) for word in words] == [
        *(("c.", 0), ("Bank records show", 0), ("that a check was", 0), ("paid.", 0)),
        ("Another matter.", 4),
    ]


def test_columns_in_one_box_stay_apart() -> None:
    left = [line(f"left {i}", 0.1 + 0.05 * i, i, 0.1, 0.4) for i in range(3)]
    right = [line(f"right {i}", 0.1 + 0.05 * i, 5 + i, 0.5, 0.9) for i in range(3)]
    words = joined_paragraphs([*left, *right], [BBox(0, 0, 1, 1)])
    assert [(word.text, word.block) for word in words] == [
        *((f"left {i}", 0) for i in range(3)),
        *((f"right {i}", 5) for i in range(3)),
    ]


@RELAXED
@given(
    st.lists(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.integers(0, 4)), max_size=12),
    st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.5, 1), st.floats(0.5, 1)), max_size=3),
)
def test_joining_keeps_every_word_and_never_parts_a_block(
    places: list[tuple[float, float, int]], boxes: list[tuple[float, float, float, float]]
) -> None:
    words = [PlacedWord(str(i), BBox(x, y, x + 0.1, y + 0.02), block) for i, (x, y, block) in enumerate(places)]
    found = joined_paragraphs(words, [BBox(*box) for box in boxes])
    assert sorted(word.text for word in found) == sorted(word.text for word in words)
    now = {word.text: word.block for word in found}
    assert len({(word.block, now[word.text]) for word in words}) == len({word.block for word in words})
    assert [word.block for word in found] == sorted(word.block for word in found)
    if not boxes:
        assert now == {word.text: word.block for word in words}
