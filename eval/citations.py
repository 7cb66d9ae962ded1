"""Do the cited regions bear out what is said? Citation recall and precision as ALCE defines them (Gao et al., EMNLP
2023), and overlap with published regions.

What "bears out" means is a function that is handed in; knows no verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.answers import check_documents, cited, made_by_rag, place_of
from eval.gold import Gold, load_gold
from eval.metrics import Score, ratio_score
from eval.retrieval import name_regions
from eval.runs import Row, Run, Scores, collect, run_path
from mmrag.engine import Rag
from mmrag.types import Answer, Citation

Supports = Callable[[str, Sequence[str]], bool]
"""Whether passages, taken together, bear out a claim."""


class Cited(NamedTuple):
    """A claim's citation recall (0 or 1), and for each of its citations whether it is of use (0 or 1)."""

    recall: float
    precision: tuple[float, ...]


def score_claim(claim: str, passages: Sequence[str], supports: Supports) -> Cited:
    """A claim is recalled when all its passages together bear it out; a citation is of use when the claim is recalled
    and its passage alone bears it out, or the others without it do not."""
    if not passages or not supports(claim, passages):
        return Cited(0.0, (0.0,) * len(passages))
    if len(passages) == 1:
        return Cited(1.0, (1.0,))
    others = [[*passages[:i], *passages[i + 1 :]] for i in range(len(passages))]
    needed = [
        supports(claim, [passage]) or not supports(claim, rest) for passage, rest in zip(passages, others, strict=True)
    ]
    return Cited(1.0, tuple(map(float, needed)))


def ask_citations(
    rag: Rag,
    data: Path,
    output: Path,
    supports: Supports,
    *,
    judge: str,
    within_document: bool = False,
    risk: float,
    **options: Any,
) -> tuple[Run, Path]:
    """Of the answers that are given at `risk`; `judge` names what `supports` is, `options` are those of `collect`."""
    golds = load_gold(data)
    check_documents(rag, golds)

    def ask(gold: Gold) -> Row:
        answer = rag.ask(gold.text, documents=[gold.document] if within_document else None, risk=risk)
        return judged(rag, gold, answer, supports)

    made = made_by_rag(rag, data, within_document=within_document, risk=risk, judge=judge)
    path = run_path(output, "citations", made)
    rows = collect(path, {gold.id: gold for gold in golds}, ask, **options)
    return Run("citations", made, scores(rows), tuple(rows), tuple(notes(rows))), path


def judged(rag: Rag, gold: Gold, answer: Answer, supports: Supports) -> Row:
    claims = () if answer.abstained else answer.claims
    scored = []
    for claim in claims:
        passages = [place_of(rag, citation).text for citation in claim.citations]
        scored.append(score_claim(claim.text, passages, supports))
    values = _averages(scored) if claims else {}
    citations = [citation for claim in claims for citation in claim.citations]
    if gold.boxes and citations:
        values |= _overlap(gold, citations)
    return {
        "values": values,
        "cluster": gold.document,
        "groups": list(gold.groups),
        "question": gold.text,
        "document": gold.document,
        "pages": list(gold.pages),
        "answer": "" if answer.abstained else answer.text,
        "claims": [{"claim": c.text, **s._asdict()} for c, s in zip(claims, scored, strict=True)],
        "cited": [cited(citation) for citation in citations],
        "silent": answer.abstained,
    }


def _averages(cited: Sequence[Cited]) -> dict[str, float]:
    precise = [value for claim in cited for value in claim.precision]
    return {
        "citation recall": sum(claim.recall for claim in cited) / len(cited),
        **({"citation precision": sum(precise) / len(precise)} if precise else {}),
    }


def _overlap(gold: Gold, citations: Sequence[Citation]) -> dict[str, float]:
    """Means over the citations: greatest IoU with a published box, and whether it hits one by the rule of retrieval."""
    pages = {box.page for box in gold.boxes}
    places = [(c.page, c.bbox) for c in citations if c.document == gold.document and c.page in pages]
    greatest = [max(box.iou(b.box) for b in gold.boxes if b.page == page) for page, box in places]
    hits = [any(name.startswith("gold") for name in name_regions([place], gold.boxes)) for place in places]
    count = len(citations)
    return {"box IoU": sum(greatest) / count, "box hit": sum(hits) / count}


def scores(rows: Sequence[Row]) -> Scores:
    """By claim and by citation, over all answers that are given; boxes by citation of questions that have them."""
    groups = {"all": list(rows)}
    for row in rows:
        for group in row["groups"]:
            groups.setdefault(group, []).append(row)
    return {name: found for name, of in groups.items() if (found := _scores(of))}


def _scores(rows: Sequence[Row]) -> dict[str, Score]:
    found: dict[str, Score] = {}
    claims = [(claim, row["cluster"]) for row in rows for claim in row["claims"]]
    if claims:
        by_claim = [[claim["recall"], sum(claim["precision"]), len(claim["precision"])] for claim, _ in claims]
        clusters = [cluster for _, cluster in claims]
        found["citation recall"] = ratio_score([c[0] for c in by_claim], [1.0] * len(by_claim), clusters)
        found["citation precision"] = ratio_score([c[1] for c in by_claim], [c[2] for c in by_claim], clusters)
    for metric in ("box IoU", "box hit"):
        of = [row for row in rows if metric in row["values"]]
        if of:
            values = [row["values"][metric] for row in of]
            found[metric] = ratio_score(values, [1.0] * len(of), [row["cluster"] for row in of])
    return found


def notes(rows: Sequence[Row]) -> list[str]:
    claims = [claim for row in rows for claim in row["claims"]]
    bare = sum(not claim["precision"] for claim in claims)
    given = sum(not row["silent"] for row in rows)
    return [
        f"{given} of {len(rows)} questions are answered, with {len(claims)} claims, {bare} of them without a citation."
    ]
