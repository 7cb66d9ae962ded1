"""Whether a passage says what a claim says: figures, names, opposites by rule, the rest by a model of words.

Plain functions on text. A claim is one sentence of an answer, a passage the words of a region with the title that it
stands under. The rules see what a model of words does not: "rose" and "fell", 950 and 940, come near each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import quantiles
from typing import NamedTuple

from mmrag.abstain import coverage, logistic
from mmrag.facts import figures, missing_figures
from mmrag.opposites import CJK_DENIALS, DENIALS, OPPOSITES
from mmrag.tables import named_row
from mmrag.text import STOPWORDS, is_mostly_cjk, query_tokens, sentence_spans, tokens
from mmrag.types import Citation, Claim, Draft, Evidence, Region, RegionKind, Support, TextSpan, Verdict

Align = Callable[[str, Sequence[str]], list[tuple[str, float]]]
"""Each word of a claim with its nearness (-1..1) to the nearest word of the passages."""
Entail = Callable[[str, str], float]
"""Probability (0..1) that a premise entails a hypothesis: an NLI model's."""

SUPPORTED_FROM, PARTLY_FROM = 0.5, 0.3
_QUOTABLE = 0.4
"""Share of a claim's words that a sentence of a region must hold to be quoted for it."""
_LOOKED_AT = 3
"""Other regions that a claim is held against when its own does not support it."""
_ALIKE = 0.6
"""Share of a claim's other words that a sentence must hold to be about the same."""

# How near the words of published claims come to their sources: mean and spread of two summaries. See eval/LOG.md.
_FIFTH, _THREE = (0.863, 0.084), (0.750, 0.094)
# Logistic regression of people's labels on what is left after the penalties; every public set weighs alike.
_THRESHOLD, _SLOPE = -0.35, 1.0
_QUOTED = re.compile(r"[\"“«「『]((?:[^\s\"“”«»「」『』]+\s){2,}[^\"“”«»「」『』]+|[\u4e00-\u9fff，、]{6,})[\"”»」』]")
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-Z][A-Za-z-]*\b")
_PREFIXES = "un in im ir il non dis de sub anti mis".split()


class Findings(NamedTuple):
    """What the rules find wrong."""

    figures: tuple[str, ...]
    quotes: tuple[str, ...]
    names: tuple[str, ...]
    opposites: tuple[tuple[str, str], ...]
    """A word of the claim, and the word of the passages that says the opposite."""
    denials: tuple[str, ...]

    @property
    def penalty(self) -> float:
        """In spreads of nearness: what is surely wrong twice as much as what may be another way of saying it."""
        surely, maybe = (self.figures, self.opposites), (self.names, self.quotes, self.denials)
        return 2.0 * sum(map(bool, surely)) + 1.0 * sum(map(bool, maybe))


def check(claim: str, passages: Sequence[str], align: Align, *, entail: Entail | None = None) -> Verdict:
    """The verdict on a claim, with its reason; `entail` decides instead of `align` where an NLI model is there."""
    passages = [passage for passage in passages if passage.strip()]
    if not passages:
        return Verdict(Support.UNCHECKED, 0.5, "The cited place has no words that could be checked.")
    findings = examine(claim, passages)
    if _is_verbatim(claim, passages) and not findings.penalty:
        return Verdict(Support.SUPPORTED, 0.99, "The words stand there.")
    words = aligned(claim, passages, align)
    sure = _entailed(claim, passages, findings, entail) if entail else _near(words, findings)
    against = _said_instead(claim, findings, passages)
    if against and (findings.figures or sure < SUPPORTED_FROM):
        return Verdict(Support.CONTRADICTED, sure, against)
    lacks = findings.figures or findings.names or findings.quotes
    if sure >= SUPPORTED_FROM and not lacks:
        return Verdict(Support.SUPPORTED, sure, "Its words and figures are there.")
    support = Support.PARTLY if sure >= PARTLY_FROM else Support.UNSUPPORTED
    return Verdict(support, sure, _reason(findings, words))


def probability(claim: str, passages: Sequence[str], align: Align, *, entail: Entail | None = None) -> float:
    """0..1 that the passages say what the claim says, with no regard to what a verdict asks for besides."""
    findings = examine(claim, passages)
    if entail:
        return _entailed(claim, passages, findings, entail)
    return _near(aligned(claim, passages, align), findings)


def _entailed(claim: str, passages: Sequence[str], findings: Findings, entail: Entail) -> float:
    return max(entail(passage, claim) for passage in passages) * (0.5 if findings.penalty else 1.0)


def _near(words: Sequence[tuple[str, float]], findings: Findings) -> float:
    return logistic(_SLOPE * (nearness(words) - findings.penalty - _THRESHOLD))


