"""How well do our metrics of answers agree with people? Published answers with human verdicts (FinanceBench).

Asks no model: question, gold answer, a model's answer and the verdict on it are all published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval import calibration
from eval.inputs import fields, read_records
from eval.metrics import Array, Score, ratio_score
from eval.runs import Row, Run, Scores, made_by, run_path
from eval.text_metrics import anls, exact_match, numeric_match, token_f1, token_recall
from mmrag.errors import UsageError

_VERDICTS = {"correct answer": "right", "incorrect answer": "wrong", "refusal": "refusal"}
METRICS: dict[str, Callable[[str, str, str], float | None]] = {
    "exact match": lambda answer, gold, question: exact_match(answer, gold),
    "figures": lambda answer, gold, question: numeric_match(answer, gold, question),
    "F1": lambda answer, gold, question: token_f1(answer, gold),
    "recall": lambda answer, gold, question: token_recall(answer, gold),
    "ANLS": lambda answer, gold, question: anls(answer, gold),
}


class Graded(NamedTuple):
    id: str
    question: str
    gold: str
    answer: str
    verdict: str
    """right, wrong or refusal."""


def load_graded(path: Path) -> list[Graded]:
    found = []
    for record in read_records(path):
        name, question, gold, answer, label = fields(
            path, record, "id", "question", "gold_answer", "model_answer", "human_label"
        )
        if label.strip().lower() not in _VERDICTS:
            raise UsageError(f"{path}: a human_label is {label[:40]!r}: it must be one of {', '.join(_VERDICTS)}.")
        found.append(Graded(name, question, gold, answer, _VERDICTS[label.strip().lower()]))
    verdicts = {item.verdict for item in found}
    if not {"right", "wrong"} <= verdicts:
        raise UsageError(f"{path} holds no right or no wrong answers: agreement needs both.")
    return found


def score_graded(data: Path, output: Path) -> tuple[Run, Path]:
    rows = [judged(item) for item in load_graded(data)]
    made = made_by(data=[data])
    return Run("graded", made, scores(rows), tuple(rows), tuple(notes(rows))), run_path(output, "graded", made)


def judged(item: Graded) -> Row:
    values = {name: metric(item.answer, item.gold, item.question) for name, metric in METRICS.items()}
    return {
        "id": item.id,
        "values": {name: value for name, value in values.items() if value is not None},
        "cluster": item.question,
        "question": item.question,
        "gold": item.gold,
        "answer": item.answer,
        "verdict": item.verdict,
    }


def scores(rows: Sequence[Row]) -> Scores:
    """Right against wrong for each metric, answers to one question drawn together; refusals by themselves."""
    found: Scores = {}
    for name in METRICS:
        of = [row for row in rows if name in row["values"] and row["verdict"] != "refusal"]
        if {row["verdict"] for row in of} == {"right", "wrong"}:
            found[name] = _agreement(of, name)
    for verdict in ("right", "wrong", "refusal"):
        found[f"mean of {verdict} answers"] = _means([row for row in rows if row["verdict"] == verdict])
    return found


def _agreement(rows: Sequence[Row], metric: str) -> dict[str, Score]:
    values = np.array([row["values"][metric] for row in rows])
    right = np.array([float(row["verdict"] == "right") for row in rows])
    clusters = [row["cluster"] for row in rows]
    said = verdicts_by_threshold(values, right, clusters)
    return {
        "AUROC": calibration.score(calibration.auroc, values, right, clusters),
        "balanced accuracy": calibration.score(calibration.balanced_accuracy, said, right, clusters),
        "kappa": calibration.score(kappa, said, right, clusters),
    }


def verdicts_by_threshold(values: Array, right: Array, clusters: Sequence[str], folds: int = 10) -> Array:
    """1 where a metric says right, by the threshold that parts the other folds best."""
    said = np.zeros(len(values))
    for held_out in calibration.folds(clusters, folds):
        steps = np.unique(values[~held_out])
        thresholds = np.append((steps[:-1] + steps[1:]) / 2, np.inf) if len(steps) > 1 else np.array([steps[0]])
        merits = [
            calibration.balanced_accuracy((values[~held_out] > t).astype(float), right[~held_out]) for t in thresholds
        ]
        said[held_out] = values[held_out] > thresholds[int(np.argmax(merits))]
    return said


def kappa(said: Array, right: Array) -> float:
    """Cohen's: agreement beyond what two such shares would reach by chance."""
    agreed, ours, theirs = np.mean(said == right), said.mean(), right.mean()
    chance = ours * theirs + (1 - ours) * (1 - theirs)
    return float((agreed - chance) / (1 - chance)) if chance < 1 else 0.0


def _means(rows: Sequence[Row]) -> dict[str, Score]:
    found = {}
    for name in METRICS:
        of = [row for row in rows if name in row["values"]]
        if of:
            values = [row["values"][name] for row in of]
            found[name] = ratio_score(values, [1.0] * len(of), [row["cluster"] for row in of])
    return found


def notes(rows: Sequence[Row]) -> list[str]:
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("right", "wrong", "refusal")}
    figures = sum("figures" in row["values"] for row in rows if row["verdict"] != "refusal")
    return [
        f"{len(rows)} answers to {len({row['question'] for row in rows})} questions, of which people call "
        f"{counts['right']} right, {counts['wrong']} wrong and {counts['refusal']} refusals; these count in no "
        "agreement.",
        f"{figures} of the others have a gold answer with figures that the question does not give away.",
    ]
