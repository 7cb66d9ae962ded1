"""POPE: is an object in the image, asked about objects that are and that are not (Li et al., EMNLP 2023).

Knows the published files (`question_id`, `image`, `text`, `label`, one JSON object a line) and how the published script
reads an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.inputs import check_images, fields, image_bytes, read_predictions, read_records
from eval.runs import Row, Run, collect, made_by, run_path
from eval.verdicts import By, Load, Question, asked, grouped_scores, judged, notes, reading_of
from mmrag import prompts
from mmrag.errors import UsageError
from mmrag.yes_no import YesNo


def load_pope(paths: Sequence[Path]) -> list[Question]:
    """The questions of each file, their ids with its name before them: the published files number alike."""
    questions = []
    for path in paths:
        for record in read_records(path):
            name, image, text, label = fields(path, record, "question_id", "image", "text", "label")
            questions.append(Question(f"{path.stem}/{name}", text, image, to_verdict(path, label), (path.stem,)))
    if len({question.id for question in questions}) < len(questions):
        raise UsageError("A question is there twice: give each file once, and each question_id once in a file.")
    if not questions:
        raise UsageError("There are no questions in the data: give one of POPE's files, or several, by --data.")
    return questions


def to_verdict(path: Path, label: str) -> YesNo:
    if (low := label.strip().lower()) in ("yes", "no"):
        return "yes" if low == "yes" else "no"
    raise UsageError(f"{path}: a label is {label[:40]!r}: it must be yes or no.")


def published_reading(answer: str) -> YesNo:
    """As the published script reads: no where the first sentence has the word No, no or not, else yes."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def score_predictions(data: Sequence[Path], predictions: Sequence[Path], output: Path) -> tuple[Run, Path]:
    """Of answers that are there: a file of them for each file of questions, in the same order."""
    if len(data) != len(predictions):
        raise UsageError(f"There are {len(data)} files of questions and {len(predictions)} of predictions: pair them.")
    rows: list[Row] = []
    for path, answered in zip(data, predictions, strict=True):
        questions = load_pope([path])
        answers = read_predictions(answered, [question.id.partition("/")[2] for question in questions])
        for question in questions:
            row = judged(question, answers.get(question.id.partition("/")[2]), published_reading)
            rows.append({"id": question.id, **row})
    made = made_by(data=[*data, *predictions], predictions=[path.name for path in predictions])
    return Run("pope", made, grouped_scores(rows), tuple(rows), tuple(notes(rows))), run_path(output, "pope", made)


def ask_pope(
    load: Load,
    data: Sequence[Path],
    output: Path,
    *,
    images: Path | None = None,
    blind: bool = False,
    by: By | None = None,
    **options: Any,
) -> tuple[Run, Path]:
    """`blind` asks without the images, for what a model says by habit; `options` are those of `collect`."""
    questions = load_pope(data)
    folder = None if blind else images
    if folder:
        check_images(folder, (question.image for question in questions))
    elif not blind:
        raise UsageError(
            f"The {len(questions)} questions are about {len({q.image for q in questions})} images: name their folder "
            "by --images. Without images, --predictions scores answers that are there, and --blind asks without them."
        )
    llm = load()
    reading = reading_of(llm, by)

    def ask(question: Question) -> Row:
        image = image_bytes(folder, question.image) if folder else None
        return asked(llm, question, image, reading, published_reading)

    made = made_by(llm, data=data, blind=blind, by=reading, prompt=prompts.YES_OR_NO)
    path = run_path(output, "pope", made)
    rows = collect(path, {question.id: question for question in questions}, ask, **options)
    return Run("pope", made, grouped_scores(rows), tuple(rows), tuple(notes(rows))), path