def _said_instead(claim: str, findings: Findings, passages: Sequence[str]) -> str:
    """What the sentence says that is most like the claim but for what is wrong with it; empty where none is."""
    if not (findings.figures or findings.opposites or findings.denials):
        return ""
    wrong = {*findings.denials, *(word for word, _ in findings.opposites)}
    wanted = {token for token in query_tokens(claim) if not token[0].isdigit()} - wrong
    sentences = [text[span.start : span.end] for text in passages for span in sentence_spans(text)]
    best = max(sentences, key=lambda sentence: len(wanted & set(tokens(sentence))), default="")
    if not wanted or len(wanted & set(tokens(best))) < _ALIKE * len(wanted):
        return ""
    if findings.figures and not figures(best):
        return ""
    return f"It says: “{_short(best)}”"


def _reason(findings: Findings, words: Sequence[tuple[str, float]]) -> str:
    if findings.figures:
        return f"The figure {findings.figures[0]} is not there."
    if findings.quotes:
        return f"The words “{_short(findings.quotes[0])}” are not there."
    if findings.opposites:
        return "It says “{1}” where the claim says “{0}”.".format(*findings.opposites[0])
    if findings.denials:
        return f"The claim says “{findings.denials[0]}”, and the place denies nothing."
    if findings.names:
        return f"It does not name {findings.names[0]}."
    far = [word for word, _ in sorted(words, key=lambda item: item[1]) if word not in STOPWORDS][:3]
    return f"Nothing there is like: {', '.join(far)}."


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line[:160] + ("…" if len(line) > 160 else "")


Check = Callable[[str, Sequence[str]], Verdict]
"""`check` with its models."""


def check_draft(draft: Draft, evidence: Sequence[Evidence], checker: Check) -> Draft:
    """The draft with a verdict on every claim that has none yet.

    A claim that its citations do not support is cited anew where another region of the evidence does.
    """
    if draft.abstained or all(claim.verdict for claim in draft.claims):
        return draft
    notes = list(draft.notes)
    claims: list[Claim] = []
    for claim in draft.claims:
        checked, note = _checked(claim, evidence, checker)
        notes += [note] if note else []
        claims.append(checked)
    return _of_claims(draft, claims, notes)


def without_unsupported(draft: Draft) -> Draft:
    """The draft without the claims that nothing supports; one of which nothing is left abstains."""
    wrong = [c for c in draft.claims if c.verdict and c.verdict.support in (Support.UNSUPPORTED, Support.CONTRADICTED)]
    if not wrong:
        return draft
    notes = [f"Left out, because nothing supports it: {claim.text}" for claim in wrong]
    return _of_claims(draft, [claim for claim in draft.claims if claim not in wrong], [*draft.notes, *notes])


def _of_claims(draft: Draft, claims: Sequence[Claim], notes: Sequence[str]) -> Draft:
    sure = max((claim.confidence for claim in claims), default=0.0)
    return replace(draft, claims=tuple(claims), abstained=not claims, confidence=sure, notes=tuple(notes))


def look_again(draft: Draft, look: Callable[[str, Citation], Verdict]) -> Draft:
    """The draft with what a model says that looks at the first cited region of each claim once more.

    It decides where words could not; where both say something, the less sure of them counts.
    """
    return _of_claims(draft, [_looked_at(claim, look) for claim in draft.claims], draft.notes)


def _looked_at(claim: Claim, look: Callable[[str, Citation], Verdict]) -> Claim:
    before = claim.verdict
    if not claim.citations or before is None or before.probability in (0.0, 1.0):
        return claim
    seen = look(claim.text, claim.citations[0])
    if seen.support is Support.UNCHECKED:
        return claim
    if before.support is not Support.UNCHECKED and before.probability <= seen.probability:
        return claim
    return replace(claim, verdict=seen, confidence=claim.confidence / before.probability * seen.probability)


def _checked(claim: Claim, evidence: Sequence[Evidence], checker: Check) -> tuple[Claim, str]:
    if claim.verdict:
        return claim, ""
    cited = {citation.region for citation in claim.citations}
    # A picture without words is not checked by its caption: that names what it shows, and the claim says more.
    worded = [item for item in evidence if item.region.id in cited and item.region.text.strip()]
    verdict = checker(claim.text, [passage(item) for item in worded])
    if cited and verdict.support in (Support.SUPPORTED, Support.UNCHECKED):
        return _with(claim, verdict), ""
    for item in _likeliest(claim.text, [item for item in evidence if item.region.id not in cited]):
        other = checker(claim.text, [passage(item)])
        if other.support is Support.SUPPORTED:
            moved = replace(claim, citations=(item.cite(best_span(claim.text, item)),))
            where = f"{item.document.name}, page {item.page}"
            said = "cited another region" if cited else "cited nothing"
            return _with(moved, other), f"The model {said} for “{_short(claim.text)}”: {where} supports it."
    if not cited:
        verdict = Verdict(Support.UNSUPPORTED, 0.0, "It cites nothing, and no region that was looked at supports it.")
    return _with(claim, verdict), ""


def _with(claim: Claim, verdict: Verdict) -> Claim:
    return replace(claim, verdict=verdict, confidence=claim.confidence * verdict.probability)


def passage(item: Evidence) -> str:
    """The words of a region, under the titles that say what it is about."""
    return "\n".join(filter(None, (item.document.title, item.chunk.context, item.region.text)))


