"""True claims made from a store's own sentences and rows, and the same tampered with: what does the verifier let pass?

A true claim says what one region says, with its figures written another way or a phrase before it. Tampered, a figure
is another one, a name is another one of the same document, or the citation is moved to another page. Needs no labels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmrag.facts import figures, missing_figures
from mmrag.index import Index
from mmrag.tables import named_row
from mmrag.text import is_mostly_cjk, tokens
from mmrag.types import Region, RegionKind, Support
from mmrag.verify import Check

KINDS = ("true", "figure", "name", "citation")
_MIN_TOKENS, _MAX_TOKENS = 8, 60
_SAID = re.compile(r"\d[\d,]*(?:\.\d+)?")
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-Z][a-z]{3,}\b")
_OPENINGS = ("", "", "According to the document, ", "The report says: ")


class Tampered(NamedTuple):
    """A claim, the words of the region that it cites, and what was done to it."""

    kind: str
    claim: str
    passage: str
    document: str
    page: int


class _Sentence(NamedTuple):
    text: str
    passage: str
    document: str
    page: int


def tampered_claims(index: Index, *, count: int, seed: int = 0) -> list[Tampered]:
    """`count` true claims, drawn at random, and each of the ways to tamper with them that it has room for."""
    rng = random.Random(seed)  # noqa: S311  # a sample, not a secret
    sentences = list(_sentences(index))
    rng.shuffle(sentences)
    names = {document.id: _names(sentences, document.id) for document in index.documents()}
    found: list[Tampered] = []
    for sentence in sentences[:count]:
        claim = _reworded(sentence.text, rng)
        place = sentence.document, sentence.page
        found.append(Tampered("true", claim, sentence.passage, *place))
        if other := _other_figure(claim, sentence.passage, rng):
            found.append(Tampered("figure", other, sentence.passage, *place))
        if other := _other_name(claim, sentence.passage, names[sentence.document], rng):
            found.append(Tampered("name", other, sentence.passage, *place))
        elsewhere = [s for s in rng.sample(sentences, min(20, len(sentences))) if _is_elsewhere(s, sentence)]
        if elsewhere:
            found.append(Tampered("citation", claim, elsewhere[0].passage, *place))
    return found


def _sentences(index: Index) -> Iterator[_Sentence]:
    for document in index.documents():
        for number in range(1, document.page_count + 1):
            page = index.page(document.id, number)
            for region in page.regions if page else ():
                captions = {other.id: other.text for other in page.regions} if page else {}
                passage = "\n".join(filter(None, (document.title, captions.get(region.caption_id or ""), region.text)))
                for text in _readable(region):
                    yield _Sentence(text, passage, document.id, number)


def _readable(region: Region) -> Iterator[str]:
    if region.kind not in (RegionKind.TEXT, RegionKind.LIST_ITEM, RegionKind.TABLE):
        return
    for span in region.sentences[region.header_rows :]:
        is_row = region.kind is RegionKind.TABLE
        text = named_row(region, span) if is_row else region.text[span.start : span.end]
        if _MIN_TOKENS <= len(tokens(text)) <= _MAX_TOKENS:
            yield " ".join(text.split())


def _reworded(text: str, rng: random.Random) -> str:
    """The same said a little otherwise: thousands with or without commas, percent as a word, a phrase before it."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text) if rng.random() < 0.5 else text
    text = re.sub(r"(?<=\d)\s?%", " percent", text) if rng.random() < 0.5 else text
    return text if is_mostly_cjk(text) else rng.choice(_OPENINGS) + text


def _other_figure(claim: str, passage: str, rng: random.Random) -> str:
    """With one digit of one figure changed, so that the passage does not state it; empty where there is none."""
    places = [match for match in _SAID.finditer(claim) if len(re.sub(r"\D", "", match[0])) > 1]
    rng.shuffle(places)
    for match in places:
        digits = [i for i, letter in enumerate(match[0]) if letter.isdigit()]
        at = rng.choice(digits)
        new = match[0][:at] + str((int(match[0][at]) + rng.randint(1, 9)) % 10) + match[0][at + 1 :]
        if new[0] != "0" and missing_figures(new, passage) and figures(new):
            return claim[: match.start()] + new + claim[match.end() :]
    return ""


def _names(sentences: Sequence[_Sentence], document: str) -> list[str]:
    return sorted({name for s in sentences if s.document == document for name in _NAME.findall(s.text)})


def _other_name(claim: str, passage: str, names: Sequence[str], rng: random.Random) -> str:
    places = list(_NAME.finditer(claim))
    others = [name for name in names if name.lower() not in passage.lower()]
    if not places or not others or is_mostly_cjk(claim):
        return ""
    match = rng.choice(places)
    return claim[: match.start()] + rng.choice(others) + claim[match.end() :]


def _is_elsewhere(one: _Sentence, other: _Sentence) -> bool:
    return (one.document, one.page) != (other.document, other.page) and other.text not in one.passage


class TamperReport(NamedTuple):
    counts: dict[str, tuple[int, int]]
    """By kind: how many were judged rightly, of how many. True claims are to be supported, all others not."""
    wrong: tuple[tuple[Tampered, str], ...]
    """What was judged wrongly, with the verifier's reason."""


def evaluate_tampering(items: Sequence[Tampered], check: Check) -> TamperReport:
    counts = dict.fromkeys(KINDS, (0, 0))
    wrong = []
    for item in items:
        verdict = check(item.claim, [item.passage])
        is_right = (verdict.support is Support.SUPPORTED) == (item.kind == "true")
        right, of = counts[item.kind]
        counts[item.kind] = right + is_right, of + 1
        if not is_right:
            wrong.append((item, verdict.reason))
    return TamperReport(counts, tuple(wrong))
