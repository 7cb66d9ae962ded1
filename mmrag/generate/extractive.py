"""The generator of the offline profile: quotes the sentences or table rows that answer, in the document's own words.

It writes nothing of its own, so it cannot invent; it can only quote the wrong line, or quote when it should be silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from mmrag.tables import named_row
from mmrag.text import is_mostly_cjk, query_tokens, tokens
from mmrag.types import Evidence, RegionKind, TextSpan

MAX_CANDIDATES = 96
"""Sentences that the cross-encoder reads for one question; the rest fall out by word overlap."""
MAX_QUOTES = 3
KEEP = 0.6
"""A further sentence is quoted when its score is at least this share of the best one's."""


class Quote(NamedTuple):
    """Words of one region that answer, as they stand (`span`) and as they read alone (`text`); score 0..1."""

    evidence: Evidence
    span: TextSpan
    text: str
    score: float


class PairScorer(Protocol):
    """A cross-encoder: how well does each passage answer the question, 0..1."""

    def score(self, question: str, passages: Sequence[str]) -> list[float]: ...


class ExtractiveGenerator:
    """Ranks every sentence by a cross-encoder, or by word overlap where that cannot read the language."""

    identity = "extractive"

    def __init__(self, scorer: PairScorer) -> None:
        self._scorer = scorer

    def quote(self, question: str, evidence: Sequence[Evidence]) -> list[Quote]:
        """At most `MAX_QUOTES`, best first; empty when the evidence has no words."""
        wanted = set(query_tokens(question))
        found = {(q.evidence.region.id, q.span): q for item in evidence for q in _candidates(item)}
        overlaps = {key: _overlap(wanted, q.text) for key, q in found.items()}
        keys = sorted(found, key=lambda key: overlaps[key], reverse=True)[:MAX_CANDIDATES]
        if is_mostly_cjk(question):
            scores = [overlaps[key] for key in keys]
        else:
            scores = self._scorer.score(question, [_in_context(found[key]) for key in keys])
        scored = [found[key]._replace(score=score) for key, score in zip(keys, scores, strict=True)]
        best = sorted(scored, key=lambda q: q.score, reverse=True)
        return [q for q in best[:MAX_QUOTES] if q.score >= KEEP * best[0].score]


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


def _overlap(wanted: set[str], text: str) -> float:
    """Share of the question's tokens that the text holds."""
    return len(wanted.intersection(tokens(text))) / len(wanted) if wanted else 0.0
