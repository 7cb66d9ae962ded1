"""Asks a model about an image: for its words, or for the odds of yes against no over all their spellings.

Knows LlamaIndex's LLMs, no benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.llms import LLM

from mmrag.errors import GenerationError, MmragError, brief
from mmrag.yes_no import YesNo

T = TypeVar("T")
_WORDS: dict[YesNo, tuple[str, ...]] = {"yes": ("yes", "是", "有"), "no": ("no", "否", "没")}


class Odds(NamedTuple):
    """Probabilities that the reply begins with any spelling of yes, and of no."""

    yes: float
    no: float

    @property
    def probability(self) -> float:
        """Of yes, given that it is yes or no."""
        return self.yes / (self.yes + self.no) if self.yes + self.no else 0.5

    @property
    def verdict(self) -> YesNo:
        return "yes" if self.yes > self.no else "no"


def yes_or_no_odds(llm: Any, messages: list[ChatMessage]) -> Odds:
    """Summed over case, a space before the word, and Chinese: one spelling alone is wrong by several points."""
    tokens = getattr(llm, "token_ids", tuple)  # characters, where the model does not tell its tokens
    spellings = {text: tokens(text) for text in (*_spellings("yes"), *_spellings("no"))}
    texts = _disjoint(spellings)
    scores = dict(zip(texts, llm.score(messages, texts), strict=True))
    return Odds(*(_sum(scores[text] for text in _spellings(side) if text in scores) for side in ("yes", "no")))


def _spellings(side: YesNo) -> list[str]:
    cased = (case(word) for word in _WORDS[side] for case in (str.lower, str.capitalize, str.upper))
    return list(dict.fromkeys(space + word for word, space in product(cased, ("", " "))))


def _disjoint(tokens: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Spellings whose probabilities may be added.

    `score` gives the probability that a reply *begins* with the tokens. Where the tokens of one spelling begin those of
    another, the first holds the second's probability already; some tokenizers write a word with and without the space
    before it alike, or both sides by the token for what is unknown, which says nothing of either.
    """
    sides = {text: side for side in _WORDS for text in _spellings(side)}
    kept: dict[tuple[Any, ...], str] = {}
    for text, ids in tokens.items():
        if not any(other == ids and sides[name] != sides[text] for name, other in tokens.items()):
            kept.setdefault(ids, text)
    return [text for ids, text in kept.items() if not any(ids[:n] in kept for n in range(1, len(ids)))]


def _sum(log_probabilities: Any) -> float:
    return math.fsum(math.exp(value) for value in log_probabilities)


def about_image(text: str, image: bytes | None) -> list[ChatMessage]:
    blocks: list[TextBlock | ImageBlock] = [TextBlock(text=text)]
    if image is not None:
        blocks.insert(0, ImageBlock(image=image, image_mimetype="image/png"))
    return [ChatMessage(role=MessageRole.USER, blocks=blocks)]


def reply(llm: LLM, messages: list[ChatMessage]) -> str:
    return answered(lambda: llm.chat(messages)).message.content or ""


def answered(call: Callable[[], T]) -> T:
    """What the LLM gives; whatever it raises, as an error that says what to do."""
    try:
        return call()
    except MmragError:
        raise
    except Exception as error:  # every LLM class of LlamaIndex has its own
        raise GenerationError(
            f"The model gave no answer ({brief(error)}): check its settings or its server."
        ) from error
