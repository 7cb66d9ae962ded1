"""Claims against their sources, held against people's labels: how well the verifier tells what is supported.

A row is supported or not: what people call partly supported, or a mixture, counts as not. The threshold is one for all
data sets, chosen by cross-validation for the mean of their balanced accuracies; baselines go through the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.calibration import auroc, balanced_accuracy
from eval.metrics import Score
from eval.runs import OnProgress, Row, Run, Scores, collect, made_by, run_path
from mmrag.abstain import coverage
from mmrag.errors import UsageError
from mmrag.text import is_mostly_cjk, query_tokens, sentence_spans, tokens
from mmrag.verify import Entail, examine, probability

FOLDS, RESAMPLES = 10, 1000


@dataclass(frozen=True, slots=True)
class LabelledClaim:
    id: str
    dataset: str
    claim: str
    source: str
    is_supported: bool
    errors: tuple[str, ...] = ()
    """What people say is wrong with it, where they do."""
    keywords: tuple[tuple[str, bool], ...] = ()
    """Words of the claim and whether they are supported, where people labelled words."""

    @property
    def family(self) -> str:
        """SummEdits' domains count as one data set."""
        return self.dataset.split("/")[0]


def load_claims(path: Path) -> list[LabelledClaim]:
    """From JSONL: `id`, `dataset`, `claim`, `label`, `source` or `source_sentences`."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [_labelled(row) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} cannot be read as labelled claims ({error}): give a JSONL file.") from error


def _labelled(row: Mapping[str, Any]) -> LabelledClaim:
    source = row.get("source") or "\n".join(row["source_sentences"])
    keywords = [(item["keyword"], item["label"] == "supported") for item in row.get("keywords", ())]
    errors = tuple(row.get("edit_types") or ())
    return LabelledClaim(
        row["id"], row["dataset"], row["claim"], source, row["label"] == "supported", errors, tuple(keywords)
    )


# -- the run ---------------------------------------------------------------------------------------------------------


def run_groundedness(
    data: Sequence[Path],
    folder: Path,
    *,
    nli: str | None = None,
    seed: int = 0,
    fresh: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> tuple[Run, Path]:
    """Every claim of `data` by the verifier and by two baselines; one row each."""
    from mmrag.bundled import BundledAligner
    from mmrag.encoders import BundledTextEncoder
    from mmrag.rerank import HubEntailment

    items = {item.id: item for path in data for item in load_claims(path)}
    entail = HubEntailment(nli) if nli else None
    encoder, aligner = BundledTextEncoder(), BundledAligner()
    scorers = {
        "verifier": verifier_score(aligner.align, entail),
        "word overlap": word_overlap,
        "encoder cosine": encoder_cosine(encoder),
    }
    settings = {"aligner": aligner.identity, "encoder": encoder.identity, "nli": entail.identity if entail else None}
    made = made_by(data=data, seed=seed, **settings)
    path = run_path(folder, "groundedness", made)

    def row(item: LabelledClaim) -> Row:
        scores = {name: score(item) for name, score in scorers.items() if _reads(name, item)}
        return {"values": scores, "dataset": item.dataset, "supported": item.is_supported, "claim": item.claim}

    rows = collect(path, items, row, fresh=fresh, on_progress=on_progress)
    english = [item for item in items.values() if not is_mostly_cjk(item.claim)]
    values = {row["id"]: row["values"] for row in rows}
    reports = {
        name: evaluate(english, {item.id: values[item.id][name] for item in english}, seed=seed) for name in scorers
    }
    return Run("groundedness", made, _table(reports, items.values()), tuple(rows), tuple(_notes(reports))), path


def _reads(name: str, item: LabelledClaim) -> bool:
    return name != "encoder cosine" or not is_mostly_cjk(item.claim)


def _table(reports: Mapping[str, GroundednessReport], items: Iterable[LabelledClaim]) -> Scores:
    table: Scores = {}
    for name, report in reports.items():
        table[f"{name}: mean of the sets"] = {"balanced_accuracy": report.mean}
        for of, score in report.sets.items():
            measures = {"balanced_accuracy": score.balanced_accuracy, "f1": score.f1, "auroc": score.auroc}
            table[f"{name}: {of}"] = {key: Score(value, value, value, score.claims) for key, value in measures.items()}
    if words := judge_keywords(items):
        said, labels = np.array(words).T
        right = balanced_accuracy(said, labels)
        table["Chinese words"] = {"balanced_accuracy": Score(right, right, right, len(words))}
    return table


def _notes(reports: Mapping[str, GroundednessReport]) -> list[str]:
    missed = ", ".join(f"{kind} {n} of {of}" for kind, (n, of) in reports["verifier"].missed.items())
    return [
        f"Threshold of the verifier's probability on all rows: {reports['verifier'].threshold:.3f}.",
        *([f"Wrong claims that pass, by kind of error: {missed}."] if missed else []),
    ]


# -- scores ----------------------------------------------------------------------------------------------------------


def verifier_score(align: Any, entail: Entail | None = None) -> Callable[[LabelledClaim], float]:
    """Probability that the source supports the claim, as `mmrag.verify` has it."""

    def score(item: LabelledClaim) -> float:
        return probability(item.claim, [item.source], align, entail=entail)

    return score


def word_overlap(item: LabelledClaim) -> float:
    """Share of the claim's words that stand in the source."""
    return coverage(item.source, dict.fromkeys(query_tokens(item.claim), 1.0))


