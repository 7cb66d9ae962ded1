"""Servers that speak OpenAI's protocol: what is sent to them, what comes back, and what their failures are called."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from PIL import Image

from mmrag.errors import GenerationError, UsageError
from tests.chat_server import (
    ChatServer,
    Reply,
    fails,
    hangs,
    hangs_up,
    models,
    says,
    sends,
    serving,
    streams,
)

pytest.importorskip("llama_index.llms.openai_like")
from mmrag.generate.endpoint import Endpoint

KEY = "sk-a-key-of-this-server-alone"
ASK = [ChatMessage(role="user", content="What is the price?")]
Start = Callable[..., tuple[ChatServer, Endpoint]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server with the given replies and an endpoint for it, with short time limits."""
    with ExitStack() as stack:

        def begin(*replies: Reply, listing: Reply | None = None, **options: Any) -> tuple[ChatServer, Endpoint]:
            chat = stack.enter_context(serving(*replies, listing=listing))
            defaults = {"connect_seconds": 0.5, "read_seconds": 0.5, "api_key": KEY}
            llm = Endpoint(chat.url, "tiny-vl", **defaults | options)
            stack.callback(llm.close)
            return chat, llm

        yield begin


def picture(format: str = "PNG") -> bytes:
    data = BytesIO()
    Image.new("RGB", (31, 17), (200, 30, 60)).save(data, format)
    return data.getvalue()


def failure(llm: Endpoint) -> str:
    with pytest.raises(GenerationError) as raised:
        llm.chat(ASK)
    message = str(raised.value)
    assert llm.identity.split(" at ")[1] in message
    assert KEY not in message
    assert len(message) < 500
    assert "\n" not in message
    return message


# -- what is sent, what comes back -----------------------------------------------------------------------------------


def test_an_answer(start: Start) -> None:
    chat, llm = start(says("Five euros."))
    response = llm.chat(ASK, seed=3, temperature=0.7)
    assert response.message.content == "Five euros."
    assert response.additional_kwargs["stopped"] == "end"
    assert response.additional_kwargs["completion_tokens"] == 3
    (request,) = chat.requests
    assert request["model"] == "tiny-vl"
    assert (request["seed"], request["temperature"], request["max_tokens"]) == (3, 0.7, 1024)
    assert chat.headers[0]["authorization"] == chat.listed[0]["authorization"] == f"Bearer {KEY}"
    assert llm.identity == f"tiny-vl at {chat.url}"


