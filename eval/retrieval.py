"""How well pages and regions are found: published questions with gold pages and boxes against the ranking of a store.

Page scores are trec_eval's, by ir_measures. Knows the format of a data folder (`pdf/`, `questions.jsonl`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from eval.metrics import Score, Values, mean_score, score_rankings, summary
from eval.runs import Run, read_json, to_scores
from mmrag.engine import Rag
from mmrag.errors import UsageError, brief, require
from mmrag.retrieve import Leg, PageKey, Weights, fuse
from mmrag.text import is_mostly_cjk
from mmrag.types import BBox

DEPTH = 50
"""Pages that are ranked for each question: enough for every cut-off that is reported."""
WHOLE_PAGE_AREA = 0.9
"""A published box of this share of the page or more says nothing about where on the page the answer stands."""


class GoldRegion(NamedTuple):
    page: int
    box: BBox


class Question(NamedTuple):
    """An answerable question with the pages that answer it (1-based) and the published boxes on them."""

    id: str
    text: str
    document: str
    pages: tuple[int, ...]
    evidence: tuple[str, ...]
    regions: tuple[GoldRegion, ...]

    @property
    def boxes(self) -> list[GoldRegion]:
        """Published boxes that say more than the page."""
        return [region for region in self.regions if region.box.area < WHOLE_PAGE_AREA]

    @property
    def groups(self) -> tuple[str, ...]:
        """What the results are split by."""
        return (*(self.evidence or ("unspecified",)), "Chinese" if is_mostly_cjk(self.text) else "English")


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Scores by metric name, for each scope, group of questions and choice of legs; latency in seconds."""

    questions: int
    scopes: dict[str, dict[str, Score]]
    groups: dict[str, dict[str, Score]]
    ablation: dict[str, dict[str, Score]]
    region_hit: Score | None
    latency: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def load_report(path: Path) -> Run:
    """A report that was written as JSON, in the form of the other measurements; it keeps no rows. UsageError for
    anything else."""
    content = read_json(path)
    try:
        tables = [content["scopes"], content["groups"], content["ablation"]]
        scores = {group: of for table in tables for group, of in to_scores(table).items()}
        if content["region_hit"]:
            scores |= to_scores({"best region of the right page": {"hit": content["region_hit"]}})
        latency = ", ".join(f"{name} {float(seconds):.3f} s" for name, seconds in content["latency"].items())
        made_by = {**content["made_by"], "profile": content["profile"]}
        return Run("retrieval", made_by, scores, (), (f"{int(content['questions'])} questions; latency {latency}.",))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no report of mmrag eval retrieval ({brief(error)}).") from error


def load_questions(data: Path) -> list[Question]:
    """The answerable questions of `questions.jsonl`, whose page numbers are 0-based and whose boxes are in points."""
    path = data / "questions.jsonl"
    if not path.is_file():
        raise UsageError(f"There is no questions.jsonl in {data}: name a data folder with pdf/ and questions.jsonl.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Question(
            row["id"],
            row["question"],
            row["doc"],
            tuple(page + 1 for page in row["gold_pages"]),
            tuple(row.get("evidence_type", ())),
            tuple(
                GoldRegion(r["page"] + 1, BBox.from_size(r["bbox"], *r["page_size"])) for r in row.get("regions", ())
            ),
        )
        for row in rows
        if row["answerable"] and row["gold_pages"]
    ]


