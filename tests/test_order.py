"""Reading order: pages of boxes, each block named by its place in the order that is right."""

from __future__ import annotations

from random import Random

import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st

from ingest.order import Block, reading_order
from mmrag.types import BBox, RegionKind

TEXT, TITLE, PICTURE, TABLE = RegionKind.TEXT, RegionKind.SECTION_HEADER, RegionKind.PICTURE, RegionKind.TABLE
GRID = st.integers(0, 40).map(lambda i: i / 40)
BOXES = st.builds(lambda xs, ys: BBox(min(xs), min(ys), max(xs), max(ys)), st.tuples(GRID, GRID), st.tuples(GRID, GRID))
NUMBERS = st.lists(st.integers(1, 5), max_size=2).map(tuple)
BLOCKS = st.lists(st.builds(Block, BOXES, st.sampled_from(RegionKind), st.sampled_from([0, 30, 300]), NUMBERS))


def block(
    x0: float, y0: float, x1: float, y1: float, kind: RegionKind = TEXT, *, letters: int = 200, number: int = 0
) -> Block:
    return Block(BBox(x0, y0, x1, y1), kind, letters, (number,) if number else ())


def title(x0: float, y0: float, x1: float, number: int = 0) -> Block:
    return block(x0, y0, x1, y0 + 0.02, TITLE, letters=20, number=number)


def label(x0: float, y0: float, x1: float) -> Block:
    return block(x0, y0, x1, y0 + 0.02, letters=15)


def left(y0: float, y1: float) -> Block:
    return block(0.1, y0, 0.48, y1)


def right(y0: float, y1: float) -> Block:
    return block(0.52, y0, 0.9, y1)


@RELAXED
@given(BLOCKS)
def test_every_block_is_read_once(blocks: list[Block]) -> None:
    assert sorted(reading_order(blocks)) == list(range(len(blocks)))


@RELAXED
@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=8), st.randoms())
def test_two_columns_of_prose_are_read_one_after_the_other(paragraphs: list[tuple[int, bool]], random: Random) -> None:
    """Whatever the heights of the paragraphs, and whatever order they come in."""
    ends = {True: 0.1, False: 0.1}
    blocks = [left(0.05, 0.09), right(0.05, 0.09)]
    for height, is_left in paragraphs:
        top = ends[is_left]
        blocks.append((left if is_left else right)(top, top + 0.02 * height))
        ends[is_left] = top + 0.02 * height + 0.01
    random.shuffle(blocks)
    read = [blocks[i].box for i in reading_order(blocks)]
    assert read == sorted(read, key=lambda box: (box.x0, box.y0))


