"""PyMuPDF, imported without the layout model that it would load at once: half a second, which only ingest needs."""

from __future__ import annotations

import sys
from typing import Any

_LAYOUT = "pymupdf.layout"
_modules: dict[str, Any] = sys.modules
_is_barred = "pymupdf" not in _modules and _LAYOUT not in _modules
if _is_barred:
    _modules[_LAYOUT] = None  # Python's own way to say that a module cannot be imported
import pymupdf  # noqa: E402

if _is_barred:
    del _modules[_LAYOUT]

__all__ = ["pymupdf"]
