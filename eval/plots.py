"""Plots of runs and comparisons as PNG files, by matplotlib. Knows numbers and their names, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from eval.calibration import bins_of_equal_mass, risk_coverage
from eval.compare import Comparison
from eval.metrics import Array
from eval.runs import Run
from mmrag.errors import require

_BLUE, _GREY = "#0072B2", "#444444"
_COLOURS = (_BLUE, "#D55E00", "#009E73")
_SHOWN = 24
"""Groups in one plot: with more nobody can read their names."""


def plot_run(run: Run, target: Path | IO[bytes]) -> None:
    """A panel for each metric, a line for each group, with 95 % intervals."""
    groups = list(run.scores)[:_SHOWN]
    metrics = list(dict.fromkeys(metric for group in groups for metric in run.scores[group]))
    figure, panels = _panels(len(metrics), len(groups))
    for panel, metric in zip(panels, metrics, strict=True):
        scores = {group: run.scores[group][metric] for group in groups if metric in run.scores[group]}
        _intervals(panel, {group: (score.mean, score.low, score.high) for group, score in scores.items()}, groups)
        panel.set_title(metric, fontsize=9)
        if all(score.low >= 0 and score.high <= 1 for score in scores.values()):
            panel.set_xlim(-0.02, 1.02)
    figure.suptitle(f"{run.name}: {len(run.rows)} items, 95 % bootstrap intervals", fontsize=10)
    figure.savefig(target, dpi=150)


def plot_comparison(found: Comparison, target: Path) -> None:
    """Second run less first for each metric, with intervals."""
    figure, (panel,) = _panels(1, len(found.metrics))
    rows = {name: (d.mean, d.low, d.high) for name, d in found.metrics.items()}
    _intervals(panel, rows, list(rows))
    panel.axvline(0, color=_GREY, linewidth=0.8)
    panel.set_xlabel(f"second run less first, {found.common} common items, 95 % paired bootstrap interval")
    figure.savefig(target, dpi=150)


def _panels(count: int, lines: int) -> tuple[Any, list[Any]]:
    require("matplotlib", extra="eval")
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(max(6.0, 2.4 * count + 1.5), 0.35 * lines + 1.6), layout="constrained")
    axes = figure.subplots(1, max(1, count), sharey=True, squeeze=False)
    return figure, list(axes[0])


def _intervals(panel: Any, rows: Mapping[str, tuple[float, float, float]], order: list[str]) -> None:
    places = {name: len(order) - 1 - i for i, name in enumerate(order)}
    for name, (mean, low, high) in rows.items():
        panel.hlines(places[name], low, high, color=_GREY, linewidth=1)
        panel.plot(mean, places[name], "o", color=_BLUE, markersize=4)
    panel.set_yticks(list(places.values()), [_plain(name) for name in places])
    panel.spines[["top", "right"]].set_visible(False)


def _plain(name: str) -> str:
    """As it is written: matplotlib would set what stands between dollar signs as a formula."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")[:48]


def plot_trust(curves: Mapping[str, tuple[Array, Array]], target: Path) -> None:
    """Risk against coverage, and what confidences promise against what came (ten bins of equal mass), as a PNG.

    `curves` are confidences and whether the answer was right, by name.
    """
    require("matplotlib", extra="eval")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    risks, promises = figure.subplots(1, 2)
    promises.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
    for (name, (sure, right)), colour in zip(curves.items(), _COLOURS, strict=False):
        coverage, risk = risk_coverage(sure, right)
        risks.step(coverage, risk, where="post", color=colour, label=_plain(name))
        bins = bins_of_equal_mass(sure, right)
        promises.plot([b.sure for b in bins], [b.right for b in bins], "o-", color=colour, markersize=4, linewidth=1)
        risks.axhline(1 - right.mean(), color=_GREY, linewidth=0.8, linestyle=":")
    _label(risks, "share of the questions that is answered", "share of these answers that is wrong")
    _label(promises, "confidence", "share that is right")
    risks.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{len(right)} questions; dotted: what chance gives, and a perfect promise", fontsize=10)
    figure.savefig(target, dpi=150)


def _label(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
