"""Numbers that every measurement shares: ranking metrics by trec_eval (ir_measures), means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmrag.errors import require

_RESAMPLES = 2000
RANKING = {
    "ndcg_at_5": "nDCG@5",
    "hit_at_1": "Success@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "mrr": "RR",
    "map": "AP",
}
"""Names of metrics, with what ir_measures calls them."""

Values = dict[str, dict[str, float]]
"""By metric and question."""


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over questions with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_score(values: Sequence[float]) -> Score:
    sample = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).choice(sample, (_RESAMPLES, len(sample))).mean(axis=1)  # (resamples,)
    low, high = np.percentile(draws, (2.5, 97.5))
    return Score(float(sample.mean()), float(low), float(high), len(sample))


def summary(values: Values) -> dict[str, Score]:
    return {name: mean_score(list(by_id.values())) for name, by_id in values.items()}


def score_rankings(
    rankings: Mapping[str, Sequence[str]],
    gold: Mapping[str, Sequence[str]],
    metrics: Mapping[str, str] = RANKING,
) -> Values:
    """`rankings` and `gold` are names by question, best first. A question without any hit counts as zero."""
    measures = require("ir_measures", extra="eval")
    parsed = {measures.parse_measure(metric): name for name, metric in metrics.items()}
    qrels = [measures.Qrel(question, name, 1) for question, names in gold.items() for name in names]
    run = [
        measures.ScoredDoc(question, name, -rank)
        for question, names in rankings.items()
        for rank, name in enumerate(names)
    ]
    values = {name: dict.fromkeys(gold, 0.0) for name in metrics}
    for metric in measures.iter_calc(list(parsed), qrels, run):
        values[parsed[metric.measure]][metric.query_id] = metric.value
    return values
