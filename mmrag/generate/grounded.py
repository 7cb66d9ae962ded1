"""Answers by any LlamaIndex LLM that reads images, each sentence tied to the regions whose marks it cites.

Shows marked pages, reads the reply, and reports what it cites that was not shown. Knows no checkpoint and no server.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms import LLM

from mmrag.abstain import RISK, page_confidence
from mmrag.asking import answered
from mmrag.errors import GenerationError, UsageError
from mmrag.followups import Turn
from mmrag.generate.consistency import most_agreed
from mmrag.generate.look import judge, look
from mmrag.generate.marks import PAGES, TOKEN_SIDE, MarkedPage, mark_pages, messages, region_at
from mmrag.generate.reading import Sentence, read_reply, says_no_answer
from mmrag.generate.rewriting import rewrite
from mmrag.types import BBox, Citation, Claim, Draft, Evidence, Verdict
from mmrag.verify import best_span

VISUAL_TOKENS = 5_000
SAMPLING_TEMPERATURE = 0.7

BoxDialect = Literal["thousandths", "pixels"]
"""How a model writes boxes: thousandths of the image (Qwen2-VL, Qwen3-VL), or its pixels (Qwen2.5-VL)."""


class GroundedGenerator:
    """Asks `llm`; with `samples` above 1 that many times, at as many times the cost, for the reply most agree with."""

    def __init__(
        self,
        llm: LLM,
        *,
        pages: int = PAGES,
        visual_tokens: int = VISUAL_TOKENS,
        unit: int = TOKEN_SIDE,
        samples: int = 1,
        boxes: BoxDialect = "thousandths",
    ) -> None:
        if samples < 1:
            raise UsageError(f"{samples} samples make no answer: ask for 1 or more.")
        self.llm = llm
        self._pages, self._visual_tokens, self._unit = pages, visual_tokens, unit
        self._samples, self._boxes = samples, boxes

    @property
    def identity(self) -> str:
        return str(getattr(self.llm, "identity", None) or self.llm.metadata.model_name)

    def generate(self, question: str, evidence: Sequence[Evidence], *, risk: float = RISK) -> Draft:
        """`risk` is not used: how sure a model is has not been calibrated, and the model itself may say nothing."""
        if not evidence:
            return _NOTHING_FOUND
        pages = self._mark(evidence)
        prompt = messages(question, pages)
        if self._samples == 1:
            return self._draft(answered(lambda: self.llm.chat(prompt)), pages)
        responses = answered(lambda: self._sampled(prompt))
        drafts = [self._draft(response, pages) for response in responses]
        best, share = most_agreed([" ".join(claim.text for claim in draft.claims) for draft in drafts])
        return _agreed(drafts[best], share, len(drafts))

    def stream(self, question: str, evidence: Sequence[Evidence], *, risk: float = RISK) -> Generator[str, None, Draft]:
        """One reply; with samples, nothing can be shown before all are there."""
        if self._samples > 1 or not evidence:
            draft = self.generate(question, evidence, risk=risk)
            yield " ".join(claim.text for claim in draft.claims)
            return draft
        pages = self._mark(evidence)
        last = None
        for last in _asked_in_pieces(self.llm, messages(question, pages)):
            if last.delta:
                yield last.delta
        if last is None:
            raise GenerationError(f"{self.identity} replied nothing at all: ask again, or choose another model.")
        return self._draft(last, pages)

    def look(self, claim: str, citation: Citation) -> Verdict:
        """Whether the model sees what a claim says in the place that it cites, and not without that place."""
        return judge(look(self.llm, claim, citation))

    def rewrite(self, question: str, earlier: Sequence[Turn]) -> str | None:
        """The last question of a conversation as the model says it alone; None where its words cannot be taken."""
        return rewrite(self.llm, question, earlier)

    def _mark(self, evidence: Sequence[Evidence]) -> list[MarkedPage]:
        return mark_pages(evidence, pages=self._pages, visual_tokens=self._visual_tokens, unit=self._unit)

    def _sampled(self, prompt: list[ChatMessage]) -> list[ChatResponse]:
        together = getattr(self.llm, "self_consistency", None)
        if together:  # a model in this process reads the prompt in batches
            responses: list[ChatResponse] = together(prompt, self._samples, temperature=SAMPLING_TEMPERATURE)
            return responses
        with ThreadPoolExecutor(self._samples) as threads:
            calls = [
                threads.submit(self.llm.chat, prompt, temperature=SAMPLING_TEMPERATURE, seed=seed)
                for seed in range(self._samples)
            ]
            return [call.result() for call in calls]

    def _draft(self, response: ChatResponse, pages: Sequence[MarkedPage]) -> Draft:
        reply = response.message.content or ""
        notes = [_CUT_OFF[cut]] if (cut := response.additional_kwargs.get("stopped")) in _CUT_OFF else []
        if says_no_answer(reply):
            return Draft((), True, 0.0, ("The model found no answer on the pages that it was shown.", *notes))
        sentences = read_reply(reply)
        if not sentences:
            return Draft((), True, 0.0, ("The model replied without words.", *notes))
        marks = {mark: item for page in pages for mark, item in page.marks.items()}
        claims, strays = [], []
        for sentence in sentences:
            cited, astray = _cited(sentence, pages, self._boxes)
            strays += astray
            claims.append(_claim(sentence.text, [marks[mark] for mark in cited]))
        notes += [f"The reply cites {stray}, which it was not shown." for stray in dict.fromkeys(strays)]
        if not any(claim.citations for claim in claims):
            said = f"The model cited nothing for what it said: {reply.strip()[:300]}"
            return Draft((), True, 0.0, (said, *notes))
        return Draft(tuple(claims), False, max(claim.confidence for claim in claims), tuple(notes))


_NOTHING_FOUND = Draft((), True, 0.0, ("The store holds nothing to look at.",))

_CUT_OFF = {
    "length": "The reply was cut off: it is longer than the model was allowed to write.",
    "repetition": "The reply was cut off: the model began to repeat itself.",
}


def _asked_in_pieces(llm: LLM, prompt: list[ChatMessage]) -> Iterator[ChatResponse]:
    pieces = answered(lambda: llm.stream_chat(prompt))
    while (piece := answered(lambda: next(pieces, None))) is not None:
        yield piece


def _cited(sentence: Sentence, pages: Sequence[MarkedPage], dialect: BoxDialect) -> tuple[list[int], list[str]]:
    """The marks that a sentence cites, by number or by box, and what it cites that is not there."""
    known = {mark for page in pages for mark in page.marks}
    found = [mark for mark in sentence.marks if mark in known]
    strays = [f"mark {mark}" for mark in sentence.marks if mark not in known]
    for box in sentence.boxes:
        mark = _boxed(box, pages, found, dialect)
        if mark is None:
            strays.append(f"the box {', '.join(f'{side:g}' for side in box)}")
        elif mark not in found:
            found.append(mark)
    return found, strays


def _boxed(
    box: tuple[float, float, float, float], pages: Sequence[MarkedPage], cited: Sequence[int], dialect: BoxDialect
) -> int | None:
    """The mark of the region that a box means; None where there is none, or where several pages have one.

    A box does not say on which page it is: it is on the page that the sentence cites by number, else on the only one
    that was shown or that has a region there.
    """
    shown = [page for page in pages if page.image]
    same = [page for page in shown if any(mark in page.marks for mark in cited)]
    found = [_on_page(box, page, dialect) for page in same or shown]
    marks = [mark for mark in found if mark is not None]
    return marks[0] if len(marks) == 1 else None


def _on_page(box: tuple[float, float, float, float], page: MarkedPage, dialect: BoxDialect) -> int | None:
    size = page.image.size if page.image and dialect == "pixels" else (1000, 1000)
    if max(box[0], box[2]) > size[0] or max(box[1], box[3]) > size[1]:
        return None
    return region_at(BBox.from_size(box, *size), list(page.marks.items()))


def _claim(text: str, items: Sequence[Evidence]) -> Claim:
    # Without a cross-encoder's word on it, what retrieval says of the page is all that is known.
    sure = max((page_confidence(item.agreement) for item in items), default=0.0)
    return Claim(text, tuple(item.cite(best_span(text, item)) for item in items), sure)


def _agreed(draft: Draft, share: float, samples: int) -> Draft:
    """The draft with the share of samples that say the same as its confidence."""
    note = f"{round(share * samples)} of {samples} samples agree."
    claims = tuple(Claim(claim.text, claim.citations, share) for claim in draft.claims)
    return Draft(claims, draft.abstained, 0.0 if draft.abstained else share, (*draft.notes, note))
