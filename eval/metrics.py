"""Numbers that every measurement shares: ranking metrics by trec_eval (ir_measures), means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

Array = npt.NDArray[np.float64]
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


def ratio_score(parts: Sequence[float], wholes: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Score:
    """The sum of `parts` over the sum of `wholes`; 0 where that is 0."""
    return score_of_sums(
        list(zip(parts, wholes, strict=True)), lambda sums: divide(sums[..., 0], sums[..., 1]), clusters
    )


def score_of_sums(
    table: Sequence[Sequence[float]],
    statistic: Callable[[Array], Array],
    clusters: Sequence[Hashable] | None = None,
) -> Score:
    """A statistic of the sums of columns, such as a ratio or F1, with its 95 % bootstrap interval.

    `table` has a row for each item. Items of one cluster are drawn together: six questions about one image say less
    than six about six.
    """
    drawn = statistic(resampled_sums(table, clusters))
    low, high = np.percentile(drawn, (2.5, 97.5))
    whole = statistic(np.asarray(table, dtype=float).sum(axis=0))
    return Score(float(whole), float(low), float(high), len(table))


def resampled_sums(table: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None = None) -> Array:
    """Sums of the columns in each bootstrap sample: (resamples, columns)."""
    rows = np.asarray(table, dtype=float)
    if clusters is not None:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        together = np.zeros((len(numbers), rows.shape[1]))
        np.add.at(together, [numbers[name] for name in clusters], rows)
        rows = together
    count, random = len(rows), np.random.default_rng(0)
    # How often each row is drawn, a hundred samples at a time: all at once would be gigabytes for a large set.
    steps = (random.multinomial(count, np.full(count, 1 / count), 100) @ rows for _ in range(_RESAMPLES // 100))
    return np.vstack(list(steps))


def divide(parts: Array, wholes: Array) -> Array:
    """0 where the whole is 0: no answer of a kind is no merit."""
    found: Array = np.divide(parts, wholes, out=np.zeros_like(wholes, dtype=float), where=wholes != 0)
    return found


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
