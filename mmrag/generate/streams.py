"""What follows from an LLM's `chat` and `stream_chat` that block: completions, and the same for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from llama_index.core.base.llms.generic_utils import (
    chat_response_to_completion_response,
    stream_chat_response_to_completion_response,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MessageRole,
)

Messages = Sequence[ChatMessage]


class ByChat:
    """Before LlamaIndex's LLM in a list of bases: the six other ways to ask, by the two that the class has."""

    # No `chat` of its own, which would stand before that of the base after it.

    def complete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return chat_response_to_completion_response(self.chat(_one_message(prompt), **kwargs))

    def stream_complete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        return stream_chat_response_to_completion_response(self.stream_chat(_one_message(prompt), **kwargs))

    async def achat(self: Any, messages: Messages, **kwargs: Any) -> ChatResponse:
        return await asyncio.to_thread(self.chat, messages, **kwargs)

    async def acomplete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return await asyncio.to_thread(self.complete, prompt, formatted, **kwargs)

    async def astream_chat(self: Any, messages: Messages, **kwargs: Any) -> ChatResponseAsyncGen:
        return in_threads(self.stream_chat(messages, **kwargs))

    async def astream_complete(
        self: Any, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        return in_threads(self.stream_complete(prompt, formatted, **kwargs))


def _one_message(prompt: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=prompt)]


async def in_threads(items: Any) -> AsyncGenerator[Any, None]:
    """The items of a generator that blocks, without blocking the event loop."""
    pending: Any = None
    try:
        while True:
            pending = asyncio.ensure_future(asyncio.to_thread(next, items, None))
            if (item := await asyncio.shield(pending)) is None:
                return
            yield item
    finally:
        if pending is not None and not pending.done():  # cancelled: a generator that runs cannot be closed
            await asyncio.wait([pending])
        await asyncio.to_thread(items.close)
