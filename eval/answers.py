"""Questions with published answers, asked of a store: is the answer right, its region the right one, its confidence
worth anything?

What counts as the right region is said in `eval.gold`. Knows a Rag and a data folder; knows no generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eval import calibration
from eval.gold import Gold, Place, held, is_page_only, load_gold, on_gold_page
from eval.metrics import Array, Score, divide, ratio_score, score_of_sums
from eval.runs import Row, Run, Scores, collect, made_by, run_path
from eval.text_metrics import anls, best, exact_match, numeric_match, token_f1, token_recall
from mmrag.abstain import RISK, least_confidence
from mmrag.engine import Rag
from mmrag.errors import UsageError
from mmrag.retrieve import Weights
from mmrag.types import Answer, Citation

ANSWERED = "answerable questions"
CONFIDENCE = "confidence"
CROSS_VALIDATED = "confidence, cross-validated"


def ask_answers(
    rag: Rag,
    data: Path,
    output: Path,
    *,
    within_document: bool = False,
    risk: float = RISK,
    **options: Any,
) -> tuple[Run, Path]:
    """Every question is answered, however unsure; what `risk` would have withheld is scored from the confidences.

    `options` are those of `collect`.
    """
    golds = load_gold(data)
    check_documents(rag, golds)

    def ask(gold: Gold) -> Row:
        answer = rag.ask(gold.text, documents=[gold.document] if within_document else None, risk=1.0)
        return judged(rag, gold, answer)

    made = made_by_rag(rag, data, within_document=within_document)
    path = run_path(output, "answers", made)
    rows = collect(path, {gold.id: gold for gold in golds}, ask, **options)
    return Run("answers", made, scores(rows, risk), tuple(rows), tuple(notes(rows, risk))), path


def check_documents(rag: Rag, golds: Sequence[Gold]) -> None:
    if missing := {gold.document for gold in golds} - {document.name for document in rag.index.documents()}:
        raise UsageError(f"The store lacks {len(missing)} of the documents, such as {min(missing)}: ingest them.")


def made_by_rag(rag: Rag, data: Path, **settings: Any) -> dict[str, Any]:
    return made_by(
        getattr(rag.generator, "llm", None),
        data=[data / "questions.jsonl"],
        answers_by=rag.generator.identity,
        text_encoder=rag.encoders.text_identity,
        image_encoder=rag.encoders.image_identity,
        reranker=getattr(rag.retriever.reranker, "identity", None),
        weights=asdict(Weights()),
        documents=sorted(document.id for document in rag.index.documents()),
        **settings,
    )


def judged(rag: Rag, gold: Gold, answer: Answer) -> Row:
    """A row: what was answered from where, and what each metric makes of it."""
    places = [place_of(rag, citation) for citation in answer.citations]
    page_only = is_page_only(gold, _gold_places(rag, gold))
    ways = [held(gold, place, page_only=page_only) for place in places]
    strict = bool(ways) and any(way != "page" for way in ways[0])
    said = "" if answer.abstained else answer.text
    values = {
        "exact match": best(exact_match, said, gold.answers),
        "figures": best(lambda a, g: numeric_match(a, g, gold.text), said, gold.answers),
        "F1": best(token_f1, said, gold.answers),
        "recall": best(token_recall, said, gold.answers),
        "ANLS": best(anls, said, gold.answers),
        "page": float(bool(places) and on_gold_page(gold, places[0])),
        "region": float(bool(ways) and bool(ways[0])),
        "region, strictly": float(strict),
        "any region": float(any(ways)),
    }
    return {
        "values": {name: value for name, value in values.items() if gold.answerable and value is not None},
        "cluster": gold.document,
        "groups": list(gold.groups),
        "question": gold.text,
        "answerable": gold.answerable,
        "document": gold.document,
        "pages": list(gold.pages),
        "gold": list(gold.answers),
        "answer": said,
        "cited": [cited(citation) for citation in answer.citations],
        "held by": ways,
        "right": bool(ways) and bool(ways[0]),
        "silent": answer.abstained,
        "confidence": answer.confidence,
        "signals": answer.signals,
    }


def cited(citation: Citation) -> str:
    """As rows name it: the file, the page (1-based), the region's id."""
    return f"{citation.document} p{citation.page} {citation.region}"


def place_of(rag: Rag, citation: Citation) -> Place:
    """The cited region with its caption and what it stands under."""
    places = _places(rag, citation.document, citation.document_id, citation.page)
    return places[citation.region]


def _gold_places(rag: Rag, gold: Gold) -> list[Place]:
    (id,) = [document.id for document in rag.index.documents() if document.name == gold.document][:1]
    return [place for page in gold.pages for place in _places(rag, gold.document, id, page).values()]


