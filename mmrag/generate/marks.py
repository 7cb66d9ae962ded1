"""Evidence as a model is shown it: page images with numbered regions, and the words of each region beside them.

Decides which pages are shown as images, how large, and which number stands for which region. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from statistics import quantiles

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from PIL import Image

from mmrag import prompts
from mmrag.generate.budget import Size, token_count
from mmrag.render import draw_regions, render_page
from mmrag.types import BBox, Evidence, RegionKind

PAGES = 5
TOKEN_SIDE = 28
"""Pixels along the side of a visual token of Qwen2-VL and 2.5; 32 in Qwen3-VL, which then takes fewer."""
LINE_PIXELS = 13
"""Height at which a printed line is legible: small print is shown larger, and takes more of the budget."""
_DPI = 150
_LEAST_DPI, _MOST_DPI = 80, 200
_REGION_CHARACTERS = 2_000
_NAME_CHARACTERS = 120
_TITLE_CHARACTERS = 200
_TITLED = (RegionKind.TABLE, RegionKind.PICTURE)


@dataclass(frozen=True, slots=True)
class MarkedPage:
    """One page of evidence and the numbers that its regions go by."""

    marks: dict[int, Evidence]
    image: Image.Image | None = field(default=None, repr=False)
    """With the regions outlined and numbered, its sides whole visual tokens; None where the budget had no room left."""

    @property
    def first(self) -> Evidence:
        return next(iter(self.marks.values()))


def mark_pages(
    evidence: Sequence[Evidence], *, pages: int = PAGES, visual_tokens: int, unit: int = TOKEN_SIDE
) -> list[MarkedPage]:
    """The best `pages` pages with their regions numbered from 1.

    The images take at most `visual_tokens` tokens of `unit` x `unit` pixels together. Each is as large as its print
    needs, so small print leaves room for fewer images; the first is shown whatever it takes, scaled down if it must be.
    """
    by_page: dict[tuple[str, int], list[Evidence]] = {}
    for item in evidence:
        by_page.setdefault((item.document.id, item.page), []).append(item)
    found: list[MarkedPage] = []
    left, number = visual_tokens, 0
    for items in list(by_page.values())[:pages]:
        marks = dict(enumerate({item.region.id: item for item in items}.values(), number + 1))
        number += len(marks)
        image = _image(marks, left, unit, must=not found)
        left -= token_count(image.size, unit) if image else 0
        found.append(MarkedPage(marks, image))
    return found


def _image(marks: dict[int, Evidence], tokens: int, unit: int, *, must: bool) -> Image.Image | None:
    items = list(marks.values())
    page = render_page(items[0].source, items[0].page, dpi=_MOST_DPI)
    dpi = _legible_dpi(items, page.height)
    size = _whole_tokens((page.width * dpi / _MOST_DPI, page.height * dpi / _MOST_DPI), unit)
    if token_count(size, unit) > tokens:
        if not must:
            return None
        shrink = (tokens * unit * unit / (size[0] * size[1])) ** 0.5
        size = _whole_tokens((size[0] * shrink, size[1] * shrink), unit, round_up=False)
    # Numbered after scaling, so that the numbers are legible whatever the scale.
    regions = [(item.region.box, ()) for item in items]
    return draw_regions(page.resize(size, Image.Resampling.LANCZOS), regions, labels=[str(mark) for mark in marks])


def _legible_dpi(items: Sequence[Evidence], height: int) -> float:
    """The resolution at which the small print of the regions is legible; `height`: of the page at `_MOST_DPI`."""
    lines = [word.box.height * height for item in items for word in item.region.words]
    if len(lines) < 2:
        return (_LEAST_DPI + _MOST_DPI) / 2  # nobody knows what is written in a picture
    small = quantiles(lines, n=10)[0]
    return min(_MOST_DPI, max(_LEAST_DPI, _MOST_DPI * LINE_PIXELS / max(1.0, small)))


def _whole_tokens(size: tuple[float, float], unit: int, *, round_up: bool = True) -> Size:
    """Sides in whole tokens, so that what the model sees is what was sent, and boxes in pixels mean its pixels."""
    width, height = (max(1, round(side / unit) if round_up else int(side / unit)) * unit for side in size)
    return width, height


def messages(question: str, pages: Sequence[MarkedPage]) -> list[ChatMessage]:
    """The conversation that asks a model about the pages."""
    blocks: list[TextBlock | ImageBlock] = []
    for page in pages:
        name = one_line(page.first.document.name, _NAME_CHARACTERS)
        blocks.append(TextBlock(text=prompts.PAGE.format(page=page.first.page, document=name)))
        if page.image:
            blocks.append(ImageBlock(image=png(page.image), image_mimetype="image/png"))
        blocks.append(TextBlock(text="\n".join(_region(mark, item) for mark, item in page.marks.items()) + "\n\n"))
    blocks.append(TextBlock(text=prompts.QUESTION.format(question=_harmless(question))))
    return [
        ChatMessage(role=MessageRole.SYSTEM, content=prompts.ANSWER_RULES),
        ChatMessage(role=MessageRole.USER, blocks=blocks),
    ]


def _region(mark: int, item: Evidence) -> str:
    text = item.region.text.strip()
    cut = text[:_REGION_CHARACTERS] + (" …" if len(text) > _REGION_CHARACTERS else "")
    parts = {"mark": mark, "kind": str(item.region.kind).replace("_", " "), "text": _harmless(cut)}
    title = one_line(item.chunk.context, _TITLE_CHARACTERS) if item.region.kind in _TITLED else ""
    line = prompts.TITLED_REGION.format(**parts, title=title) if title else prompts.REGION.format(**parts)
    return line.rstrip(": ")


def one_line(text: str, length: int) -> str:
    return _harmless(" ".join("".join(c if c.isprintable() else " " for c in text).split())[:length])


def quotable(text: str, length: int) -> str:
    """Without what ends a quotation, a line or a turn: the words around it stay ours."""
    return one_line(text.translate({ord("«"): '"', ord("»"): '"'}), length)


def _harmless(text: str) -> str:
    """Without what a server's tokenizer might take for the end of a turn."""
    return text.replace("<|", "< |")


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def region_at(box: BBox, items: Sequence[tuple[int, Evidence]], *, overlap: float = 0.1) -> int | None:
    """The mark of the region that a model's box means: the one that it overlaps best, by intersection over union,
    or the smallest around its centre where the box is a detail of a region."""
    best = max(items, key=lambda item: item[1].region.box.iou(box), default=None)
    if best and best[1].region.box.iou(box) >= overlap:
        return best[0]
    around = [item for item in items if item[1].region.box.contains(box.center)]
    return min(around, key=lambda item: item[1].region.box.area)[0] if around else None
