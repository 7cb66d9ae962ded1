"""A real `chroma run` that can be killed and started again; a gate before it that demands a header or keeps silent."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChromaProcess:
    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder, self.port = folder, port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = shutil.which("chroma", path=str(Path(sys.executable).parent))
        assert command is not None
        arguments = ["run", "--host", "127.0.0.1", "--path", str(self.folder), "--port", str(self.port)]
        # Chroma comes with its own settings in a file where it is started.
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [command, *arguments], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("chroma run did not start")

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def chroma_process(folder: Path) -> Iterator[ChromaProcess]:
    server = ChromaProcess(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@dataclass
class Gate:
    """Passes on to `port` what has the header, once a request."""

    port: int
    header: tuple[str, str] | None = None
    status: int = 401
    location: str = ""
    address: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gate: Gate

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.gate.asked.append({name.lower(): value for name, value in self.headers.items()})
        if self.gate.silent.is_set():
            self.gate.released.wait()
            self.close_connection = True
            return
        wanted = self.gate.header
        if wanted and self.headers.get(wanted[0]) != wanted[1]:
            self._answer(self.gate.status, b"<html>Who are you?</html>")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.gate.port)
        try:
            connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            self._answer(response.status, response.read())
        except OSError:
            self._answer(502, b"<html>Bad gateway</html>")
        finally:
            connection.close()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if self.gate.location:
            self.send_header("Location", self.gate.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def gate(
    port: int, header: tuple[str, str] | None = None, *, status: int = 401, certificate: Path | None = None
) -> Iterator[Gate]:
    found = Gate(port, header, status)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"gate": found})) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        found.address = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.released.set()
            server.shutdown()
            thread.join()
