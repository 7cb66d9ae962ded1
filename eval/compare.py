"""Two runs of one measurement side by side: differences on the items that both have, by paired bootstrap.

Knows runs, not what they measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.metrics import divide, resampled_sums
from eval.runs import Row, Run
from mmrag.errors import UsageError

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one metric, second run less first, over the items that have it in both."""

    first: float
    second: float
    mean: float
    low: float
    high: float
    above: float
    """Share of the bootstrap samples in which the second run is higher; half of those in which both are equal."""
    p: float
    """Two-sided: how often resampling alone moves the difference to the other side of 0 or onto it."""
    count: int
    most: tuple[tuple[str, float], ...]
    """The items that differ most, with their differences."""

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True, slots=True)
class Comparison:
    name: str
    common: int
    only_first: int
    only_second: int
    metrics: dict[str, Difference]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(first: Run, second: Run) -> Comparison:
    """UsageError where the runs measure different things or have no item in common."""
    if first.name != second.name:
        raise UsageError(f"One run is of {first.name}, the other of {second.name}: compare runs of one measurement.")
    ours, theirs = ({row["id"]: row for row in run.rows} for run in (first, second))
    pairs = [(row, theirs[name]) for name, row in ours.items() if name in theirs]
    if not pairs:
        raise UsageError("The two runs have no item in common: compare runs on the same data.")
    names = dict.fromkeys(metric for row, other in pairs for metric in row["values"] if metric in other["values"])
    return Comparison(
        first.name,
        len(pairs),
        len(ours) - len(pairs),
        len(theirs) - len(pairs),
        {metric: _difference(metric, pairs) for metric in names},
        tuple(_notes(first, second)),
    )


def _difference(metric: str, pairs: Sequence[tuple[Row, Row]]) -> Difference:
    both = [(a, b) for a, b in pairs if metric in a["values"] and metric in b["values"]]
    before, after = (np.array([row["values"][metric] for row in side], dtype=float) for side in zip(*both, strict=True))
    clusters = [row.get("cluster", row["id"]) for row, _ in both]
    sums = resampled_sums([(value, 1.0) for value in after - before], clusters)
    drawn = divide(sums[:, 0], sums[:, 1])  # (resamples,)
    low, high = np.percentile(drawn, (2.5, 97.5))
    # One more on either side, for the sample that was observed: no finite number of resamples shows a p of 0.
    tail = 1 + min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    order = sorted(zip(after - before, both, strict=True), key=lambda pair: -abs(pair[0]))
    return Difference(
        first=float(before.mean()),
        second=float(after.mean()),
        mean=float((after - before).mean()),
        low=float(low),
        high=float(high),
        above=float(np.mean((drawn > 0) + 0.5 * (drawn == 0))),
        p=min(1.0, 2 * tail / (len(drawn) + 1)),
        count=len(both),
        most=tuple((row["id"], float(value)) for value, (row, _) in order[:_NAMED] if value),
    )


def _notes(first: Run, second: Run) -> list[str]:
    """What the runs do not share besides what is to be compared."""
    return [
        f"The runs differ in {name}: {_short(first.made_by.get(name))} and {_short(second.made_by.get(name))}."
        for name in sorted({*first.made_by, *second.made_by} - {"finished"})
        if first.made_by.get(name) != second.made_by.get(name)
    ]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_short, value))
    text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
