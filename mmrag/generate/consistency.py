"""Whether several replies say the same. Plain functions on text; knows no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from mmrag.text import query_tokens

_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_SAME_WORDS = 0.5


def most_agreed(replies: Sequence[str]) -> tuple[int, float]:
    """Which of the replies most others agree with (the first of equals), and the share (0..1] of all that do."""
    votes = [sum(agree(reply, other) for other in replies) for reply in replies]
    best = max(range(len(replies)), key=lambda i: votes[i])
    return best, votes[best] / len(replies)


def agree(a: str, b: str) -> bool:
    """Whether both name the same figures and share half of their other words; silence agrees with silence alone."""
    if not a.strip() or not b.strip():
        return a.strip() == b.strip()
    if figures(a) != figures(b):
        return False
    words, others = ({token for token in query_tokens(text) if not token[0].isdigit()} for text in (a, b))
    either = min(len(words), len(others))
    # By the shorter one: "5.2 million" and "The net profit was 5.2 million" say the same.
    return not either or len(words & others) / either >= _SAME_WORDS


def figures(text: str) -> set[str]:
    """The numbers that a text names, without thousands separators."""
    found = _FIGURE.findall(unicodedata.normalize("NFKC", text))
    return {re.sub(r",(?=\d{3}(?!\d))", "", figure) for figure in found}
