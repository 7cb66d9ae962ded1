"""Words of the text layer: lines whose words the file glues, initials that it cuts off; pages built in code."""

from __future__ import annotations

from itertools import pairwise

import pymupdf
import pytest
from build import ASPECT, LINE, RELAXED, printed
from hypothesis import given
from hypothesis import strategies as st

from ingest.layout import PlacedWord
from ingest.words import text_layer, with_initials
from mmrag.types import BBox

SIZE = 10.0


def page_with(*spans: tuple[str, float], fonts: tuple[str, ...] = ("helv",)) -> pymupdf.Page:
    """A page with these texts on one line, each after a gap in type sizes; fonts in turn."""
    page = pymupdf.open().new_page()
    x = 72.0
    for i, (text, gap) in enumerate(spans):
        font = fonts[i % len(fonts)]
        page.insert_text((x + gap * SIZE, 100), text, fontsize=SIZE, fontname=font)
        x += gap * SIZE + pymupdf.get_text_length(text, font, SIZE)
    return page


def words_of(page: pymupdf.Page) -> list[PlacedWord]:
    return text_layer(page, lambda box: BBox.from_size(box[:4], page.rect.width, page.rect.height))


def texts(page: pymupdf.Page) -> list[str]:
    return [word.text for word in words_of(page)]


def spread(text: str, gap: float) -> list[tuple[str, float]]:
    return [(part, gap) for part in text.split()]


def test_glued_words_are_cut_at_the_gaps_between_their_letters() -> None:
    page = page_with(*spread("Colours of the harbour lamps 2", gap=0.12))
    assert [word[4] for word in page.get_text("words")] == ["Coloursoftheharbourlamps2"]  # as the file has it
    words = words_of(page)
    assert [word.text for word in words] == ["Colours", "of", "the", "harbour", "lamps", "2"]
    assert all(first.box.x1 < second.box.x0 for first, second in pairwise(words))


def test_short_words_of_a_line_with_glued_ones_are_cut_too() -> None:
    page = page_with(("Table", 0.0), ("1", 0.12), ("Colours", 0.5), *spread("of the harbour lamps", gap=0.12))
    assert texts(page) == ["Table", "1", "Colours", "of", "the", "harbour", "lamps"]


@pytest.mark.parametrize(
    "page",
    [
        page_with(("internationalisation of lamps", 0.0)),
        page_with(("https://example.org/lamps-of-the-harbour", 0.0)),
        page_with(*[(letter, 0.12) for letter in "HARBOURLAMPSANDDOORS"]),  # letters set apart, as in titles
        page_with(*spread("the red lamp", gap=0.12)),  # nothing shows that its words are glued
        page_with(("internationalisationlamps", 0.0), ("1234", 0.3), ("a", 0.12), fonts=("helv", "tiro", "tiro")),
    ],
    ids=["a long word", "an address", "letters set apart", "a short line", "another font"],
)
def test_other_words_stay_as_the_file_has_them(page: pymupdf.Page) -> None:
    assert texts(page) == [word[4] for word in page.get_text("words")]


def test_chinese_is_not_cut() -> None:
    page = pymupdf.open().new_page()
    for i, character in enumerate("灯是红色的并且立在房子的大门旁边"):
        gap = 0.12 * SIZE * (i > 7)
        page.insert_text((72 + SIZE * i + gap, 100), character, fontsize=SIZE, fontname="china-s")
    assert texts(page) == [word[4] for word in page.get_text("words")]


# -- initials --------------------------------------------------------------------------------------------------------

INITIAL = PlacedWord("O", BBox(0.1, 0.1, 0.14, 0.1 + 3 * LINE), 1)


def beside(gap: float = 0.001) -> list[PlacedWord]:
    """Two lines that begin beside the initial and one below it."""
    return [
        word
        for i, (text, x) in enumerate([("ver the lamps", 0.14 + gap), ("red and blue", 0.14 + gap), ("doors", 0.1)])
        for word in printed(text, x, 0.1 + 1.4 * LINE * i, block=2)
    ]


def joined(words: list[PlacedWord]) -> list[str]:
    return [word.text for word in with_initials(words, aspect=ASPECT)]


def test_an_initial_over_two_lines_begins_the_word_beside_it() -> None:
    first, *rest = with_initials([INITIAL, *beside()], aspect=ASPECT)
    assert (first.text, first.block) == ("Over", 2)
    assert first.box == BBox(0.1, 0.1, beside()[0].box.x1, 0.1 + LINE)  # on its line, and no other
    assert rest == beside()[1:]


def test_an_initial_that_stands_elsewhere_in_the_file_is_put_before_its_word() -> None:
    assert joined([*beside(), INITIAL]) == joined([INITIAL, *beside()])


LARGE_LETTERS: dict[str, list[PlacedWord]] = {
    "far off": [INITIAL, *beside(gap=0.02)],
    "over one line": [INITIAL, *beside()[:3]],
    "over one line, another far below": [INITIAL, *beside()[:3], *printed("red", 0.141, 0.5)],
    "in lower case": [INITIAL._replace(text="o"), *beside()],
    "a figure": [INITIAL._replace(text="4"), *beside()],
    "as small as its line": [INITIAL._replace(box=BBox(0.1, 0.1, 0.14, 0.1 + LINE)), *beside()],
    "as large as most words": [INITIAL, *beside(), *[INITIAL._replace(text="Lamps")] * 12],
    "before a bracket": [INITIAL, beside()[0]._replace(text="(1)"), *beside()[1:]],
}


@pytest.mark.parametrize("words", LARGE_LETTERS.values(), ids=LARGE_LETTERS.keys())
def test_other_large_letters_stay_words(words: list[PlacedWord]) -> None:
    assert joined(words) == [word.text for word in words]


def test_an_initial_that_another_one_has_taken_takes_no_word() -> None:
    larger = PlacedWord("A", BBox(0.05, 0.1, 0.099, 0.1 + 8 * LINE), 1)
    assert joined([larger, INITIAL, *beside()])[:2] == ["AO", "ver"]


GRID = st.integers(0, 40).map(lambda i: i / 40)
BOXES = st.builds(lambda x, y, w, h: BBox(x, y, x + w, y + h), GRID, GRID, GRID, GRID)


@RELAXED
@given(st.lists(st.builds(PlacedWord, st.sampled_from(["A", "O", "ver", "the", "1"]), BOXES, st.integers(0, 3))))
def test_joining_initials_loses_no_letter(words: list[PlacedWord]) -> None:
    assert sorted("".join(joined(words))) == sorted("".join(word.text for word in words))
