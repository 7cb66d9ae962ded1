"""Finding a page again by part of a sentence that stands on it alone: a measurement that any store can have.

Needs no labels: the sentences come from the documents themselves. Easy for a search by words, so what fails here is a
fault (text misread, a language that is not searched), not a matter of degree.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from eval.metrics import Score, score_rankings, summary
from mmrag.engine import Rag
from mmrag.index import Index
from mmrag.text import is_mostly_cjk, tokens

METRICS = {"hit_at_1": "Success@1", "hit_at_3": "Success@3", "mrr": "RR"}
_DEPTH = 10
# Tokens of a sentence that says something: in Chinese a token is a pair of characters.
_MIN_TOKENS, _MAX_TOKENS = 12, 60


class KnownItem(NamedTuple):
    """The middle two thirds of a sentence, and where that stands."""

    query: str
    document_id: str
    page: int

    @property
    def language(self) -> str:
        return "Chinese" if is_mostly_cjk(self.query) else "English"


class KnownItemReport(NamedTuple):
    scores: dict[str, dict[str, Score]]
    """By language and metric."""
    missed: tuple[KnownItem, ...]
    """Whose page is not among the first three."""


def known_items(index: Index, *, per_language: int, seed: int = 0) -> list[KnownItem]:
    """At most so many sentences of each language, drawn at random, each with a middle that stands once in the store."""
    sentences = [
        (text, document_id, page)
        for document_id, page, text in index.sentences()
        if _MIN_TOKENS <= len(tokens(text)) <= _MAX_TOKENS
    ]
    random.Random(seed).shuffle(sentences)  # noqa: S311  # a sample, not a secret
    everything = "\n".join(text for _, _, text in index.sentences())
    drawn: dict[str, list[KnownItem]] = {}
    for text, document_id, page in sentences:
        item = KnownItem(_middle(text), document_id, page)
        same = drawn.setdefault(item.language, [])
        if len(same) < per_language and everything.count(item.query) == 1:
            same.append(item)
    return [item for items in drawn.values() for item in items]


def _middle(text: str) -> str:
    """Whole words where the language has them."""
    start, end = len(text) // 6, len(text) - len(text) // 6
    if not is_mostly_cjk(text):
        start, end = text.find(" ", start) + 1, text.rfind(" ", 0, end)
    return text[start:end].strip()


def evaluate_known_items(rag: Rag, items: Sequence[KnownItem]) -> KnownItemReport:
    names = {str(i): item for i, item in enumerate(items)}
    rankings = {
        name: [f"{key[0]} {key[1]}" for key in (hit.key for hit in rag.retriever.rank_pages(item.query)[:_DEPTH])]
        for name, item in names.items()
    }
    gold = {name: [f"{item.document_id} {item.page}"] for name, item in names.items()}
    scores = {}
    for language in sorted({item.language for item in items}):
        of = [name for name, item in names.items() if item.language == language]
        scores[language] = summary(score_rankings({n: rankings[n] for n in of}, {n: gold[n] for n in of}, METRICS))
    missed = tuple(item for name, item in names.items() if gold[name][0] not in rankings[name][:3])
    return KnownItemReport(scores, missed)
