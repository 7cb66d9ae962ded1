"""Whether an answer says yes or no, whatever its wording. Pure text; knows no benchmark and no model.

An answer says so by a word of its own (yes, nein, 没有) or by a statement that takes the question up: "There is no dog
on the sofa" answers "Is there a dog in the image?", and "There is a cat" does not. What cannot be read is None, never
a guess; who scores it decides what that costs.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

from mmrag.text import is_mostly_cjk

YesNo = Literal["yes", "no"]

_YES = "yes yeah yep yup ja oui sí sì sim да tak はい ええ うん 네 예 نعم"
_NO = "no nope nah nein nee non não нет nie いいえ いえ 아니요 아니오 아뇨 لا"
# Words that open other sentences too ("True colours …", French and English "si"): only when nothing follows at once.
_YES_ALONE = "correct true affirmative indeed absolutely definitely si y"
_NO_ALONE = "incorrect false negative wrong not none n"
_CJK_YES = "是的|是啊|没错|不错|对的|正确|有的|可以看到|能看到|(?:对|有|是)(?=[\\s,。!.;:]|$)"
_CJK_NO = "不是|没有|并没有|并不|不对|不存在|看不到|否(?!则)|错误|(?:不|没|无)(?=[\\s,。!.;:]|$)"


def _any_of(words: str) -> str:
    return "|".join(map(re.escape, words.split()))


_END = r"(?![\w-]|'\w)"
_ALONE = r"(?=\s*(?:[,.!;:)]|$))"
_OPENING_NO = re.compile(
    rf"(?:(?:{_any_of(_NO)}){_END}|(?:{_any_of(_NO_ALONE)}){_ALONE}|{_CJK_NO}"
    r"|(?:definitely|absolutely|certainly|probably|of course) not\b|not (?:really|at all|quite|true|correct|right)\b"
    r"|i (?:do not|don't) think so\b)",
    re.IGNORECASE,
)
_OPENING_YES = re.compile(
    rf"(?:(?:{_any_of(_YES)}){_END}|(?:{_any_of(_YES_ALONE)}){_ALONE}|{_CJK_YES}|i (?:think|believe) so\b)",
    re.IGNORECASE,
)
# What may stand before the word that decides.
_PREAMBLE = re.compile(
    r"(?:(?:so|therefore|thus|hence|well|hm+|um|oh|ok|okay|and|but|then|overall|finally|actually|unfortunately"
    r"|(?:that|this|it|the (?:statement|claim))(?:'s| is)(?: a)?"
    r"|in (?:short|summary|conclusion)|i (?:would|'d) say|i'd say|i think|i believe|答|因此|所以"
    r"|(?:based on|according to|in|from) [^,]{1,80}(?=,))\b[\s,:]*"
    r"|\W+|\d+[.)]\s)+",
    re.IGNORECASE,
)
_I_THINK_SO = re.compile(r"i (?:think|believe) so\b", re.IGNORECASE)
_ECHOED_CHOICE = re.compile(r"\b(?:yes\s*(?:/|or)\s*no|no\s*(?:/|or)\s*yes)\b|是或否|是还是否", re.IGNORECASE)
_NO_VERDICT = re.compile(
    r"(?:no (?:doubt|question|wonder|problem|worries|matter|idea|clue|way|information|answer|one can|sé|se puede|puedo)"
    r"|yes and no)\b"
    r"|不过|无论",
    re.IGNORECASE,
)
_NO_DOUBT = re.compile(r"\bno (?:doubt|question|wonder|problem|worries)\b|毫?无疑问?", re.IGNORECASE)
_EXPLICIT = re.compile(
    r"(?:\b(?:answer|verdict|conclusion|response)(?:\s+to\s+[^.:]{1,80}?)?[\s'\"]*(?:is|would be|should be|:|=)+"
    r"|答案(?:应该)?(?:是|为|:)+|回答(?:是|为|:)+|antwort(?: ist|:)+|réponse(?: est|:)+|respuesta(?: es|:)+|\\boxed\{)"
    r"[\s\"'(:]*",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\bnot (?:sure|certain|clear|possible|enough)\b"
    r"|\b(?:unsure|uncertain|unclear|might|maybe|perhaps|possibly|depends)\b"
    r"|(?:can't|cannot|can not|could not|couldn't|unable to|hard to|difficult to|impossible to) (?:\w+ly )?"
    r"(?:tell|say|determine|confirm|know|answer|judge|verify|identify|assist|help|provide)"
    r"|(?:do not|don't) (?:know|have)|no (?:idea|clue|way|information)"
    r"|无法|不确定|不清楚|不知道|难以|不能确定|不能判断|可能|也许|或许|不好说|[わ分]かりません|判断できません|不明",
    re.IGNORECASE,
)
_REASONING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_SENTENCE = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')]))\s+|(?<=。)|\n+")
_CLAUSE = re.compile(
    r"(?=\b(?:but|however|although|though|whereas|while|yet|instead|except|so)\b|但是?|不过)|[;:]"
    r"|,\s*(?=not\b|nor\b|rather\b)"
)


def read_yes_no(answer: str, question: str | None = "") -> YesNo | None:
    """`question` is needed for answers that say neither yes nor no, but state something of what was asked.

    None: such answers are not read. Of a question that denies something, "it did not fall", they would be misread.
    """
    states, question = question is not None, question or ""
    question = unicodedata.normalize("NFKC", question)
    text = _REASONING.sub(" ", unicodedata.normalize("NFKC", answer)).translate(_QUOTES)
    if (said := _in_json(text, question)) is not None:
        return said[0]
    text = _ECHOED_CHOICE.sub(" ", re.sub(r"</?\w+>|[*_`~#>|]+", " ", text))
    for place in reversed(list(_EXPLICIT.finditer(text))):
        if verdict := _opening(text[place.end() :]):
            return verdict
    sentences = [sentence.strip() for sentence in _SENTENCE.split(text) if sentence.strip(" \t-•.,")]
    opened = [verdict for sentence in sentences for verdict in _openings(sentence)]
    bare = {_opening(sentence) for sentence in sentences if len(_WORD.findall(sentence)) == 1} - {None}
    if len(bare) > 1:  # a list of yes and no answers some other question
        return None
    if sentences and (first := _opening(sentences[0])):
        return first
    if opened:
        return opened[0] if len(set(opened)) == 1 else None
    stated = (_stated(sentence, question) for sentence in sentences if states)
    return next((verdict for verdict in stated if verdict), None)


_QUOTES = {0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"', 0x200B: None, 0xFEFF: None, 0x3002: "。", 0x300C: '"'}


def _in_json(text: str, question: str) -> tuple[YesNo | None] | None:
    """What a JSON value says, in a tuple; None where the answer is none."""
    inside = re.sub(r"^\s*```\w*|```\s*$", "", text.strip()).strip()
    if inside[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(inside)
    except (ValueError, RecursionError):
        return None
    found = {_value_says(item, question) for item in _answers_in(value)} - {None}
    return (found.pop() if len(found) == 1 else None,)


def _answers_in(value: Any) -> list[Any]:
    if isinstance(value, dict):
        named = [item for key, item in value.items() if key.lower() in _ANSWER_KEYS]
        return named[:1] or list(value.values())
    return list(value) if isinstance(value, list) else [value]


_ANSWER_KEYS = {"answer", "response", "result", "prediction", "verdict", "label", "output", "final_answer", "答案"}


def _value_says(value: Any, question: str) -> YesNo | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return read_yes_no(value, question) if isinstance(value, str) and value[:1] not in "{[" else None


def _openings(sentence: str) -> Iterator[YesNo]:
    """What the sentence opens with, or a clause after a turn: ", so yes." but not ", but no cat"."""
    first, *others = _CLAUSE.split(sentence)
    for clause in [first, *(clause for clause in others if _SHORT.match(clause))]:
        if verdict := _opening(clause):
            yield verdict


_SHORT = re.compile(r"\W*(?:\w+\W+)?\w+\s*(?:[,.!]|$)")


def _opening(text: str) -> YesNo | None:
    text = text.lstrip()
    if (preamble := _PREAMBLE.match(text)) and not _I_THINK_SO.match(text):
        text = text[preamble.end() :]
    if _NO_VERDICT.match(text):
        return None
    if _OPENING_NO.match(text):
        # "No dogs, only cats" for "Is there a cat?" is the price of reading "No dog" as no.
        return "no"
    return "yes" if _OPENING_YES.match(text) else None


# -- statements ------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")
# What a question or answer about a picture says besides what it is about.
_FILLER = frozenset(
    """a about according all also am an and any anything anywhere appear appears are as at be been being by can clearly
    could contain contains containing depict depicted depicts did display displayed displays do does doing evident
    feature features features following for from given had has have here i image images in include includes
    including indeed indicate indicates is isn't aren't doesn't don't didn't can't cannot couldn't wasn't weren't it
    its like locate located look looks me my no none not nothing never of on one or our out photo photograph picture
    picture's present provided scene see seem seems seen show showing shown shows so some someone something that the
    their them there there's these they this those to view visible was we were which with within without would you
    your absent missing lack lacks neither nor""".split()
)
_VERB_NEGATION = re.compile(r"\b(?:not|never|cannot|neither|nor)\b|n't\b", re.IGNORECASE)
_NOUN_NEGATION = re.compile(r"\b(?:no|without|lacks?|none|absent|missing)\b", re.IGNORECASE)
_REACH = 4
"""Words after "no" or "without" among which stands what is not there."""
_ELLIPSIS = re.compile(r"\b(?:is|are|does|do|was|were|has|have|can|see)(?:n't)?\b", re.IGNORECASE)
_EXISTS = re.compile(
    r"\bthere(?:'s| is| are| was| were| appears? to be| seems? to be)\b"
    r"|\b(?:see|shows?|contains?|includes?|depicts?|has|visible|present)\b",
    re.IGNORECASE,
)
# In other languages than the question's, where no word of it can be taken up.
_ELSEWHERE_NO = re.compile(
    r"(?:es gibt|ich sehe|ich kann) kein|il n'y a (?:pas|aucun)|(?:on|je) ne vois? (?:pas|aucun)"
)
_ELSEWHERE_YES = re.compile(r"es gibt (?:ein|zwei|mehrere)|il y a (?:un|des|deux|plusieurs)|hay (?:un|dos|vari)|há um")
_CJK_NOT = re.compile(
    "没有|没|無|无|不存在|不是|不在|并未|看不到|看不见|不包含|不可见|不正确|ません|ないです|ない$|いない$"
)
_CJK_WHETHER = re.compile("是否|是不是|有没有|有無|有无")
_CJK_IS = re.compile("有|存在|是|看到|可见|显示|包含|います|あります|見えます|写って")
_CJK_FILLER = frozenset(
    "图圖片像照画画面中里裡这這张張幅上有没沒是否存在吗嗎呢的一个個只条请請问問,.?!。 ?はがにのますかありいせん写真画像"
)


def _stated(sentence: str, question: str) -> YesNo | None:
    """By its clauses, or where none takes up all of the question, as a whole."""
    sentence = _NO_DOUBT.sub(" ", sentence)
    parts = [part for part in _CLAUSE.split(sentence) if part.strip()]
    for part in [*parts, *([sentence] if len(parts) > 1 else [])]:
        if not _UNSURE.search(part) and (verdict := _clause_says(part, question)):
            return verdict
    return None


def _clause_says(clause: str, question: str) -> YesNo | None:
    if is_mostly_cjk(clause):
        return _cjk_says(clause, question)
    low = clause.lower().strip(" ,-•")
    if _ELSEWHERE_NO.match(low):
        return "no"
    if _ELSEWHERE_YES.match(low):
        return "yes"
    said, asked = _content(clause), _content(_core(question))
    if not said:  # "There isn't." "I can't see any."
        negated = bool(_VERB_NEGATION.search(clause) or _NOUN_NEGATION.search(clause))
        return ("no" if negated else "yes") if _ELLIPSIS.search(clause) else None
    if not asked <= said or (not question and not _EXISTS.search(clause)):
        return None
    if _VERB_NEGATION.search(clause):
        return "no"
    if negation := _NOUN_NEGATION.search(clause):
        reached = _content(" ".join(clause[negation.end() :].split()[:_REACH]))
        return "no" if reached & asked or not asked or negation[0].lower() in ("absent", "missing", "none") else None
    return "yes"


def _cjk_says(clause: str, question: str) -> YesNo | None:
    if is_mostly_cjk(question) and not set(question) - _CJK_FILLER <= set(clause):
        return None
    clause = _CJK_WHETHER.sub("", clause)
    if _CJK_NOT.search(clause):
        return "no"
    return "yes" if _CJK_IS.search(clause) else None


def _core(question: str) -> str:
    """The question without what it says of the answer's form and of where to look."""
    question = re.sub(r"(?i)(?:please )?answer (?:with |by |in )?[^.?]*$", "", question.strip())
    last = [part for part in re.split(r"(?<=[.?!])\s+", question) if part.strip()]
    return re.sub(r"(?i)^(?:according to|based on|in|from) [^,]*,", "", last[-1]) if last else ""


def _content(text: str) -> frozenset[str]:
    words = [word.lower() for word in _WORD.findall(text.translate(_QUOTES))]
    return frozenset(_stem(word) for word in words if word not in _FILLER)


def _stem(word: str) -> str:
    """Singular and plural alike; a verb with and without its ending."""
    for ending, least in (("ies", 3), ("es", 3), ("s", 3), ("ing", 4), ("ed", 4)):
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            return word[: -len(ending)].rstrip("ey")
    return word.rstrip("ey") if len(word) > 3 else word
