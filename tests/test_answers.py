"""Answers, citations and human verdicts as commands: rows, scores and files, on the demo collection and by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("ir_measures")

import mmrag.verify
from apps.cli import app
from apps.demo_documents import QUESTIONS
from eval.answers import ANSWERED, CONFIDENCE, cross_validated, is_given, scores
from eval.calibration import balanced_accuracy
from eval.citations import Cited, score_claim
from eval.citations import scores as citation_scores
from eval.graded import kappa, score_graded, verdicts_by_threshold
from eval.runs import Row, load_run
from mmrag.errors import UsageError
from mmrag.text import query_tokens, tokens


class Overlap:
    """A stand-in for a verifier: a claim is supported when the passages have four fifths of its words."""

    def check(self, claim: str, passages: Sequence[str]) -> Any:
        there = {token for passage in passages for token in tokens(passage)}
        wanted = query_tokens(claim)
        supported = sum(token in there for token in wanted) >= 0.8 * len(wanted)
        return type("Checked", (), {"support": supported})


@pytest.fixture
def data(demo_documents: Path, tmp_path: Path) -> Path:
    """The demo's questions as a data folder; the last one is not answered by its document."""
    folder = tmp_path / "data"
    shutil.copytree(demo_documents, folder / "pdf")
    (folder / "questions.jsonl").write_text(
        "\n".join(
            json.dumps(
                {
                    "id": f"q{i}",
                    "doc": question.document or QUESTIONS[0].document,
                    "question": question.text,
                    "answer": question.answer or "Not answerable",
                    "answerable": bool(question.answer),
                    "gold_pages": [question.page - 1] if question.answer else [],
                }
            )
            for i, question in enumerate(QUESTIONS)
        ),
        encoding="utf-8",
    )
    return folder


