"""What a question says about where to look: page numbers, "Figure 5". Pure logic on text, English and Chinese."""

from __future__ import annotations

import re
from typing import NamedTuple

_CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_VALUES = {word: i for words in (_CARDINALS, _ORDINALS, "一二三四五六七八九十") for i, word in enumerate(words, 1)}

_NUMBER = rf"(?:\d{{1,4}}|{'|'.join(_CARDINALS)}|[一二三四五六七八九十])"
_BETWEEN = r"\s*(?:,|、|，|and|&|to|-|–|和|与|至|到)\s*(?:(?:and|pages?|第)\s*)*"
_LIST = rf"{_NUMBER}(?:{_BETWEEN}{_NUMBER})*"
_RANGE = re.compile(rf"({_NUMBER})\s*(?:to|-|–|至|到)\s*(?:(?:pages?|第)\s*)?({_NUMBER})", re.IGNORECASE)
_MAX_RANGE = 50

_FIXED = (
    (re.compile(r"\b(?:second[ -](?:to[ -])?last|penultimate)(?:\s+(?:page|slide))?\b|倒数第二页", re.IGNORECASE), -2),
    (re.compile(r"\blast\s+(?:page|slide)\b|最后一页", re.IGNORECASE), -1),
    (re.compile(r"\bcover(?:\s+page)?\b|\bfront\s+page\b|封面|首页", re.IGNORECASE), 1),
)
_LISTED = (
    re.compile(rf"\b(?:pages?|slides?|pp\.)\s+(?:number\s+|no\.\s*)?({_LIST})\b", re.IGNORECASE),
    re.compile(rf"\b({'|'.join(_ORDINALS)})\s+(?:page|slide)\b", re.IGNORECASE),
    re.compile(rf"第\s*({_LIST})\s*页"),
)


_LABEL_KINDS = {
    "figure": r"figures?|figs?\.?|图",
    "table": r"tables?|tabs?\.|表",
    "chart": r"charts?",
    "exhibit": r"exhibits?",
    "appendix": r"appendix|appendices|annex|附录",
}
_LABEL_ID = r"(?:\d{1,3}(?:[.-]\d{1,3})*|[IVX]+|[A-Z](?:\.?\d{1,3})*)(?![A-Za-z]{2}|\d)"
_NOT_IN_A_WORD = r"(?<![^\W\u2e80-\u9fff])"  # Chinese has no spaces before its words
_LABELS = {
    kind: re.compile(rf"{_NOT_IN_A_WORD}(?i:{words})\s*({_LABEL_ID}(?:{_BETWEEN}(?:(?i:{words})\s*)?{_LABEL_ID})*)")
    for kind, words in _LABEL_KINDS.items()
}


class PageReference(NamedTuple):
    """Pages that a question names (negative ones count from the end), and the question without them."""

    numbers: tuple[int, ...]
    rest: str


def page_reference(question: str) -> PageReference:
    numbers: dict[int, None] = {}
    rest = question
    for pattern, number in _FIXED:
        if pattern.search(rest):
            numbers[number] = None
            rest = pattern.sub(" ", rest)
    for pattern in _LISTED:
        for match in pattern.finditer(rest):
            numbers.update(dict.fromkeys(_numbers(match[1])))
        rest = pattern.sub(" ", rest)
    return PageReference(tuple(n for n in numbers if n != 0), " ".join(rest.split()) or question)


class Place(NamedTuple):
    """Where a text names a page, figure, table …: `kind` is what it names."""

    kind: str
    start: int
    end: int


def places(text: str) -> list[Place]:
    patterns = [("page", pattern) for pattern, _ in _FIXED] + [("page", pattern) for pattern in _LISTED]
    found = [(kind, match) for kind, pattern in [*patterns, *_LABELS.items()] for match in pattern.finditer(text)]
    return sorted((Place(kind, *match.span()) for kind, match in found), key=lambda place: place.start)


def labels(text: str) -> list[str]:
    """Figures, tables, appendices … that a text names: `Figs. 2 and 3a` are `figure 2` and `figure 3`."""
    return [
        f"{kind} {name}"
        for kind, pattern in _LABELS.items()
        for match in pattern.finditer(text)
        for name in re.findall(_LABEL_ID, match[1])
    ]


def leading_label(text: str) -> str | None:
    """The label that a caption or title begins with: `Figure 5. Sales` is `figure 5`."""
    for kind, pattern in _LABELS.items():
        if match := pattern.match(text.lstrip()):
            return f"{kind} {re.findall(_LABEL_ID, match[1])[0]}"
    return None


def _numbers(text: str) -> list[int]:
    """`15 and 16`, `3-5` (a range, when it rises) or `two` as numbers."""
    for first, last in ((_value(m[1]), _value(m[2])) for m in _RANGE.finditer(text)):
        if first < last <= first + _MAX_RANGE:
            return list(range(first, last + 1))
    return [_value(word) for word in re.findall(rf"{_NUMBER}|{'|'.join(_ORDINALS)}", text, re.IGNORECASE)]


def _value(word: str) -> int:
    return int(word) if word.isdigit() else _VALUES[word.lower()]
