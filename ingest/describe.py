"""What the pictures of a page show, told by any LlamaIndex LLM that reads images. Knows no index and no chunk.

The reply is generated text from outside: it is cleaned and kept short, and stored as a description, apart from the
document's words. A picture that cannot be described costs only itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.llms import LLM
from PIL import Image

from ingest.chunk import MIN_PICTURE_AREA, around
from mmrag.errors import brief
from mmrag.prompts import DESCRIBE_PICTURE, PICTURE_WORDS
from mmrag.render import render_page
from mmrag.text import is_mostly_cjk, split_sentences
from mmrag.types import Page, Region, RegionKind

log = logging.getLogger(__name__)

MAX_CHARACTERS = 800
"""Of a description: three long sentences, and what an encoder has room for in front of a chunk."""
MAX_SIDE = 1_280
"""Pixels of a crop's longer side: half a page at 150 dpi stays as it is, a full page keeps its axis labels legible."""
GIVE_UP_AFTER = 3
"""Errors in a row after which a model is not asked again in this run: a server that is down would cost its time limit
for every picture."""
_MAX_READ = 10_000  # characters of a reply that are looked at
_MAX_WORDS = 300  # characters of the caption, and as many of each of the other words around a picture
_LONGEST_PATTERN, _REPEATS = 30, 4
_MARKUP = re.compile(r"<\|[^<>|]{0,40}\|>|</?[a-zA-Z!][^<>]{0,300}>")  # a model's own marks, and HTML


@dataclass(slots=True)
class Tally:
    """How describing went in one file."""

    pictures: int = 0
    empty: int = 0
    """Replies without a word; the same model would say no more the next time."""
    failed: int = 0
    """Errors; the next time may go better."""
    reason: str = ""

    def __str__(self) -> str:
        missed = self.empty + self.failed
        if not missed:
            return ""
        return f"{missed} of {self.pictures} pictures could not be described ({self.reason})."


class Describer:
    """Describes pictures one after the other; the same picture on many pages is described once."""

    def __init__(self, llm: LLM) -> None:
        self.identity = identity(llm)
        self._llm = llm
        self._described: dict[bytes, str] = {}  # by the crop's hash
        self._errors_in_a_row = 0
        self._last_error = ""

    def describe(self, page: Page, source: Path, tally: Tally, on_picture: Callable[[], None] = lambda: None) -> Page:
        """The page with its pictures described, except ornaments and those that have a description already."""
        regions = list(page.regions)
        for place, region in enumerate(regions):
            if not _is_worth_words(region):
                continue
            tally.pictures += 1
            if not region.description:
                regions[place] = replace(region, description=self._try(page, region, source, tally))
            on_picture()
        return replace(page, regions=tuple(regions))

    def _try(self, page: Page, picture: Region, source: Path, tally: Tally) -> str:
        if self._errors_in_a_row >= GIVE_UP_AFTER:
            tally.failed += 1
            tally.reason = f"not asked again after {GIVE_UP_AFTER} errors in a row: {self._last_error}"
            return ""
        try:
            text = self._tell(page, picture, source)
        except Exception as error:  # each LLM has its own; none of them may cost the document
            log.debug("describing %s failed", picture.id, exc_info=True)
            self._errors_in_a_row += 1
            self._last_error = brief(error)
            tally.failed += 1
            tally.reason = self._last_error
            return ""
        self._errors_in_a_row = 0
        if not text:
            tally.empty += 1
            tally.reason = tally.reason or "the model's reply has no words"
        return text

    def _tell(self, page: Page, picture: Region, source: Path) -> str:
        crop = render_page(source, page.number, clip=picture.box)
        crop.thumbnail((MAX_SIDE, MAX_SIDE))
        key = sha256(b"%d %d " % crop.size + crop.tobytes()).digest()
        if key not in self._described:
            reply = self._llm.chat([question(crop, words_around(page, picture))])
            self._described[key] = plain(reply.message.content or "")
        return self._described[key]


def identity(llm: LLM) -> str:
    """Names the model, for a store to remember whose words these are."""
    # `metadata` comes last: some LLMs look a model up there and refuse one that they do not know.
    names = (getattr(llm, name, None) for name in ("identity", "model", "model_name"))
    return next((str(name) for name in names if name), None) or llm.metadata.model_name


def without_descriptions(page: Page) -> Page:
    return replace(page, regions=tuple(replace(region, description="") for region in page.regions))


def with_descriptions(page: Page, before: Page) -> Page:
    """The page as it was read anew, with what an earlier reading's pictures in the same places were said to show."""
    said = {region.box: region.description for region in before.regions if region.kind is RegionKind.PICTURE}
    regions = (
        replace(region, description=said.get(region.box, "")) if region.kind is RegionKind.PICTURE else region
        for region in page.regions
    )
    return replace(page, regions=tuple(regions))


def undescribed(pages: Iterable[Page]) -> int:
    return sum(_is_worth_words(region) and not region.description for page in pages for region in page.regions)


def _is_worth_words(region: Region) -> bool:
    return region.kind is RegionKind.PICTURE and region.box.area >= MIN_PICTURE_AREA


def question(picture: Image.Image, words: str) -> ChatMessage:
    file = BytesIO()
    picture.save(file, "PNG")
    prompt = DESCRIBE_PICTURE + (PICTURE_WORDS.format(words=words) if words else "")
    image = ImageBlock(image=file.getvalue(), image_mimetype="image/png")
    return ChatMessage(role=MessageRole.USER, blocks=[image, TextBlock(text=prompt)])


def words_around(page: Page, picture: Region) -> str:
    """The caption of a picture, the text nearest to it and the words in it, as far as there are any."""
    caption = next((region.text for region in page.regions if region.id == picture.caption_id), "")
    found = (caption, around(page, picture), picture.text)
    return " / ".join(_one_line(text)[:_MAX_WORDS] for text in found if text.strip())


def plain(reply: str) -> str:
    """A model's reply as a few plain sentences on one line: no markup, no control characters, nothing said twice."""
    text = _before_loop(_one_line(reply[:_MAX_READ]))
    sentences = list(dict.fromkeys(s.strip() for s in split_sentences(text))) if text else []
    kept = ""
    for sentence in sentences:
        longer = f"{kept} {sentence}".strip() if not is_mostly_cjk(sentence) else kept + sentence
        if len(longer) > MAX_CHARACTERS:
            kept = kept or f"{sentence[: MAX_CHARACTERS - 1].rstrip()}…"
            break
        kept = longer
    return kept if any(c.isalnum() for c in kept) else ""


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(_MARKUP.sub(" ", printable).split())


def _before_loop(text: str) -> str:
    """Up to the end of the first pattern of words (Chinese: characters) that stands there four times in a row."""
    joint = "" if is_mostly_cjk(text) else " "
    words = text.split() if joint else list(text)
    lower = [word.lower() for word in words]
    for start in range(len(words)):
        for period in range(1, min(_LONGEST_PATTERN, (len(words) - start) // _REPEATS) + 1):
            pattern = lower[start : start + period]
            # A row of equal numbers is no loop: a chart may have four bars of one height.
            is_loop = lower[start : start + period * _REPEATS] == pattern * _REPEATS
            if is_loop and any(c.isalpha() for c in "".join(pattern)):
                return joint.join(words[: start + period])
    return text
