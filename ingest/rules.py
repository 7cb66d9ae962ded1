"""Tables whose cells are ruled: finds the lines in the pixels of a page, and the cells that they enclose.

The same for scans and for drawn pages, where a line may be a stroke, a thin rectangle or a picture. Knows no words.
"""

from __future__ import annotations

from itertools import pairwise, product
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
# Share of a cell's side along which a rule must stand to close it.
_CLOSED = 0.5


def ruled_grids(image: Image.Image) -> list[Grid]:
    """The grids of two rows and two columns or more on a page."""
    scale = min(1.0, _PIXELS / max(image.size))
    grey = np.asarray(image.convert("L").resize([max(1, round(side * scale)) for side in image.size]))  # (h, w)
    across = _rules(grey, _ACROSS)
    down = np.ascontiguousarray(_rules(np.ascontiguousarray(grey.T), _DOWN).T)
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


def _rules(grey: NDArray[np.uint8], shortest: int) -> Mask:
    """Thin strokes along the rows of pixels, lighter or darker than what is beside them."""
    beside, along = np.ones((_THICKEST, 1), np.uint8), np.ones((1, shortest), np.uint8)
    found = np.zeros_like(grey)
    for stroke in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        ink = (cv2.morphologyEx(grey, stroke, beside) > _CONTRAST).astype(np.uint8)
        found = np.maximum(found, cv2.morphologyEx(ink, cv2.MORPH_OPEN, along))
    return found


_Corners = tuple[int, int, int, int]


def _cells(across: Mask, down: Mask) -> list[_Corners]:
    """Corners (x0, y0, x1, y1) of what the rules of one grid enclose; empty where they make no grid."""
    rows, columns = list(pairwise(_edges(across, _ACROSS))), list(pairwise(_edges(down.T, _DOWN)))
    if len(rows) < 2 or len(columns) < 2:
        return []
    group = {place: place for place in product(range(len(rows)), range(len(columns)))}

    def root(place: tuple[int, int]) -> tuple[int, int]:
        while group[place] != place:
            place = group[place]
        return place

    for (i, (y0, y1)), (j, (x0, x1)) in product(enumerate(rows), enumerate(columns)):
        if j + 1 < len(columns) and not _is_closed(down[y0:y1, x1 - _GAP : x1 + _GAP + 1].any(axis=1)):
            group[root((i, j + 1))] = root((i, j))
        if i + 1 < len(rows) and not _is_closed(across[y1 - _GAP : y1 + _GAP + 1, x0:x1].any(axis=0)):
            group[root((i + 1, j))] = root((i, j))
    joined: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place in group:
        joined.setdefault(root(place), []).append(place)
    cells = [
        (columns[min(xs)][0], rows[min(ys)][0], columns[max(xs)][1], rows[max(ys)][1])
        for ys, xs in (zip(*places, strict=True) for places in joined.values())
    ]
    return sorted(cells, key=lambda c: (c[1], c[0])) if len(cells) >= 4 else []


def _edges(rules: Mask, shortest: int) -> list[int]:
    """Where rules lie along the first axis, in the middle of their ink; an open side is closed where the rest ends."""
    lines = np.flatnonzero(rules.sum(axis=1) >= shortest)
    runs = np.split(lines, np.flatnonzero(np.diff(lines) > _GAP) + 1) if lines.size else []
    middles = [int(run.mean()) for run in runs]
    start = [0] if middles and middles[0] > _DOWN else []
    end = [len(rules)] if middles and len(rules) - middles[-1] > _DOWN else []
    return [*start, *middles, *end]


def _is_closed(ink: Any) -> bool:
    """Whether a rule stands along most of a side of a cell; `ink` tells it of each pixel."""
    return bool(ink.size) and float(ink.mean()) > _CLOSED
