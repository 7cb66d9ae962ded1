"""How sure an answer is, and when to say nothing. Pure logic on scores and words; knows no model.

What it weighs means the same in a collection of ten pages and of ten thousand, so that one calibration holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmrag.errors import UsageError
from mmrag.facts import figures, missing_figures
from mmrag.text import query_tokens, tokens
from mmrag.types import Evidence

RISK = 0.5
"""The share of wrong answers among those given that is accepted where nobody says otherwise."""
_FOLLOWING = 3
"""With how many of the next pages the quoted one is compared."""
_CLOSE = 2.0
"""Log-odds within which passages are about as relevant."""

# Logistic regression of "the first cited region holds what was asked for" on the signals, over 145 published questions,
# 23 of them without an answer; the data, cross-validation and what else was tried: eval/LOG.md.
_WEIGHTS = {"lead": 0.922, "coverage": 2.499, "crowd": -0.422, "named": 1.558}
_BIAS = -4.036
# The same of the quoted page on agreement alone, for generators whose claims no cross-encoder has read: not calibrated.
_AGREEMENT, _PAGE_BIAS = 2.823, -1.978

# A word with a capital inside a sentence. Chinese shows no names: there, only figures count.
_NAME = re.compile(r"(?<=[\w,;:\"“(]\s)[A-Z][\w&'.-]*\w")


def check_risk(risk: float) -> float:
    if not 0 <= risk <= 1:
        raise UsageError(f"A risk of {risk:g} has no meaning: give a share from 0 to 1.")
    return risk


def least_confidence(risk: float) -> float:
    """The confidence from which an answer is given.

    Of answers that are each right with at least this probability, no more than `risk` are wrong on average, whatever is
    asked; a lower bar that keeps to the same average would have to know the questions that are still to come.
    """
    return 1 - risk


class Passage(NamedTuple):
    """Words of a region, and how relevant they are found: log-odds by a cross-encoder, or as wide a scale."""

    evidence: Evidence
    text: str
    relevance: float


def signals(
    question: str, quoted: Passage, passages: Sequence[Passage], evidence: Sequence[Evidence]
) -> dict[str, float]:
    """What speaks for a quote, out of all passages that were read.

    - `lead`: how far its page's fused score is above those of the next pages, in the logarithm of standard deviations.
      Gaps among the best hardly change with the number of pages; the scores themselves grow with it.
    - `coverage`: the share of the question's words that its region has, or the title or caption it stands under; words
      that are rare among the passages count more.
    - `crowd`: how many passages are about as relevant as the best one, as a logarithm. Where nothing answers, all are.
    - `named`: the share of the question's names and figures that its document is found to have. A company or a year
      that a document does not know is no question for it.
    """
    best = max(passage.relevance for passage in passages)
    around = f"{quoted.evidence.region.text} {quoted.evidence.chunk.context}"
    same = [item for item in evidence if item.document.id == quoted.evidence.document.id]
    told = [f"{item.region.text} {item.chunk.context}" for item in same]
    return {
        "lead": _lead(quoted.evidence, evidence),
        "coverage": coverage(around, rarity(question, [passage.text for passage in passages])),
        "crowd": math.log(sum(passage.relevance >= best - _CLOSE for passage in passages)),
        "named": named(question, " ".join([quoted.evidence.document.name, quoted.evidence.document.title, *told])),
    }


def _lead(quoted: Evidence, evidence: Sequence[Evidence]) -> float:
    pages = {_page(item): item.score for item in evidence}
    others = sorted((score for page, score in pages.items() if page != _page(quoted)), reverse=True)
    gap = quoted.score - sum(others[:_FOLLOWING]) / _FOLLOWING  # a page that no leg found has a score of 0
    return math.copysign(math.log1p(abs(gap)), gap)


def rarity(question: str, texts: Sequence[str]) -> dict[str, float]:
    """The question's tokens, with how rare each is among the texts."""
    wanted = query_tokens(question)
    held = [set(tokens(text)).intersection(wanted) for text in texts]
    return {token: math.log(1 + len(texts) / (1 + sum(token in h for h in held))) for token in wanted}


def coverage(text: str, weights: Mapping[str, float]) -> float:
    """The share (0..1) of weighted tokens that a text has."""
    there = set(tokens(text))
    total = sum(weights.values()) or 1.0
    return sum(weight for token, weight in weights.items() if token in there) / total


def names(text: str) -> list[str]:
    """Words that are names by their capital; the first word of a sentence has one anyway."""
    return _NAME.findall(text)


def named(question: str, text: str) -> float:
    """The share (0..1) of a question's names and figures that a text has; 1 where it has none."""
    there, figured = set(tokens(text)), figures(question)
    found = [there.issuperset(tokens(name)) for name in names(question)]
    total = len(found) + len(figured)
    return (sum(found) + len(figured) - len(missing_figures(question, text))) / total if total else 1.0


def confidence(signals: Mapping[str, float]) -> float:
    """Probability (0..1) that the quoted region holds what was asked for; 0 without signals."""
    return logistic(sum(_WEIGHTS[name] * signals[name] for name in _WEIGHTS) + _BIAS) if signals else 0.0


def page_confidence(agreement: float) -> float:
    """How likely the page answers, by the mean reciprocal rank (0..1) that the retrieval legs gave to it.

    For what a model writes: of the page only, and not calibrated on its claims.
    """
    return logistic(_AGREEMENT * agreement + _PAGE_BIAS)


def logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0


def _page(item: Evidence) -> tuple[str, int]:
    return item.document.id, item.page
