"""The words on a picture that somebody asks with. Knows the OCR, no store and no question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrag.render import shrunk

if TYPE_CHECKING:
    from PIL import Image

_MOST_PIXELS = 4_000_000
"""A page of A4 at 200 dpi: a photo of a phone has three times as many, and its print is no clearer for it."""


def read_words(image: Image.Image) -> str:
    """In reading order; empty where nothing is printed on it."""
    from ingest.ocr import read_lines  # the models are loaded when they are first needed

    words, _ = read_lines(shrunk(image, _MOST_PIXELS))
    return " ".join(word.text for word in words)
