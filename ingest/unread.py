"""What a PDF page shows but its text layer does not say: images, outlined text, layers that are garbage or doubled.

Looks at the words and at what the page draws, not at pixels: a millisecond or two a page decides whether OCR is worth a
second. Knows PyMuPDF's drawing log; does not read.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ingest.layout import PlacedWord
from mmrag.types import BBox

DrawingLog = Sequence[tuple[str, Sequence[float]]]
"""What `page.get_bboxlog()` gives: the kind of each drawing operation and its box in points."""

# An image below this share of the page is a logo or an ornament.
_MIN_IMAGE_AREA = 0.02
# Words of the text layer that an image of a whole page may carry and still count as unread: a stamp, a running head.
_WORDS_ON_A_PAGE = 40
# Filled curves of the size of letters (points) that make it likely that text was turned into outlines.
_MIN_GLYPHS = 30
_GLYPH_SIZE = (2.0, 40.0)

_VOWEL = re.compile("[aeiouyäöüáéíóúàèìòùâêîôûåæø]", re.IGNORECASE)


def unread_areas(
    page: Any, log: DrawingLog, words: Sequence[PlacedWord], visible: Callable[[Sequence[float]], BBox]
) -> list[BBox]:
    """Parts of the page that are drawn, and may hold text, but have no words in the text layer.

    `visible` turns PyMuPDF's unrotated points into fractions of the visible page.
    """
    images = {visible(box) for kind, box in log if kind == "fill-image"}
    areas = [box for box in images if box.area >= _MIN_IMAGE_AREA and _is_wordless(box, words)]
    low, high = _GLYPH_SIZE
    small = [b for kind, b in log if kind == "fill-path" and low < b[3] - b[1] < high and 1 < b[2] - b[0] < high]
    if len(small) >= _MIN_GLYPHS:
        glyphs = [box for box in _filled_curves(page, visible) if not _holds_word(box, words)]
        if len(glyphs) >= _MIN_GLYPHS:
            areas.append(BBox.union(glyphs))
    return areas


def _is_wordless(box: BBox, words: Sequence[PlacedWord]) -> bool:
    return sum(box.contains(word.box.center) for word in words) < max(3, _WORDS_ON_A_PAGE * box.area)


def _filled_curves(page: Any, visible: Callable[[Sequence[float]], BBox]) -> list[BBox]:
    """Boxes of letter-sized shapes with curves: cells and bars have none."""
    low, high = _GLYPH_SIZE
    return [
        visible(drawing["rect"])
        for drawing in page.get_cdrawings()
        if "f" in drawing["type"]
        and low < drawing["rect"][3] - drawing["rect"][1] < high
        and any(item[0] == "c" for item in drawing["items"])
    ]


def _holds_word(box: BBox, words: Sequence[PlacedWord]) -> bool:
    return any(word.box.contains(box.center) for word in words)


def is_old_ocr(log: DrawingLog) -> bool:
    """Whether the words are an invisible layer over a scan: what another OCR read, of a quality that nobody knows."""
    kinds = Counter(kind for kind, _ in log)
    return kinds["ignore-text"] > 4 * kinds["fill-text"] and kinds["fill-image"] > 0


def is_garbage(words: Sequence[PlacedWord]) -> bool:
    """Whether a text layer is unreadable: letters without a meaning in Unicode, or Latin words without vowels."""
    text = "".join(word.text for word in words)
    if not text:
        return False
    odd = sum(unicodedata.category(c) in ("Co", "Cn", "Cc", "Cs") or c == "\N{REPLACEMENT CHARACTER}" for c in text)
    if odd > 0.2 * len(text):
        return True
    latin = [word.text for word in words if len(word.text) > 3 and word.text.isascii() and word.text.isalpha()]
    return len(latin) >= 20 and sum(bool(_VOWEL.search(word)) for word in latin) < 0.5 * len(latin)


def without_doubles(words: Sequence[PlacedWord]) -> list[PlacedWord]:
    """Words printed twice in one place (a shadow, a fake bold, a second text layer) are one word."""
    kept: list[PlacedWord] = []
    places: dict[str, list[BBox]] = {}
    for word in words:
        same = places.setdefault(word.text, [])
        if not any(box.iou(word.box) > 0.6 for box in same):
            kept.append(word)
            same.append(word.box)
    return kept
