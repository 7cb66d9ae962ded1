"""Yes-or-no questions with labels, and what is scored of the answers: accuracy, precision, recall, F1, yes-rate.

An answer that says neither yes nor no counts as wrong: it is missed in recall, and no yes in the yes-rate. It is never
dropped. Beside this strict reading stands the one of a benchmark's own published script, where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from eval.metrics import Array, Score, divide, score_of_sums
from eval.runs import Row, Scores
from mmrag import prompts
from mmrag.asking import about_image, reply, yes_or_no_odds
from mmrag.errors import UsageError
from mmrag.yes_no import YesNo, read_yes_no

Load = Callable[[], Any]
"""Gives the LLM; called once the data has been looked at, so that its mistakes show before gigabytes are loaded."""
By = Literal["text", "logits"]
"""How a model's verdict is read: from what it writes, or from its probabilities."""
Published = Callable[[str], YesNo | None]
"""How a benchmark's own script reads an answer."""


class Question(NamedTuple):
    id: str
    text: str
    image: str
    """Its name in the folder of images; empty where there is none."""
    label: YesNo
    groups: tuple[str, ...] = ()
    """What the scores are split by."""


def reading_of(llm: Any, by: By | None) -> By:
    """Probabilities where the model gives them, unless something else is asked for."""
    if by == "logits" and not hasattr(llm, "score"):
        raise UsageError("--by logits needs a checkpoint in this process: a server gives no probabilities of answers.")
    return by or ("logits" if hasattr(llm, "score") else "text")


def judged(question: Question, answer: str | None, published: Published | None = None) -> Row:
    """The row of a question with its answer; None is an answer that is missing."""
    if answer is None:
        return _row(question, None, {"answer": None, **({"published": None} if published else {})})
    as_published = {"published": published(answer)} if published else {}
    return _row(question, read_yes_no(answer, question.text), {"answer": answer, **as_published})


def asked(
    llm: Any,
    question: Question,
    image: bytes | None,
    by: By,
    published: Published | None = None,
    *,
    prompt: str = prompts.YES_OR_NO,
) -> Row:
    messages = about_image(prompt.format(question=question.text), image)
    if by == "text":
        return judged(question, reply(llm, messages), published)
    odds = yes_or_no_odds(llm, messages)
    said = {"yes_probability": round(odds.probability, 6), "yes_or_no_mass": round(odds.yes + odds.no, 6)}
    return _row(question, odds.verdict, said)


def _row(question: Question, read: YesNo | None, more: dict[str, Any]) -> Row:
    values = {"accuracy": read == question.label, "says yes": read == "yes", "unparseable": read is None}
    return {
        "values": {name: float(value) for name, value in values.items()},
        "cluster": question.image or question.id,
        "groups": list(question.groups),
        "question": question.text,
        "label": question.label,
        "read": read,
        **more,
    }


def verdict_scores(rows: Sequence[Row], *, positive: YesNo = "yes", reading: str = "read") -> dict[str, Score]:
    """By metric; questions about one image are drawn together."""
    table = [_counts(row["label"], row.get(reading, row["read"]), positive) for row in rows]
    clusters = [row["cluster"] for row in rows]
    return {name: score_of_sums(table, statistic, clusters) for name, statistic in _STATISTICS.items()}


def _counts(label: YesNo, read: YesNo | None, positive: YesNo) -> list[float]:
    said, is_positive = read == positive, label == positive
    return [float(x) for x in (said and is_positive, said, is_positive, read == label, read == "yes", read is None, 1)]


def _f1(sums: Array) -> Array:
    return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


_STATISTICS: dict[str, Callable[[Array], Array]] = {
    "accuracy": lambda sums: divide(sums[..., 3], sums[..., 6]),
    "precision": lambda sums: divide(sums[..., 0], sums[..., 1]),
    "recall": lambda sums: divide(sums[..., 0], sums[..., 2]),
    "f1": _f1,
    "yes_rate": lambda sums: divide(sums[..., 4], sums[..., 6]),
    "unparseable": lambda sums: divide(sums[..., 5], sums[..., 6]),
}


def grouped_scores(rows: Sequence[Row], *, positive: YesNo = "yes") -> Scores:
    """Of all rows and of each group; where the published script reads an answer otherwise, once more as it does."""
    groups = {"all": list(rows)}
    for row in rows:
        for group in row["groups"]:
            groups.setdefault(group, []).append(row)
    if len(groups) == 2:  # one group is the whole
        del groups["all"]
    scores = {}
    for name, of in groups.items():
        scores[name] = verdict_scores(of, positive=positive)
        if any(row["read"] != row.get("published", row["read"]) for row in of):
            scores[f"{name}, read as published"] = verdict_scores(of, positive=positive, reading="published")
    return scores


def notes(rows: Iterable[Row]) -> list[str]:
    rows = list(rows)
    found = []
    if missing := sum("answer" in row and row["answer"] is None for row in rows):
        found.append(f"{missing} of {len(rows)} questions have no answer: they count as wrong.")
    said = [row for row in rows if row["read"] is None and row.get("answer") is not None]
    if said:
        found.append(f"{len(said)} answers say neither yes nor no, such as: {said[0]['answer'][:80]}")
    if masses := [row["yes_or_no_mass"] for row in rows if "yes_or_no_mass" in row]:
        found.append(f"On average {sum(masses) / len(masses):.0%} of the model's probability is on yes or no.")
    return found
