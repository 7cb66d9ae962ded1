"""How well an answer's text agrees with a gold answer: exact match, token F1, figures, ANLS. Pure logic on text.

Words are compared as SQuAD compares them, Chinese by characters, as CMRC does. A gold answer may be a list, written as
MMLongBench-Doc writes it: `['a', 'b']`. Knows no page and no region.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from mmrag.errors import require
from mmrag.facts import Figure, figures, same

ANLS_THRESHOLD = 0.5
"""Less alike than this is not alike at all."""
TOLERANCE = 0.01
"""By which share a figure may miss the gold one: published answers are often rounded on the way."""

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
# Between words these would glue them (pre-2010), inside a figure they are part of it (1,234.5).
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[.](?=\d)|(?<=\d),(?=\d{3})")
_CJK = re.compile("[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LIST_PARTS = re.compile(r"\s*(?:[;\n、；]|,(?!\d{3})|，|\band\b|(?<!\d)和)\s*")
_STATED_SCALE = re.compile(
    r"\bin\s+(?:usd?\s+|us\s*\$\s*|eur\s+|rmb\s+)?(thousands?|millions?|billions?)\b|单位[：:]?\s*(?:人民币)?(千|万|百万|亿)元"
)
_DECLINE = re.compile(
    r"\b(?:loss(?:es)?|lost|decline[ds]?|decrease[ds]?|fell|falls?|down|drop(?:s|ped)?|negative|reduc\w+|less|lower|"
    r"shortfall|minus)\b|下降|减少|亏损|降低|下跌|负"
)


def answer_tokens(text: str) -> list[str]:
    """Words without case, articles and punctuation; Chinese characters one by one."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = _CJK.sub(lambda match: f" {match[0]} ", text)
    kept = {match.start(): "" if match[0] == "," else match[0] for match in _BETWEEN_DIGITS.finditer(text)}
    plain = "".join(kept.get(i, _without_punctuation(c)) for i, c in enumerate(text))
    return _ARTICLE.sub(" ", plain).split()


def _without_punctuation(character: str) -> str:
    category = unicodedata.category(character)
    if character in "%$€£¥":
        return ""
    if category in ("Pd", "Po", "Ps", "Pe", "Pi", "Pf", "Sm") and character not in "'’.":
        return " "
    return "" if category.startswith(("P", "S")) else character


def list_items(answer: str) -> list[str]:
    """What a gold answer lists; the answer alone where it is no list."""
    if answer.strip().startswith("["):
        try:
            found = ast.literal_eval(answer.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return [answer]
        if isinstance(found, list) and found:
            return [str(item) for item in found]
    return [answer]


def exact_match(answer: str, gold: str) -> float:
    """1 where both are the same words; of a list, the same items in any order."""
    items = list_items(gold)
    if len(items) == 1:
        return float(answer_tokens(answer) == answer_tokens(items[0]))
    return float(_as_items(_split(answer)) == _as_items(items))


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of the shares of words that both have; two without words are equal."""
    ours, theirs = (Counter(answer_tokens(text)) for text in (answer, " ".join(list_items(gold))))
    if not ours or not theirs:
        return float(ours == theirs)
    common = (ours & theirs).total()
    return 2 * common / (ours.total() + theirs.total())


def token_recall(answer: str, gold: str) -> float:
    """The share of the gold answer's words that the answer has: long answers are not punished for the rest."""
    ours, theirs = (Counter(answer_tokens(text)) for text in (answer, " ".join(list_items(gold))))
    return (ours & theirs).total() / theirs.total() if theirs else float(not ours)


def anls(answer: str, gold: str) -> float:
    """1 less the edit distance by the longer text, 0 from half of it on. Of a list, as MMLongBench-Doc: as many items,
    each side sorted, the pair that agrees least."""
    items = list_items(gold)
    if len(items) == 1:
        return _similarity(answer, items[0])
    ours = _split(answer)
    if len(ours) != len(items):
        return 0.0
    return min(_similarity(a, b) for a, b in zip(sorted(ours), sorted(items), strict=True))


def _similarity(answer: str, gold: str) -> float:
    levenshtein = require("rapidfuzz.distance", extra="eval").Levenshtein
    a, b = (" ".join(unicodedata.normalize("NFKC", text).lower().split()) for text in (answer, gold))
    alike = float(levenshtein.normalized_similarity(a, b))
    return alike if alike > ANLS_THRESHOLD else 0.0


def numeric_match(answer: str, gold: str, question: str = "", *, tolerance: float = TOLERANCE) -> float | None:
    """Whether the answer states every figure of the gold one; None where that has none but the question's own.

    The same figure: rounded or not, in any scale word or currency, at the scale that the question wants ("in USD
    millions") or the answer states, as a percentage or as a share, and with the same sign, written as minus, in
    brackets or in words such as "decline".
    """
    wanted = telling_figures(gold, question)
    if not wanted:
        return None
    held, scales = figures(answer), _stated_scales(question) | _stated_scales(answer)

    def is_held(figure: Figure) -> bool:
        return any(_equal(figure, b, scales, tolerance) and _same_sign(figure, gold, b, answer) for b in held)

    return float(all(map(is_held, wanted)))


def telling_figures(gold: str, question: str = "") -> list[Figure]:
    """The figures of a gold answer that its question does not give away."""
    given = figures(question)
    return [figure for item in list_items(gold) for figure in figures(item) if not any(same(figure, g) for g in given)]


def _stated_scales(text: str) -> set[float]:
    """What the figures of a text, or of the answers to it, may count besides ones: thousands, millions …"""
    words = _STATED_SCALE.findall(unicodedata.normalize("NFKC", text).lower())
    return {1.0} | {figures(f"1 {word}")[0].value for pair in words for word in pair if word}


def _equal(a: Figure, b: Figure, scales: set[float], tolerance: float) -> bool:
    for x, y in [(a.value * scale, b.value) for scale in scales] + [(a.value, b.value * scale) for scale in scales]:
        if abs(x - y) <= tolerance * max(x, y):
            return True
    large, small = max(a.value, b.value), min(a.value, b.value)
    is_share = small < 1 and abs(large - 100 * small) <= tolerance * large  # 45 % as 0.45
    return is_share or same(a, b)


def _same_sign(a: Figure, gold: str, b: Figure, answer: str) -> bool:
    signs = _is_negative(a, gold), _is_negative(b, answer)
    return signs[0] == signs[1] or any(_DECLINE.search(text.lower()) for text in (gold, answer))


def _is_negative(figure: Figure, text: str) -> bool:
    plain, number = unicodedata.normalize("NFKC", text).lower(), re.escape(figure.text)
    minus = rf"(?<![\w%)\]])[-−–]\s?[$€£¥]?\s?{number}(?!\d)"
    bracketed = rf"[(]\s?[$€£¥]?\s?{number}\s?%?\s?[)]"
    return re.search(f"{minus}|{bracketed}", plain) is not None


def best(metric: Callable[[str, str], float | None], answer: str, golds: Sequence[str]) -> float | None:
    """The value for the gold answer that agrees most; None where the metric has none for any."""
    values = [value for gold in golds if (value := metric(answer, gold)) is not None]
    return max(values, default=None)


def _split(answer: str) -> list[str]:
    items = list_items(answer)
    return items if len(items) > 1 else [part for part in _LIST_PARTS.split(answer.strip(" .")) if part]


def _as_items(items: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(answer_tokens(item)) for item in items)