def run(command: str, *arguments: object) -> str:
    result = CliRunner().invoke(app, ["eval", command, *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_is_measured_and_a_second_run_asks_nothing(
    data: Path, own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--data", data, "--store", own_store, "--output", tmp_path / "runs", "--json")
    first = json.loads(run("answers", *arguments))
    whole = first["scores"][ANSWERED]
    assert (whole["page"]["mean"], whole["region"]["mean"], whole["region"]["count"]) == (1.0, 1.0, len(QUESTIONS) - 1)
    assert whole["recall"]["mean"] > whole["F1"]["mean"] > 0  # quotes are longer than gold answers
    assert first["scores"][CONFIDENCE]["AUROC"]["mean"] == 1.0
    given = first["scores"]["answers at risk 0.5"]
    assert [given[name]["mean"] for name in ("risk", "refusal precision", "refusal recall")] == [0.0, 1.0, 1.0]
    path = Path(first["run"])
    assert [r["question"] for r in load_run(path).rows] == [question.text for question in QUESTIONS]
    assert all(path.with_name(f"{path.stem}{end}").stat().st_size > 5000 for end in (".png", "-confidence.png"))
    monkeypatch.setattr("mmrag.engine.Rag.ask", None)  # would raise if it were called
    again = json.loads(run("answers", *arguments, "--risk", 0))
    assert again["run"] == first["run"]
    assert again["scores"]["answers at risk 0"]["coverage"]["mean"] == 0.0


def test_a_store_without_the_documents_is_refused(data: Path, own_store: Path) -> None:
    rows = (data / "questions.jsonl").read_text(encoding="utf-8")
    (data / "questions.jsonl").write_text(rows.replace(QUESTIONS[0].document, "other.pdf"), encoding="utf-8")
    result = CliRunner().invoke(app, ["eval", "answers", "--data", str(data), "--store", str(own_store)])
    assert (result.exit_code, "lacks 1 of the documents, such as other.pdf" in result.stderr) == (2, True)


def row(name: str, sure: float, *, right: bool, answerable: bool = True, **more: Any) -> Row:
    values = {"region": float(right)} if answerable else {}
    fields = {"values": values, "cluster": name, "groups": ["text"], "held by": [["box"]] if right else [[]]}
    signals = {"lead": sure, "constant": 1.0}
    return {"id": name, **fields, "answerable": answerable, "right": right, "silent": False} | (
        {"confidence": sure, "signals": signals} | more
    )


def test_scores_by_hand() -> None:
    rows = [
        row("a", 0.9, right=True),
        row("b", 0.7, right=False),
        row("c", 0.4, right=True),
        row("d", 0.2, right=False, answerable=False),
        row("e", 0.6, right=False, answerable=False),
        row("f", 0.0, right=False, silent=True, signals={}),
    ]
    found = scores(rows, 0.5)
    assert found[ANSWERED]["region"].mean == 0.5  # two of four; the others have no answer to find
    assert found[CONFIDENCE]["AUROC"].mean == pytest.approx(6 / 8)  # 0.4 is below 0.7 and 0.6
    given = {name: score.mean for name, score in found["answers at risk 0.5"].items()}
    assert given == {
        "coverage": 0.5,  # a, b, e
        "risk": pytest.approx(2 / 3),
        "refusal precision": pytest.approx(1 / 3),  # d, not c and f
        "refusal recall": 0.5,  # d, not e
    }


def test_an_answer_without_calibration_is_given_unless_the_model_is_silent() -> None:
    assert is_given(row("a", 0.1, right=True, signals={}), 0.5)
    assert not is_given(row("a", 0.9, right=True, silent=True), 0.5)
    assert not is_given(row("a", 0.1, right=True), 0.5)


def test_cross_validation_needs_signals_and_both_kinds() -> None:
    rows = [row(str(i), i / 10, right=i > 4) for i in range(10)]
    sure = cross_validated(rows)
    assert sure is not None
    assert sure[9] > 0.5 > sure[0]
    with_silent = cross_validated([*rows, row("x", 0.0, right=False, signals={})])
    assert with_silent is not None
    assert with_silent[-1] == 0
    assert cross_validated([row(str(i), 0.5, right=True) for i in range(9)]) is None
    assert cross_validated([row(str(i), 0.5, right=bool(i % 2), signals={}) for i in range(9)]) is None


# -- citations -------------------------------------------------------------------------------------------------------


def supports(claim: str, passages: Sequence[str]) -> bool:
    return set(claim) <= set("".join(passages))


@pytest.mark.parametrize(
    ("passages", "cited"),
    [
        (["ab"], Cited(1, (1,))),
        (["a"], Cited(0, (0,))),
        ([], Cited(0, ())),
        (["a", "b"], Cited(1, (1, 1))),  # each is needed
        (["ab", "c"], Cited(1, (1, 0))),  # the second says nothing and is not missed
        (["ab", "ab"], Cited(1, (1, 1))),  # each would do alone
        (["a", "b", "ab"], Cited(1, (0, 0, 1))),  # with the third, neither of the others is missed
        (["a", "c"], Cited(0, (0, 0))),  # nothing is precise in what is not supported
    ],
)
def test_a_claim_is_scored_as_alce_does(passages: list[str], cited: Cited) -> None:
    assert score_claim("ab", passages, supports) == cited


def test_claims_count_alike_and_so_do_citations() -> None:
    claims = [[{"recall": 1.0, "precision": [1.0, 0.0]}, {"recall": 0.0, "precision": [0.0]}], [], []]
    rows: list[Row] = [
        {"id": str(i), "values": {}, "cluster": str(i), "groups": ["text"], "claims": of} for i, of in enumerate(claims)
    ]
    rows[1]["values"] = {"box IoU": 0.5, "box hit": 1.0}
    found = citation_scores(rows)["all"]
    assert {name: score.mean for name, score in found.items()} == {
        "citation recall": 0.5,
        "citation precision": pytest.approx(1 / 3),
        "box IoU": 0.5,
        "box hit": 1.0,
    }


def test_what_is_quoted_is_supported_by_its_region(
    data: Path, own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmrag.verify, "Verifier", Overlap, raising=False)
    arguments = ("--data", data, "--store", own_store, "--output", tmp_path / "runs", "--json")
    found = json.loads(run("citations", *arguments))
    assert found["scores"]["all"]["citation recall"]["mean"] == 1.0
    assert found["scores"]["all"]["citation precision"]["mean"] == 1.0
    assert [row["silent"] for row in found["rows"]] == [not question.answer for question in QUESTIONS]


# -- human verdicts --------------------------------------------------------------------------------------------------


def graded(path: Path, *rows: tuple[str, str, str]) -> Path:
    fields = ("gold_answer", "model_answer", "human_label")
    lines = [
        {"id": str(i), "question": f"Why {'x' * i}?", **dict(zip(fields, r, strict=True))} for i, r in enumerate(rows)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_a_metric_that_agrees_with_people_is_told_so(tmp_path: Path) -> None:
    rows = [("12 %", "It is 12 %.", "Correct Answer"), ("12 %", "It is 13 %.", "Incorrect Answer")] * 6
    data = graded(tmp_path / "graded.jsonl", *rows, ("12 %", "I cannot say.", "Refusal"))
    made, _ = score_graded(data, tmp_path)
    assert {metric: score.mean for metric, score in made.scores["figures"].items()} == {
        "AUROC": 1.0,
        "balanced accuracy": 1.0,
        "kappa": 1.0,
    }
    assert made.scores["exact match"]["AUROC"].mean == 0.5  # nobody answers in so few words
    assert made.scores["mean of refusal answers"]["figures"].count == 1
    assert made.scores["figures"]["AUROC"].count == 12
    out = json.loads(run("graded", "--data", data, "--output", tmp_path / "runs", "--json"))
    assert out["scores"]["figures"]["kappa"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "b", "Maybe")], "a human_label is 'Maybe': it must be one of correct answer"),
        ([("a", "b", "Correct Answer")], "holds no right or no wrong answers"),
    ],
)
def test_verdicts_that_say_nothing_are_refused(tmp_path: Path, rows: list[tuple[str, str, str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score_graded(graded(tmp_path / "graded.jsonl", *rows), tmp_path)


def test_agreement_by_hand() -> None:
    said, right = np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 0, 0])
    assert balanced_accuracy(said, right) == pytest.approx((1 + 2 / 3) / 2)
    assert kappa(said, right) == pytest.approx((0.75 - 0.5) / 0.5)  # by chance 2/4 x 1/4 + 2/4 x 3/4
    assert (kappa(right, right), kappa(np.zeros(4), right)) == (1, 0)


def test_a_threshold_never_sees_what_it_judges() -> None:
    values, right = np.array([0.1, 0.2, 0.8, 0.9, 0.5]), np.array([0.0, 0, 1, 1, 1])
    said = verdicts_by_threshold(values, right, list("abcde"))
    assert said.tolist() == [0, 0, 1, 1, 0]  # without the last one, the threshold is half-way between 0.2 and 0.8
