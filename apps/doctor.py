"""What `mmrag doctor` looks at: the installation, the weights on this disk, the machine, the store. Fetches nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mmrag import __version__
from mmrag.encoders import bundled_weights
from mmrag.errors import MmragError, StoreNotFound
from mmrag.index import Index
from mmrag.settings import PROFILES, Settings

_EXTRAS = {
    "full": ("torch", "torchvision", "transformers", "sentence_transformers", "qwen_vl_utils"),
    "app": ("streamlit",),
    "eval": ("ir_measures", "matplotlib", "rapidfuzz"),
}
_CORE = ("chromadb", "fastembed", "llama-index-core", "pymupdf", "rapidocr")


class Finding(NamedTuple):
    ok: bool
    what: str
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Finding]:
    return [*_installation(), *_weights(), *_machine(), _store(settings)]


def _installation() -> Iterator[Finding]:
    yield Finding(True, "mmrag", f"{__version__}, Python {platform.python_version()}, {sys.platform}")
    for name in _CORE:
        try:
            yield Finding(True, name, version(name))
        except PackageNotFoundError:
            yield Finding(False, name, "missing", "pip install --force-reinstall mmrag")
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        found = f"not installed: {', '.join(missing)}" if missing else "installed"
        yield Finding(not missing, f"extra {extra}", found, f"pip install 'mmrag[{extra}]'" if missing else "")


def _weights() -> Iterator[Finding]:
    for role, folder in (("text encoder", "bge_small_en"), ("reranker", "reranker_en")):
        try:
            size = (bundled_weights(folder) / "model.onnx").stat().st_size
            yield Finding(True, f"{role} (offline)", f"{folder}, {size / 1e6:.0f} MB, bundled")
        except MmragError as error:
            yield Finding(False, f"{role} (offline)", "missing", str(error))
    name = PROFILES["full"].image_encoder
    cached = _in_hub_cache(name)
    yield Finding(
        cached,
        "image encoder (full)",
        f"{name}, {'cached' if cached else 'not on this disk'}",
        "" if cached else "loaded at first use, or give a local folder with --image-encoder",
    )


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _machine() -> Iterator[Finding]:
    yield Finding(True, "processors", str(os.cpu_count() or 1))
    free = _free_memory()
    if free is not None:
        enough = free > 2e9
        yield Finding(enough, "free memory", f"{free / 1e9:.1f} GB", "" if enough else "ingest with --workers 1")
    yield _gpu()


def _free_memory() -> float | None:
    """Bytes, from /proc on Linux; None where that is not there."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines)
    return float(values["MemAvailable"].split()[0]) * 1024


def _gpu() -> Finding:
    if find_spec("torch") is None:
        return Finding(True, "GPU", "not asked for: the offline profile needs none")
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        return Finding(True, "GPU", f"{torch.cuda.get_device_name(0)}, {memory / 1e9:.0f} GB")
    if torch.backends.mps.is_available():
        return Finding(True, "GPU", "Apple Metal")
    return Finding(True, "GPU", "none; models run on the processor")


def _store(settings: Settings) -> Finding:
    try:
        index = Index.open(settings.store)
    except StoreNotFound:
        return Finding(True, "store", f"none at {settings.store.absolute()}", "mmrag ingest FOLDER")
    except MmragError as error:
        return Finding(False, "store", str(settings.store), str(error))
    with index:
        documents = index.documents()
    pages = sum(document.page_count for document in documents)
    free = shutil.disk_usage(index.path).free
    found = f"{index.path}: {len(documents)} documents, {pages} pages; {free / 1e9:.0f} GB free on its disk"
    return Finding(True, "store", found, "" if documents else "mmrag ingest FOLDER")
