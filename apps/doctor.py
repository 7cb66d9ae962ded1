"""What `mmrag doctor` looks at: the installation, the weights on this disk, the machine, the store. Fetches nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from apps.fit import Finding, examine_generator, free_memory
from ingest import office
from mmrag import __version__
from mmrag.bundled import bundled_weights
from mmrag.checkpoint import on_disk
from mmrag.chroma import ChromaServer, reach
from mmrag.errors import MmragError, StoreNotFound
from mmrag.index import Index
from mmrag.settings import PROFILES, Settings

_EXTRAS = {
    "full": ("torch", "torchvision", "transformers", "sentence_transformers", "qwen_vl_utils"),
    "openai": ("llama_index.llms.openai_like",),
    "ray": ("ray.data",),
    "app": ("streamlit",),
    "eval": ("ir_measures", "matplotlib", "rapidfuzz"),
}
_CORE = ("chromadb", "fastembed", "llama-index-core", "pymupdf", "rapidocr")


def examine(settings: Settings) -> list[Finding]:
    return [*_installation(), *_weights(), *_machine(), *examine_generator(settings), *_store(settings)]


def _installation() -> Iterator[Finding]:
    yield Finding(True, "mmrag", f"{__version__}, Python {platform.python_version()}, {sys.platform}")
    for name in _CORE:
        try:
            yield Finding(True, name, version(name))
        except PackageNotFoundError:
            yield Finding(False, name, "missing", "pip install --force-reinstall mmrag")
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if not _is_installed(name)]
        found = f"not installed: {', '.join(missing)}" if missing else "installed"
        yield Finding(not missing, f"extra {extra}", found, f"pip install 'mmrag[{extra}]'" if missing else "")
    program = office.find_program()
    advice = "" if program else "for Office files: https://www.libreoffice.org, or  apt install libreoffice"
    yield Finding(program is not None, "LibreOffice", program or "not installed", advice)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def _weights() -> Iterator[Finding]:
    for role, folder in (("text encoder", "bge_small_en"), ("reranker", "reranker_en")):
        try:
            size = (bundled_weights(folder) / "model.onnx").stat().st_size
            yield Finding(True, f"{role} (offline)", f"{folder}, {size / 1e6:.0f} MB, bundled")
        except MmragError as error:
            yield Finding(False, f"{role} (offline)", "missing", str(error))
    name = PROFILES["full"].image_encoder
    cached = on_disk(name) is not None
    yield Finding(
        cached,
        "image encoder (full)",
        f"{name}, {'cached' if cached else 'not on this disk'}",
        "" if cached else "loaded at first use, or give a local folder with --image-encoder",
    )


def _machine() -> Iterator[Finding]:
    yield Finding(True, "processors", str(os.cpu_count() or 1))
    free = free_memory()
    if free is not None:
        enough = free > 2e9
        yield Finding(enough, "free memory", f"{free / 1e9:.1f} GB", "" if enough else "ingest with --workers 1")
    yield _gpu()


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


def _store(settings: Settings) -> Iterator[Finding]:
    server = settings.chroma
    try:
        with Index.open(settings.store, chroma=server) as index:
            server = index.server or server
            yield _contents(index)
    except StoreNotFound:
        yield Finding(True, "store", f"none at {settings.store.absolute()}", "mmrag ingest FOLDER")
    except MmragError as error:
        yield Finding(False, "store", str(settings.store), str(error))
    if server:
        yield _server(server)


def _contents(index: Index) -> Finding:
    documents = index.documents()
    pages = sum(document.page_count for document in documents)
    free = shutil.disk_usage(index.path).free
    found = f"{index.path}: {len(documents)} documents, {pages} pages; {free / 1e9:.0f} GB free on its disk"
    return Finding(True, "store", found, "" if documents else "mmrag ingest FOLDER")


def _server(server: ChromaServer) -> Finding:
    try:
        return Finding(True, "Chroma server", f"{server.address}, {reach(server)}")
    except MmragError as error:
        return Finding(False, "Chroma server", server.address, str(error))
