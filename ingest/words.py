"""The words of a page's text layer, mended where the file breaks them: glued to each other, or cut after an initial.

Knows PyMuPDF's words and characters. A word keeps its place and its box; no letter is lost or added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from ingest.layout import PlacedWord
from mmrag.mupdf import pymupdf
from mmrag.text import is_spaceless
from mmrag.types import BBox

_FLAGS = pymupdf.TEXTFLAGS_WORDS & ~pymupdf.TEXT_PRESERVE_LIGATURES
# So many letters in a row are seldom one word. Cut is only where the print has a gap, so a long word stays whole.
_LONG = re.compile(r"[^\W\d_]{16,}")
# In type sizes, beyond the usual distance of letters: MuPDF sees a space from 0.15 on, kerning stays below 0.05.
_GAP = 0.08
# Of an initial: its height in line heights; how far, in these, the rest of its word may stand from it.
_INITIAL_HEIGHT = 1.8
_INITIAL_GAP = 0.25

Visible = Callable[[Sequence[float]], BBox]
"""From PyMuPDF's unrotated points to fractions of the visible page."""


def text_layer(page: Any, visible: Visible) -> list[PlacedWord]:
    """The words that the file holds, in the file's order."""
    textpage = page.get_textpage(flags=_FLAGS)
    words = page.get_text("words", textpage=textpage)
    glued = {(block, line) for *_, text, block, line, _ in words if _looks_glued(text)}
    if glued:
        words = _with_cuts(words, glued, page.get_text("rawdict", textpage=textpage)["blocks"])
    return with_initials(
        [PlacedWord(text, visible(box), block) for *box, text, block, _, _ in words if text.strip()],
        aspect=page.rect.height / page.rect.width if page.rect.width else 1.0,
    )


def _looks_glued(text: str) -> bool:
    run = _LONG.search(text)
    return run is not None and not is_spaceless(run[0][0])


def _with_cuts(words: Sequence[Any], glued: set[tuple[int, int]], blocks: Sequence[Any]) -> list[Any]:
    """The same words, those of glued lines cut anew at the gaps between their characters."""
    lines: dict[tuple[int, int], list[Any]] = {}
    for word in words:
        lines.setdefault((word[5], word[6]), []).append(word)
    for block, line in glued:
        old = lines[block, line]
        new = [(*box, text, block, line, i) for i, (text, box) in enumerate(_cut(blocks[block]["lines"][line]))]
        if "".join(word[4] for word in old) == "".join(word[4] for word in new):
            lines[block, line] = new
    return [word for line_words in lines.values() for word in line_words]


def _cut(line: Any) -> list[tuple[str, Any]]:
    """Words and their boxes, from a line of characters: parted at spaces, and at gaps in a font that glues."""
    fonts = {span["font"] for span in line["spans"] if _looks_glued("".join(c["c"] for c in span["chars"]))}
    words: list[tuple[str, Any]] = []
    end: float | None = None  # of the character before; None after a space
    for span in line["spans"]:
        wide = _wide_gap(span) if span["font"] in fonts else float("inf")
        for char in span["chars"]:
            box, letter = pymupdf.Rect(char["bbox"]), char["c"]
            if letter.isspace():
                end = None
                continue
            if end is None or box.x0 - end > wide:
                words.append((letter, box))
            else:
                words[-1] = (words[-1][0] + letter, words[-1][1] | box)
            end = box.x1
    return words


def _wide_gap(span: Any) -> float:
    """In points: the distance from which two letters of a span belong to two words."""
    boxes = [char["bbox"] for char in span["chars"]]
    gaps = [second[0] - first[2] for first, second in pairwise(boxes)]
    return _GAP * float(span["size"]) + max(0.0, median(gaps) if gaps else 0.0)


def with_initials(words: Sequence[PlacedWord], *, aspect: float) -> list[PlacedWord]:
    """Large initials joined with the words that they begin: a letter over two lines or more, beside their first."""
    mended = list(words)
    large = _INITIAL_HEIGHT * median(word.box.height for word in words) if words else 0.0
    for initial in [w for w in words if len(w.text) == 1 and w.text.isupper() and w.box.height > large]:
        beside = sorted(_beside(initial.box, mended, aspect), key=lambda word: word.box.y0)
        if initial in mended and len(beside) > 1 and beside[0].text[0].isalpha():
            first = beside[0]
            box = BBox(initial.box.x0, min(initial.box.y0, first.box.y0), first.box.x1, first.box.y1)
            mended[mended.index(first)] = PlacedWord(initial.text + first.text, box, first.block)
            mended.remove(initial)
    return mended


def _beside(initial: BBox, words: Sequence[PlacedWord], aspect: float) -> Iterator[PlacedWord]:
    """The first words of the lines that begin right after an initial."""
    for word in words:
        height = word.box.height
        gap = (word.box.x0 - initial.x1) / (height * aspect) if height else 1.0
        if (
            initial.height > _INITIAL_HEIGHT * height
            and abs(gap) < _INITIAL_GAP
            and initial.y0 < word.box.center[1] < initial.y1
        ):
            yield word
