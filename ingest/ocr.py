"""Words of a page that has none in its file: rapidocr, whose models are in its wheel. Knows pixels, not documents."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.layout import LayoutBox, PlacedWord, text_width
from ingest.tables import visual_rows
from ingest.timing import stage
from mmrag.once import once
from mmrag.threads import threads
from mmrag.types import WHOLE_PAGE, BBox, RegionKind

if TYPE_CHECKING:
    from PIL import Image

MIN_CONFIDENCE = 0.5
# Lines further apart than this many line heights belong to different paragraphs.
_PARAGRAPH_GAP = 0.9
# Letters of the longest line that is still taken for a cell, and line heights between the rows of one table.
_CELL_WIDTH = 40
_ROW_GAP = 3.0
# Share of the page's height that counts as its margin.
_EDGE = 0.12

_reading = Lock()  # the engine keeps the options of a call


def read_lines(image: Image.Image, clip: BBox = WHOLE_PAGE) -> tuple[list[PlacedWord], list[LayoutBox]]:
    """The printed lines of a page image, one `PlacedWord` each, in paragraphs; and the forms and tables on it.

    `image` shows the part `clip` of a page; boxes are fractions of the whole page.
    """
    pixels = np.asarray(image)  # (h, w, 3)
    with _reading, stage("OCR"):
        result = _engine()(pixels[:, :, ::-1], text_score=MIN_CONFIDENCE)  # blue first, as OpenCV has it
    if result.boxes is None or result.txts is None:
        return [], []
    grey = np.asarray(image.convert("L"), dtype=np.int16)  # (h, w)
    lines = [
        (text.strip(), BBox.from_size(_trimmed(corners, grey), *image.size).within(clip))
        for corners, text in zip(result.boxes, result.txts, strict=True)  # corners: (4, 2) pixels
        if text.strip()
    ]
    words = _with_margins(lines)
    return words, [LayoutBox(box, RegionKind.TABLE) for box in _grids(words)]


def _trimmed(corners: np.ndarray, grey: np.ndarray) -> tuple[float, float, float, float]:
    """The upright box of a detected line, drawn in to its ink: the detector leaves a margin of half the type size."""
    (x0, y0), (x1, y1) = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    x0, y0 = max(0, x0), max(0, y0)
    part = grey[y0:y1, x0:x1]
    if part.size:
        distance = np.abs(part - np.median(part))  # the background is what most pixels show, paper or a coloured bar
        ink = distance > 0.4 * distance.max()
        columns, rows = np.flatnonzero(ink.any(axis=0)), np.flatnonzero(ink.any(axis=1))
        if columns.size:
            x0, y0, x1, y1 = x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1
    return float(x0), float(y0), float(x1), float(y1)


def _grids(lines: list[PlacedWord]) -> list[BBox]:
    """Boxes around runs of rows whose short cells stand side by side: forms (label, value) and tables.

    Two columns of prose also stand side by side, but their lines are long.
    """
    grids: list[list[BBox]] = []
    for row in visual_rows(lines):
        box = BBox.union([line.box for line in row])
        if len(row) < 2 or any(text_width(line.text) > _CELL_WIDTH for line in row):
            continue
        if grids and box.y0 - grids[-1][-1].y1 < _ROW_GAP * box.height:
            grids[-1].append(box)
        else:
            grids.append([box])
    return [BBox.union(rows) for rows in grids if len(rows) > 1]


def _paragraphs(lines: list[tuple[str, BBox]]) -> list[PlacedWord]:
    """Lines that follow each other closely in one column get the same block number, blocks by their first line."""
    blocks: list[list[tuple[str, BBox]]] = []
    for line in sorted(lines, key=lambda item: (item[1].y0, item[1].x0)):
        home = next((block for block in reversed(blocks) if _follows(block[-1][1], line[1])), None)
        if home is None:
            blocks.append([line])
        else:
            home.append(line)
    return [PlacedWord(text, box, i) for i, block in enumerate(blocks) for text, box in block]


def _with_margins(lines: list[tuple[str, BBox]]) -> list[PlacedWord]:
    """Paragraphs, with what stands apart on the first or last line in the margin as a block: a running head or foot."""
    rows = visual_rows([PlacedWord(text, box, 0) for text, box in lines])
    spread = [
        row for row in (rows[:1] + rows[1:][-1:]) if len(row) > 1 and _in_margin(BBox.union([w.box for w in row]))
    ]
    apart = {line.box for row in spread for line in row}
    inner = _paragraphs([line for line in lines if line[1] not in apart])
    after = 1 + max((word.block for word in inner), default=0)
    heads = [line._replace(block=-1) for row in spread for line in row if line.box.y0 < 0.5]
    feet = [line._replace(block=after) for row in spread for line in row if line.box.y0 >= 0.5]
    return heads + inner + feet


def _in_margin(box: BBox) -> bool:
    return box.y1 < _EDGE or box.y0 > 1 - _EDGE


def _follows(above: BBox, below: BBox) -> bool:
    height = min(above.height, below.height)
    close = -0.5 * height <= below.y0 - above.y1 <= _PARAGRAPH_GAP * height
    shared = min(above.x1, below.x1) - max(above.x0, below.x0)
    return close and shared > 0.3 * min(above.width, below.width) and max(above.height, below.height) < 1.6 * height


@once
def _engine() -> Any:
    # rapidocr logs every model that it opens, by a logger that it configures itself on import.
    from rapidocr import EngineType, RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    rest = EngineType.ONNXRUNTIME
    if find_spec("openvino"):
        rest = EngineType.OPENVINO  # half the processor time
        _tune_openvino()
    count = threads() or -1
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Rec.rec_batch_num": 1,  # lines padded to the longest of a batch take longer, and a quarter more memory
            # OpenVINO takes a third of the time to find lines, but brings a worker to its limit of memory.
            "Det.engine_type": EngineType.ONNXRUNTIME,
            "Cls.engine_type": rest,
            "Rec.engine_type": rest,
            "EngineConfig.onnxruntime.intra_op_num_threads": count,
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,  # it would keep what the largest page took
            "EngineConfig.openvino.inference_num_threads": count,
        }
    )


@once
def _tune_openvino() -> None:
    """Where a processor has bfloat16 OpenVINO takes that, is no faster with these models, and drops letters.

    By itself it also keeps what it compiled for 5,000 sizes of picture, and lines have many: some 280 MB in 16 pages.
    """
    from rapidocr.inference_engine.openvino.device_config import CPUConfig

    get_config = CPUConfig.get_config

    def tuned(self: Any) -> dict[str, Any]:
        return {**get_config(self), "INFERENCE_PRECISION_HINT": "f32", "CPU_RUNTIME_CACHE_CAPACITY": "16"}

    CPUConfig.get_config = tuned  # type: ignore[method-assign]
