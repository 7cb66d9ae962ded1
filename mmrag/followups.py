"""A follow-up question of a conversation, said so that it stands alone. Plain rules for English and Chinese.

"And in 2023?" asks for the year before's question with another year. A question that says all that it asks comes back
unchanged, and so does one in doubt: a needless change ruins the answer. Knows no model and no document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from mmrag.slots import TIMES, Slot, exchange, slots
from mmrag.text import STOPWORDS, is_mostly_cjk, tokens

_REMEMBERED = 6
"""Questions of a conversation that are looked at: nobody points further back."""
_LONGEST = 200
"""Characters: who writes more says what he means."""
_FEW_WORDS = 4
"""Content words of what still counts as half a sentence."""

_OPENER = re.compile(
    r"(?:(?:and|but|or|so|then|also)\b[\s,]*)*"
    r"(?:(?:what|how) about\b|(?:the )?same (?:for|in|of|with)\b)?",
    re.IGNORECASE,
)
_CJK_OPENER = re.compile("(?:那么|那(?!曲)|而(?!且)|还有|另外|再|然后)[，,]?")
_CJK_END = re.compile("呢[？?]?$")
_CJK_ASKS = re.compile("多少|什么|谁|哪|几[个家年月]|怎|吗|是否|为何|如何|何时|有没有")
_CJK_FILLERS = re.compile(
    "多少|什么|怎么样|怎样|如何|是谁|哪里|情况|分别|各?是|[的在呢吗那么则又了为有就而它其吧和与或]|[，,。？?！! ]"
)

_QUESTION_WORDS = frozenset("what who whom whose which when where why how".split())
_AUXILIARIES = frozenset(
    "is are was were do does did has have had can could will would should may might must isn't wasn't don't".split()
)
_PREPOSITIONS = frozenset(
    "in for at from on of by during to with about than like into over after before since until as between".split()
)
_IMPERATIVES = frozenset(
    "list name give show tell explain describe compare find summarize summarise count enumerate translate".split()
)
_FILLERS = (
    _QUESTION_WORDS
    | _AUXILIARIES
    | _PREPOSITIONS
    | frozenset("a an the it its they their this that these those much many value figure only just be and or s".split())
)
# Nouns that say nothing without an "of …".
_GENERIC = frozenset(
    "else total sum average percentage percent share difference reason amount unit exact exactly page pages date year "
    "please others example examples details detail source sources elaborate again".split()
)

_PRONOUNS = frozenset("it they them he she him".split())
_POSSESSIVES = frozenset("its their his her theirs hers".split())
_PERSONS = frozenset("he she him his her hers".split())
_NAMING = frozenset("the a an each every any all both two three no another my your our".split())
_JOINING = frozenset("that because when while if and or but which who than where whether so".split())
_AFTER_THOSE = frozenset("who that which with in of from whose for on having above below under".split())
_VERBS = frozenset(
    "mean include affect change compare work happen cost apply imply differ relate increase rise".split()
)
_EXPLETIVE = re.compile(
    r"\bit (?:takes?|took|is|was)(?: \w+)? (?:to|that|possible|necessary|true|clear|likely|important|allowed|legal)\b|"
    r"\b(?:is|was) it (?:possible|necessary|true|clear|likely|important|allowed|legal|safe|better|worth|required)\b|"
    r"\b(?:does|did|do|will|would|can) it take\b.*\bto\b|\bdoes it mean (?:to|that|if|when)\b|"
    r"\bwhen it comes to\b|\bwhat time is it\b",
    re.IGNORECASE,
)
_ONE = re.compile(
    r"\b(?:which ones?|the (?:first|second|third|last|other|next|previous) ones?|the (?:former|latter))\b(?! of\b)",
    re.IGNORECASE,
)
_SAME_TIME = re.compile(
    r"\b(?:that|(?<!which )the same) (?P<kind>year|quarter|month)\b(?! (?:as|that|when|in)\b)|"
    r"那一?年|同一?年|同期|当年",
    re.IGNORECASE,
)
_CJK_POINTS = re.compile(
    "(?P<of>(?<![其吉])[它他她](?!人)们?的|(?<![及与使将极尤])其(?![他中实余它次间])|(?<!应)该(?:公司|项目|企业|合同|银行|基金|产品|部门)的?)|"
    "(?P<it>(?<![其吉])[它他她](?!人)们?|(?<!一)[这那](?:家|个|项|份|些)(?:公司|企业|项目|合同|数字|金额|人|产品|问题)?)"
)
_CJK_DEICTIC = re.compile("[这那该](?:份|个|篇|张|本)?(?:报告|文件|文档|页|图|表|文章|论文|幻灯片)")

_SENTENCE = re.compile(r"[^?？]+[?？]*")
_WORD = re.compile(r"[^\W\d_][\w'’-]*|\d[\w.,%-]*")
_ABOUT = re.compile(r"(?i:(?P<ask>what|who) (?:is|are|was|were)) (?P<it>(?:(?:the|an?)\b|[A-Z])[^?,;:]*?)\s*\?*")
_CJK_ABOUT = re.compile(
    "(?P<it>[^，。？?]{2,20}?)(?:是什么|是谁|是做什么的|怎么样|的.{2,12}(?:是多少|有多少|是什么|是谁))[？?]*"
)


class Turn(NamedTuple):
    """What was asked in a conversation, and what was answered; empty where nothing was."""

    question: str
    answer: str = ""


def stand_alone(question: str, earlier: Sequence[str]) -> str:
    """The last question of a conversation, with what it leaves to the `earlier` ones; they may be rewritten or not."""
    before = ""
    for said in [*earlier[-_REMEMBERED:], question]:
        before = _completed(said, before)
    return before


def _completed(question: str, before: str) -> str:
    if not before.strip() or len(question) > _LONGEST or not re.search(r"\w", _half(question).text):
        return question
    found = _exchanged(question, before) or _pointed(question, before)
    if found is None and _says_too_little(question):
        found = _joined(question, before)
    return found or question


# -- a part that takes the place of another --------------------------------------------------------------------------


class _Half(NamedTuple):
    """A question without its "and" or "what about"."""

    text: str
    is_opened: bool
    parts: list[Slot]
    rest: list[str]
    """Words besides the parts, in lower case; characters of Chinese."""


def _half(question: str) -> _Half:
    said = " ".join(question.split())
    if is_mostly_cjk(said):
        opener = _CJK_OPENER.match(said)
        text = said[opener.end() :] if opener else said
        is_opened = opener is not None or (bool(_CJK_END.search(said)) and not _CJK_ASKS.search(said))
    else:
        opener = _OPENER.match(said)
        text = said[opener.end() :].strip() if opener else said
        is_opened = bool(opener and opener[0])
    parts = slots(text, begins=not is_opened)
    bare = text
    for part in reversed(parts):
        bare = f"{bare[: part.start]} {bare[part.end :]}"
    rest = list(_CJK_FILLERS.sub("", bare)) if is_mostly_cjk(said) else [w.lower() for w in _WORD.findall(bare)]
    return _Half(text, is_opened, parts, rest)


def _exchanged(question: str, before: str) -> str | None:
    """Where the question is hardly more than a year, a place …: the one before with that in it."""
    half = _half(question)
    if not half.parts or not _FILLERS.issuperset(half.rest) or not _is_elliptic(question, half):
        return None
    asked = _QUESTION_WORDS.intersection(half.rest) - {"what", "how", "which"}
    if asked <= set(tokens(before)) and (found := exchange(before, half.parts)):
        return found
    is_clause = bool(_AUXILIARIES.intersection(half.rest) or _CJK_ASKS.search(question))
    is_surely_half = (half.is_opened and not is_clause) or any(part.kind in TIMES for part in half.parts)
    return _joined(question, before) if is_surely_half and not _has_measure(half) else None


def _is_elliptic(question: str, half: _Half) -> bool:
    if half.is_opened:
        return True
    if is_mostly_cjk(question):
        return not _CJK_ASKS.search(question) and all(part.kind in TIMES for part in half.parts)
    if _PRONOUNS.union(_POSSESSIVES).intersection(half.rest):
        return True
    is_asked = question.rstrip().endswith("?") or half.parts[0].lead or half.parts[0].kind in TIMES
    return bool(is_asked) and not _AUXILIARIES.intersection(half.rest) and not _has_measure(half)


def _has_measure(half: _Half) -> bool:
    return any(part.kind == "measure" for part in half.parts)


# -- words that point back -------------------------------------------------------------------------------------------


def _pointed(question: str, before: str) -> str | None:
    """Where a word points at what the question does not name: that in its place, where it is surely meant."""
    if (match := _SAME_TIME.search(question)) and (time := _time_of(match, question, before)):
        return question[: match.start()] + time + question[match.end() :]
    asked = _SENTENCE.search(question)
    first = question[: asked.end()] if asked else question
    if is_mostly_cjk(question):
        return _pointed_in_chinese(question, first, before)
    if not (place := _dangling(first)) and not _ONE.search(first):
        return None
    if place and (subject := _subject(before, place[2])):
        return question[: place[0]] + subject + question[place[1] :]
    return _joined(question, before)


def _time_of(match: re.Match[str], question: str, before: str) -> str | None:
    kind = (match["kind"] or "year").lower().replace("quarter", "period")
    found = [slot for slot in slots(before) if slot.kind == kind]
    is_said = any(slot.kind == kind for slot in slots(question))
    return found[0].text if len(found) == 1 and not is_said else None


def _dangling(sentence: str) -> tuple[int, int, str] | None:
    """Where the first pronoun stands that means nothing in its sentence, and the pronoun."""
    plain = _EXPLETIVE.sub(lambda match: "#" * len(match[0]), sentence)
    words = [(match.start(), match.end(), match[0]) for match in _WORD.finditer(plain)]
    for i, (start, end, word) in enumerate(words):
        before, after = [w for _, _, w in words[:i]], [w.lower() for _, _, w in words[i + 1 :]]
        pronoun = "him" if word.lower() == "her" and not _is_noun(plain[end:]) else word.lower()
        if _points(pronoun, before, after) and not _is_named(pronoun, before):
            return None if _is_named_below(plain[end:]) else (start, end, pronoun)
    return None


def _is_named_below(rest: str) -> bool:
    """`In its report, what does Norrvik say`: who is meant comes after the comma."""
    _, comma, main = rest.partition(",")
    words = [match[0] for match in _WORD.finditer(main)]
    return bool(comma) and (any(word[0].isupper() for word in words) or not _NAMING.isdisjoint(words))


def _points(word: str, before: Sequence[str], after: Sequence[str]) -> bool:
    if word in _PRONOUNS or word in _POSSESSIVES:
        return True
    last, following = (before[-1].lower() if before else ""), (after[0] if after else "")
    is_object = not last or last in _AUXILIARIES or last in _PREPOSITIONS or last in _QUESTION_WORDS or not following
    if word == "that":
        return is_object
    if word == "those":
        return is_object and following not in _AFTER_THOSE
    stands_alone = not following or following in _AUXILIARIES | _PREPOSITIONS | _VERBS
    return word in ("this", "these") and is_object and stands_alone


def _is_named(pronoun: str, before: Sequence[str]) -> bool:
    """Whether the words before a pronoun can be what it means."""
    lower = [word.lower() for word in before]
    has_name = any(word[0].isupper() and word.lower() not in STOPWORDS for word in before[1:])
    if has_name or any(word[0].isdigit() for word in before) or _NAMING.intersection(lower):
        return True
    content = [i for i, word in enumerate(lower) if word not in STOPWORDS | _IMPERATIVES]
    if any(word in _JOINING and content and content[0] < i for i, word in enumerate(lower) if i):
        return True
    asking = next((i for i, word in enumerate(lower) if word in _AUXILIARIES), None)
    if asking is not None and any(i > asking for i in content):
        return True  # `did Anna sign it`: not surely another
    return pronoun in _POSSESSIVES and bool(content) and asking != len(lower) - 1


def _subject(before: str, pronoun: str) -> str | None:
    """What the question before is about, as the pronoun would be written out; None where that is not sure."""
    sentence = _sentences(before)[-1]
    about = _ABOUT.fullmatch(sentence)
    is_person = pronoun in _PERSONS
    if about and (about["ask"].lower() == "who") == is_person and pronoun not in ("they", "their", "them"):
        words = about["it"].split()
        subject = about["it"] if len(words) <= 8 and words[-1].lower() not in _PREPOSITIONS else None
    else:
        subject = _only_name(sentence) if is_person or pronoun in ("its", "their") else None
    if not subject or pronoun not in _POSSESSIVES:
        return subject
    return f"{subject}'" if subject.endswith("s") else f"{subject}'s"


def _is_noun(after: str) -> bool:
    """Whether what follows `her` belongs to her."""
    following = _WORD.match(after.lstrip())
    return following is not None and following[0].lower() not in _PREPOSITIONS


def _only_name(sentence: str) -> str | None:
    parts = slots(sentence)
    names = {part.text for part in parts if part.kind == "name"}
    others = any(part.kind in ("place", "acronym", "measure") for part in parts) or re.search(
        r"\bthe\b|^(?:who|which)\b", sentence, re.IGNORECASE
    )
    return names.pop() if len(names) == 1 and not others else None


def _pointed_in_chinese(question: str, first: str, before: str) -> str | None:
    match = _CJK_POINTS.search(_CJK_DEICTIC.sub(lambda m: "#" * len(m[0]), first))
    if match is None:
        return None
    lead = first[: match.start()]
    for part in reversed(slots(lead)):
        lead = lead[: part.start] + lead[part.end :]
    if len(_CJK_FILLERS.sub("", re.sub("谁|何时|为何|为什么|哪[些个年家]?|[是由对请问]", "", lead))) > 2:
        return None
    about = _CJK_ABOUT.fullmatch(_sentences(before)[-1])
    if about and not any(part.kind in (*TIMES, "measure", "number") for part in slots(about["it"])):
        is_of = match["of"] is not None
        return first[: match.start()] + about["it"] + ("的" if is_of else "") + question[match.end() :]
    return _joined(question, before)


# -- what says too little --------------------------------------------------------------------------------------------


def _says_too_little(question: str) -> bool:
    half = _half(question)
    if is_mostly_cjk(question):
        content = [char for char in half.rest if char not in "谁哪为何时候个请问怎样说明解释几"]
        return (not half.parts and not content) or (half.is_opened and not _CJK_ASKS.search(question))
    content = [word for word in half.rest if word not in STOPWORDS and word not in ("much", "many", "s")]
    is_told = bool(content) and re.search(r"\b(?:of|in|are there)\b", question)  # the total *of* something
    if not half.parts and set(content) <= _GENERIC and not is_told:
        return True
    is_clause = bool((_QUESTION_WORDS | _AUXILIARIES | _IMPERATIVES).intersection(half.rest))
    return half.is_opened and not is_clause and len(content) + len(half.parts) <= _FEW_WORDS


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE.findall(text) if part.strip()] or [text.strip()]


def _joined(question: str, before: str) -> str:
    """Both, one after the other; of more than two, the first names the subject and the last is the nearest."""
    is_chinese = is_mostly_cjk(before)
    there = _sentences(before)
    kept = there if len(there) < 3 else [there[0], there[-1]]
    ended = [part if part[-1] in "?？.。!！" else part + ("？" if is_chinese else "?") for part in kept]
    return ("" if is_chinese else " ").join([*ended, question.strip()])
