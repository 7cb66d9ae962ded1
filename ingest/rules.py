"""Tables whose cells are ruled: finds the lines in the pixels of a page, and the cells that they enclose.

The same for scans and for drawn pages, where a line may be a stroke, a thin rectangle or a picture. Knows no words.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.tables import Grid
from mmrag.types import BBox

Mask = NDArray[np.uint8]
"""(h, w), 1 where a rule is."""

# Longest side, in pixels, at which rules are looked for; the other sizes here are in these pixels.
_PIXELS = 1600
_THICKEST = 9
_CONTRAST = 25  # of 255, to the paper on both sides
# Shortest rule across and down: longer than the strokes of letters, shorter than a narrow column or a low row.
_ACROSS, _DOWN = 50, 24
_GAP = 5
_CROSSING = 2 * _THICKEST + 1
# Share of a cell's side along which a rule must stand to close it.
_CLOSED = 0.75
# More is graph paper or a map: no table has so many cells on a page.
_MOST_CELLS = 4000
# Cells are rectangles. So much more than the grid their boxes may cover together, for a rule that is not found.
_OVERLAP = 1.2


def ruled_grids(image: Image.Image) -> list[Grid]:
    """The grids of two rows and two columns or more on a page."""
    scale = min(1.0, _PIXELS / max(image.size))
    grey = np.asarray(image.convert("L").resize([max(1, round(side * scale)) for side in image.size]))  # (h, w)
    across, down = _rules(grey)
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(across | down, np.ones((_GAP, _GAP), np.uint8)))
    grids = []
    for part, (x, y, width, height, _) in enumerate(boxes[1:], start=1):
        window = np.s_[y : y + height, x : x + width]
        inside = parts[window] == part
        cells = _cells(across[window] * inside, down[window] * inside)
        if cells:
            placed = [
                BBox.from_size((x + c[0], y + c[1], x + c[2], y + c[3]), grey.shape[1], grey.shape[0]) for c in cells
            ]
            grids.append(Grid(BBox.union(placed), tuple(placed)))
    return grids


def _rules(grey: NDArray[np.uint8]) -> tuple[Mask, Mask]:
    """Thin strokes across and down, lighter or darker than what is beside them."""
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    for stroke in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        ink_across, ink_down = _ink(grey, stroke, (_THICKEST, 1)), _ink(grey, stroke, (1, _THICKEST))
        # Where two rules cross, neither is thin: the ink of each is whole only with the other's added.
        first = _open(ink_across, (1, _ACROSS))
        both = _open(ink_down | _grown(first, (1, _CROSSING)), (_DOWN, 1))
        down |= both
        across |= _open(ink_across | _grown(both, (_CROSSING, 1)), (1, _ACROSS))
    return across, down


def _ink(grey: NDArray[np.uint8], stroke: int, beside: tuple[int, int]) -> Mask:
    return (cv2.morphologyEx(grey, stroke, np.ones(beside, np.uint8)) > _CONTRAST).astype(np.uint8)


def _open(mask: Mask, size: tuple[int, int]) -> Mask:
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones(size, np.uint8)).astype(np.uint8)


def _grown(mask: Mask, size: tuple[int, int]) -> Mask:
    return cv2.dilate(mask, np.ones(size, np.uint8)).astype(np.uint8)


_Corners = tuple[int, int, int, int]


def _cells(across: Mask, down: Mask) -> list[_Corners]:
    """Corners (x0, y0, x1, y1) of what the rules of one grid enclose; empty where they make no grid."""
    ys, xs = _edges(across, _ACROSS), _edges(down.T, _DOWN)
    rows, columns = len(ys) - 1, len(xs) - 1
    if rows < 2 or columns < 2 or rows * columns > _MOST_CELLS:
        return []
    # Cells at even places, the passages between them at odd ones: 1 where no rule stands.
    plan = np.zeros((2 * rows - 1, 2 * columns - 1), np.uint8)
    plan[::2, ::2] = 1
    for i, x in enumerate(xs[1:-1]):
        plan[::2, 2 * i + 1] = _open_sides(down[:, x - _GAP : x + _GAP + 1].any(axis=1), ys)
    for i, y in enumerate(ys[1:-1]):
        plan[2 * i + 1, ::2] = _open_sides(across[y - _GAP : y + _GAP + 1].any(axis=0), xs)
    _, _, joined, _ = cv2.connectedComponentsWithStats(plan, connectivity=4)
    boxes = [(x // 2, y // 2, (x + width + 1) // 2, (y + height + 1) // 2) for x, y, width, height, _ in joined[1:]]
    if sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) > _OVERLAP * rows * columns:
        return []
    cells = [(xs[x0], ys[y0], xs[x1], ys[y1]) for x0, y0, x1, y1 in boxes]
    return sorted(cells, key=lambda c: (c[1], c[0])) if len(cells) >= 4 else []


def _edges(rules: Mask, shortest: int) -> list[int]:
    """Where rules lie along the first axis, in the middle of their ink; an open side is closed where the rest ends."""
    lines = np.flatnonzero(rules.sum(axis=1) >= shortest)
    runs = np.split(lines, np.flatnonzero(np.diff(lines) > _GAP) + 1) if lines.size else []
    middles = [int(run.mean()) for run in runs]
    start = [0] if middles and middles[0] > _DOWN else []
    end = [len(rules)] if middles and len(rules) - middles[-1] > _DOWN else []
    return [*start, *middles, *end]


def _open_sides(ink: Any, edges: list[int]) -> NDArray[np.bool_]:
    """Whether less than most of a side has a rule, for each of the sides between `edges` that stand in one line."""
    shares = np.add.reduceat(ink[: edges[-1]], edges[:-1], dtype=int) / np.diff(edges)
    return np.asarray(shares <= _CLOSED)