def test_a_page_of_countless_labels_is_read_from_top_to_bottom() -> None:
    labels = [label(0.1 + 0.04 * (i % 20), 0.1 + 0.02 * (i // 20), 0.13 + 0.04 * (i % 20)) for i in range(400)]
    assert reading_order(labels[::-1]) == list(range(400))[::-1]
    heap = [block(0.1, 0.1 + i / 10_000, 0.9, 0.5 + i / 10_000) for i in range(1000)]  # each in the way of each
    assert reading_order(heap) == list(range(1000))


def assert_read_as_listed(*blocks: Block) -> None:
    backwards = blocks[::-1]  # so that nothing is right by standing still
    assert [backwards[i] for i in reading_order(backwards)] == list(blocks)


PAGES: dict[str, list[Block]] = {
    "one column": [title(0.1, 0.1, 0.3), block(0.1, 0.15, 0.9, 0.3), title(0.1, 0.35, 0.3), block(0.1, 0.4, 0.9, 0.6)],
    "a title across the columns parts what is above it from what is below": [
        left(0.05, 0.3),
        right(0.05, 0.2),
        title(0.1, 0.4, 0.8),
        left(0.5, 0.9),
        right(0.5, 0.7),
    ],
    "a table across the columns parts them too": [
        left(0.05, 0.3),
        right(0.05, 0.3),
        block(0.1, 0.35, 0.9, 0.45, TABLE),
        left(0.5, 0.9),
        right(0.5, 0.9),
    ],
    "columns of unequal length": [left(0.1, 0.3), title(0.1, 0.4, 0.3), left(0.45, 0.8), right(0.1, 0.3)],
    "a title under the columns goes with what it stands over": [
        left(0.1, 0.3),
        right(0.1, 0.3),
        title(0.1, 0.4, 0.3),
        block(0.1, 0.45, 0.9, 0.6),
    ],
    "a column whose first lines stand above the other one": [left(0.3, 0.8), right(0.1, 0.25), right(0.3, 0.8)],
    "a title of its own over the right column": [left(0.3, 0.8), title(0.55, 0.25, 0.8), right(0.3, 0.8)],
    "a title that stands over the right column and beyond": [
        title(0.488, 0.05, 0.7),
        left(0.1, 0.8),
        right(0.1, 0.8),
    ],
    "labels and values by row": [
        label(0.1, 0.1, 0.2),
        label(0.5, 0.1, 0.7),
        label(0.1, 0.2, 0.2),
        label(0.5, 0.2, 0.7),
    ],
    "a unit over the right end of a table": [
        title(0.1, 0.1, 0.3),
        label(0.7, 0.14, 0.9),
        block(0.1, 0.17, 0.9, 0.4, TABLE),
    ],
    "words of one line that touch": [label(0.1, 0.102, 0.303), label(0.3, 0.1, 0.5)],
    "a title whose box reaches into the line below": [
        block(0.4, 0.1, 0.6, 0.165, TITLE, letters=8),
        label(0.1, 0.155, 0.3),
    ],
    "cards numbered along the rows": [
        title(0.1, 0.1, 0.3, 1),
        left(0.15, 0.3),
        title(0.52, 0.1, 0.7, 2),
        right(0.15, 0.25),
        title(0.1, 0.4, 0.3, 3),
        left(0.45, 0.6),
        title(0.52, 0.4, 0.7, 4),
        right(0.45, 0.7),
    ],
    "cards numbered down the columns": [
        title(0.1, 0.1, 0.3, 1),
        left(0.15, 0.3),
        title(0.1, 0.4, 0.3, 2),
        left(0.45, 0.6),
        title(0.52, 0.1, 0.7, 3),
        right(0.15, 0.25),
        title(0.52, 0.4, 0.7, 4),
        right(0.45, 0.7),
    ],
    "a picture across the columns does not part them": [
        left(0.1, 0.3),
        block(0.1, 0.32, 0.9, 0.5, PICTURE),
        left(0.52, 0.8),
        right(0.1, 0.3),
        right(0.52, 0.8),
    ],
    "a picture under its text": [block(0.1, 0.1, 0.9, 0.3), block(0.2, 0.4, 0.8, 0.8, PICTURE)],
    "a picture before its caption": [
        block(0.1, 0.1, 0.9, 0.3),
        block(0.2, 0.4, 0.8, 0.6, PICTURE),
        block(0.1, 0.61, 0.9, 0.65, RegionKind.CAPTION),
    ],
    "pictures beside their paragraphs": [
        block(0.4, 0.1, 0.9, 0.3),
        block(0.1, 0.1, 0.3, 0.3, PICTURE),
        block(0.4, 0.35, 0.9, 0.6),
    ],
    "prose beside tables": [
        left(0.1, 0.2),
        left(0.22, 0.4),
        block(0.52, 0.1, 0.9, 0.2, TABLE),
        block(0.52, 0.22, 0.9, 0.4, TABLE),
    ],
    "a chart with its title and note beside prose": [
        block(0.1, 0.1, 0.4, 0.2),
        block(0.1, 0.22, 0.4, 0.5),
        title(0.45, 0.1, 0.85),
        label(0.45, 0.125, 0.7),
        block(0.45, 0.15, 0.8, 0.4, PICTURE),
        block(0.45, 0.41, 0.75, 0.44, letters=100),
        label(0.45, 0.445, 0.5),
        block(0.1, 0.55, 0.9, 0.6),
    ],
    "a chart with a title that its paragraph runs around": [
        block(0.1, 0.1, 0.9, 0.2),
        block(0.1, 0.22, 0.4, 0.5),
        title(0.5, 0.17, 0.85),
        block(0.5, 0.195, 0.8, 0.4, PICTURE),
        block(0.1, 0.55, 0.9, 0.6),
    ],
    "notes below a picture beside two paragraphs": [
        block(0.6, 0.1, 0.9, 0.28),
        block(0.6, 0.3, 0.9, 0.5),
        block(0.1, 0.1, 0.5, 0.26, PICTURE),
        label(0.1, 0.27, 0.3),
        label(0.1, 0.31, 0.3),
    ],
    "columns over the lower half of a picture": [
        block(0.1, 0.1, 0.9, 0.5, PICTURE),
        block(0.1, 0.3, 0.48, 0.6, letters=150),
        block(0.1, 0.62, 0.48, 0.8, letters=150),
        block(0.52, 0.3, 0.9, 0.6, letters=150),
        block(0.52, 0.62, 0.9, 0.8, letters=150),
    ],
    "a line below a small picture and the paragraph beside it": [
        block(0.35, 0.1, 0.9, 0.3),
        block(0.1, 0.1, 0.3, 0.3, PICTURE),
        block(0.1, 0.31, 0.9, 0.33, letters=150),
    ],
    "paragraphs above and below a picture are no notes of it": [
        block(0.1, 0.1, 0.4, 0.3),
        block(0.1, 0.32, 0.4, 0.5),
        block(0.5, 0.1, 0.9, 0.2, letters=300),
        block(0.5, 0.21, 0.9, 0.4, PICTURE),
        block(0.5, 0.41, 0.9, 0.5, letters=300),
    ],
    "titles that are too far off, or stand beside, belong to no picture": [
        title(0.1, 0.05, 0.3),
        title(0.6, 0.05, 0.8),
        title(0.1, 0.2, 0.5),
        block(0.6, 0.11, 0.8, 0.4, PICTURE),
        block(0.1, 0.5, 0.9, 0.7),
    ],
    "labels in a picture beside paragraphs": [
        block(0.5, 0.1, 0.9, 0.28),
        block(0.5, 0.32, 0.9, 0.5),
        block(0.1, 0.1, 0.4, 0.5, PICTURE),
        label(0.2, 0.15, 0.3),
        label(0.2, 0.4, 0.3),
        block(0.1, 0.6, 0.9, 0.8),
    ],
    "labels in a picture": [
        block(0.1, 0.1, 0.9, 0.2),
        block(0.1, 0.3, 0.9, 0.6, PICTURE),
        label(0.2, 0.35, 0.4),
        label(0.5, 0.55, 0.7),
        block(0.1, 0.7, 0.9, 0.8),
    ],
    "a paragraph that runs around a title": [
        block(0.1, 0.1, 0.9, 0.3),
        block(0.5, 0.25, 0.95, 0.35, TITLE),
        block(0.1, 0.4, 0.9, 0.5),
    ],
    "running heads first, feet last": [
        block(0.6, 0.09, 0.9, 0.11, RegionKind.PAGE_HEADER),
        left(0.1, 0.9),
        right(0.12, 0.95),
        block(0.1, 0.93, 0.4, 0.94, RegionKind.PAGE_FOOTER),
    ],
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_pages_are_read_as_a_person_reads_them(page: list[Block]) -> None:
    assert_read_as_listed(*page)
