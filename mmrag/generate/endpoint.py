"""A server that speaks OpenAI's protocol (vLLM, SGLang, Ollama, api.openai.com) as a LlamaIndex LLM.

Images travel inside the request. Nothing is sent to any address but the server's, and nothing that the environment
holds for OpenAI: no key, organisation or header. What failures mean is `server.py`'s to say.
"""

from __future__ import annotations

import inspect
import weakref
from io import BytesIO
from threading import BoundedSemaphore
from typing import Any

import httpx
import openai
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    ImageBlock,
    MessageRole,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.llms.openai.utils import O1_MODELS
from llama_index.llms.openai_like import OpenAILike

from mmrag.errors import UsageError, brief
from mmrag.generate.conversation import payload, read_messages
from mmrag.generate.server import CONNECT_SECONDS, READ_SECONDS, Server, http_options
from mmrag.generate.streams import ByChat, Messages
from mmrag.settings import is_base_url

_NO_KEY = "none"  # the protocol wants one; servers without keys take any
_REASONS = {"stop": "end"}
"""Why a response ends, where mmrag's own models say it otherwise than OpenAI's protocol."""
_SENT_AS_THEY_ARE = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class Endpoint(ByChat, OpenAILike):  # type: ignore[misc, unused-ignore]  # the package has no types of its own
    """Asks `model` at `base_url`. The constructor raises GenerationError where no server is there.

    Connections that break, 429 and 5xx are tried again `max_retries` times, with pauses that grow or as long as the
    server asks; one that keeps silent for `read_seconds` is not. At most `concurrency` requests run at once.
    Every response tells in `additional_kwargs["stopped"]` why it ends: `end`, `length`, or the server's own word.
    """

    _http: httpx.Client = PrivateAttr()
    _server: Server = PrivateAttr()
    _slots: BoundedSemaphore = PrivateAttr()

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        max_retries: int = 2,
        concurrency: int = 4,
        max_tokens: int = 1024,
        temperature: float = 0.0,
        **kwargs: Any,  # LlamaIndex's own
    ) -> None:
        if not is_base_url(base_url):
            raise UsageError("base_url must be an address such as http://localhost:8000/v1, without name and password.")
        if concurrency < 1:
            raise UsageError(f"With {concurrency} requests at once nothing is asked: allow 1 or more.")
        fields: dict[str, Any] = {"model": model, "api_base": base_url}
        fields |= {"max_tokens": max_tokens, "temperature": temperature}
        # The key is kept out of the fields, which LlamaIndex prints and serialises; and the client tries again itself.
        fields |= {"api_key": _NO_KEY, "max_retries": 0, "is_chat_model": True}
        try:
            super().__init__(**fields | kwargs)
        except ValueError as error:
            raise UsageError(f"The model {model} cannot be asked like this: {brief(error)}.") from error
        self._http = _Connections(**http_options(base_url, connect_seconds, read_seconds))
        weakref.finalize(self, self._http.close)
        self._server = Server(base_url, api_key, self._http)
        self._server.reach(connect_seconds)
        self._client = _client(base_url, api_key, self._http, max_retries)
        self._slots = BoundedSemaphore(concurrency)

    @classmethod
    def class_name(cls) -> str:
        return "Endpoint"

    @property
    def identity(self) -> str:
        return f"{self.model} at {self._server.base_url}"

    def close(self) -> None:
        self._http.close()

    def chat(self, messages: Messages, **kwargs: Any) -> ChatResponse:
        sendable = self._checked(messages, kwargs)
        with self._slots, self._server.one_sentence(self.model):
            response = super().chat(sendable, **kwargs)
            raw: Any = response.raw
            return _told_why(response, raw.choices[0].finish_reason)

    def stream_chat(self, messages: Messages, **kwargs: Any) -> ChatResponseGen:
        sendable = self._checked(messages, kwargs)
        pieces = super().stream_chat
        return self._pieces(lambda: pieces(sendable, **kwargs))

    def _pieces(self, begin: Any) -> ChatResponseGen:
        last, reason = None, None
        with self._slots, self._server.one_sentence(self.model):
            for last in begin():
                reason = next((choice.finish_reason for choice in last.raw.choices), None) or reason
                yield last
            if last is None:
                raise ValueError("an empty stream")
            if reason is None:
                raise httpx.RemoteProtocolError("the stream ended without an end")
            yield _told_why(last.model_copy(update={"delta": ""}), reason)

    def _checked(self, messages: Messages, options: dict[str, Any]) -> list[ChatMessage]:
        """What can be sent; UsageError where the fault is the caller's and not the server's."""
        known = {*inspect.signature(self._get_client().chat.completions.create).parameters, "max_new_tokens"}
        if unknown := sorted(options.keys() - known):
            raise UsageError(f"{unknown[0]} is no option of OpenAI's protocol: temperature, seed and max_tokens are.")
        return _sendable(messages)

    def _get_model_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        """As the base class has it, but what a call asks for counts more than what the constructor was told."""
        limit = kwargs.pop("max_new_tokens", None) or kwargs.pop("max_tokens", None) or self.max_tokens
        chosen: dict[str, Any] = super()._get_model_kwargs(**kwargs)
        if self.model in O1_MODELS:  # they think before they write, and refuse both options
            return {key: value for key, value in chosen.items() if key != "temperature"} | {
                "max_completion_tokens": limit
            }
        return chosen | {"max_tokens": limit}


class _Connections(httpx.Client):
    def send(self, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        try:
            return super().send(request, **kwargs)
        except httpx.TimeoutException as error:
            if request.method == "GET":
                raise
            # In the client's own words, which it does not try again: waiting as long once more would help nobody.
            raise openai.APITimeoutError(request) from error


def _client(base_url: str, api_key: str | None, http: httpx.Client, max_retries: int) -> openai.OpenAI:
    client = openai.OpenAI(
        base_url=base_url,
        api_key=api_key or _NO_KEY,
        admin_api_key="",
        organization="",
        project="",
        http_client=http,
        timeout=http.timeout,
        max_retries=max_retries,
    )
    client.organization = client.project = client.admin_api_key = None  # given as None, it would ask the environment
    client._custom_headers = {}  # of OPENAI_CUSTOM_HEADERS
    return client


def _sendable(messages: Messages) -> list[ChatMessage]:
    """The messages with every image inside, as PNG or JPEG; UsageError for one that names a path or an address."""
    return [
        ChatMessage(
            role=MessageRole(read["role"]),
            blocks=[
                _image(block, part["image"]) if isinstance(block, ImageBlock) else block
                for block, part in zip(message.blocks, read["content"], strict=True)
            ],
        )
        for message, read in zip(messages, read_messages(messages), strict=True)
    ]


def _image(block: ImageBlock, opened: Any) -> ImageBlock:
    data = payload(block)
    for begins, media_type in _SENT_AS_THEY_ARE.items():
        if data.startswith(begins):
            return ImageBlock(image=data, image_mimetype=media_type, detail=block.detail)
    png = BytesIO()
    opened.save(png, "PNG")
    return ImageBlock(image=png.getvalue(), image_mimetype="image/png", detail=block.detail)


def _told_why(response: ChatResponse, reason: str | None) -> ChatResponse:
    response.additional_kwargs["stopped"] = _REASONS.get(reason or "", reason or "end")
    return response
