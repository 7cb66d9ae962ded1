"""PyMuPDF's layout model, made to compute as this process should: in its one thread where it is a worker's.

The part that looks at pixels takes most of the time, and runs on OpenVINO where that is installed. Knows how PyMuPDF
puts its model together; should that change, the model computes as PyMuPDF made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from mmrag.mupdf import pymupdf
from mmrag.once import once
from mmrag.threads import threads


@once
def tuned() -> None:
    """To be called before the first `page.get_layout()`."""
    pymupdf._get_layout = pymupdf._get_layout or _unset  # else the package would load the model as it is
    from pymupdf.layout import DocumentLayoutAnalyzer
    from pymupdf.layout.onnx import BoxRFDGNN

    if hasattr(BoxRFDGNN, "make_session"):
        BoxRFDGNN.make_session = _session
    model = DocumentLayoutAnalyzer.get_model()
    # Grids of tables are made of our own rules, and the order of the boxes is too: a fifth of the time.
    getattr(model, "_model", model).table_grid_extractor = None
    pymupdf._get_layout = partial(model.predict, do_sort=False)


def let_go() -> None:
    """Of what the model keeps for the next page, some hundred megabytes, where something else needs the room."""
    for model in _OpenVino.loaded:
        model.release_memory()


def _unset(page: Any) -> list[Any]:
    raise RuntimeError("the layout model is not loaded")


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

    loaded: ClassVar[list[Any]] = []

    def __init__(self, path: str) -> None:
        import openvino

        count = threads()
        options = {"INFERENCE_NUM_THREADS": str(count)} if count else {}
        self._model = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY", **options})
        self.loaded.append(self._model)

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
