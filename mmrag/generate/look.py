"""Asks a model that reads images about a claim once more: on the cited region alone, and on the page without it.

A model that says yes to the region and no to the rest of its page has seen the claim there; one that says yes to both
says it from habit, or from some other place. Knows pixels and LlamaIndex's LLMs, no checkpoint, and no words of a page.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from PIL import Image

from mmrag import prompts
from mmrag.asking import about_image, answered, reply, yes_or_no_odds
from mmrag.generate.budget import blank
from mmrag.generate.marks import png, quotable
from mmrag.render import render_page, shrunk
from mmrag.types import WHOLE_PAGE, BBox, Citation, Support, Verdict
from mmrag.yes_no import read_yes_no

_DPI = 200
_MOST_PIXELS = 1_500_000
"""About 1,900 visual tokens of Qwen2-VL: a page of A4 at 125 dpi, whose body text is legible."""
_MARGIN = 0.01
"""Of paper around a region, in widths and heights of the page: print that touches an edge is read badly."""
_LEAST_MASS = 0.5
"""Probability of yes and no together under which a model would rather say something else: then that is read."""
_CLAIM_CHARACTERS = 1_000


class Look(NamedTuple):
    """Probabilities that the model says yes; 1 or 0 where only its words are known, None where they say neither."""

    seen: float | None
    """On the region alone."""
    without: float | None
    """On the page without the region; None also where it was not asked, because nothing was seen."""


def look(llm: Any, claim: str, citation: Citation) -> Look:
    """Raises GenerationError where the model gives no answer. The page is only asked about what was seen."""
    seen = _yes(llm, claim, region_image(citation))
    return Look(seen, _yes(llm, claim, page_without(citation)) if seen is not None and _is_yes(seen) else None)


def judge(look: Look) -> Verdict:
    """A page that says the same without the region halves the probability, which is the model's and not calibrated."""
    if look.seen is None or (_is_yes(look.seen) and look.without is None):
        return Verdict(Support.UNCHECKED, 0.5, "The model was asked again and said neither yes nor no.")
    # Where the page was not asked, as if it said yes: more seen in a region never counts for less.
    probability = look.seen * (1 - (1.0 if look.without is None else look.without) / 2)
    if not _is_yes(look.seen):
        return Verdict(Support.UNSUPPORTED, probability, "The model does not see it in the region.")
    if look.without is not None and _is_yes(look.without):
        reason = "The model sees it in the region, but would say so without the region too."
        return Verdict(Support.PARTLY, probability, reason)
    return Verdict(Support.SUPPORTED, probability, "The model sees it in the region and not without it.")


def _is_yes(probability: float) -> bool:
    return probability > 0.5


def _yes(llm: Any, claim: str, image: Image.Image) -> float | None:
    messages = about_image(prompts.LOOK_AGAIN.format(claim=quotable(claim, _CLAIM_CHARACTERS)), png(image))
    if hasattr(llm, "score"):
        odds = answered(lambda: yes_or_no_odds(llm, messages))
        if odds.yes + odds.no >= _LEAST_MASS:
            return odds.probability
    said = read_yes_no(reply(llm, messages), None)
    return None if said is None else float(said == "yes")


# -- images ----------------------------------------------------------------------------------------------------------


def region_image(citation: Citation) -> Image.Image:
    """The cited region alone, with a margin of its paper."""
    return shrunk(render_page(citation.source, citation.page, dpi=_DPI, clip=_widened(citation.bbox)), _MOST_PIXELS)


def page_without(citation: Citation) -> Image.Image:
    """The whole page, the cited region with its margin painted over in its mean colour."""
    page = shrunk(render_page(citation.source, citation.page, dpi=_DPI), _MOST_PIXELS)
    x0, y0, x1, y1 = _widened(citation.bbox).to_pixels(*page.size)
    covered = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
    page.paste(blank(page.crop(covered)), covered[:2])
    return page


def _widened(box: BBox) -> BBox:
    return BBox(
        max(WHOLE_PAGE.x0, box.x0 - _MARGIN),
        max(WHOLE_PAGE.y0, box.y0 - _MARGIN),
        min(WHOLE_PAGE.x1, box.x1 + _MARGIN),
        min(WHOLE_PAGE.y1, box.y1 + _MARGIN),
    )
