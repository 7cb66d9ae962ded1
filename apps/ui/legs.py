"""What the legs of retrieval found, as tables: who ranked which page where, with what score, and who was silent why.

Plain functions on legs and hits. Knows no Streamlit, no language and no index; what it says is English, to be
translated where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmrag.render import PALETTE
from mmrag.retrieve import Leg, PageHit, PageKey


class Kind(NamedTuple):
    """How a leg is spoken of."""

    title: str
    explanation: str


LEGS = {
    "page_words": Kind(
        "Words on the page", "The question's words in the text of the whole page, rare words first (BM25)."
    ),
    "chunk_words": Kind("Words in a passage", "The question's words close together in one passage (BM25)."),
    "dense": Kind("Meaning", "Passages that mean something like the question, in other words too (cosine of vectors)."),
    "visual": Kind("Pictures", "Figures and photos that fit the question's words (cosine of vectors)."),
    "image": Kind(
        "Your picture", "Figures and photos that look like the picture that was asked with (cosine of vectors)."
    ),
    "page_number": Kind("Page number", "Pages whose number stands in the question."),
    "label": Kind("Named figure or table", "Where the figure, table or appendix stands that the question names."),
    "rerank": Kind("Reranker", "A second model reads the question together with the best passage of the best pages."),
}
"""In the order of the legs in every table and plot."""

COLOURS = dict(zip(LEGS, (*PALETTE, "#F0E442", "#8C8C8C"), strict=True))
"""Okabe and Ito's, which stay apart for colour-blind readers."""


class Vote(NamedTuple):
    """What one leg says of one page."""

    leg: str
    rank: int | None
    """From 1; None where the leg did not find the page."""
    raw: float | None
    """The leg's own score: BM25, a cosine, a logit."""
    share: float
    """Of the fused score."""


def votes(hit: PageHit, legs: Mapping[str, Leg]) -> list[Vote]:
    """Of every leg that was asked."""
    found = []
    for name in (name for name in LEGS if name in legs):
        vote = hit.legs.get(name)
        raw = legs[name].pages.get(hit.key)
        found.append(Vote(name, vote.rank if vote else None, raw, vote.score if vote else 0.0))
    return found


def bars(hits: Sequence[PageHit], labels: Mapping[PageKey, str]) -> list[dict[str, Any]]:
    """A row for each part of each page's bar, in the order of the ranking."""
    return [
        {
            "place": place,
            "page": f"{place} · {labels[hit.key]}",
            "leg": name,
            "share": hit.legs[name].score,
            "rank": hit.legs[name].rank,
        }
        for place, hit in enumerate(hits, start=1)
        for name in LEGS
        if name in hit.legs
    ]


def first(leg: Leg, count: int = 10) -> list[tuple[PageKey, float]]:
    """A leg's own best pages with its own scores."""
    return sorted(leg.pages.items(), key=lambda page: (-page[1], page[0]))[:count]


# -- legs that could not vote ----------------------------------------------------------------------------------------


def silent(
    legs: Mapping[str, Leg], question: str, *, has_reranker: bool, weights: Mapping[str, float]
) -> dict[str, str]:
    """Why legs have no say in this ranking, by name."""
    found = {}
    for name in LEGS:
        if not weights[name]:
            found[name] = "It counts nothing: its weight is 0."
        elif name not in legs:
            found[name] = _reason(name, question, has_reranker)
        elif not legs[name].pages:
            found[name] = "It found nothing."
    return found


def _reason(name: str, question: str, has_reranker: bool) -> str:
    """Why a leg was not asked."""
    if name == "rerank" and not has_reranker:
        return "No reranker is chosen in the settings."
    if name in _UNNAMED:
        return _UNNAMED[name]
    # With words there is one reason left: the model is of English only, and these are Chinese.
    return _UNREAD[name] if question.strip() and name in _UNREAD else "The question has no words to go by."


_UNNAMED = {
    "image": "The question was asked without a picture.",
    "page_number": "The question names no page number.",
    "label": "The question names no figure or table.",
}
_UNREAD = {
    "dense": "The text encoder reads no Chinese.",
    "visual": "Pictures are found by their captions, whose encoder reads no Chinese.",
    "rerank": "The reranker reads no Chinese.",
}
