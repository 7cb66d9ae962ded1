"""The runs of `mmrag eval` in one folder: which there are, their scores as tables, their items worst first.

Everything in these files is text from outside. Only files that lie in the folder itself are ever read. Plain functions
on files and runs; knows no Streamlit.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from eval.metrics import Score
from eval.retrieval import load_report
from eval.runs import Row, Run, load_run
from mmrag.errors import UsageError
from mmrag.index import Index
from mmrag.types import Document, Page

MOST_BYTES = 300_000_000
_MAIN = {"answers": "region", "retrieval": "ndcg_at_5", "pope": "accuracy", "amber": "accuracy"}
"""What a measurement is about, where that is not its first metric."""
_LESS_IS_BETTER = frozenset({"unparseable", "chair", "hal", "cog"})
_SHORT = 200
"""Letters of a text in a table."""


def runs_folder() -> Path:
    return Path(os.environ.get("MMRAG_RUNS") or "runs").expanduser().absolute()


class File(NamedTuple):
    """A JSON file as it was when it was looked at."""

    path: Path
    modified: int
    """Nanoseconds."""
    size: int

    @property
    def name(self) -> str:
        return self.path.stem


class Listed(NamedTuple):
    """A line in the list of runs."""

    file: File
    name: str
    made_with: str
    finished: datetime
    items: int
    metric: str
    score: Score | None


class Refused(NamedTuple):
    """A JSON file that is no run."""

    file: File
    reason: str


def run_files(folder: Path) -> list[File]:
    """The JSON files of the folder itself, no links out of it."""
    try:
        found = [path for path in folder.iterdir() if path.suffix == ".json" and is_inside(path, folder)]
        return [File(path, stat.st_mtime_ns, stat.st_size) for path in sorted(found) for stat in [path.stat()]]
    except OSError:
        return []


def is_inside(path: Path, folder: Path) -> bool:
    """Whether it is a plain file of this folder; a link that stays inside is one too."""
    try:
        return path.is_file() and path.resolve().parent == folder.resolve()
    except OSError:
        return False


def read_run(file: File) -> Run:
    """UsageError with the reason where it is neither a run nor a report of retrieval."""
    if file.size > MOST_BYTES:
        raise UsageError(f"{file.path.name} has {file.size / 1e6:.0f} MB: too large to be shown.")
    try:
        return load_run(file.path)
    except UsageError as error:
        try:
            return load_report(file.path)
        except UsageError:
            raise error from None


def listed(file: File, run: Run) -> Listed:
    main = main_score(run)
    return Listed(
        file,
        run.name,
        made_with(run),
        _finished(run) or datetime.fromtimestamp(file.modified / 1e9, UTC),
        len(run.rows) or (main[1].count if main else 0),
        main[0] if main else "",
        main[1] if main else None,
    )


def _finished(run: Run) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(run.made_by.get("finished")))
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except ValueError:
        return None


def made_with(run: Run) -> str:
    """The model, or what else answered: an extractive generator, a file of predictions, encoders."""
    generator = run.made_by.get("generator")
    if isinstance(generator, dict) and generator.get("model"):
        return str(generator["model"])
    for key in ("answers_by", "predictions", "nli", "aligner", "text_encoder", "text"):
        if value := run.made_by.get(key):
            return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return ""


def main_score(run: Run) -> tuple[str, Score] | None:
    """Of the whole, which is the first group, with the metric that the measurement is about."""
    whole = next(iter(run.scores.values()), {})
    metric = _MAIN.get(run.name, "")
    metric = metric if metric in whole else next(iter(whole), "")
    return (metric, whole[metric]) if metric else None


# -- scores ----------------------------------------------------------------------------------------------------------


def score_tables(run: Run) -> list[list[dict[str, Any]]]:
    """A row for each group, in one table with those that have a metric of it."""
    tables: list[tuple[set[str], list[dict[str, Any]]]] = []
    for group, scores in run.scores.items():
        having = next((table for table in tables if table[0] & set(scores)), None)
        if having is None:
            having = (set(), [])
            tables.append(having)
        having[0].update(scores)
        count = max((score.count for score in scores.values()), default=0)
        having[1].append({"": group, "n": count} | {metric: str(score) for metric, score in scores.items()})
    return [rows for _, rows in tables]


def made_by_rows(run: Run) -> list[tuple[str, str]]:
    return [(str(name), told(value)) for name, value in run.made_by.items() if value is not None]


# -- items -----------------------------------------------------------------------------------------------------------


def metrics(run: Run) -> list[str]:
    """That rows have, the main one first."""
    found = list(dict.fromkeys(metric for row in run.rows for metric in row["values"]))
    main = main_score(run)
    return sorted(found, key=lambda metric: metric != (main and main[0]))


def groups(row: Row) -> list[str]:
    named = row.get("groups")
    return list(map(str, named)) if isinstance(named, list) else [str(row["dataset"])] if "dataset" in row else []


def all_groups(run: Run) -> list[str]:
    return list(dict.fromkeys(group for row in run.rows for group in groups(row)))


def cases(run: Run, metric: str, group: str | None = None) -> list[Row]:
    """The rows that have this metric, the worst first; rows that are equally bad as they come."""
    having = [row for row in run.rows if metric in row["values"] and (group is None or group in groups(row))]
    return sorted(having, key=lambda row: merit(row, metric))


def merit(row: Row, metric: str) -> float:
    """Greater is better. Where a row says whether a claim is supported, a score is good if it says the same."""
    value = float(row["values"][metric])
    if math.isnan(value):
        return -math.inf
    if metric.lower() in _LESS_IS_BETTER or row.get("supported") is False:
        return -value if metric.lower() in _LESS_IS_BETTER else 1 - value
    return value


_QUESTION = ("question", "claim", "query", "prompt")
_EXPECTED = ("gold", "label", "supported", "verdict", "truth", "missed")
_SAID = ("answer", "read", "yes_probability")


def case_row(row: Row, metric: str) -> dict[str, Any]:
    """A row as the table of cases has it."""
    return {
        "id": short(row["id"]),
        "value": float(row["values"][metric]),
        "question": short(field(row, _QUESTION)),
        "expected": short(field(row, _EXPECTED)),
        "said": short(field(row, _SAID)),
    }


def question(row: Row) -> str:
    return field(row, _QUESTION)


def expected(row: Row) -> str:
    return field(row, _EXPECTED)


def said(row: Row) -> str:
    return field(row, _SAID)


def field(row: Row, names: Iterable[str]) -> str:
    """The first that the row has, as text."""
    return next((told(row[name]) for name in names if row.get(name) is not None), "")


def told(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(told, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {told(each)}" for key, each in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def short(text: str) -> str:
    text = " ".join(text[: 4 * _SHORT].split())
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def rest(row: Row) -> dict[str, Any]:
    """What a row says besides what is shown of every row."""
    shown = ("id", "values", "question", "claim", "cited", "pages", "document", "groups", "cluster")
    return {name: value for name, value in row.items() if name not in shown}


class Change(NamedTuple):
    """An item that two runs have, and its values in both."""

    first: Row
    second: Row
    difference: float


def changes(first: Run, second: Run, metric: str) -> list[Change]:
    """Items that differ in this metric, those that differ most first."""
    theirs = {row["id"]: row for row in second.rows}
    found = [
        Change(row, other, float(other["values"][metric]) - float(row["values"][metric]))
        for row in first.rows
        if (other := theirs.get(row["id"])) and metric in row["values"] and metric in other["values"]
    ]
    return sorted((change for change in found if change.difference), key=lambda change: -abs(change.difference))


# -- places ----------------------------------------------------------------------------------------------------------


class Spot(NamedTuple):
    """A page that a row names."""

    document: str
    page: int
    region: str = ""
    is_gold: bool = False


_CITED = re.compile(r"(.+) p(\d{1,6}) (\S+)", re.DOTALL)


def spots(row: Row) -> list[Spot]:
    """What was cited, then the pages that should have been, each page of these once."""
    return list(dict.fromkeys([*_cited(row), *_gold(row)]))


def _cited(row: Row) -> Iterator[Spot]:
    named = row.get("cited")
    for text in named if isinstance(named, list) else []:
        if isinstance(text, str) and (match := _CITED.fullmatch(text)):
            yield Spot(match[1], int(match[2]), match[3])


def _gold(row: Row) -> Iterator[Spot]:
    document, pages = row.get("document"), row.get("pages")
    if isinstance(document, str) and isinstance(pages, list):
        for page in pages:
            if isinstance(page, int) and 0 < page < 1_000_000:
                yield Spot(document, page, is_gold=True)


def held(index: Index, documents: Sequence[Document], spot: Spot) -> tuple[Document, Page] | None:
    """The page in a collection; of documents of one name the one that has the region."""
    found = [
        (document, page)
        for document in documents
        if document.name == spot.document and (page := index.page(document.id, spot.page))
    ]
    having = [pair for pair in found if any(region.id == spot.region for region in pair[1].regions)]
    return next(iter(having or found), None)
