"""How far a probability can be trusted: AUROC, calibration error, risk against coverage; a logistic fit, by folds.

Pure logic on numbers: `sure` holds probabilities that an answer is right, `right` whether it was (0 or 1).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eval.metrics import Array, Score

_RESAMPLES = 2000
BINS = 10
Mask = npt.NDArray[np.bool_]
Statistic = Callable[[Array, Array], float]


def auroc(sure: Array, right: Array) -> float:
    """How often a right one is surer than a wrong one, ties counting a half; 0.5 where all are alike."""
    good, bad = np.sort(sure[right > 0.5]), np.sort(sure[right <= 0.5])
    if not len(good) or not len(bad):
        return 0.5
    below, upto = np.searchsorted(bad, good, "left"), np.searchsorted(bad, good, "right")
    return float(np.mean((below + upto) / 2) / len(bad))


def balanced_accuracy(said: Array, right: Array) -> float:
    """Mean of the shares of right and of wrong ones that are told as such; 0.5 is chance."""
    shares = [np.mean(said[right == label] == label) for label in (0, 1) if np.any(right == label)]
    return float(np.mean(shares))


def brier(sure: Array, right: Array) -> float:
    return float(np.mean((sure - right) ** 2))


class Bin(NamedTuple):
    """What a bin of probabilities promises, and what came."""

    sure: float
    right: float
    size: int


def bins_of_equal_mass(sure: Array, right: Array, bins: int = BINS) -> list[Bin]:
    """As many answers in each, as far as that goes."""
    order = np.argsort(sure, kind="stable")
    parts = np.array_split(order, min(bins, len(order)) or 1)
    return [Bin(float(sure[part].mean()), float(right[part].mean()), len(part)) for part in parts if len(part)]


def bins_of_equal_width(sure: Array, right: Array, bins: int = BINS) -> list[Bin]:
    numbers = np.minimum((sure * bins).astype(int), bins - 1)
    parts = [np.flatnonzero(numbers == number) for number in range(bins)]
    return [Bin(float(sure[part].mean()), float(right[part].mean()), len(part)) for part in parts if len(part)]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected: the gap between promise and outcome, by the bins' sizes."""
    total = sum(b.size for b in bins)
    return sum(b.size * abs(b.sure - b.right) for b in bins) / total if total else 0.0


def expected_calibration_error(sure: Array, right: Array) -> float:
    """In ten bins of equal mass: of equal width, most would hold next to nothing."""
    return calibration_error(bins_of_equal_mass(sure, right))


def expected_calibration_error_by_width(sure: Array, right: Array) -> float:
    return calibration_error(bins_of_equal_width(sure, right))


def risk_coverage(sure: Array, right: Array) -> tuple[Array, Array]:
    """The share of questions that is answered, surest first, and the share of wrong ones among these.

    Ties are answered together: no threshold parts them.
    """
    order = np.argsort(-sure, kind="stable")
    ends = np.flatnonzero(np.diff(sure[order], append=-np.inf))  # where each tie ends
    counts = ends + 1
    wrong = np.cumsum(1 - right[order])[ends]
    return counts / max(1, len(sure)), wrong / counts


def area_under_risk(sure: Array, right: Array) -> float:
    """Mean risk over all coverages (AURC), lower is better: the share of wrong answers where confidence is blind."""
    coverage, risk = risk_coverage(sure, right)
    return float(np.sum(risk * np.diff(coverage, prepend=0.0)))


STATISTICS: dict[str, Statistic] = {
    "AUROC": auroc,
    "ECE": expected_calibration_error,
    "ECE, equal width": expected_calibration_error_by_width,
    "Brier": brier,
    "AURC": area_under_risk,
}


def score(statistic: Statistic, sure: Array, right: Array, clusters: Sequence[Hashable]) -> Score:
    """With its 95 % bootstrap interval; items of one cluster are drawn together."""
    members: dict[Hashable, list[int]] = {}
    for i, name in enumerate(clusters):
        members.setdefault(name, []).append(i)
    parts, random = [np.array(part) for part in members.values()], np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = np.concatenate([parts[i] for i in random.integers(0, len(parts), len(parts))])
        drawn.append(statistic(sure[chosen], right[chosen]))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Score(statistic(sure, right), float(low), float(high), len(sure))


# -- logistic regression ---------------------------------------------------------------------------------------------


class Logistic(NamedTuple):
    """A probability from weighted features: `1 / (1 + exp(-(weights · x + bias)))`."""

    weights: Array
    bias: float

    def __call__(self, features: Array) -> Array:
        found: Array = 1 / (1 + np.exp(-(features @ self.weights + self.bias)))
        return found


def fit_logistic(features: Array, right: Array, *, ridge: float = 1.0, steps: int = 50) -> Logistic:
    """By Newton's method, with `ridge` on the weights of the standardised features (none on the bias)."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    x = np.column_stack([(features - mean) / spread, np.ones(len(features))])  # (n, features + 1)
    penalty = np.diag([ridge] * features.shape[1] + [1e-9])
    beta = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(x @ beta)))
        gradient = x.T @ (right - p) - penalty @ beta
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + penalty, gradient)
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    weights = beta[:-1] / spread
    return Logistic(weights, float(beta[-1] - weights @ mean))


def cross_validated(
    features: Array, right: Array, clusters: Sequence[Hashable], *, count: int = 10, ridge: float = 1.0
) -> Array:
    """The probability of each item by a fit to the folds without it; a cluster, such as a document, is in one fold."""
    sure = np.full(len(right), np.nan)
    for held_out in folds(clusters, count):
        fit = fit_logistic(features[~held_out], right[~held_out], ridge=ridge)
        sure[held_out] = fit(features[held_out])
    return sure


def folds(clusters: Sequence[Hashable], count: int) -> Iterator[Mask]:
    """Masks of about the same size: the largest cluster first, each to the fold that has fewest."""
    sizes: dict[Hashable, int] = {}
    for name in clusters:
        sizes[name] = sizes.get(name, 0) + 1
    parts: list[set[Hashable]] = [set() for _ in range(min(count, len(sizes)))]
    for name in sorted(sizes, key=lambda name: (-sizes[name], str(name))):
        min(parts, key=lambda part: sum(sizes[n] for n in part)).add(name)
    for part in parts:
        yield np.array([name in part for name in clusters])
