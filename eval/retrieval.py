"""How well pages are found: published questions with gold pages against the ranking of a store.

Scores are trec_eval's, by ir_measures. Knows the format of a data folder (`pdf/`, `questions.jsonl`); fits nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmrag.engine import Rag
from mmrag.errors import UsageError, require
from mmrag.retrieve import PageKey

DEPTH = 50
"""Pages that are ranked for each question: enough for every cut-off that is reported."""


class Question(NamedTuple):
    """An answerable question with the pages that answer it (1-based; each alone is enough to count as found)."""

    id: str
    text: str
    document: str
    pages: tuple[int, ...]


def load_questions(data: Path) -> list[Question]:
    """The answerable questions of `questions.jsonl`, whose page numbers are 0-based."""
    path = data / "questions.jsonl"
    if not path.is_file():
        raise UsageError(f"There is no questions.jsonl in {data}: name a data folder with pdf/ and questions.jsonl.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Question(row["id"], row["question"], row["doc"], tuple(page + 1 for page in row["gold_pages"]))
        for row in rows
        if row["answerable"] and row["gold_pages"]
    ]


def evaluate_retrieval(rag: Rag, questions: Sequence[Question], *, within_document: bool = False) -> dict[str, float]:
    """Mean nDCG@5, hit@1, recall@10 and MRR over pages, in the whole collection or within the question's document."""
    ids = {document.name: document.id for document in rag.index.documents()}
    missing = {question.document for question in questions} - set(ids)
    if missing:
        raise UsageError(f"The store lacks {len(missing)} of the documents, such as {min(missing)}: ingest them.")
    runs = {
        question.id: [
            hit.key
            for hit in rag.retriever.rank_pages(
                question.text, documents=[question.document] if within_document else None
            )[:DEPTH]
        ]
        for question in questions
    }
    gold = {q.id: [(ids[q.document], page) for page in q.pages] for q in questions}
    return score_rankings(runs, gold)


def score_rankings(
    rankings: Mapping[str, Sequence[PageKey]], gold: Mapping[str, Sequence[PageKey]]
) -> dict[str, float]:
    """Metrics by name. A question without any hit counts as zero."""
    measures = require("ir_measures", extra="eval")
    names = {
        "ndcg_at_5": measures.nDCG @ 5,
        "hit_at_1": measures.Success @ 1,
        "recall_at_10": measures.R @ 10,
        "mrr": measures.RR,
    }
    qrels = [measures.Qrel(question, _name(key), 1) for question, keys in gold.items() for key in keys]
    run = [
        measures.ScoredDoc(question, _name(key), -rank)
        for question, keys in rankings.items()
        for rank, key in enumerate(keys)
    ]
    found: dict[Any, float] = measures.calc_aggregate(list(names.values()), qrels, run)
    return {name: found[measure] for name, measure in names.items()}


def _name(key: PageKey) -> str:
    return f"{key[0]}-p{key[1]}"