def _places(rag: Rag, document: str, id: str, number: int) -> dict[str, Place]:
    """The regions of a page by their ids."""
    page = rag.index.page(id, number)
    regions = {region.id: region for region in (page.regions if page else ())}
    above: dict[str, dict[str, None]] = {}
    for chunk in rag.index.chunks_of([(id, number)]):
        for span in chunk.spans:
            above.setdefault(span.region_id, {})[chunk.context] = None
    captions = {name: regions[r.caption_id].text for name, r in regions.items() if r.caption_id in regions}
    return {
        name: Place(
            document, number, region.box, "\n".join([region.text, captions.get(name, ""), *above.get(name, ())])
        )
        for name, region in regions.items()
    }


# -- scores ----------------------------------------------------------------------------------------------------------


def scores(rows: Sequence[Row], risk: float) -> Scores:
    answerable = [row for row in rows if row["answerable"]]
    groups = sorted({group for row in answerable for group in row["groups"]})
    found = {ANSWERED: _means(answerable)}
    found |= {group: _means([row for row in answerable if group in row["groups"]]) for group in groups}
    found[CONFIDENCE] = _trust(rows, _sure(rows))
    if (again := cross_validated(rows)) is not None:
        found[CROSS_VALIDATED] = _trust(rows, again)
    return found | {f"answers at risk {risk:g}": _given(rows, least_confidence(risk))}


def _means(rows: Sequence[Row]) -> dict[str, Score]:
    found = {}
    for metric in dict.fromkeys(metric for row in rows for metric in row["values"]):
        of = [row for row in rows if metric in row["values"]]
        ones = [1.0] * len(of)
        found[metric] = ratio_score([row["values"][metric] for row in of], ones, [row["cluster"] for row in of])
    return found


def _trust(rows: Sequence[Row], sure: Array) -> dict[str, Score]:
    right, clusters = _right(rows), [row["cluster"] for row in rows]
    return {
        name: calibration.score(statistic, sure, right, clusters) for name, statistic in calibration.STATISTICS.items()
    }


def _given(rows: Sequence[Row], least: float) -> dict[str, Score]:
    """What is given and refused at a threshold; a refusal is right where no answer is in the question's document."""
    table = []
    for row in rows:
        given = is_given(row, least)
        unanswerable = not row["answerable"]
        parts = (given, given and not row["right"], not given, not given and unanswerable, unanswerable, 1)
        table.append([float(part) for part in parts])
    clusters = [row["cluster"] for row in rows]
    statistics: dict[str, Callable[[Array], Array]] = {
        "coverage": lambda sums: divide(sums[..., 0], sums[..., 5]),
        "risk": lambda sums: divide(sums[..., 1], sums[..., 0]),
        "refusal precision": lambda sums: divide(sums[..., 3], sums[..., 2]),
        "refusal recall": lambda sums: divide(sums[..., 3], sums[..., 4]),
    }
    return {name: score_of_sums(table, statistic, clusters) for name, statistic in statistics.items()}


def is_given(row: Row, least: float) -> bool:
    return not row["silent"] and (row["confidence"] >= least or not row["signals"])


def cross_validated(rows: Sequence[Row]) -> Array | None:
    """The same signals weighted anew, each question by a fit to other documents' questions; None without signals."""
    having = [row for row in rows if row["signals"]]  # without any words to quote there are none, and no doubt
    right, documents = _right(having), [row["cluster"] for row in having]
    if len(set(documents)) < 2 or not 0 < right.sum() < len(right):
        return None
    names = list(having[0]["signals"])
    features = np.array([[row["signals"][name] for name in names] for row in having])
    sure = dict(
        zip((row["id"] for row in having), calibration.cross_validated(features, right, documents), strict=True)
    )
    return np.array([sure.get(row["id"], 0.0) for row in rows])


def trust_curves(rows: Sequence[Row]) -> dict[str, tuple[Array, Array]]:
    """Confidences and whether the answers were right, as shipped and, where it has been made, cross-validated."""
    again = cross_validated(rows)
    curves = {"as shipped": (_sure(rows), _right(rows))}
    return curves if again is None else curves | {"weighted anew, by folds": (again, _right(rows))}


def _sure(rows: Iterable[Row]) -> Array:
    return np.array([row["confidence"] for row in rows], dtype=float)


def _right(rows: Iterable[Row]) -> Array:
    return np.array([row["right"] for row in rows], dtype=float)


def notes(rows: Sequence[Row], risk: float) -> list[str]:
    answerable = [row for row in rows if row["answerable"]]
    ways = {way: sum(bool(r["held by"]) and way in r["held by"][0] for r in answerable) for way in _WAYS}
    said = ", ".join(f"{count} {_WAYS[way]}" for way, count in ways.items())
    least = least_confidence(risk)
    return [
        f"Of {len(rows)} questions {len(answerable)} are answerable. First cited regions: {said} (some do several).",
        f"Right is an answer whose first cited region holds what was asked for; at risk {risk:g} an answer is given "
        f"from a confidence of {least:.2f} on.",
    ]


_WAYS = {
    "box": "overlap a published box",
    "evidence": "hold the published evidence",
    "answer": "hold the published answer",
    "page": "speak of it on a gold page, where nothing smaller is published",
}
