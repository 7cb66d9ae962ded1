"""HallusionBench: the same questions about a figure and about altered ones (Guan et al., CVPR 2024).

Aggregates as the published script does: right or wrong by question (aAcc), by figure (fAcc: all questions about it) and
by question over its figures (qAcc), with easy (the original figure, or none) and hard (altered figures) apart. There, a
judge finds each answer right (1), wrong (0) or unclear (2); here it is read as yes, no or neither and held against the
label, unless the rows bring a judge's finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.inputs import Record, answer_of, check_images, fields, image_bytes, read_records
from eval.metrics import Score, ratio_score
from eval.runs import Row, Run, Scores, collect, made_by, run_path
from eval.verdicts import By, Load, Question, asked, judged, notes, reading_of
from mmrag import prompts
from mmrag.errors import UsageError

_RIGHT, _WRONG, _UNCLEAR = 1, 0, 2
_JUDGED = ("gpt4v_output_gpt_check", "correctness")
"""Fields in which a judge's finding may stand."""


class Place(NamedTuple):
    """Which question about which figure; figure 0 is the original, or in VS no figure at all."""

    category: str
    subcategory: str
    set_id: str
    figure: str
    question: str

    @property
    def id(self) -> str:
        return "/".join(self)

    @property
    def has_figure(self) -> bool:
        return not (self.category == "VS" and self.figure == "0")


_KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")


class Item(NamedTuple):
    place: Place
    question: Question


def load_hallusionbench(path: Path) -> list[Item]:
    items = []
    for record in read_records(path):
        place = Place(*fields(path, record, *_KEYS))
        text, label, visual = fields(path, record, "question", "gt_answer", "visual_input")
        if label not in ("0", "1"):
            raise UsageError(f"{path}: {place.id} has the gt_answer {label[:20]!r}: it must be 0 or 1.")
        image = "" if visual == "0" else str(record.get("filename") or _file_name(place))
        items.append(Item(place, Question(place.id, text, image, "yes" if label == "1" else "no")))
    if len({item.place for item in items}) < len(items):
        raise UsageError(f"{path} has a question twice: give the file as it is published.")
    if not items:
        raise UsageError(f"There are no questions in {path}: give HallusionBench.json, or its rows one a line.")
    return items


def _file_name(place: Place) -> str:
    return f"{place.category}/{place.subcategory}/{place.set_id}_{place.figure}.png"


# -- answers that are there ------------------------------------------------------------------------------------------


def score_predictions(data: Path, predictions: Path, output: Path) -> tuple[Run, Path]:
    """Rows with the keys of the data and an answer, `model_prediction` as published; all of them, and no others."""
    labelled = load_hallusionbench(data)
    answered, moved = _labelled(predictions, labelled, read_records(data))
    rows = [{"id": item.question.id, **_judged(item, answer, found)} for item, answer, found in answered]
    made = made_by(data=[data, predictions], judge=any(found is not None for *_, found in answered))
    said = notes(rows)
    if moved:
        said.append(
            f"{moved} answers are to figures that the data numbers otherwise: labelled by question and details."
        )
    if len(rows) < len(labelled):
        said.append(f"{len(rows)} of {len(labelled)} questions are answered: the scores are of those alone.")
    return _run(rows, made, said), run_path(output, "hallusionbench", made)


_Answered = tuple[Item, str, int | None]


def _labelled(path: Path, items: Sequence[Item], records: Sequence[Record]) -> tuple[list[_Answered], int]:
    """Each answer with its label and a judge's finding, and how many figures bear another number than in the data.

    The published sample of predictions is older than the published data, where some altered figures have moved: by
    number alone five of its 74 answers would get the original figure's label. Question and details tell them apart.
    """
    by_place = {item.place: (item, record) for item, record in zip(items, records, strict=True)}
    by_details = {(*_series(item.place), *_words(record)): item for item, record in zip(items, records, strict=True)}
    answered: dict[Place, _Answered] = {}
    moved = 0
    for row in read_records(path):
        place = Place(*fields(path, row, *_KEYS))
        item, record = by_place.get(place, (None, {}))
        if item is None or (row.get("gt_answer_details") is not None and _words(row) != _words(record)):
            item = by_details.get((*_series(place), *_words(row)))
            moved += 1
        if item is None:
            raise UsageError(f"{path} answers {place.id}, which is not in the data as it stands there: check the file.")
        if place in answered:
            raise UsageError(f"{path} answers {place.id} twice: leave one of the answers.")
        answered[place] = Item(place, item.question._replace(id=place.id)), answer_of(path, row), _finding(path, row)
    if not answered:
        raise UsageError(f"There are no answers in {path}: give rows with {', '.join(_KEYS)} and model_prediction.")
    return list(answered.values()), moved


def _series(place: Place) -> tuple[str, ...]:
    return place.category, place.subcategory, place.set_id, place.question


