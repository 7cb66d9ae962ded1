"""The figures that a text states, and whether another text states them too. Pure logic on text, English and Chinese.

Tolerates how figures are written: separators, rounding, scale words (5.2 million, 520万), words for small numbers,
brackets for minus. Knows no model and no region.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Set
from typing import NamedTuple

_SCALES = {
    "thousand": 1e3, "thousands": 1e3, "k": 1e3, "million": 1e6, "millions": 1e6, "mn": 1e6, "mio": 1e6, "m": 1e6,
    "billion": 1e9, "billions": 1e9, "bn": 1e9, "trillion": 1e12, "tn": 1e12,
    "千": 1e3, "万": 1e4, "百万": 1e6, "千万": 1e7, "亿": 1e8, "万亿": 1e12,
}  # fmt: skip
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_TENS = "thirty forty fifty sixty seventy eighty ninety".split()
_ORDINAL = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_WORDS = (
    {word: float(value) for value, word in enumerate(_SMALL)}
    | {word: 10.0 * value for value, word in enumerate(_TENS, 3)}
    | {word: float(value) for value, word in enumerate(_ORDINAL, 1)}
    | {"once": 1.0, "twice": 2.0, "double": 2.0, "triple": 3.0, "half": 0.5, "dozen": 12.0, "hundred": 100.0}
    | {"single": 1.0, "both": 2.0, "doubled": 2.0, "tripled": 3.0}
)
_CHINESE = {digit: float(value) for value, digit in enumerate("零一二三四五六七八九十")} | {"两": 2.0}
_MONTHS = "january february march april may june july august september october november december".split()

_SCALE = "|".join(sorted(_SCALES, key=len, reverse=True))
_NUMERAL = re.compile(
    rf"(?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?)(?:st|nd|rd|th)?"
    rf"(?:[\s-]?(?P<scale>{_SCALE})(?![a-z]))?"
)
_WORD = re.compile(rf"\b(?P<word>{'|'.join(_WORDS)})\b(?:[\s-](?P<scale>{_SCALE})\b)?")
_CHINESE_WORD = re.compile(rf"(?P<word>[{''.join(_CHINESE)}])(?P<scale>{_SCALE})?(?=[个家年月日次倍种项名位人条]|成)")
# Kinds of text in which figures are in thousands, millions …: a table says so once for all its cells.
_STATED_SCALE = re.compile(
    rf"(?:\b(?:in|usd|eur|rmb|cny|us)\s*|[$€£¥(]\s*|单位[：:]\s*|(?<=\s))(?P<scale>{_SCALE})(?![a-z])"
)


class Figure(NamedTuple):
    """A number that a text states."""

    value: float
    """In units: 5.2 million is 5,200,000. Without its sign: a loss of 5 and -5 and (5) are the same figure."""
    unit: float
    """What its last digit counts: 1e5 in 5.2 million."""
    text: str


def figures(text: str) -> list[Figure]:
    """All numbers, in the order of kinds: numerals, then words."""
    plain = _plain(text)
    return [*_numerals(plain), *_words(plain)]


def missing_figures(claim: str, source: str) -> list[str]:
    """What a claim states in figures and the source does not, as the claim writes it."""
    plain = _plain(source)
    held = [*_numerals(plain), *_words(plain)]
    scales = {1.0, *(_SCALES[match["scale"]] for match in _STATED_SCALE.finditer(plain))}
    wanted = figures(claim)
    return [figure.text for figure in wanted if not any(same(figure, other, scales) for other in held)]


def same(a: Figure, b: Figure, scales: Set[float] = frozenset((1.0,))) -> bool:
    """Whether they are one number, or one a rounding of the other, at one of the scales in which `b` may be meant."""
    return any(_rounds(a, Figure(b.value * scale, b.unit * scale, b.text)) for scale in scales)


def _rounds(a: Figure, b: Figure) -> bool:
    coarse, fine = max(a.unit, b.unit), min(a.unit, b.unit)
    room = 0.5 * coarse if coarse > 1.5 * fine else 0.0  # written to the same digit, they must be the same
    return abs(a.value - b.value) <= room + 1e-9 * abs(a.value)


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower()
    for number, month in enumerate(_MONTHS, 1):  # so that 2026-05-05 and 5 May 2026 are the same figures
        short = rf"\b{month[:3]}\.?(?=\s+\d)|(?<=\d )\b{month[:3]}\b"
        text = re.sub(short if month == "may" else rf"\b{month}\b|{short}", f" {number} ", text)
    return text


def _numerals(plain: str) -> Iterator[Figure]:
    for match in _NUMERAL.finditer(plain):
        digits = match["digits"].replace(",", "")
        scale = _SCALES[match["scale"]] if match["scale"] else 1.0
        decimals = len(digits.partition(".")[2])
        yield Figure(float(digits) * scale, scale / 10**decimals, match[0])


def _words(plain: str) -> Iterator[Figure]:
    for pattern, values in ((_WORD, _WORDS), (_CHINESE_WORD, _CHINESE)):
        for match in pattern.finditer(plain):
            scale = _SCALES[match["scale"]] if match["scale"] else 1.0
            yield Figure(values[match["word"]] * scale, scale, match[0])
