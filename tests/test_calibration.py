"""Calibration: by hand, against known fits, and what must hold of any probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st

from eval.calibration import (
    STATISTICS,
    area_under_risk,
    auroc,
    bins_of_equal_mass,
    bins_of_equal_width,
    brier,
    calibration_error,
    cross_validated,
    fit_logistic,
    folds,
    risk_coverage,
    score,
)

SURE = np.array([0.9, 0.8, 0.8, 0.3])
RIGHT = np.array([1.0, 0.0, 1.0, 0.0])
PAIRS = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40)


def test_by_hand() -> None:
    assert auroc(SURE, RIGHT) == (1 + 1 + 0.5 + 1) / 4  # 0.9 above both wrong ones, 0.8 ties with one
    assert brier(SURE, RIGHT) == pytest.approx((0.01 + 0.64 + 0.04 + 0.09) / 4)
    halves = bins_of_equal_mass(SURE, RIGHT, 2)
    assert [(b.sure, b.right, b.size) for b in halves] == [
        (pytest.approx(0.55), 0.0, 2),
        (pytest.approx(0.85), 1.0, 2),
    ]
    assert calibration_error(halves) == pytest.approx((0.55 + 0.15) / 2)
    widths = bins_of_equal_width(SURE, RIGHT, 2)
    assert [(b.sure, b.right, b.size) for b in widths] == [
        (0.3, 0.0, 1),
        (pytest.approx(2.5 / 3), pytest.approx(2 / 3), 3),
    ]
    assert bins_of_equal_width(np.array([1.0]), np.array([1.0])) == [(1.0, 1.0, 1)]


def test_risk_and_coverage_by_hand() -> None:
    coverage, risk = risk_coverage(SURE, RIGHT)
    assert coverage.tolist() == [0.25, 0.75, 1.0]  # the two of 0.8 are answered together
    assert risk.tolist() == pytest.approx([0, 1 / 3, 1 / 2])
    assert area_under_risk(SURE, RIGHT) == pytest.approx(0 + 0.5 / 3 + 0.25 / 2)


def test_confidence_without_information_has_an_auroc_of_a_half() -> None:
    assert auroc(np.full(4, 0.3), RIGHT) == auroc(SURE, np.ones(4)) == 0.5
    assert area_under_risk(np.full(4, 0.3), RIGHT) == 0.5


@RELAXED
@given(PAIRS)
def test_statistics_are_bounded_and_auroc_knows_only_the_order(pairs: list[tuple[int, bool]]) -> None:
    sure, right = np.array([p / 20 for p, _ in pairs]), np.array([float(r) for _, r in pairs])
    assert all(0 <= statistic(sure, right) <= 1 for statistic in STATISTICS.values())
    assert auroc(sure**3, right) == pytest.approx(auroc(sure, right))
    assert auroc(1 - sure, right) == pytest.approx(1 - auroc(sure, right))
    coverage, risk = risk_coverage(sure, right)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - right.mean())


def test_an_interval_draws_clusters_together() -> None:
    sure, right = np.tile(SURE, 20), np.tile(RIGHT, 20)
    alone = score(brier, sure, right, list(range(80)))
    together = score(brier, sure, right, [i % 4 for i in range(80)])
    assert alone.mean == together.mean
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_logistic_fit_finds_what_made_the_data() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, 2)) * [1, 10] + [3, 0]
    right = (random.random(4000) < 1 / (1 + np.exp(-(features @ [1.0, -0.2] - 2)))).astype(float)
    fit = fit_logistic(features, right)
    assert fit.weights == pytest.approx([1.0, -0.2], abs=0.12)
    assert fit.bias == pytest.approx(-2, abs=0.4)
    assert fit(features).mean() == pytest.approx(right.mean())  # the bias is not shrunk
    assert abs(fit_logistic(features, right, ridge=1e5).weights).max() < 0.01


def test_a_constant_feature_does_no_harm() -> None:
    features = np.column_stack([np.ones(40), np.tile([0.0, 1.0], 20)])
    fit = fit_logistic(features, np.tile([0.0, 0.0, 1.0, 1.0], 10))
    assert np.isfinite(fit(features)).all()


def test_no_item_is_predicted_by_a_fit_that_saw_its_document() -> None:
    clusters = ["a"] * 6 + ["b"] * 3 + ["c"] * 2 + ["d"]
    masks = list(folds(clusters, 3))
    assert np.sum(masks, axis=0).tolist() == [1] * 12
    assert [sorted({c for c, m in zip(clusters, mask, strict=True) if m}) for mask in masks] == [
        ["a"],
        ["b"],
        ["c", "d"],
    ]
    # A feature that names the document foretells its own items perfectly, and nothing of another's.
    right = np.array([1.0] * 6 + [0.0] * 6)
    features = np.array([[float(c == "a")] for c in clusters])
    assert auroc(fit_logistic(features, right)(features), right) == 1
    assert cross_validated(features, right, clusters, count=4)[:6] == pytest.approx([1e-6] * 6, abs=1e-3)