def encoder_cosine(encoder: Any) -> Callable[[LabelledClaim], float]:
    """Greatest cosine of the claim to a sentence of the source."""

    def score(item: LabelledClaim) -> float:
        sentences = [item.source[span.start : span.end] for span in sentence_spans(item.source)]
        texts = encoder.get_text_embedding_batch([item.claim, *sentences])
        claim, *others = np.asarray(texts)
        return float(max((other @ claim for other in others), default=-1.0))

    return score


# -- measures --------------------------------------------------------------------------------------------------------


class SetScore(NamedTuple):
    balanced_accuracy: float
    f1: float
    """Of what is not supported."""
    auroc: float
    claims: int


@dataclass(frozen=True, slots=True)
class GroundednessReport:
    sets: dict[str, SetScore]
    mean: Score
    """Of the sets' balanced accuracies, with a bootstrap interval."""
    threshold: float
    """Chosen on all rows: what a program should use."""
    missed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By kind of error: how many claims were taken for supported, of how many."""


def evaluate(items: Sequence[LabelledClaim], scores: Mapping[str, float], *, seed: int = 0) -> GroundednessReport:
    """`scores` by id, greater is better supported."""
    values = np.array([scores[item.id] for item in items])
    labels = np.array([item.is_supported for item in items])
    families = np.array([item.family for item in items])
    said = _cross_validated(values, labels, families, seed)
    names = sorted(set(families.tolist()))
    sets = {
        name: _set_score(values[families == name], labels[families == name], said[families == name]) for name in names
    }
    missed = {
        kind: (sum(said[i] for i in of), len(of))
        for kind in sorted({kind for item in items for kind in item.errors})
        if (of := [i for i, item in enumerate(items) if kind in item.errors and not item.is_supported])
    }
    return GroundednessReport(
        sets, _mean_score(said, labels, families, seed), best_threshold(values, labels, families), missed
    )


def _cross_validated(values: Any, labels: Any, families: Any, seed: int) -> Any:
    """What each row is taken for, by the threshold of the other folds."""
    said = np.zeros(len(values), dtype=bool)
    for held_out in np.array_split(np.random.default_rng(seed).permutation(len(values)), FOLDS):
        rest = np.setdiff1d(np.arange(len(values)), held_out)
        said[held_out] = values[held_out] >= best_threshold(values[rest], labels[rest], families[rest])
    return said


def best_threshold(values: Any, labels: Any, families: Any) -> float:
    """Of the greatest mean balanced accuracy over data sets; the middle one of equals."""
    candidates = np.unique(np.quantile(values, np.linspace(0.01, 0.99, 99)))
    means = np.array([_mean_balanced(values >= candidate, labels, families) for candidate in candidates])
    best = candidates[means >= means.max() - 1e-9]
    return float(best[len(best) // 2])


def _mean_balanced(said: Any, labels: Any, families: Any) -> float:
    names = dict.fromkeys(families.tolist())
    return float(np.mean([balanced_accuracy(said[families == n], labels[families == n]) for n in names]))


def _set_score(values: Any, labels: Any, said: Any) -> SetScore:
    caught = float(np.sum(~said & ~labels))
    f1 = 2 * caught / max(1.0, float(np.sum(~said) + np.sum(~labels)))
    return SetScore(balanced_accuracy(said, labels), f1, auroc(values, labels), len(labels))


def _mean_score(said: Any, labels: Any, families: Any, seed: int) -> Score:
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate(
            [rng.choice(of, len(of)) for of in (np.flatnonzero(families == n) for n in np.unique(families))]
        )
        draws.append(_mean_balanced(said[drawn], labels[drawn], families[drawn]))
    low, high = np.percentile(draws, (2.5, 97.5))
    return Score(_mean_balanced(said, labels, families), float(low), float(high), len(labels))


# -- words that people labelled ----------------------------------------------------------------------------------------


def judge_keywords(items: Iterable[LabelledClaim]) -> list[tuple[bool, bool]]:
    """For each labelled word: whether the source has it (its figures, or its characters), and whether people say so."""
    return [
        (_is_there(keyword, item.source), label)
        for item in items
        if is_mostly_cjk(item.claim)
        for keyword, label in item.keywords
    ]


def _is_there(keyword: str, source: str) -> bool:
    if examine(keyword, [source]).figures:
        return False
    wanted, held = tokens(keyword), set(tokens(source))
    return sum(token in held for token in wanted) >= 0.5 * len(wanted)
