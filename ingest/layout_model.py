"""PyMuPDF's layout model, made to compute as this process should: in its one thread where it is a worker's.

The part that looks at pixels takes most of the time, and runs on OpenVINO where that is installed. Knows how PyMuPDF
puts its model together; should that change, the model computes as PyMuPDF made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pymupdf

from ingest.worker import threads
from mmrag.once import once


@once
def tuned() -> None:
    """To be called before the first `page.get_layout()`."""
    from pymupdf.layout import DocumentLayoutAnalyzer
    from pymupdf.layout.onnx import BoxRFDGNN

    if not hasattr(BoxRFDGNN, "make_session"):
        return
    BoxRFDGNN.make_session = _session
    pymupdf._get_layout = DocumentLayoutAnalyzer.get_model().predict


def _session(path: str, providers: Any = None) -> Any:
    if Path(path).name.startswith("feature") and find_spec("openvino"):
        return _OpenVino(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads() or 0
    options.enable_cpu_mem_arena = False  # pages differ in size, and it never gives memory back
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class _OpenVino:
    """As an `onnxruntime.InferenceSession`, as far as the layout model uses one."""

    def __init__(self, path: str) -> None:
        import openvino

        count = threads()
        options = {"INFERENCE_NUM_THREADS": str(count)} if count else {}
        self._model = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY", **options})

    def get_inputs(self) -> list[Any]:
        return [_Named(value) for value in self._model.inputs]

    def get_outputs(self) -> list[Any]:
        return [_Named(value) for value in self._model.outputs]

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        found = self._model(dict(feed))
        outputs = self._model.outputs if names is None else [self._model.output(name) for name in names]
        return [found[output] for output in outputs]  # used up before the next run


class _Named:
    def __init__(self, value: Any) -> None:
        self.name = value.get_any_name()
        self.shape = [size.get_length() if size.is_static else None for size in value.partial_shape]
