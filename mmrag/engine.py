"""From a question to an Answer: retrieve, generate, decide whether to abstain. The front of the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TypeVar

from llama_index.core.base.response.schema import Response
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import NodeWithScore
from pydantic import ConfigDict

from mmrag.generate.extractive import ExtractiveGenerator, Quote
from mmrag.index import Index
from mmrag.models import Encoders, load_encoders, load_reranker
from mmrag.render import ImageInput
from mmrag.retrieve import Retriever, to_node
from mmrag.settings import Settings, load_settings
from mmrag.types import Answer, Citation, Claim, Evidence
from mmrag.verify import ABSTAIN_BELOW, confidence

EVIDENCE_PAGES = 8
EVIDENCE_PER_PAGE = 6

_T = TypeVar("_T")


class Rag:
    """A store that can be asked. Made by `mmrag.open`."""

    def __init__(
        self,
        index: Index,
        encoders: Encoders,
        generator: ExtractiveGenerator,
        *,
        reranker: BaseNodePostprocessor | None = None,
    ) -> None:
        self.index = index
        self.encoders = encoders
        self.retriever = Retriever(index, encoders, reranker=reranker)
        self._generator = generator

    def search(
        self,
        query: str = "",
        *,
        image: ImageInput | None = None,
        top_k: int = 10,
        documents: Sequence[str] | None = None,
    ) -> list[Evidence]:
        """The best region of each of the `top_k` best pages, for words, a picture (a file or PIL image) or both."""
        return self.retriever.search(query, image=image, top_k=top_k, documents=documents)

    def ask(self, question: str, *, top_k: int = EVIDENCE_PAGES, documents: Sequence[str] | None = None) -> Answer:
        """Answer from the `top_k` best pages, or abstain; UsageError for an empty question or unknown document."""
        timings: dict[str, float] = {}
        evidence = _timed(
            timings,
            "retrieve",
            lambda: self.retriever.search(question, top_k=top_k, documents=documents, per_page=EVIDENCE_PER_PAGE),
        )
        quotes = _timed(timings, "generate", lambda: self._generator.quote(question, evidence))
        claims = tuple(Claim(q.text, (self._cite(q),), confidence(q.relevance, q.evidence.agreement)) for q in quotes)
        sure = max((claim.confidence for claim in claims), default=0.0)
        abstained = sure < ABSTAIN_BELOW
        return Answer(
            question=question,
            claims=() if abstained else claims,
            abstained=abstained,
            confidence=sure,
            evidence=tuple(evidence),
            timings=timings,
        )

    def _cite(self, quote: Quote) -> Citation:
        item, span = quote.evidence, quote.span
        return Citation(
            document=item.document.name,
            document_id=item.document.id,
            page=item.page,
            region=item.region.id,
            bbox=item.region.box,
            quote=item.region.text[span.start : span.end],
            lines=item.region.lines(span.start, span.end),
            source=self.index.source(item.document),
        )

    def close(self) -> None:
        self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def query_engine(self) -> QueryEngine:
        """For a LlamaIndex program: `response.metadata["answer"]` is the Answer with its citations."""
        return QueryEngine(rag=self)


class QueryEngine(CustomQueryEngine):
    """A LlamaIndex query engine over a Rag."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    rag: Rag

    def custom_query(self, query_str: str) -> Response:
        answer = self.rag.ask(query_str)
        nodes = [NodeWithScore(node=to_node(evidence), score=evidence.score) for evidence in answer.evidence]
        return Response(response=answer.text, source_nodes=nodes, metadata={"answer": answer})


def open_store(
    store: str | Path | None = None,
    *,
    profile: str | None = None,
    reranker: str | BaseNodePostprocessor | None = None,
    **choices: Any,
) -> Rag:
    """Open a store to ask it. Raises StoreNotFound, StoreMismatch (other encoders), ModelNotFound or MissingExtra.

    `choices` are fields of `mmrag.settings.Settings`; a `reranker` may also be any LlamaIndex node postprocessor.
    """
    name = reranker if isinstance(reranker, str) else None
    settings = load_settings(profile, store=Path(store) if store is not None else None, reranker=name, **choices)
    return open_rag(settings, reranker=reranker if isinstance(reranker, BaseNodePostprocessor) else None)


def open_rag(settings: Settings, *, create: bool = False, reranker: BaseNodePostprocessor | None = None) -> Rag:
    """As `open_store`, from settings that are already made; `create` makes the store where there is none."""
    from mmrag.encoders import BundledCrossEncoder

    index = Index.open(settings.store, create=create)
    try:
        encoders = load_encoders(settings)
        index.require_encoders(text=encoders.text_identity, image=encoders.image_identity)
        reranker = reranker or load_reranker(settings)
    except BaseException:
        index.close()
        raise
    return Rag(index, encoders, ExtractiveGenerator(BundledCrossEncoder()), reranker=reranker)


def _timed(timings: dict[str, float], stage: str, work: Callable[[], _T]) -> _T:
    started = perf_counter()
    result = work()
    timings[stage] = perf_counter() - started
    return result
