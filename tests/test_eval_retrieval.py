"""The retrieval measurement: its metrics by hand, and the floor that real documents must not fall below."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmrag.errors import UsageError

pytest.importorskip("ir_measures")

from eval.retrieval import evaluate_retrieval, load_questions, score_rankings


def test_metrics_agree_with_a_calculation_by_hand() -> None:
    gold = {"q1": [("a", 1)], "q2": [("a", 2), ("b", 1)]}
    rankings = {"q1": [("b", 9), ("a", 1)], "q2": [("a", 2), ("c", 1), ("b", 1)]}
    scores = score_rankings(rankings, gold)
    # q1: 1/log2(3) = 0.6309; q2: (1 + 1/log2(4)) / (1 + 1/log2(3)) = 0.9197
    assert scores["ndcg_at_5"] == pytest.approx((0.63093 + 0.91972) / 2, abs=1e-4)
    assert scores["hit_at_1"] == 0.5
    assert scores["recall_at_10"] == 1.0
    assert scores["mrr"] == 0.75


def test_a_question_without_hits_counts_as_zero() -> None:
    scores = score_rankings({"q1": [("a", 1)], "q2": []}, {"q1": [("a", 1)], "q2": [("a", 2)]})
    assert scores["hit_at_1"] == 0.5


def test_page_numbers_become_1_based(tmp_path: Path) -> None:
    row = {"id": "q", "question": "?", "doc": "a.pdf", "gold_pages": [0, 4], "answerable": True}
    refused = row | {"id": "r", "gold_pages": [], "answerable": False}
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, (row, refused))), encoding="utf-8")
    (question,) = load_questions(tmp_path)
    assert question.pages == (1, 5)


def test_a_folder_without_questions_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"questions\.jsonl"):
        load_questions(tmp_path)


@pytest.mark.slow
def test_pages_of_real_documents_are_found(shared_data: Path, tmp_path: Path) -> None:
    import mmrag
    from ingest.pipeline import Outcome, ingest_into

    report = ingest_into(tmp_path / "store", [shared_data / "documents" / "pdf"])
    assert report.count(Outcome.INGESTED) == len(report.results) == 24
    again = ingest_into(tmp_path / "store", [shared_data / "documents" / "pdf"])
    assert again.count(Outcome.UNCHANGED) == 24

    rag = mmrag.open(tmp_path / "store")
    scores = evaluate_retrieval(rag, load_questions(shared_data / "documents"))
    print(scores)
    assert scores["ndcg_at_5"] >= 0.64  # measured 0.667; the standard error over 122 questions is 0.035
