"""From a question to an Answer: retrieve, generate, decide whether to abstain. The front of the library."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from llama_index.core.base.response.schema import Response
from llama_index.core.llms import LLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import NodeWithScore
from pydantic import ConfigDict

from mmrag.abstain import RISK, check_risk
from mmrag.errors import MmragError, UsageError
from mmrag.followups import Turn, stand_alone
from mmrag.index import Index
from mmrag.models import Encoders, ReadWords, load_check, load_encoders, load_generator, load_reranker
from mmrag.render import ImageInput, Picture
from mmrag.retrieve import Retriever, to_node
from mmrag.settings import EVIDENCE_PAGES, Settings, load_settings
from mmrag.types import Answer, Citation, Draft, Evidence, Verdict
from mmrag.verify import Check, check_draft, look_again, without_unsupported

EVIDENCE_PER_PAGE = 6

_T = TypeVar("_T")


class AnswerGenerator(Protocol):
    """What writes answers: the extractive one, or any LLM that reads images as a `GroundedGenerator`."""

    @property
    def identity(self) -> str: ...

    @property
    def sees_pictures(self) -> bool:
        """Whether it looks at the picture that a question comes with, or only at the words on it."""

    def generate(
        self, question: str, evidence: Sequence[Evidence], *, risk: float = RISK, picture: Picture | None = None
    ) -> Draft:
        """`risk` (0..1): how often an answer that is given may be wrong, for generators whose confidence says that.

        The question may be empty where it comes with a picture.
        """

    def stream(
        self, question: str, evidence: Sequence[Evidence], *, risk: float = RISK, picture: Picture | None = None
    ) -> Generator[str, None, Draft]:
        """Yields the reply as it is written, its marks as the model writes them, and returns what was made of it."""


@runtime_checkable
class LooksAgain(Protocol):
    """A generator that can be asked about a claim and the place that it cites."""

    def look(self, claim: str, citation: Citation) -> Verdict: ...


@runtime_checkable
class Rewrites(Protocol):
    """A generator that can say a follow-up question so that it stands alone."""

    def rewrite(self, question: str, earlier: Sequence[Turn]) -> str | None:
        """None where it has nothing to say."""


class Answered(Protocol):
    """An Answer, or what else knows its question and text."""

    @property
    def question(self) -> str: ...

    @property
    def text(self) -> str: ...


class Rag:
    """A store that can be asked. Made by `mmrag.open`."""

    def __init__(
        self,
        index: Index,
        encoders: Encoders,
        load_generator: Callable[[], AnswerGenerator],
        *,
        check: Check | None = None,
        looks_again: bool = False,
        drop_unsupported: bool = False,
        reranker: BaseNodePostprocessor | None = None,
        risk: float = RISK,
    ) -> None:
        self.index = index
        self.risk = check_risk(risk)
        self.encoders = encoders
        self.retriever = Retriever(index, encoders, reranker=reranker)
        self._load_generator = load_generator
        self._check = check
        self._drop_unsupported = drop_unsupported
        self._looks_again = looks_again
        self._generator: AnswerGenerator | None = None
        self._loading = Lock()

    @property
    def generator(self) -> AnswerGenerator:
        """Loaded when it is first used: whoever only searches need not wait for gigabytes of weights."""
        with self._loading:
            if self._generator is None:
                self._generator = self._load_generator()
            return self._generator

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

    def ask(
        self,
        question: str = "",
        *,
        image: ImageInput | None = None,
        top_k: int = EVIDENCE_PAGES,
        documents: Sequence[str] | None = None,
        risk: float | None = None,
    ) -> Answer:
        """Answer from the `top_k` best pages, or abstain; UsageError for an empty question or unknown document.

        An `image` (a file or PIL image) is looked for as `search` does, and shown to a generator that sees pictures.
        `risk` is the share of wrong answers, among those given, that is accepted (0..1); None takes the Rag's own.
        """
        wish = self.risk if risk is None else check_risk(risk)
        timings: dict[str, float] = {}
        picture = self._picture(question, image, timings)
        evidence = self._gather(question, picture, top_k, documents, timings)
        generate = self.generator.generate
        draft = _timed(timings, "generate", lambda: generate(question, evidence, risk=wish, picture=picture))
        return self._answer(question, draft, evidence, timings)

    def ask_stream(
        self,
        question: str = "",
        *,
        image: ImageInput | None = None,
        top_k: int = EVIDENCE_PAGES,
        documents: Sequence[str] | None = None,
        risk: float | None = None,
    ) -> Iterator[str | Answer]:
        """As `ask`: the reply piece by piece as the model writes it, then the Answer that `ask` gives."""
        wish = self.risk if risk is None else check_risk(risk)
        timings: dict[str, float] = {}
        picture = self._picture(question, image, timings)
        evidence = self._gather(question, picture, top_k, documents, timings)
        started = perf_counter()
        draft = yield from self.generator.stream(question, evidence, risk=wish, picture=picture)
        timings["generate"] = perf_counter() - started
        yield self._answer(question, draft, evidence, timings)

    def stand_alone(self, question: str, earlier: Sequence[str | Answered]) -> str:
        """A follow-up question with what it leaves to the `earlier` questions or Answers, oldest first.

        Unchanged where it says all that it asks. A model is asked where one answers; plain rules do what it cannot.
        """
        turns = [Turn(item) if isinstance(item, str) else Turn(item.question, item.text) for item in earlier]
        if not turns or not question.strip():
            return question
        return self._rewritten(question, turns) or stand_alone(question, [turn.question for turn in turns])

    def _rewritten(self, question: str, turns: Sequence[Turn]) -> str | None:
        try:
            return self.generator.rewrite(question, turns) if isinstance(self.generator, Rewrites) else None
        except MmragError:  # whoever asks next is told; the question is not lost
            return None

    def _answer(self, question: str, draft: Draft, evidence: Sequence[Evidence], timings: dict[str, float]) -> Answer:
        """The draft with its claims checked."""
        if (check := self._check) and any(claim.verdict is None for claim in draft.claims):
            draft = _timed(timings, "check", lambda: check_draft(draft, evidence, check))
        if self._looks_again and isinstance(self.generator, LooksAgain):
            look = self.generator.look
            draft = _timed(timings, "look", lambda: look_again(draft, look))
        if self._drop_unsupported:
            draft = without_unsupported(draft)
        return Answer(
            question=question,
            claims=draft.claims,
            abstained=draft.abstained,
            confidence=draft.confidence,
            evidence=tuple(evidence),
            notes=draft.notes,
            timings=timings,
            signals=draft.signals,
        )

    def _picture(self, question: str, image: ImageInput | None, timings: dict[str, float]) -> Picture | None:
        """Its words are read where nothing is typed, since a quote is found by words."""
        if image is None:
            return None
        return _timed(timings, "read", lambda: self.encoders.picture(image, with_words=not question.strip()))

    def _gather(
        self,
        question: str,
        picture: Picture | None,
        top_k: int,
        documents: Sequence[str] | None,
        timings: dict[str, float],
    ) -> list[Evidence]:
        sought = picture
        if picture and question.strip() and not (self.encoders.image or picture.words) and self.generator.sees_pictures:
            sought = None  # a photo, in a store of captions: the model sees it, and the words find its pages
        scope: dict[str, Any] = {"top_k": top_k, "documents": documents, "per_page": EVIDENCE_PER_PAGE}
        return _timed(timings, "retrieve", lambda: self.retriever.search(question, image=sought, **scope))

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
    generator: str | LLM | None = None,
    reranker: str | BaseNodePostprocessor | None = None,
    read_words: ReadWords | None = None,
    **choices: Any,
) -> Rag:
    """Open a store to ask it. Raises StoreNotFound, StoreMismatch (other encoders), ModelNotFound or MissingExtra.

    `choices` are fields of `mmrag.settings.Settings`; a `generator` may also be any LlamaIndex LLM that reads images,
    a `reranker` any LlamaIndex node postprocessor. `read_words` says what is printed on an image: with it, a store
    without an image encoder can be asked with pictures of text.
    """
    settings = load_settings(
        profile,
        store=Path(store) if store is not None else None,
        generator=generator if isinstance(generator, str) else None,
        reranker=reranker if isinstance(reranker, str) else None,
        **choices,
    )
    return open_rag(
        settings,
        llm=generator if isinstance(generator, LLM) else None,
        reranker=reranker if isinstance(reranker, BaseNodePostprocessor) else None,
        read_words=read_words,
    )


def open_rag(
    settings: Settings,
    *,
    create: bool = False,
    llm: LLM | None = None,
    reranker: BaseNodePostprocessor | None = None,
    read_words: ReadWords | None = None,
) -> Rag:
    """As `open_store`, from settings that are already made; `create` makes the store where there is none."""
    if settings.check == "look" and settings.generator == "extractive" and llm is None:
        raise UsageError("--check look is for a model that reads images: name one with --generator.")
    index = Index.open(settings.store, create=create, chroma=settings.chroma)
    try:
        encoders = load_encoders(settings, read_words)
        index.require_encoders(text=encoders.text_identity, image=encoders.image_identity)
        reranker = reranker or load_reranker(settings)
        check = None if settings.check == "none" else load_check(settings)
    except BaseException:
        index.close()
        raise
    return Rag(
        index,
        encoders,
        lambda: load_generator(settings, llm),
        check=check,
        looks_again=settings.check == "look",
        drop_unsupported=settings.unsupported == "drop",
        reranker=reranker,
        risk=settings.risk,
    )


def _timed(timings: dict[str, float], stage: str, work: Callable[[], _T]) -> _T:
    started = perf_counter()
    result = work()
    timings[stage] = perf_counter() - started
    return result