def evaluate_retrieval(rag: Rag, questions: Sequence[Question]) -> RetrievalReport:
    """Rank pages in the whole collection and within the question's document."""
    ids = {document.name: document.id for document in rag.index.documents()}
    if missing := {question.document for question in questions} - set(ids):
        raise UsageError(f"The store lacks {len(missing)} of the documents, such as {min(missing)}: ingest them.")
    gold = {q.id: [_name((ids[q.document], page)) for page in q.pages] for q in questions}
    legs: dict[str, dict[str, Leg]] = {}
    inside: dict[str, dict[str, Leg]] = {}
    seconds = []
    for question in questions:
        started = perf_counter()
        legs[question.id] = rag.retriever.legs(question.text)
        fuse(legs[question.id], asdict(Weights()))
        seconds.append(perf_counter() - started)
        inside[question.id] = rag.retriever.legs(question.text, documents=[question.document])

    def scores(of: Mapping[str, Mapping[str, Leg]], weights: Weights) -> Values:
        return score_rankings(
            {q: [_name(hit.key) for hit in fuse(leg, asdict(weights))[:DEPTH]] for q, leg in of.items()}, gold
        )

    whole = scores(legs, Weights())
    regions = _rank_regions(rag, [question for question in questions if question.boxes])
    return RetrievalReport(
        questions=len(questions),
        scopes={
            "whole collection": summary(whole),
            "within the document": summary(scores(inside, Weights())),
            **({"regions, within the document": summary(regions.scores)} if regions.hits else {}),
        },
        groups={
            group: summary(_only(whole, {q.id for q in questions if group in q.groups}))
            for group in sorted({group for q in questions for group in q.groups})
        },
        ablation={name: summary(scores(legs, weights)) for name, weights in _ablations(Weights(), legs.values())},
        region_hit=mean_score(regions.hits) if regions.hits else None,
        latency={f"p{p}": float(np.percentile(seconds, p)) for p in (50, 95)},
    )


def _ablations(weights: Weights, legs: Iterable[Mapping[str, Leg]]) -> Iterator[tuple[str, Weights]]:
    """Each leg that was asked alone, and all but each."""
    asked = {name for found in legs for name in found}
    names = [field.name for field in fields(weights) if field.name in asked]
    for name in names:
        yield f"only {name}", replace(weights, **{other: 0.0 for other in names if other != name})
    for name in names:
        yield f"without {name}", replace(weights, **{name: 0.0})


class _Regions(NamedTuple):
    scores: Values
    hits: list[float]
    """Whether the best region of the best-ranked gold page overlaps a gold box."""


def _rank_regions(rag: Rag, questions: Sequence[Question]) -> _Regions:
    """The best region of each page, in the order of the pages, against the published boxes."""
    rankings, hits = {}, []
    for question in questions:
        found = rag.retriever.search(question.text, documents=[question.document], top_k=10_000)
        rankings[question.id] = name_regions([(e.page, e.region.box) for e in found[:DEPTH]], question.boxes)
        pages = {gold.page for gold in question.boxes}
        best = next(((e.page, e.region.box) for e in found if e.page in pages), None)
        hits.append(float(best is not None and name_regions([best], question.boxes)[0].startswith(_GOLD)))
    gold = {q.id: [f"{_GOLD} {i}" for i in range(len(q.boxes))] for q in questions}
    return _Regions(score_rankings(rankings, gold), hits)


_GOLD = "gold"


def name_regions(ranked: Sequence[tuple[int, BBox]], gold: Sequence[GoldRegion]) -> list[str]:
    """Each region by the first gold box that it overlaps (IoU 0.3, or its centre inside) and none before it did."""
    left = dict(enumerate(gold))
    names = []
    for rank, (page, box) in enumerate(ranked):
        match = next((i for i, g in left.items() if g.page == page and _overlaps(box, g.box)), None)
        names.append(f"other {rank}" if match is None else f"{_GOLD} {match}")
        if match is not None:
            del left[match]
    return names


def _overlaps(box: BBox, gold: BBox) -> bool:
    return box.iou(gold) >= 0.3 or box.contains(gold.center)


def _only(values: Values, ids: set[str]) -> Values:
    return {name: {q: value for q, value in by_id.items() if q in ids} for name, by_id in values.items()}


def _name(key: PageKey) -> str:
    return f"{key[0]}-p{key[1]}"


def plot_ablation(report: RetrievalReport, target: Path) -> None:
    """nDCG@5 of all legs, of each alone and of all but each, with intervals, as a PNG."""
    require("matplotlib", extra="eval")
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    rows = {"all legs": report.scopes["whole collection"], **report.ablation}
    scores = [values["ndcg_at_5"] for values in rows.values()][::-1]
    figure = Figure(figsize=(8, 0.45 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    means = [score.mean for score in scores]
    errors = np.array([(score.mean - score.low, score.high - score.mean) for score in scores]).T  # (2, n)
    colours = ["#009E73" if name == "all legs" else "#0072B2" for name in rows][::-1]
    axes.barh(list(rows)[::-1], means, xerr=np.clip(errors, 0, None), color=colours, ecolor="#444444", capsize=2)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"nDCG@5 by page, whole collection, {report.questions} questions, 95 % bootstrap interval")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=150)
