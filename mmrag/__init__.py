"""mmrag: answers from your documents, every sentence tied to an exact region of a page image.

    import mmrag

    rag = mmrag.open("mmrag-store")
    answer = rag.ask("What was the net revenue in 2024?")
    answer.citations[0].image().show()

Importing mmrag is light: models, Chroma and LlamaIndex are loaded when a store is opened.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mmrag.errors import (
    ClusterError,
    DocumentError,
    EncryptedFile,
    GenerationError,
    MissingExtra,
    MmragError,
    ModelNotFound,
    OutOfMemory,
    StoreBusy,
    StoreError,
    StoreMismatch,
    StoreNotFound,
    StoreUnreachable,
    UnreadableFile,
    UsageError,
)
from mmrag.types import Answer, BBox, Chunk, Citation, Claim, Document, Evidence, Page, Region, RegionKind, Word

if TYPE_CHECKING:
    from pathlib import Path

    from mmrag.engine import Rag

__all__ = [
    "Answer",
    "BBox",
    "Chunk",
    "Citation",
    "Claim",
    "ClusterError",
    "Document",
    "DocumentError",
    "EncryptedFile",
    "Evidence",
    "GenerationError",
    "MissingExtra",
    "MmragError",
    "ModelNotFound",
    "OutOfMemory",
    "Page",
    "Region",
    "RegionKind",
    "StoreBusy",
    "StoreError",
    "StoreMismatch",
    "StoreNotFound",
    "StoreUnreachable",
    "UnreadableFile",
    "UsageError",
    "Word",
    "open",
]

try:
    __version__ = version("mmrag")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"


def open(store: str | Path | None = None, *, profile: str | None = None, **choices: Any) -> Rag:
    """Open a store to ask it: see `mmrag.engine.open_store`."""
    from mmrag.engine import open_store

    return open_store(store, profile=profile, **choices)
