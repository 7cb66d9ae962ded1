"""Ruled tables in pixels: pages drawn line by line, and what `ruled_grids` makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.layout import PlacedWord
from ingest.rules import ruled_grids
from ingest.tables import Grid, holds_words
from mmrag.types import BBox

A4 = (1240, 1754)  # pixels at 150 dpi
XS, YS = (150, 450, 700, 1000), (200, 260, 320, 440, 500)

Pen = ImageDraw.ImageDraw


def paper(size: tuple[int, int] = A4, colour: object = "white") -> tuple[Image.Image, Pen]:
    image = Image.new("RGB", size, colour)  # type: ignore[arg-type]
    return image, ImageDraw.Draw(image)


def ruled(
    pen: Pen, xs: Sequence[int] = XS, ys: Sequence[int] = YS, *, fill: object = "black", width: int = 2, open: int = 0
) -> None:
    """A grid; `open` leaves out that many outer rules, first the left one, then the right one."""
    for y in ys:
        pen.line((xs[0], y, xs[-1], y), fill=fill, width=width)  # type: ignore[arg-type]
    for x in (xs, xs[1:], xs[1:-1])[open]:
        pen.line((x, ys[0], x, ys[-1]), fill=fill, width=width)  # type: ignore[arg-type]


def erased(pen: Pen, box: tuple[int, int, int, int]) -> None:
    pen.rectangle(box, fill="white")


def boxes(xs: Sequence[int] = XS, ys: Sequence[int] = YS, size: tuple[int, int] = A4) -> list[BBox]:
    return [BBox.from_size((x0, y0, x1, y1), *size) for y0, y1 in pairwise(ys) for x0, x1 in pairwise(xs)]


def assert_cells(grid: Grid, expected: Sequence[BBox], *, within: float = 0.004) -> None:
    assert len(grid.cells) == len(expected)
    for cell, box in zip(grid.cells, expected, strict=True):
        assert tuple(cell) == pytest.approx(tuple(box), abs=within)
    assert grid.box == BBox.union(grid.cells)


# -- one table, drawn in many ways -----------------------------------------------------------------------------------


def dark(image: Image.Image) -> Image.Image:
    return Image.eval(image, lambda value: 255 - value)


def noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, np.int16) + np.random.default_rng(0).normal(0, 12, (image.height, image.width, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def skewed(image: Image.Image) -> Image.Image:
    return image.rotate(0.3, resample=Image.Resampling.BICUBIC, fillcolor="white")


def shaded(image: Image.Image) -> Image.Image:
    """As a copier does it: darker towards one side."""
    shade = np.linspace(1, 0.6, image.width)[None, :, None]
    return Image.fromarray((np.asarray(image) * shade).astype(np.uint8))


HANDS: dict[str, tuple[dict[str, object], Callable[[Image.Image], Image.Image]]] = {
    "thin": ({"width": 1}, Image.Image.copy),
    "thick": ({"width": 6}, Image.Image.copy),
    "light grey": ({"fill": (205, 205, 205)}, Image.Image.copy),
    "thin and grey": ({"fill": (190, 190, 190), "width": 1}, Image.Image.copy),
    "light on dark": ({}, dark),
    "a noisy scan": ({}, noisy),
    "a shaded scan": ({}, shaded),
    "a skewed scan": ({}, skewed),
    "a skewed, noisy scan": ({}, lambda image: noisy(skewed(image))),
    "coarse": ({}, lambda image: image.reduce(2)),
    "fine": ({}, lambda image: image.resize((2480, 3508))),
}


@pytest.mark.parametrize("name", HANDS)
def test_a_grid_is_found_however_it_is_drawn(name: str) -> None:
    how, scanned = HANDS[name]
    image, pen = paper()
    ruled(pen, **how)  # type: ignore[arg-type]
    (grid,) = ruled_grids(scanned(image))
    assert_cells(grid, boxes())


def test_cells_of_two_colours_parted_by_white_rules() -> None:
    image, pen = paper()
    pen.rectangle((XS[0], YS[0], XS[-1], YS[-1]), fill=(200, 215, 235))
    pen.rectangle((XS[0], YS[0], XS[-1], YS[1]), fill=(60, 90, 150))
    ruled(pen, fill="white", width=3)
    (grid,) = ruled_grids(image)
    assert_cells(grid, boxes())


def test_a_table_open_at_its_sides_has_cells_there() -> None:
    for sides in (1, 2):
        image, pen = paper()
        ruled(pen, open=sides)
        (grid,) = ruled_grids(image)
        assert_cells(grid, boxes())


@pytest.mark.parametrize(
    ("xs", "ys"),
    [
        ((150, 450, 480, 510, 540, 1000), YS),
        (XS, (200, 215, 230, 245, 260)),
    ],
    ids=["narrow columns", "low rows"],
)
def test_small_cells_are_found_where_rules_go_on_beyond_them(xs: tuple[int, ...], ys: tuple[int, ...]) -> None:
    image, pen = paper()
    ruled(pen, xs, ys)
    (grid,) = ruled_grids(image)
    assert_cells(grid, boxes(xs, ys))


def test_cells_are_joined_where_no_rule_parts_them() -> None:
    image, pen = paper()
    ruled(pen)
    erased(pen, (XS[1] - 3, YS[0] + 4, XS[1] + 3, YS[1] - 4))  # the first two of the first row
    erased(pen, (XS[2] + 4, YS[2] - 3, XS[3] - 4, YS[2] + 3))  # the last of the second and third row
    (grid,) = ruled_grids(image)
    plain = boxes()
    expected = [BBox.union(plain[0:2]), plain[2], *plain[3:5], BBox.union([plain[5], plain[8]]), *plain[6:8]]
    assert_cells(grid, [*expected, *plain[9:]])


def test_print_in_the_cells_makes_no_rules() -> None:
    image, pen = paper()
    ruled(pen)
    for box in boxes():
        x, y, *_ = box.to_pixels(*A4)
        pen.text((x + 8, y + 4), "TYPE Hill", fill="black", font=ImageFont.load_default(46))
    (grid,) = ruled_grids(image)
    assert_cells(grid, boxes())


def test_two_tables_and_one_in_a_frame() -> None:
    image, pen = paper()
    pen.rectangle((40, 40, 1200, 1700), outline="black", width=4)
    ruled(pen)
    lower = [y + 600 for y in YS]
    ruled(pen, XS, lower)
    first, second = sorted(ruled_grids(image), key=lambda grid: grid.box.y0)
    assert_cells(first, boxes())
    assert_cells(second, boxes(XS, lower))


# -- what is no table ------------------------------------------------------------------------------------------------


def blank(pen: Pen) -> None:
    pass


def notebook(pen: Pen) -> None:
    for y in range(150, 1600, 50):
        pen.line((60, y, 1180, y), fill=(150, 170, 220), width=2)


def underlined(pen: Pen) -> None:
    for y in range(150, 1600, 90):
        pen.text((150, y), "Lamps that stand in the hall and doors", fill="black", font=ImageFont.load_default(40))
        pen.line((150, y + 48, 900, y + 48), fill="black", width=3)


def bold(pen: Pen) -> None:
    for y in range(100, 1650, 32):
        pen.text(
            (100, y),
            "ILLUSTRATED HILLS, with filth | HEIFER! " * 2,
            fill="black",
            font=ImageFont.load_default(26),
            stroke_width=1,
        )


def forms(pen: Pen) -> None:
    for y in range(150, 1600, 120):
        pen.rectangle((200, y, 1000, y + 60), outline="black", width=2)


def framed(pen: Pen) -> None:
    pen.rectangle((40, 40, 1200, 1700), outline="black", width=4)


def graph_paper(pen: Pen) -> None:
    ruled(pen, range(100, 1101, 12), range(100, 1101, 12), width=1)


def nested(pen: Pen) -> None:
    for inset in range(0, 600, 14):
        pen.rectangle((inset, inset, 1239 - inset, 1753 - inset), outline="black", width=2)


def spiral(pen: Pen) -> None:
    """A path of one line: its passages are no cells."""
    x, y, step = 100, 100, 1000
    for turn in range(12):
        dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn % 4]
        pen.line((x, y, x + dx * step, y + dy * step), fill="black", width=3)
        x, y, step = x + dx * step, y + dy * step, step - 75 * (turn % 2)


@pytest.mark.parametrize("draw", [blank, notebook, underlined, bold, forms, framed, graph_paper, nested, spiral])
def test_a_page_without_a_table_has_no_grid(draw: Callable[[Pen], None]) -> None:
    image, pen = paper()
    draw(pen)
    assert ruled_grids(image) == []
    assert ruled_grids(noisy(image)) == []


def in_cells(*cells: BBox) -> list[PlacedWord]:
    return [PlacedWord("12", BBox(*cell.center, *cell.center), 0) for cell in cells]


def test_a_chart_between_grid_lines_holds_no_words() -> None:
    image, pen = paper()
    ruled(pen, range(200, 1001, 100), range(200, 801, 100), fill=(200, 200, 200))
    pen.line((200, 700, 500, 400, 1000, 300), fill=(200, 40, 40), width=6)
    (grid,) = ruled_grids(image)
    labels = [PlacedWord(str(y), BBox.from_size((140, y - 10, 180, y + 10), *A4), 0) for y in range(200, 801, 100)]
    inside = in_cells(grid.cells[4], grid.cells[20])  # a title and a label at the curve
    assert not holds_words(grid, labels + inside)


def test_a_table_holds_words_even_where_most_cells_are_empty() -> None:
    image, pen = paper()
    ruled(pen, range(200, 1001, 100), range(200, 801, 100))
    (grid,) = ruled_grids(image)
    assert holds_words(grid, in_cells(*grid.cells[::3]))
    assert holds_words(grid, in_cells(*grid.cells[::8]))  # the first column
    assert not holds_words(grid, in_cells(*grid.cells[3::8]))
    assert not holds_words(grid, [])


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (8, 8), (60, 30), (4000, 40), (40, 4000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_pages_of_every_size_are_looked_at(size: tuple[int, int], mode: str) -> None:
    assert ruled_grids(Image.new(mode, size)) == []
    assert ruled_grids(Image.effect_noise(size, 90).convert(mode)) == []


@pytest.mark.parametrize("step", [4, 8, 12, 20, 40])
def test_a_page_full_of_lines_takes_no_longer(step: int) -> None:
    image, pen = paper((1600, 1600), "white")
    ruled(pen, range(0, 1600, step), range(0, 1600, step), width=1)
    ruled_grids(image)
    start = perf_counter()
    ruled_grids(image)
    assert perf_counter() - start < 2
