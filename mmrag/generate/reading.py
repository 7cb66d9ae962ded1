"""What a model's reply says: its sentences, and the marks and boxes that each of them cites.

Plain functions on text. Understands citations by number in the ways that models write them, and the boxes that
Qwen2-VL (thousandths of the image) and Qwen2.5-VL (pixels) draw. Knows no page and no region.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mmrag.prompts import NO_ANSWER
from mmrag.text import sentence_spans

# Three digits at most: no page has a thousand marks, and [2024] is a year.
_NUMBERS = r"\d{1,3}(?:\s*(?:[,，、;；&]|and|和|[-–—])\s*\d{1,3})*"
_WORDS = r"(?:\^|(?:marks?|regions?|refs?|标记|区域)\s*#?)?"
_MARKS = re.compile(rf"[\[［【]\s*{_WORDS}\s*({_NUMBERS})\s*[\]］】]", re.IGNORECASE)
_RANGE = re.compile(r"(\d+)\s*[-–—]\s*(\d+)")
_LONGEST_RANGE = 20

_NUMBER = r"(-?\d{1,5}(?:\.\d+)?)"
_PAIR = rf"\({_NUMBER},{_NUMBER}\)"
_LOOSE_PAIR = rf"\s*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)\s*"
_BOXES = (
    re.compile(rf"<\|box_start\|>{_LOOSE_PAIR},{_LOOSE_PAIR}<\|box_end\|>"),
    # Servers leave the special tokens out. No spaces: "(1,200), (3,400)" are two losses.
    re.compile(rf"{_PAIR},{_PAIR}"),
    re.compile(
        r'\{?\s*"bbox_2d"\s*:\s*\['
        + r"\s*,".join([rf"\s*{_NUMBER}"] * 4)
        + r'\s*\](?:\s*,\s*"label"\s*:\s*"[^"]*")?\s*\}?'
    ),
)
_CONTROL = re.compile(r"<\|[a-z_]{1,40}\|>")

_EMPHASIS = re.compile(r"\*\*|__|`")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•#>]+|\d{1,2}[.)])\s+(?=\S)")
_FENCE = re.compile(r"^\s*```\w*\s*$")


class Sentence(NamedTuple):
    """One sentence of a reply without its citations."""

    text: str
    marks: tuple[int, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    """Left, top, right, bottom as the model wrote them."""


class _Cited(NamedTuple):
    at: int
    """Where it stood in the text from which it was taken."""
    marks: tuple[int, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    def of(self, sentence: Sentence) -> Sentence:
        """The sentence with this citation."""
        marks, boxes = (*sentence.marks, *self.marks), (*sentence.boxes, *self.boxes)
        return sentence._replace(marks=tuple(dict.fromkeys(marks)), boxes=tuple(dict.fromkeys(boxes)))


def read_reply(reply: str) -> list[Sentence]:
    """The sentences of a reply, in its order; empty when it has no words."""
    found: list[Sentence] = []
    waiting: list[_Cited] = []  # citations on lines of their own before the first sentence
    for line in reply.splitlines():
        text, cited = _taken_out("" if _FENCE.match(line) else line)
        sentences = _sentences(text, cited)
        if sentences:
            for citation in waiting:
                sentences[0] = citation.of(sentences[0])
            found, waiting = found + sentences, []
        elif found:
            for citation in cited:
                found[-1] = citation.of(found[-1])
        else:
            waiting += cited
    return found


def says_no_answer(reply: str) -> bool:
    """Whether the reply is what a model was told to say when the pages do not answer."""
    words = re.sub(r"[\W_]+", " ", _MARKS.sub(" ", reply)).strip().casefold()
    return words == NO_ANSWER.casefold()


def _sentences(text: str, cited: list[_Cited]) -> list[Sentence]:
    """The sentences of one line, each with the citations in it and after it."""
    bare = _LIST_ITEM.sub("", text)
    shift = len(text) - len(bare)
    spans = [span for span in sentence_spans(bare) if re.search(r"\w", bare[span.start : span.end])]
    found = [Sentence(bare[span.start : span.end], (), ()) for span in spans]
    # A line that begins with a citation has them all before their sentences.
    leads = bool(cited) and cited[0].at <= shift
    for citation in cited if found else ():
        before = [i for i, span in enumerate(spans) if span.start < citation.at - shift] or [0]
        after = [i for i, span in enumerate(spans) if span.end > citation.at - shift] or before[-1:]
        place = after[0] if leads else before[-1]
        found[place] = citation.of(found[place])
    return found


def _taken_out(line: str) -> tuple[str, list[_Cited]]:
    """The line without its citations, and where they stood in what is left."""
    line = _EMPHASIS.sub("", line)
    matches = sorted(
        (match.start(), match.end(), pattern is _MARKS, match)
        for pattern in (_MARKS, *_BOXES)
        for match in pattern.finditer(line)
    )
    text, cited, end = "", [], 0
    for start, stop, is_marks, match in matches:
        if start < end:
            continue
        text = _joined(text, line[end:start])
        at = len(text.rstrip())
        cited.append(_Cited(at, marks=_marks(match[1])) if is_marks else _Cited(at, boxes=(_box(match),)))
        end = stop
    return _joined(text, line[end:]).rstrip(), cited


def _joined(text: str, rest: str) -> str:
    """`text` and `rest` with neither two spaces between them, nor one before a full stop, where a citation stood."""
    rest = _CONTROL.sub("", rest)
    if rest[:1] in " \t" and (not text or text[-1:].isspace()):
        rest = rest.lstrip()
    if rest[:1] and rest[0] in ".,;:!?。，；：！？、)":
        text = text.rstrip()
    return text + rest


def _marks(numbers: str) -> tuple[int, ...]:
    """`1, 3-5` as numbers."""
    found: list[int] = []
    for part in re.split(r"[,，、;；&]|and|和", numbers):
        if (ends := _RANGE.search(part)) and int(ends[1]) < int(ends[2]) <= int(ends[1]) + _LONGEST_RANGE:
            found += range(int(ends[1]), int(ends[2]) + 1)
        else:
            found += map(int, re.findall(r"\d+", part))
    return tuple(dict.fromkeys(found))


def _box(match: re.Match[str]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = map(float, match.groups()[-4:])
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
