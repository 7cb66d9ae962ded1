"""How sure an answer is, and when to say nothing. Pure logic on scores; knows no model and no text.

Both numbers that it weighs mean the same in a collection of ten pages and of ten thousand: one calibration holds.
"""

from __future__ import annotations

import math

ABSTAIN_BELOW = 0.5
"""Confidence under which an answer is withheld: it would be wrong more often than right."""

# Logistic regression of "the cited page is one that answers" on the two scores; data and cross-validation: eval/LOG.md.
_RELEVANCE, _AGREEMENT, _BIAS = 0.088, 2.823, -1.978


def confidence(relevance: float, agreement: float) -> float:
    """Probability (0..1) that the quoted place answers.

    `relevance`: log-odds of the sentence against the question, by a cross-encoder.
    `agreement`: mean reciprocal rank (0..1) that the retrieval legs gave to its page.
    """
    return 1 / (1 + math.exp(-(_RELEVANCE * relevance + _AGREEMENT * agreement + _BIAS)))