def _words(record: Record) -> tuple[str, ...]:
    return tuple(" ".join(str(record.get(name, "")).split()) for name in ("question", "gt_answer_details"))


def _finding(path: Path, record: Record) -> int | None:
    found = next((record[name] for name in _JUDGED if record.get(name) is not None), None)
    if found is not None and str(found) not in ("0", "1", "2"):
        raise UsageError(f"{path}: a judge's finding is {str(found)[:20]!r}: it must be 0, 1 or 2.")
    return None if found is None else int(found)


def _judged(item: Item, answer: str, finding: int | None) -> Row:
    return _placed(item, judged(item.question, answer), finding)


# -- a model that is asked -------------------------------------------------------------------------------------------


def ask_hallusionbench(
    load: Load, data: Path, output: Path, *, images: Path | None = None, by: By | None = None, **options: Any
) -> tuple[Run, Path]:
    """Without images, the questions that need none; `options` are those of `collect`."""
    items = load_hallusionbench(data)
    chosen = [item for item in items if images or not item.question.image]
    if not chosen:
        raise UsageError("All questions are about images: name their folder by --images.")
    if images:
        check_images(images, (item.question.image for item in items if item.question.image))
    llm = load()
    reading = reading_of(llm, by)

    def ask(item: Item) -> Row:
        name = item.question.image
        return _placed(item, asked(llm, item.question, image_bytes(images, name) if images and name else None, reading))

    made = made_by(llm, data=[data], images=images is not None, by=reading, prompt=prompts.YES_OR_NO)
    path = run_path(output, "hallusionbench", made)
    rows = collect(path, {item.question.id: item for item in chosen}, ask, **options)
    said = notes(rows)
    if left := len(items) - len(chosen):
        said.append(f"{left} questions about images were left out: name the folder of the images by --images.")
    return _run(rows, made, said), path


# -- scores ----------------------------------------------------------------------------------------------------------


def _placed(item: Item, row: Row, finding: int | None = None) -> Row:
    """The row with its finding, and whether that counts as right: not to know is right where there is no figure."""
    if finding is None:
        finding = _UNCLEAR if row["read"] is None else _RIGHT if row["read"] == row["label"] else _WRONG
    is_right = finding == _RIGHT or (finding == _UNCLEAR and not item.place.has_figure)
    values = {**row["values"], "accuracy": float(is_right)}
    together = "/".join(item.place[:3])
    return {**row, "values": values, "cluster": together, "place": list(item.place), "correctness": finding}


def _run(rows: Sequence[Row], made: dict[str, Any], said: Sequence[str]) -> Run:
    scores: Scores = {"all": hallusionbench_scores(rows)}
    for category in dict.fromkeys(row["place"][0] for row in rows):
        scores[category] = hallusionbench_scores([row for row in rows if row["place"][0] == category])
    strict = [{**row, "values": {**row["values"], "accuracy": float(row["correctness"] == _RIGHT)}} for row in rows]
    if any(a["values"] != b["values"] for a, b in zip(rows, strict, strict=True)):
        scores["all, not to know is wrong"] = hallusionbench_scores(strict)
    return Run("hallusionbench", made, scores, tuple(rows), tuple(said))


def hallusionbench_scores(rows: Sequence[Row]) -> dict[str, Score]:
    """aAcc, fAcc and qAcc, easy and hard, of rows with `place` and a right or wrong `accuracy`."""
    places = [Place(*row["place"]) for row in rows]
    right = {place: row["values"]["accuracy"] == 1 for place, row in zip(places, rows, strict=True)}
    original = [place for place in places if place.figure == "0"]
    altered = [place for place in places if place.figure != "0"]
    groups: dict[str, tuple[Iterable[Place], Callable[[Place], Any]]] = {
        "aAcc": (places, lambda place: place),
        "fAcc": ((place for place in places if place.has_figure), lambda place: place[:4]),
        "qAcc": (places, _series),
        "easy": (original, _series),
        "hard": (altered, _series),
    }
    found = {name: _all_right(of, key, right) for name, (of, key) in groups.items()}
    for name in ("says yes", "unparseable"):
        clusters = [place[:3] for place in places]
        found[name] = ratio_score([row["values"][name] for row in rows], [1.0] * len(rows), clusters)
    return {name: score for name, score in found.items() if score}


def _all_right(places: Iterable[Place], key: Callable[[Place], Any], right: dict[Place, bool]) -> Score | None:
    """The share of groups without a wrong answer; sets of figures are drawn together."""
    groups: dict[Any, list[Place]] = {}
    for place in places:
        groups.setdefault(key(place), []).append(place)
    if not groups:
        return None
    whole = [float(all(right[place] for place in group)) for group in groups.values()]
    return ratio_score(whole, [1.0] * len(whole), [group[0][:3] for group in groups.values()])