@pytest.mark.parametrize(("format", "sent_as"), [("PNG", "png"), ("JPEG", "jpeg"), ("TIFF", "png"), ("BMP", "png")])
def test_images_travel_inside_the_request(start: Start, format: str, sent_as: str) -> None:
    chat, llm = start(says("Red."))
    blocks = [TextBlock(text="Page 1"), ImageBlock(image=picture(format)), TextBlock(text="Which colour?")]
    llm.chat([ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", blocks=blocks)])
    system, user = chat.requests[0]["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text"]
    head, data = user["content"][1]["image_url"]["url"].split(",")
    assert head == f"data:image/{sent_as};base64"
    with Image.open(BytesIO(base64.b64decode(data, validate=True))) as image:
        assert (image.format, image.size) == (sent_as.upper(), (31, 17))
        red, green, blue = image.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
        assert abs(red - 200) + abs(green - 30) + abs(blue - 60) < 12


def test_no_path_and_no_address_is_followed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    chat, llm = start(says("?"))
    for block in (ImageBlock(path=tmp_path / "secret.png"), ImageBlock(url="http://127.0.0.1:9/x.png")):
        with pytest.raises(UsageError, match="must hold the image itself"):
            llm.chat([ChatMessage(role="user", blocks=[block])])
        with pytest.raises(UsageError, match="must hold the image itself"):
            llm.stream_chat([ChatMessage(role="user", blocks=[block])])
    assert chat.requests == []


def test_a_stream(start: Start) -> None:
    chat, llm = start(streams("Five ", "eu", "ros."))
    pieces = list(llm.stream_chat(ASK))
    assert "".join(piece.delta or "" for piece in pieces) == "Five euros."
    assert pieces[-1].message.content == "Five euros."
    assert pieces[-1].additional_kwargs["stopped"] == "end"
    assert chat.requests[0]["stream"] is True


def test_what_was_cut_off_says_so(start: Start) -> None:
    _, llm = start(says("Five", "length"), streams("Five", reason="length"), says("", "content_filter"))
    assert llm.chat(ASK).additional_kwargs["stopped"] == "length"
    assert list(llm.stream_chat(ASK))[-1].additional_kwargs["stopped"] == "length"
    assert llm.chat(ASK).additional_kwargs["stopped"] == "content_filter"


def test_completions_and_coroutines(start: Start) -> None:
    chat, llm = start(says("Six."), streams("Si", "x."), says("Six."), streams("Si", "x."), says("Six."))

    async def ask() -> list[str]:
        streamed = [piece.delta or "" async for piece in await llm.astream_chat(ASK)]
        return [(await llm.achat(ASK)).message.content or "", "".join(streamed), (await llm.acomplete("?")).text]

    assert llm.complete("?").text == "Six."
    assert "".join(piece.delta or "" for piece in llm.stream_complete("?")) == "Six."
    chat.replies[:] = [streams("Si", "x."), says("Six.")]
    assert asyncio.run(ask()) == ["Six."] * 3


def test_options_of_a_call(start: Start) -> None:
    chat, llm = start(says("?"), max_tokens=50)
    llm.chat(ASK)
    llm.chat(ASK, max_new_tokens=9)
    llm.chat(ASK, max_tokens=8, stop=["\n"])
    assert [request["max_tokens"] for request in chat.requests] == [50, 9, 8]
    assert chat.requests[2]["stop"] == ["\n"]
    with pytest.raises(UsageError, match="contrast is no option"):
        llm.chat(ASK, contrast=1.0)


def test_a_model_that_thinks_first_gets_the_options_that_it_takes() -> None:
    with serving(says("?")) as chat:
        llm = Endpoint(chat.url, "o3-mini", max_tokens=50)
        llm.chat(ASK, temperature=0.7)
        llm.close()
    assert chat.requests[0]["max_completion_tokens"] == 50
    assert not chat.requests[0].keys() & {"max_tokens", "temperature"}


def test_no_more_requests_at_once_than_allowed(start: Start) -> None:
    def slow(handler: Any) -> None:
        time.sleep(0.05)
        says("?")(handler)

    chat, llm = start(slow, concurrency=2)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: llm.chat(ASK).message.content, range(8)))
    assert answers == ["?"] * 8
    assert chat.most_running == 2


def test_a_stream_that_nobody_reads_on_lets_others_through(start: Start) -> None:
    _, llm = start(streams("a", "b", "c"), says("next"), concurrency=1)
    stream = llm.stream_chat(ASK)
    next(stream)
    stream.close()
    assert llm.chat(ASK).message.content == "next"


