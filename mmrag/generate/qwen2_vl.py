"""Qwen2-VL in this process as a LlamaIndex LLM: chat messages with text and images in, text out.

Any Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint, and whatever else transformers loads as an image-text-to-text model.
Knows messages, streams and what to do when memory runs out; the tensors are `vlm.py`'s.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.llm import LLM

from mmrag.errors import OutOfMemory, UsageError, brief
from mmrag.generate.budget import token_count
from mmrag.generate.conversation import Conversation, images_of, read_messages
from mmrag.generate.decoding import Decoding, cut_at_stop, held_back
from mmrag.generate.streams import ByChat, Messages
from mmrag.generate.vlm import Prompt, Reply, VisionLanguageModel

DEFAULT_MODEL = "Qwen/Qwen2-VL-2B-Instruct"
DEFAULT_REVISION = "895c3a49bc3fa70a340399125c650a463535e71c"  # the answers of tomorrow are those measured today
VISUAL_TOKENS = 5_000
"""Five A4 pages at 90 dpi, or two at 150: body text stays legible, and a 2B model and its cache fit into 8 GB."""

T = TypeVar("T")


class Qwen2VL(ByChat, LLM):
    """Answers chat messages of `TextBlock` and `ImageBlock`; `model_name` is a hub name or a local folder.

    Fields of `Decoding` and `max_visual_tokens` may also be given to a single call, as keyword arguments. Every
    response tells in `additional_kwargs["stopped"]` why it ends: `end`, `stop`, `length` or `repetition`.
    """

    model_name: str = DEFAULT_MODEL
    revision: str | None = None
    max_visual_tokens: int = VISUAL_TOKENS
    batch_size: int = 4
    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    contrast: float = 0.0
    max_repeats: int = 4

    _model: VisionLanguageModel = PrivateAttr()
    _lock: Any = PrivateAttr()

    def __init__(
        self,
        model_name: str | Path = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        device_map: Any = None,
        load_in_4bit: bool = False,
        **kwargs: Any,  # the fields above, and LlamaIndex's own
    ) -> None:
        if str(model_name) == DEFAULT_MODEL:
            revision = revision or DEFAULT_REVISION
        super().__init__(**kwargs | {"model_name": str(model_name), "revision": revision})
        self._decoding({})  # options that cannot be used show before gigabytes are loaded
        self._lock = threading.Lock()
        self._model = VisionLanguageModel(
            self.model_name, revision, device=device, dtype=dtype, device_map=device_map, load_in_4bit=load_in_4bit
        )

    @classmethod
    def class_name(cls) -> str:
        return "Qwen2VL"

    @property
    def identity(self) -> str:
        """Names the checkpoint, its weights and their precision."""
        return self._model.identity

    @property
    def token_side(self) -> int:
        """Pixels along the side of a visual token; 0 where the processor resizes images and no budget holds."""
        return self._model.resizable

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self._model.context_window,
            num_output=self.max_new_tokens,
            is_chat_model=True,
            model_name=self.model_name,
        )

    @llm_chat_callback()
    def chat(self, messages: Messages, **kwargs: Any) -> ChatResponse:
        return self.chat_batch([messages], **kwargs)[0]

    def chat_batch(self, batch: Sequence[Messages], **kwargs: Any) -> list[ChatResponse]:
        """The responses that `chat` gives one by one, `batch_size` at a time."""
        decoding, budget = self._decoding(kwargs)
        conversations = [read_messages(messages) for messages in batch]
        return self._responses(conversations, budget, decoding, [decoding.seed] * len(conversations))

    def self_consistency(
        self, messages: Messages, n: int, *, temperature: float = 0.7, **kwargs: Any
    ) -> list[ChatResponse]:
        """`n` responses drawn with the seeds `seed`, `seed + 1` and so on: where they agree, the model is sure."""
        if temperature <= 0:
            raise UsageError("Without a temperature all samples are the same: give one above 0.")
        decoding, budget = self._decoding(kwargs | {"temperature": temperature})
        seeds = [decoding.seed + i for i in range(n)]
        return self._responses([read_messages(messages)] * n, budget, decoding, seeds)

    def score(self, messages: Messages, continuations: Sequence[str], **kwargs: Any) -> list[float]:
        """The log-probability that the response begins with each continuation; of `kwargs`, contrast has effect."""
        if not continuations or not all(continuations):
            raise UsageError("There is nothing to score: give one continuation or more, none of them empty.")
        decoding, budget = self._decoding(kwargs)
        return self._with_memory(
            [read_messages(messages)],
            budget,
            decoding,
            lambda prompt, sighted: self._model.score(prompt, continuations, sighted.contrast),
        )

    def token_ids(self, text: str) -> tuple[int, ...]:
        """What `score` scores one by one."""
        return tuple(self._model.tokenizer.encode(text, add_special_tokens=False))

    @llm_chat_callback()
    def stream_chat(self, messages: Messages, **kwargs: Any) -> ChatResponseGen:
        decoding, budget = self._decoding(kwargs)
        return self._stream(read_messages(messages), budget, decoding)

    def _decoding(self, choices: dict[str, Any]) -> tuple[Decoding, int]:
        """What a call asks for; what it leaves open is as the constructor was told."""
        names = [field.name for field in fields(Decoding)]
        if unknown := sorted(set(choices) - {*names, "max_visual_tokens"}):
            raise UsageError(f"{unknown[0]} is no option of Qwen2VL: there are {', '.join(names)}, max_visual_tokens.")
        chosen = {name: choices.get(name, getattr(self, name)) for name in names}
        stop = chosen["stop"] or ()
        chosen["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
        return Decoding(**chosen), int(choices.get("max_visual_tokens", self.max_visual_tokens))

    def _responses(
        self, conversations: list[Conversation], budget: int, decoding: Decoding, seeds: list[int]
    ) -> list[ChatResponse]:
        responses: list[ChatResponse] = []
        for start in range(0, len(conversations), self.batch_size):
            part = slice(start, start + self.batch_size)
            reply = partial(self._model.reply, seeds=seeds[part])
            responses += map(_response, self._with_memory(conversations[part], budget, decoding, reply))
        return responses

    def _with_memory(
        self,
        conversations: list[Conversation],
        budget: int,
        decoding: Decoding,
        call: Callable[[Prompt, Decoding], T],
    ) -> T:
        """`call` on the prompt; where memory runs out, once more with half the visual tokens."""
        if not any(map(images_of, conversations)):
            decoding = replace(decoding, contrast=0.0)  # nothing to contrast: half the cost
        with self._lock:
            try:
                return call(self._model.encode(conversations, budget, decoding), decoding)
            except RuntimeError as error:
                if not _ran_out(error):
                    raise
                reason = brief(error)
            # Not inside `except`: the error would keep the first try's tensors alive.
            _free_memory()
            fewer = self._visual_tokens(conversations, budget) // 2
            if not fewer:
                raise _too_large(reason, "")
            try:
                return call(self._model.encode(conversations, fewer, decoding), decoding)
            except RuntimeError as error:
                if not _ran_out(error):
                    raise
                raise _too_large(reason, f", with {fewer} visual tokens too") from error.with_traceback(None)

    def _visual_tokens(self, conversations: list[Conversation], budget: int) -> int:
        """The most that one of the conversations takes; 0 where no budget has any effect."""
        if not (unit := self._model.resizable):
            return 0
        needs = [sum(token_count(image.size, unit) for image in images_of(one)) for one in conversations]
        return min(budget, max(needs))

    def _stream(self, conversation: Conversation, budget: int, decoding: Decoding) -> ChatResponseGen:
        relay = _Relay(self._model)

        def reply(prompt: Prompt, sighted: Decoding) -> Reply:
            seeds = [decoding.seed]
            try:
                return self._model.reply(prompt, sighted, seeds, streamer=relay, cancelled=relay.cancelled)[0]
            except RuntimeError as error:
                if relay.started and _ran_out(error):  # what has been shown cannot be taken back
                    raise _too_large(brief(error), "") from error.with_traceback(None)
                raise

        thread = relay.run(lambda: self._with_memory([conversation], budget, decoding, reply))
        text, sent = "", 0
        try:
            for piece in relay:
                text += piece
                whole = cut_at_stop(text, decoding.stop)
                ready = len(whole) if len(whole) < len(text) else len(text) - held_back(text, decoding.stop)
                if ready > sent:
                    yield ChatResponse(message=_assistant(text[:ready]), delta=text[sent:ready])
                    sent = ready
        finally:  # also when the caller closes the generator
            relay.cancelled.set()
            thread.join()
        yield _response(relay.result(), sent)


class _Relay:
    """From the thread that generates to the one that reads: pieces of text, then a reply or an error."""

    def __init__(self, decoder: Any) -> None:
        from transformers import TextIteratorStreamer

        self.cancelled = threading.Event()
        self.started = False
        self._pieces: Any = TextIteratorStreamer(decoder, skip_prompt=True)  # of a tokenizer it needs only `decode`
        self._reply: Reply | None = None
        self._error: BaseException | None = None

    def put(self, value: Any) -> None:
        if value.ndim == 2:  # the prompt; a second one after memory ran out
            self._pieces.next_tokens_are_prompt = True
        else:
            self.started = True
        self._pieces.put(value[:1])  # the other row of a contrast says the same

    def end(self) -> None:
        self._pieces.end()

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def run(self, generate: Callable[[], Reply]) -> threading.Thread:
        def work() -> None:
            try:
                self._reply = generate()
            except BaseException as error:
                self._error = error
                self.end()

        thread = threading.Thread(target=work, name="Qwen2VL", daemon=True)
        thread.start()
        return thread

    def result(self) -> Reply:
        if self._error is not None:
            raise self._error
        return self._reply  # type: ignore[return-value]  # one of the two is there when the thread has ended


def _assistant(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def _response(reply: Reply, sent: int = 0) -> ChatResponse:
    """`sent` characters have been streamed."""
    counts = asdict(reply)
    text = counts.pop("text")
    return ChatResponse(message=_assistant(text), delta=text[sent:], additional_kwargs=counts)


def _ran_out(error: RuntimeError) -> bool:
    # torch.OutOfMemoryError is CUDA's alone: a CPU says "DefaultCPUAllocator: can't allocate memory".
    return "out of memory" in str(error).lower() or "can't allocate memory" in str(error)


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _too_large(reason: str, tried: str) -> OutOfMemory:
    return OutOfMemory(
        f"The model and this request need more memory than there is{tried} ({reason}): lower max_visual_tokens, "
        "max_new_tokens or batch_size, choose a smaller model or load_in_4bit, or use another device."
    )
