"""Rendered pages, marks drawn on them, and the HTML that shows answers beside their pages."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from build import evidence, region
from PIL import Image

from apps.overlay import answers_html, write_page_png
from mmrag.errors import UnreadableFile
from mmrag.render import MAX_PIXELS, draw_regions, render_page
from mmrag.types import ABSTENTION, WHOLE_PAGE, Answer, BBox, Citation, Claim

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title><b>",
    "{0}",
]

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages of 200 x 400 points; the first has a red quarter at its top left."""
    path = tmp_path_factory.mktemp("overlay") / "lamps.pdf"
    with pymupdf.open() as document:
        first = document.new_page(width=200, height=400)
        first.draw_rect((0, 0, 100, 200), color=None, fill=(1, 0, 0))
        document.new_page(width=200, height=400)
        document.save(path)
    return path


def answer(source: Path, *, name: str = "lamps.pdf", quote: str = "It is red.", question: str = "Which?") -> Answer:
    first = Citation(
        name, "d", 1, "d-p1-r1", BBox(0.125, 0.25, 0.5, 0.75), quote, (BBox(0.125, 0.3, 0.4, 0.32),), source
    )
    second = Citation(name, "d", 2, "d-p2-r4", BBox(0.1, 0.1, 0.2, 0.2), quote, (), source)
    return Answer(question, (Claim(quote, (first,), 0.8), Claim("So too here.", (second,), 0.7)), False, 0.8)


def abstention(name: str = "lamps.pdf") -> Answer:
    seen = [evidence(region("Red."), name=name, page_number=page) for page in (7, 7, 3)]
    return Answer("Which?", (), True, 0.1, tuple(seen))


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, css_class: str = "") -> list[dict[str, str]]:
        return [attrs for t, attrs in self.tags if t == tag and (not css_class or attrs.get("class") == css_class)]


# -- HTML ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_comes_from_outside_is_shown_as_text(pdf: Path, hostile: str) -> None:
    tame = Page(answers_html([answer(pdf), abstention()], title="Answers"))
    html = answers_html(
        [answer(pdf, name=hostile, quote=hostile, question=hostile), abstention(hostile)], title=hostile
    )
    page = Page(html)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in tame.tags]
    assert [sorted(attrs) for _, attrs in page.tags] == [sorted(attrs) for _, attrs in tame.tags]
    assert page.text.count(hostile) == 8  # title and h1, question, quote, a caption a page, two places looked at
    assert {attrs["title"] for attrs in page.all("a", "box")} == {hostile}
    assert hostile in page.all("img", "closeup")[0]["alt"]


