"""`mmrag app`: what Streamlit is told, which port is taken, what is refused; in a real process too."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("streamlit")

from streamlit import config

from apps import serve
from apps.ui.state import CHOICES
from mmrag.errors import StoreNotFound, UsageError
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, list[str]]]:
    """What Streamlit is given on its command line, by option."""
    calls: list[list[str]] = []
    monkeypatch.setattr("streamlit.web.cli.main", lambda args, **rest: calls.append(args))

    def options(host: str = "localhost", public_name: str | None = None, browser: bool = True) -> dict[str, list[str]]:
        serve.serve(host, 8501, public_name=public_name, max_upload=7, browser=browser)
        found: dict[str, list[str]] = {}
        for flag in calls[-1][2:]:
            name, _, value = flag.removeprefix("--").partition("=")
            found.setdefault(name, []).append(value)
        return found

    return options


def test_every_option_that_streamlit_is_given_is_one_of_its_own(told: Callable[..., dict[str, list[str]]]) -> None:
    known = config.get_config_options()
    assert set(told()) <= set(known)


def test_this_machine_is_reached_under_its_own_names_only(told: Callable[..., dict[str, list[str]]]) -> None:
    options = told()
    assert options["server.address"] == ["localhost"]
    assert options["server.allowedHosts"] == ["localhost", "127.0.0.1", "::1"]
    assert options["server.corsAllowedOrigins"] == ["http://localhost:8501"]
    assert options["server.maxUploadSize"] == ["7"]
    assert "server.headless" not in options
    assert told(browser=False)["server.headless"] == ["true"]


def test_a_proxys_name_is_let_in_beside_them(told: Callable[..., dict[str, list[str]]]) -> None:
    options = told(public_name="docs.example.org")
    assert options["server.allowedHosts"][-1] == "docs.example.org"
    assert options["server.corsAllowedOrigins"] == ["https://docs.example.org"]
    assert options["browser.serverAddress"] == ["docs.example.org"]
    assert told("0.0.0.0", public_name="docs.example.org")["server.allowedHosts"] == ["docs.example.org"]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("docs.example.org", False),
        ("localhost.example.org", False),
        ("", False),
        (None, False),
    ],
)
def test_what_counts_as_this_machine(host: str | None, local: bool) -> None:
    assert serve.is_local(host) is local


def test_addresses_for_the_browser() -> None:
    assert serve.address("0.0.0.0", 1) == "http://localhost:1"
    assert serve.address("::1", 1) == "http://[::1]:1"


@contextmanager
def taken(port: int = 0) -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_was_asked_for_is_not_replaced() -> None:
    with taken() as port, pytest.raises(UsageError, match=f"Port {port} is taken"):
        serve.free_port("localhost", port)
    assert serve.free_port("localhost", port) == port


def test_the_next_free_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with taken() as port:
        monkeypatch.setattr(serve, "PORT", port)
        assert port < serve.free_port("localhost", None) < port + 100
        monkeypatch.setattr(serve, "_TRIED", 1)
        with pytest.raises(UsageError, match="is free: choose one"):
            serve.free_port("localhost", None)


def test_a_host_that_is_not_here() -> None:
    with pytest.raises(UsageError, match=r"--host 203\.0\.113\.7 is no address of this machine"):
        serve.free_port("203.0.113.7", None)


def test_the_environment_of_the_pages(tmp_path: Path, own_store: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    chosen = {"generator": "extractive", "risk": 0.3, "model": None}
    found = serve.environment(own_store, tmp_path / "new", tmp_path / "runs", [tmp_path, other], chosen)
    assert found["MMRAG_STORE"] == str(own_store)
    assert found["MMRAG_RUNS"] == str(tmp_path / "runs")
    assert found["MMRAG_COLLECTIONS"] == str(tmp_path / "new")
    assert found["MMRAG_ALLOW"].split(os.pathsep) == [str(tmp_path), str(other)]
    assert json.loads(found["MMRAG_CHOICES"]) == {"generator": "extractive", "risk": 0.3}
    with pytest.raises(StoreNotFound, match="There is no store at"):
        serve.environment(other, None, None, [], {})
    with pytest.raises(UsageError, match=r"--allow .*gone is no folder"):
        serve.environment(None, None, None, [tmp_path / "gone"], {})


def test_every_choice_of_the_command_is_one_of_the_app() -> None:
    from typer.main import get_command

    from apps.cli import app

    options = {p.name for p in get_command(app).commands["app"].params}  # type: ignore[attr-defined]
    folders = {"store", "collections", "allow", "runs"}
    elsewhere = folders | {"host", "port", "public_name", "max_upload", "no_browser", "debug"}
    assert options - elsewhere == set(CHOICES) - {"api_key", "top_k"}


def test_what_the_first_page_needs_is_imported_at_once_and_nothing_else(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    heavy = "pymupdf chromadb llama_index torch fastembed onnxruntime rapidocr altair pebble"
    code = f"import apps.chat, apps.ui.ask, sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = python("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


@contextmanager
def running(folder: Path, *options: str, command: tuple[str, ...] = ("-m", "mmrag", "app", "--no-browser")):  # type: ignore[no-untyped-def]
    """The command in a working directory whose config would open everything to everybody."""
    for place in (folder, folder / "home"):
        (place / ".streamlit").mkdir(parents=True, exist_ok=True)
        (place / ".streamlit" / "config.toml").write_text(
            '[server]\naddress = "0.0.0.0"\nenableCORS = false\nenableXsrfProtection = false\nallowedHosts = ["*"]\n'
            'enableAgentApi = true\n[client]\nshowErrorDetails = "full"\n[browser]\ngatherUsageStats = true\n'
        )
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    environment |= {"HOME": str(folder / "home"), "XDG_DATA_HOME": str(folder / "data")}
    process = subprocess.Popen(
        [sys.executable, *command, *options],
        cwd=folder,
        env=environment | {"STREAMLIT_SERVER_ENABLE_CORS": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def get(address: str, **headers: str) -> int:
    try:
        with urlopen(Request(address, headers=headers), timeout=5) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


def posted(address: str) -> str:
    request = Request(address, data=b"{}", headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urlopen(request, timeout=5) as response:
            return str(response.read())
    except HTTPError as error:
        return str(error.read())


def awaited(address: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            assert get(f"{address}/_stcore/health") == 200
            return
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def upgraded(port: int, host: str, origin: str) -> int:
    """The status that a WebSocket's handshake ends with."""
    lines = [f"{name}: {value}" for name, value in {"Host": host, "Origin": origin, **UPGRADE}.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("\r\n".join(["GET /_stcore/stream HTTP/1.1", *lines, "", ""]).encode())
        return int(connection.recv(64).split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("streamlit_run", [False, True], ids=["mmrag app", "streamlit run"])
def test_no_config_file_opens_the_app(tmp_path: Path, streamlit_run: bool) -> None:
    port = serve.free_port("localhost", None)
    if streamlit_run:
        script = str(ROOT / "apps" / "chat.py")
        command = ("-m", "streamlit", "run", script, f"--server.port={port}", "--server.headless=true")
        options: tuple[str, ...] = ("--server.enableCORS=true",)  # a variable of Streamlit's own is above its files
    else:
        command, options = ("-m", "mmrag", "app", "--no-browser"), ("--port", str(port))
    with running(tmp_path, *options, command=command) as process:
        awaited(f"http://localhost:{port}")
        home = f"localhost:{port}"
        assert upgraded(port, home, f"http://{home}") == 101
        assert upgraded(port, home, "http://evil.example") == 403
        assert upgraded(port, f"evil.example:{port}", f"http://evil.example:{port}") == 403
        assert "not_available" in posted(f"http://{home}/_stcore/agent/interact")
        outside = [a for a in {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None)} if "127." not in a]
        for address in outside:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as stranger:
                assert stranger.connect_ex((address, port)) != 0
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in out
    assert f"http://localhost:{port}" in out


@pytest.mark.slow
def test_other_addresses_are_warned_of_and_a_taken_port_is_said(tmp_path: Path) -> None:
    with taken() as port, running(tmp_path, "--port", str(port)) as process:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert re.fullmatch(rf"mmrag: Port {port} is taken: .*\n", out)
    with running(tmp_path, "--host", "0.0.0.0", "--port", str(port)) as process:
        awaited(f"http://localhost:{port}")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        assert "the app has no login" in " ".join(out.split())
        assert "AGPL" in out
