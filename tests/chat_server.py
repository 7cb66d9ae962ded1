"""A server that speaks OpenAI's chat protocol over real sockets and fails as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler"], None]


@dataclass
class ChatServer:
    """Answers requests by `replies`, one each, the last of them ever after; remembers what it was asked."""

    replies: list[Reply] = field(default_factory=list)
    listing: Reply | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    listed: list[dict[str, str]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    """Set to let hanging replies go."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def next_reply(self) -> Reply:
        with self.lock:
            return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: ChatServer

    def do_GET(self) -> None:
        self.chat.listed.append({name.lower(): value for name, value in self.headers.items()})
        (self.chat.listing or models("tiny-vl"))(self)

    def do_POST(self) -> None:
        chat = self.chat
        if chat.released.is_set():  # the server has gone; this connection of its outlived it
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["content-length"]))
        with chat.lock:
            chat.requests.append(json.loads(body))
            chat.headers.append({name.lower(): value for name, value in self.headers.items()})
            chat.running += 1
            chat.most_running = max(chat.running, chat.most_running)
        try:
            chat.next_reply()(self)
        finally:
            with chat.lock:
                chat.running -= 1

    def send(self, body: bytes | str, status: int = 200, media_type: str = "application/json", **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"content-type": media_type, "content-length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(*replies: Reply, listing: Reply | None = None) -> Iterator[ChatServer]:
    chat = ChatServer(list(replies), listing)
    handler = type("BoundHandler", (Handler,), {"chat": chat})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield chat
        finally:
            chat.released.set()
            server.shutdown()
            thread.join()


def models(*names: str) -> Reply:
    return lambda handler: handler.send(json.dumps({"object": "list", "data": [{"id": name} for name in names]}))


def says(text: str, reason: str = "stop") -> Reply:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return lambda handler: handler.send(json.dumps(body))


def fails(status: int, body: object = "", **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    return lambda handler: handler.send(text, status, **headers)


def sends(body: bytes | str, media_type: str = "application/json") -> Reply:
    return lambda handler: handler.send(body, media_type=media_type)


def hangs(handler: Handler) -> None:
    handler.chat.released.wait(10)
    handler.close_connection = True


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True


def streams(*pieces: str, reason: str | None = "stop", broken: bool = False, after: bytes = b"") -> Reply:
    """Server-sent events; `broken` closes the connection in the middle, `after` goes out before the end."""

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": piece}, None) for piece in pieces]
        deltas += [({}, reason)] if reason else []
        for delta, why in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": why}
            event = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
            _chunk(handler, f"data: {json.dumps(event)}\n\n".encode())
        if after:
            _chunk(handler, after)
        if broken:
            handler.close_connection = True
            return
        _chunk(handler, b"data: [DONE]\n\n")
        handler.wfile.write(b"0\r\n\r\n")

    return reply


def _chunk(handler: Handler, data: bytes) -> None:
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.flush()
