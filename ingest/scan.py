"""Layout of a page that is known by its picture alone: charts, tables and titles among the words that OCR read.

PyMuPDF's layout model looks at pixels and at words together, and finds little on a picture without words. So the words
are written invisibly over a copy of the picture, as OCR programs do, and the model looks at that copy.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from PIL import Image

from ingest.layout import PlacedWord
from ingest.tables import visual_rows
from mmrag.mupdf import pymupdf
from mmrag.types import BBox

_INVISIBLE = 3  # PDF's text rendering mode of OCR layers
# Resolution of the copy, and its longest side on posters and endless scrolls: the model scales what it sees to less.
_DPI = 100
_PIXELS = 4000


@contextmanager
def readable_copy(image: Image.Image, words: Sequence[PlacedWord], width: float, height: float) -> Iterator[Any]:
    """A PyMuPDF page of `width` x `height` points that shows `image` under `words`."""
    with pymupdf.open() as document:
        page = document.new_page(width=width, height=height)
        page.insert_image(page.rect, stream=_jpeg(image, width, height))
        for word in words:
            _write(page, word)
        yield page


def _jpeg(image: Image.Image, width: float, height: float) -> bytes:
    scale = min(_DPI / 72, _PIXELS / max(width, height))
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), reducing_gap=2.0)
    target = io.BytesIO()
    small.save(target, "JPEG", quality=80)
    return target.getvalue()


def _write(page: Any, word: PlacedWord) -> None:
    """Stretched to the box of its ink. What the letters are means little to the model, where they stand a lot."""
    x0, y0, x1, y1 = (v * size for v, size in zip(word.box, (page.rect.width, page.rect.height) * 2, strict=True))
    text = word.text.encode("latin-1", "replace").decode("latin-1")
    length = pymupdf.get_text_length(text, "helv", fontsize=y1 - y0)
    if length <= 0 or x1 <= x0:
        return
    foot = pymupdf.Point(x0, y1)
    stretch = (foot, pymupdf.Matrix((x1 - x0) / length, 1))
    page.insert_text(foot, text, fontname="helv", fontsize=y1 - y0, render_mode=_INVISIBLE, morph=stretch)


def joined_paragraphs(words: Sequence[PlacedWord], paragraphs: Sequence[BBox]) -> list[PlacedWord]:
    """Words of blocks that continue each other inside one of `paragraphs` get one block number, and stand together."""
    joined = {word.block: word.block for word in words}

    def first(block: int) -> int:
        while joined[block] != block:
            block = joined[block]
        return block

    for box in paragraphs:
        rows = visual_rows([word for word in words if box.contains(word.box.center)])
        for i, below in enumerate(rows):
            for word in below:
                above = next((row for other in reversed(rows[:i]) if (row := _over(word.box, other))), [])
                for other in above:
                    low, high = sorted((first(other.block), first(word.block)))
                    joined[high] = low
    blocks: dict[int, list[PlacedWord]] = {}
    for word in words:
        blocks.setdefault(first(word.block), []).append(word)
    return [
        word._replace(block=block)
        for block, inside in sorted(blocks.items())
        for word in (inside if len({word.block for word in inside}) == 1 else chain(*visual_rows(inside)))
    ]


def _over(box: BBox, row: Sequence[PlacedWord]) -> list[PlacedWord]:
    """What of a row above stands over a box."""
    return [
        word
        for word in row
        if min(box.x1, word.box.x1) - max(box.x0, word.box.x0) > 0.5 * min(box.width, word.box.width)
    ]