def test_nothing_is_loaded_from_anywhere(pdf: Path) -> None:
    html = answers_html([answer(pdf), abstention()], title="Answers")
    page = Page(html)
    assert re.search(r"https?:|//\w|@import|url\(", re.sub(r"base64,[\w+/=]+", "", html)) is None
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form"}
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in page.all("img"))
    assert all(attrs["href"].startswith("#") for attrs in page.all("a") if "href" in attrs)
    (policy,) = [attrs for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_boxes_stand_where_the_citation_says(pdf: Path) -> None:
    page = Page(answers_html([answer(pdf)], title="Answers"))
    styles = [attrs["style"] for attrs in page.all("a", "box")]
    assert styles[0].startswith("left:12.500%;top:25.000%;width:37.500%;height:50.000%")
    assert styles[1].startswith("left:10.000%;top:10.000%;width:10.000%;height:10.000%")
    (line,) = page.all("span", "line")
    assert line["style"] == "left:12.500%;top:30.000%;width:27.500%;height:2.000%"


def test_every_number_leads_to_its_box(pdf: Path) -> None:
    page = Page(answers_html([answer(pdf), answer(pdf)], title="Answers"))
    links = [attrs["href"] for attrs in page.all("a", "chip")]
    assert links == ["#q1-c1", "#q1-c2", "#q2-c1", "#q2-c2"]
    assert [f"#{attrs['id']}" for attrs in page.all("a", "box")] == links


def test_each_cited_page_is_shown_once_with_all_its_boxes(pdf: Path) -> None:
    said = answer(pdf)
    again = Answer(said.question, (*said.claims, said.claims[0]), False, 0.8)
    page = Page(answers_html([again], title="Answers"))
    assert (len(page.all("figure")), len(page.all("a", "box"))) == (2, 3)
    assert "lamps.pdf, page 1" in page.text


def test_a_closeup_shows_the_quoted_lines(pdf: Path) -> None:
    closeup = Page(answers_html([answer(pdf)], title="Answers")).all("img", "closeup")[0]
    image = Image.open(io.BytesIO(base64.b64decode(closeup["src"].split(",")[1])))
    assert image.height < image.width / 2
    assert image.getpixel((image.width // 2, image.height // 2)) == pytest.approx(RED, abs=8)  # as JPEG keeps it


@pytest.mark.parametrize("abstains", [False, True])
def test_notes_and_sentences_without_a_source_are_shown_as_text(pdf: Path, abstains: bool) -> None:
    claims = (*answer(pdf).claims, Claim(f"Unheard of {HOSTILE[0]}.", (), 0.0))
    shown = Answer("Which?", claims, abstains, 0.5, notes=(f"The model said {HOSTILE[1]}",))
    page = Page(answers_html([shown], title="Answers"))
    assert f"The model said {HOSTILE[1]}" in page.text
    assert (f"Unheard of {HOSTILE[0]}. no source" in page.text) is not abstains
    assert not page.all("script")


def test_an_abstention_shows_no_page_but_says_where_it_looked() -> None:
    page = Page(answers_html([abstention()], title="Answers"))
    assert page.all("img") == page.all("figure") == page.all("a") == []
    assert ABSTENTION in page.text
    assert [page.text.count(place) for place in ("lamps.pdf, page 7", "lamps.pdf, page 3")] == [1, 1]


def test_an_abstention_withholds_the_claims_it_weighed(pdf: Path) -> None:
    said = answer(pdf)
    page = Page(answers_html([Answer(said.question, said.claims, True, 0.1)], title="Answers"))
    assert page.all("img") == []
    assert "It is red." not in page.text


# -- marks -----------------------------------------------------------------------------------------------------------


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    """Where two images differ: (h, w), true or false."""
    assert before.size == after.size
    return np.any(np.asarray(before) != np.asarray(after), axis=2)


def test_marks_change_only_what_is_near_them() -> None:
    page = Image.new("RGB", (400, 600), "white")
    box, line = BBox(0.25, 0.5, 0.75, 0.75), BBox(0.3, 0.55, 0.5, 0.57)
    difference = changed(page, draw_regions(page, [(box, [line])]))
    x0, y0, x1, y1 = box.to_pixels(*page.size)
    near = np.zeros_like(difference)
    near[y0 - 5 : y1 + 6, x0 - 5 : x1 + 6] = True
    assert not (difference & ~near).any()
    assert difference[[y0 - 4, y1 + 4], 200].all()  # outlined above and below,
    assert difference[450, [x0 - 4, x1 + 4]].all()  # left and right
    assert difference[int(0.56 * 600), int(0.4 * 400)]  # the line is highlighted,
    assert not difference[int(0.7 * 600), int(0.4 * 400)]  # the rest of the region is not
    assert page.getcolors() == [(400 * 600, (255, 255, 255))]  # the page itself is not drawn on


def test_nothing_to_mark_changes_nothing() -> None:
    page = Image.new("RGB", (50, 50), "white")
    assert not changed(page, draw_regions(page, [])).any()


def test_a_label_is_drawn_beside_the_region() -> None:
    page = Image.new("RGB", (400, 400), "white")
    mark = (BBox(0.5, 0.5, 0.9, 0.9), ())
    difference = changed(draw_regions(page, [mark]), draw_regions(page, [mark], labels=["1"]))
    rows, columns = np.nonzero(difference)
    assert columns.size
    assert columns.min() > 150
    assert columns.max() < 210
    assert 190 <= rows.min() <= rows.max() < 230


@pytest.mark.parametrize("box", [WHOLE_PAGE, BBox(1, 1, 1, 1), BBox(0, 0, 0, 0), BBox(0.5, 0, 0.5, 1)])
def test_marks_at_the_edge_or_without_size_can_be_drawn(box: BBox) -> None:
    page = Image.new("RGB", (40, 40), "white")
    assert changed(page, draw_regions(page, [(box, [box])], labels=["12"])).any()


def test_two_regions_are_told_apart_by_colour() -> None:
    page = Image.new("RGB", (400, 400), "white")
    drawn = draw_regions(page, [(BBox(0.1, 0.1, 0.4, 0.4), ()), (BBox(0.6, 0.6, 0.9, 0.9), ())])
    first, second = drawn.crop((0, 0, 200, 200)), drawn.crop((200, 200, 400, 400))
    colours = [{colour for _, colour in half.getcolors()} - {(255, 255, 255)} for half in (first, second)]
    assert colours[0]
    assert colours[1]
    assert not colours[0] & colours[1]


def test_a_marked_page_as_a_file(pdf: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.png"
    write_page_png(pdf, 1, [(BBox(0.6, 0.6, 0.9, 0.9), ())], target, labels=["1"])
    with Image.open(target) as image:
        assert changed(render_page(pdf, 1), image.convert("RGB")).any()


def test_a_citation_draws_its_own_page(pdf: Path) -> None:
    image = answer(pdf).citations[1].image(dpi=72)
    assert image.size == (200, 400)
    assert changed(render_page(pdf, 2, dpi=72), image).any()


# -- rendering -------------------------------------------------------------------------------------------------------


def test_a_pdf_page_at_a_resolution(pdf: Path) -> None:
    image = render_page(pdf, 1, dpi=144)
    assert (image.size, image.mode) == ((400, 800), "RGB")
    assert [image.getpixel(place) for place in ((199, 399), (201, 399), (199, 401))] == [RED, (255,) * 3, (255,) * 3]


def test_the_part_of_a_pdf_page_inside_a_clip(pdf: Path) -> None:
    image = render_page(pdf, 1, dpi=72, clip=BBox(0.25, 0.25, 0.75, 0.75))
    assert image.size == (100, 200)
    assert image.getpixel((49, 99)) == RED
    assert image.getpixel((51, 99)) == image.getpixel((49, 101)) == (255, 255, 255)


def test_a_turned_and_cropped_pdf_page_is_rendered_as_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "turned.pdf"
    with pymupdf.open() as document:
        page = document.new_page(width=300, height=500)
        page.draw_rect((100, 100, 150, 200), color=None, fill=(0, 0, 1))  # top left of what the crop leaves
        page.set_cropbox(pymupdf.Rect(100, 100, 200, 300))
        page.set_rotation(90)
        document.save(path)
    image = render_page(path, 1, dpi=72)
    assert image.size == (200, 100)
    assert image.getpixel((190, 10)) == BLUE  # turned clockwise: top left is now top right
    assert image.getpixel((10, 10)) == image.getpixel((190, 90)) == (255, 255, 255)
    assert render_page(path, 1, dpi=72, clip=BBox(0.75, 0.0, 1.0, 0.25)).getcolors() == [(50 * 25, BLUE)]


def test_a_poster_is_rendered_smaller(tmp_path: Path) -> None:
    path = tmp_path / "poster.pdf"
    with pymupdf.open() as document:
        document.new_page(width=14400, height=7200)
        document.save(path)
    image = render_page(path, 1, dpi=600)
    assert 0.99 * MAX_PIXELS < image.width * image.height < 1.001 * MAX_PIXELS
    assert image.width / image.height == pytest.approx(2, rel=0.01)


def test_a_huge_image_is_rendered_smaller(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("L", (8000, 4000)).save(path)
    image = render_page(path, 1)
    assert 0.99 * MAX_PIXELS < image.width * image.height < 1.001 * MAX_PIXELS


def corners() -> Image.Image:
    """40 x 20 pixels: red at the top left, green at the bottom right, the rest white."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste(RED, (0, 0, 10, 10))
    image.paste(GREEN, (30, 10, 40, 20))
    return image


@pytest.mark.parametrize("suffix", [".png", ".webp", ".TIFF"])
def test_image_files_are_pages(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    corners().save(path, lossless=True)
    image = render_page(path, 1)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert not changed(image, corners()).any()
    assert not changed(render_page(path, 1, clip=BBox(0.0, 0.0, 0.25, 0.5)), Image.new("RGB", (10, 10), RED)).any()
    assert render_page(path, 1, dpi=75).size == (20, 10)


def test_a_photo_is_turned_upright_as_its_exif_says(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90°
    corners().save(path, exif=exif)
    image = render_page(path, 1)
    assert image.size == (20, 40)
    assert image.getpixel((18, 1)) == RED
    assert image.getpixel((1, 38)) == GREEN


def test_each_frame_of_a_tiff_is_a_page(tmp_path: Path) -> None:
    path = tmp_path / "fax.tif"
    first, *rest = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    first.save(path, save_all=True, append_images=rest)
    assert [render_page(path, number).getpixel((4, 4)) for number in (1, 2, 3)] == [RED, GREEN, BLUE]


def test_what_an_image_leaves_transparent_is_paper(tmp_path: Path) -> None:
    path = tmp_path / "diagram.png"
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.putpixel((4, 4), (0, 0, 0, 255))
    image.save(path)
    page = render_page(path, 1)
    assert (page.getpixel((0, 0)), page.getpixel((4, 4))) == ((255, 255, 255), (0, 0, 0))


def test_a_scan_of_sixteen_bits_keeps_its_greys(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(path)
    page = render_page(path, 1)
    assert [page.getpixel((x, 0))[0] for x in range(3)] == pytest.approx([0, 128, 255], abs=1)


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_a_page_that_is_not_there(pdf: Path, tmp_path: Path, number: int) -> None:
    tiff = tmp_path / "fax.tiff"
    corners().save(tiff, save_all=True, append_images=[corners()])
    for path in (pdf, tiff):
        with pytest.raises(UnreadableFile, match=rf"{path.name}.* no page {number}"):
            render_page(path, number)
