"""The generator of the offline profile: quotes the sentences or table rows that answer, in the document's own words.

It writes nothing of its own, so it cannot invent; it can only quote the wrong line, or quote when it should be silent.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, Protocol

from mmrag.abstain import RISK, Passage, confidence, coverage, least_confidence, rarity, signals
from mmrag.render import Picture
from mmrag.tables import named_row
from mmrag.text import is_mostly_cjk
from mmrag.types import Claim, Draft, Evidence, RegionKind, Support, TextSpan, Verdict

MAX_CANDIDATES = 96
"""Sentences that the cross-encoder reads for one question; the rest fall out by word overlap."""
MAX_QUOTES = 3
KEEP_WITHIN = 1.0
"""A further sentence is quoted when its log-odds come this close to the best one's."""
_NO_WORDS = "The picture has no words that a sentence could be found by: type a question beside it."
_QUOTED = Verdict(Support.SUPPORTED, 1.0, "Quoted from the page.")
# The cross-encoder's log-odds reach from -11 to 9: word overlap is spread as wide, so that KEEP_WITHIN means the same.
_OVERLAP_SPREAD = 2.5


class Quote(NamedTuple):
    """Words of one region that answer: where they stand (`span`), and as they read alone (`text`)."""

    evidence: Evidence
    span: TextSpan
    text: str
    relevance: float
    """Log-odds that they answer the question."""

    @property
    def rank(self) -> float:
        """Relevance and the page's fused score, which say different things, weigh the same (eval/LOG.md)."""
        return self.relevance + self.evidence.score

    @property
    def passage(self) -> Passage:
        return Passage(self.evidence, self.text, self.relevance)


class PairScorer(Protocol):
    """A cross-encoder: log-odds that each passage answers the question."""

    def score(self, question: str, passages: Sequence[str]) -> list[float]: ...


class ExtractiveGenerator:
    """Ranks every sentence by a cross-encoder, or by its rare words where that cannot read the language."""

    identity = "extractive"
    sees_pictures = False

    def __init__(self, scorer: PairScorer) -> None:
        self._scorer = scorer

    def generate(
        self, question: str, evidence: Sequence[Evidence], *, risk: float = RISK, picture: Picture | None = None
    ) -> Draft:
        """A picture without a question asks for what is said where its words stand."""
        pasted = picture.words if picture and not question.strip() else ""
        asked = pasted or question
        ranked = self._rank(asked, evidence, by_words=bool(pasted)) if asked.strip() else []
        if not ranked:
            return Draft((), True, 0.0, () if asked.strip() else (_NO_WORDS,))
        passages, quotes = [quote.passage for quote in ranked], _best(ranked)
        found = [signals(asked, quote.passage, passages, evidence) for quote in quotes]
        claims = tuple(
            Claim(quote.text, (quote.evidence.cite(quote.span),), confidence(of), _QUOTED)
            for quote, of in zip(quotes, found, strict=True)
        )
        sure = claims[0].confidence  # what it is calibrated for: further quotes add to the best one
        is_given = sure >= least_confidence(risk)
        return Draft(claims if is_given else (), not is_given, sure, signals=found[0])

    def stream(
        self, question: str, evidence: Sequence[Evidence], *, risk: float = RISK, picture: Picture | None = None
    ) -> Generator[str, None, Draft]:
        draft = self.generate(question, evidence, risk=risk, picture=picture)
        yield " ".join(claim.text for claim in draft.claims)
        return draft

    def quote(self, question: str, evidence: Sequence[Evidence]) -> list[Quote]:
        """At most `MAX_QUOTES`, best first; empty when the evidence has no words."""
        return _best(self._rank(question, evidence))

    def _rank(self, question: str, evidence: Sequence[Evidence], *, by_words: bool = False) -> list[Quote]:
        """All that were read, best first; `by_words`, as what is no question but a text to be found again."""
        found = list({(q.evidence.region.id, q.span): q for item in evidence for q in _candidates(item)}.values())
        overlaps = _weighted_overlaps(question, [quote.text for quote in found])
        order = sorted(range(len(found)), key=lambda i: -overlaps[i])[:MAX_CANDIDATES]
        if by_words or is_mostly_cjk(question):
            relevances = [_log_odds(overlaps[i]) for i in order]
        else:
            relevances = self._scorer.score(question, [_in_context(found[i]) for i in order])
        scored = [found[i]._replace(relevance=value) for i, value in zip(order, relevances, strict=True)]
        return sorted(scored, key=lambda quote: -quote.rank)


def _best(ranked: Sequence[Quote]) -> list[Quote]:
    return [quote for quote in ranked[:MAX_QUOTES] if quote.rank >= ranked[0].rank - KEEP_WITHIN]


def _candidates(item: Evidence) -> Iterator[Quote]:
    region = item.region
    if region.kind is RegionKind.SECTION_HEADER:
        return  # a title names a subject and says nothing about it
    is_table = region.kind is RegionKind.TABLE
    for span in region.sentences[region.header_rows :]:
        text = named_row(region, span) if is_table else region.text[span.start : span.end]
        yield Quote(item, span, text, 0.0)


def _in_context(quote: Quote) -> str:
    """A sentence with the title or caption that it stands under, which often names the subject that it leaves out."""
    context = quote.evidence.chunk.context
    return f"{context}. {quote.text}" if context else quote.text


def _weighted_overlaps(question: str, texts: Sequence[str]) -> list[float]:
    """For each text the share (0..1) of the question's tokens that it holds, rare ones counting more."""
    weights = rarity(question, texts)
    return [coverage(text, weights) for text in texts]


def _log_odds(share: float) -> float:
    share = min(0.98, max(0.02, share))
    return _OVERLAP_SPREAD * math.log(share / (1 - share))