def test_what_the_environment_holds_for_openai_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {
        "OPENAI_API_KEY": "sk-for-openai",
        "OPENAI_ADMIN_KEY": "sk-admin",
        "OPENAI_ORG_ID": "org-secret",
        "OPENAI_PROJECT_ID": "project-secret",
        "OPENAI_CUSTOM_HEADERS": "X-Gateway: gateway-secret",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_API_BASE": "http://127.0.0.1:9/v1",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    for name, value in secret.items():
        monkeypatch.setenv(name, value)
    with serving(says("?")) as chat:
        llm = Endpoint(chat.url, "tiny-vl")
        assert llm.chat(ASK).message.content == "?"
        llm.close()
    sent = str(chat.headers + chat.listed)
    assert not [value for value in secret.values() if value.rpartition(": ")[2] in sent]


def test_the_key_is_in_no_repr_no_field_and_no_log(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, llm = start(says("?"), fails(401, {"error": {"message": f"Wrong key {KEY}."}}))
    llm.chat(ASK)
    failure(llm)
    assert KEY not in repr(llm) + str(llm.to_dict()) + llm.to_json() + caplog.text


def test_connections_are_closed_with_the_endpoint(start: Start) -> None:
    with serving(says("?")) as chat:
        llm = Endpoint(chat.url, "tiny-vl")
        http = llm._http
        llm.chat(ASK)
        del llm
        gc.collect()
        assert http.is_closed


# -- what goes wrong -------------------------------------------------------------------------------------------------


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("base_url", "why"),
    [
        ("http://127.0.0.1:{port}/v1", "Connection refused"),
        ("http://nowhere.invalid/v1", ""),
        ("https://127.0.0.1:{port}/v1", "Connection refused"),
    ],
)
def test_nobody_is_there(base_url: str, why: str) -> None:
    began = time.perf_counter()
    with pytest.raises(GenerationError) as raised:
        Endpoint(base_url.format(port=unused_port()), "tiny-vl")
    assert str(raised.value).startswith("The server at http")
    assert f"cannot be reached ({why}" in str(raised.value)
    assert str(raised.value).endswith("start it, or correct --base-url.")
    assert time.perf_counter() - began < 9


def test_a_host_that_swallows_every_packet() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        with ExitStack() as stack:
            for _ in range(4):  # its queue is full: further connections get no reply
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(address)
            began = time.perf_counter()
            with pytest.raises(GenerationError, match=r"cannot be reached \(it does not answer\)"):
                Endpoint(f"http://127.0.0.1:{address[1]}/v1", "tiny-vl", connect_seconds=0.4)
            assert time.perf_counter() - began < 2


def test_a_server_that_goes_away_between_two_questions() -> None:
    with serving(says("?")) as chat:
        llm = Endpoint(chat.url, "tiny-vl")
        llm.chat(ASK)
    began = time.perf_counter()
    with pytest.raises(GenerationError, match=r"cannot be reached|broke off"):
        llm.chat(ASK)
    assert time.perf_counter() - began < 9
    llm.close()


def test_a_key_that_is_refused_shows_at_once() -> None:
    refusal = fails(401, {"error": {"message": f"Incorrect API key provided: {KEY}. You can find it at …"}})
    with serving(says("?"), listing=refusal) as chat, pytest.raises(GenerationError) as raised:
        Endpoint(chat.url, "tiny-vl", api_key=KEY)
    assert "refused the request (401: Incorrect API key provided: …): set MMRAG_API_KEY" in str(raised.value)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("listing", [fails(404), fails(403), fails(500), sends("<html>"), sends("[]"), hangs_up, hangs])
def test_a_server_without_a_list_of_models_is_asked_all_the_same(start: Start, listing: Reply) -> None:
    _, llm = start(says("?"), listing=listing)
    assert llm.chat(ASK).message.content == "?"


@pytest.mark.parametrize(
    ("reply", "says_what", "advice"),
    [
        (fails(401, {"error": "no"}), "refused the request (401: no)", "set MMRAG_API_KEY"),
        (fails(403, {"detail": "not yours"}), "forbade it (403: not yours)", "set MMRAG_API_KEY"),
        (fails(301, "", location="http://127.0.0.1:9/"), "redirects elsewhere (301)", "--base-url"),
        (
            fails(400, {"message": "This model's maximum context length is 4096 tokens. However, you…"}),
            "cannot read so much (400: This model's maximum context length is 4096 tokens)",
            "--top-k",
        ),
        (fails(413, "<html>nginx</html>"), "cannot read so much (413)", "--top-k"),
        (
            fails(400, {"error": {"message": "At most 1 image(s) may be provided in one request."}}),
            "does not take these images (400: At most 1 image",
            "choose a --model that reads images, several in one request",
        ),
        (fails(500, {"error": "missing data required for image input"}), "does not take these images", "--model"),
        (fails(503, "<html>\n" * 500), "failed (503)", "look at its log"),
        (fails(418, "x\n\x1b[31m" * 9000), "failed (418: x", "look at its log"),
        (sends('{"choices": '), "answered with what is no chat completion", "end in /v1?"),
        (sends("<html>hello</html>", "text/html"), "answered with what is no chat completion", "end in /v1?"),
        (sends('{"choices": []}'), "answered with what is no chat completion", "end in /v1?"),
        (sends('{"choices": [{"message": {"content": [1, {}]}}]}'), "no chat completion", "/v1?"),
        (sends("null"), "answered with what is no chat completion", "end in /v1?"),
        (sends("[1, 2]"), "answered with what is no chat completion", "end in /v1?"),
        (sends(b"\xff\xfe"), "answered with what is no chat completion", "end in /v1?"),
        (hangs, "took too long to answer", "--top-k"),
        (hangs_up, "broke off its answer", "look at its log"),
    ],
    ids=lambda value: ascii(value)[:30] if isinstance(value, str) else "",
)
def test_a_failure_is_one_sentence(start: Start, reply: Reply, says_what: str, advice: str) -> None:
    _, llm = start(reply, max_retries=0)
    message = failure(llm)
    assert f"The server at {llm.api_base} {says_what}" in message or says_what in message
    assert advice in message


def test_a_model_that_is_not_there(start: Start) -> None:
    names = ["qwen2.5vl:7b", *(f"model-{n}" for n in range(20)), "x" * 500]
    _, llm = start(fails(404, {"error": {"message": "no such model"}}), listing=models(*names))
    message = failure(llm)
    assert "has no model tiny-vl: choose --model among qwen2.5vl:7b, model-0, " in message
    assert message.endswith("and 14 more.")
    _, llm = start(fails(404, {"detail": "Not Found"}), listing=fails(404))
    assert "no chat completions there (404: Not Found): does --base-url end in /v1, and is --model right?" in failure(
        llm
    )


def test_a_failure_that_passes_is_not_seen(start: Start) -> None:
    chat, llm = start(fails(500), hangs_up, says("at last"))
    assert llm.chat(ASK).message.content == "at last"
    assert len(chat.requests) == 3


def test_a_server_that_is_busy_is_asked_again_when_it_says(start: Start) -> None:
    _, llm = start(fails(429, "", retry_after="0.2"), says("now"))
    began = time.perf_counter()
    assert llm.chat(ASK).message.content == "now"
    assert time.perf_counter() - began >= 0.2
    _, llm = start(fails(429, {"error": {"message": "Rate limit reached."}}, retry_after="0.01"))
    assert "is asked too much, or its quota is used up (429: Rate limit reached): wait" in failure(llm)


def test_no_answer_in_time_is_not_asked_for_again(start: Start) -> None:
    chat, llm = start(hangs)
    began = time.perf_counter()
    assert "took too long" in failure(llm)
    assert time.perf_counter() - began < 1.5
    assert len(chat.requests) == 1


@pytest.mark.parametrize(
    ("reply", "says_what"),
    [
        (streams("Five ", broken=True), "broke off its answer"),
        (streams("Five ", reason=None), "broke off its answer"),
        (streams("Five ", after=b"data: {nonsense\n\n"), "answered with what is no chat completion"),
        (streams("Five ", after=b'data: {"error": {"message": "out of memory"}}\n\n'), "failed (out of memory)"),
        (sends("", "text/event-stream"), "answered with what is no chat completion"),
        (sends('{"a": 1}'), "answered with what is no chat completion"),
        (fails(500), "failed (500)"),
        (hangs, "took too long to answer"),
    ],
    ids=["broken", "no end", "nonsense", "error", "empty", "no stream", "500", "hang"],
)
def test_a_stream_that_fails(start: Start, reply: Reply, says_what: str) -> None:
    _, llm = start(reply, says("?"), max_retries=0)
    seen: list[str] = []
    with pytest.raises(GenerationError) as raised:
        seen.extend(piece.delta or "" for piece in llm.stream_chat(ASK))
    assert says_what in str(raised.value)
    assert str(raised.value).startswith(f"The server at {llm.api_base} ")
    assert "".join(seen) in ("Five ", "")
    assert llm.chat(ASK).message.content == "?"  # its place is free again


def test_a_stream_that_falls_silent(start: Start) -> None:
    def silent(handler: Any) -> None:
        streams("Five ", reason=None, broken=True)(handler)
        handler.chat.released.wait(10)

    _, llm = start(silent)
    pieces = llm.stream_chat(ASK)
    assert "".join((next(pieces).delta or "", next(pieces).delta or "")) == "Five "
    with pytest.raises(GenerationError, match="took too long"):
        next(pieces)


@pytest.mark.parametrize(
    "base_url", ["", "localhost:8000", "ftp://host/v1", "http://", "http://me:secret@host/v1", "http://host:x/v1"]
)
def test_an_address_that_is_none(base_url: str) -> None:
    with pytest.raises(UsageError, match="must be an address") as raised:
        Endpoint(base_url, "tiny-vl")
    assert "secret" not in str(raised.value)