def _likeliest(claim: str, items: Sequence[Evidence]) -> list[Evidence]:
    """The regions that hold most of a claim's words: those that are worth a look."""
    wanted = set(query_tokens(claim))
    shares = [len(wanted & set(tokens(passage(item)))) for item in items]
    order = sorted(range(len(items)), key=lambda i: -shares[i])
    return [items[i] for i in order[:_LOOKED_AT] if shares[i] >= 0.5 * len(wanted)]


def examine(claim: str, passages: Sequence[str]) -> Findings:
    source = "\n".join(passages)
    held = set(tokens(source))
    return Findings(
        tuple(missing_figures(claim, source)),
        tuple(quote for quote in _QUOTED.findall(claim) if not _holds(source, quote)),
        tuple(name for name in _NAME.findall(claim) if not set(tokens(name)) <= held and name.lower() not in STOPWORDS),
        tuple(_opposites(claim, source)),
        tuple(_denials(claim, source)),
    )


def aligned(claim: str, passages: Sequence[str], align: Align) -> list[tuple[str, float]]:
    """Words of a claim and their nearness; in Chinese, pairs of characters that are there or not."""
    if is_mostly_cjk(claim):
        held = set(tokens("\n".join(passages)))
        return [(token, 1.0 if token in held else 0.6) for token in query_tokens(claim)]
    # Figures are looked at by rule, and a model of words cuts them to pieces that it cannot tell apart.
    return [(word, near) for word, near in align(claim, passages) if re.search(r"[^\W\d]", word)]


def nearness(words: Sequence[tuple[str, float]]) -> float:
    """In spreads above the mean of published claims: the fifth of the words that is least near, and the last three."""
    near = sorted(value for _, value in words) or [-1.0]
    fifth = quantiles(near, n=5, method="inclusive")[0] if len(near) > 1 else near[0]
    three = sum(near[:3]) / len(near[:3])
    return 0.5 * (fifth - _FIFTH[0]) / _FIFTH[1] + 0.5 * (three - _THREE[0]) / _THREE[1]


def _holds(source: str, quote: str) -> bool:
    return "".join(tokens(quote)) in "".join(tokens(source))


def _is_verbatim(claim: str, passages: Sequence[str]) -> bool:
    said = tokens(claim)
    return any(set(said) <= set(tokens(passage)) and _holds(passage, claim) for passage in passages)


def _opposites(claim: str, source: str) -> list[tuple[str, str]]:
    """Words that the passages do not use, whose opposites they do."""
    said, held = (dict.fromkeys(re.findall(r"[a-z]+", text.lower())) for text in (claim, source))
    found = [(word, other) for word in said if word not in held for other in OPPOSITES.get(word, ()) if other in held]
    found += [(word, other) for word in said if word not in held for other in _prefixed(word, held)]
    chinese = (word for word in OPPOSITES if not word.isascii() and word in claim and word not in source)
    found += [(word, other) for word in chinese for other in OPPOSITES[word] if other in source]
    return found


def _prefixed(word: str, held: Sequence[str] | dict[str, None]) -> list[str]:
    """`unsuitable` for `suitable` and the other way round."""
    if len(word) < 4:
        return []
    bare = [word.removeprefix(prefix) for prefix in _PREFIXES if word.startswith(prefix)]
    return [w for w in (*(b for b in bare if len(b) > 3), *(prefix + word for prefix in _PREFIXES)) if w in held]


def _denials(claim: str, source: str) -> list[str]:
    """What denies in a claim, where the sentences of the passages that are most like it deny nothing."""
    if is_mostly_cjk(claim):
        said = CJK_DENIALS.findall(claim)
    else:
        said = [word for word in re.findall(r"n't\b|[a-z]+", claim.lower()) if word in DENIALS]
    if not said:
        return []
    wanted = set(query_tokens(claim))
    sentences = [source[span.start : span.end] for span in sentence_spans(source)]
    like = sorted(sentences, key=lambda sentence: -len(wanted & set(tokens(sentence))))[:2]
    return [] if any(_denies(sentence) for sentence in like) else said


def _denies(text: str) -> bool:
    words = re.findall(r"n't\b|[a-z]+", text.lower())
    return bool(DENIALS.intersection(words)) or bool(CJK_DENIALS.search(text))


def best_span(claim: str, item: Evidence) -> TextSpan | None:
    """The sentence or row of a region that says most of what a claim says; None where none says much of it."""
    region = item.region
    held = {span: _held(claim, _read_alone(region, span)) for span in region.sentences[region.header_rows :]}
    best = max(held, key=lambda span: held[span], default=None)
    return best if best and held[best] >= _QUOTABLE else None


def _read_alone(region: Region, span: TextSpan) -> str:
    return named_row(region, span) if region.kind is RegionKind.TABLE else region.text[span.start : span.end]


def _held(claim: str, text: str) -> float:
    """The share (0..1) of a claim's words that a text holds; a figure counts as much as three other words."""
    return coverage(text, {token: 3.0 if token[0].isdigit() else 1.0 for token in query_tokens(claim)})
