"""`mmrag app`: runs Streamlit on apps/chat.py in this process.

What keeps the app safe is given to Streamlit as flags, which no config.toml of a home or working directory and no
STREAMLIT_ variable overrides; what the app may open and how it asks goes to it by the environment. Knows no pages.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mmrag.errors import StoreNotFound, UsageError, require_installed

SCRIPT = Path(__file__).with_name("chat.py")
PORT = 8501
_TRIED = 100
"""How many ports above the usual one are tried where that is taken."""

REACHABLE = (
    "Whoever reaches this address can read the collections, change them and ask: the app has no login. Let only a "
    "proxy that has one reach it. PyMuPDF's licence, the AGPL, asks you to offer the whole source to those "
    "who use it over a network."
)

_ALWAYS = {
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.xsrfCookieSameSite": "lax",
    "server.enableStaticServing": "false",
    "server.enableAgentApi": "false",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.showEmailPrompt": "false",
    "server.baseUrlPath": "",
    "runner.magicEnabled": "false",
    "runner.postScriptGC": "false",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "global.developmentMode": "false",
    "logger.hideWelcomeMessage": "true",
}


def environment(
    store: Path | None,
    collections: Path | None,
    runs: Path | None,
    allow: Sequence[Path],
    choices: Mapping[str, Any],
) -> dict[str, str]:
    """How the app's pages learn what the command was given. StoreNotFound or UsageError where a folder is missing."""
    if store and not (store / "ledger.sqlite3").is_file():
        raise StoreNotFound(
            f"There is no store at {store}: name one that  mmrag ingest  has made, or leave --store out and make a "
            "collection in the app."
        )
    if missing := next((folder for folder in allow if not folder.is_dir()), None):
        raise UsageError(f"--allow {missing} is no folder: name one that is there.")
    found = {
        "MMRAG_STORE": store and store.absolute(),
        "MMRAG_COLLECTIONS": collections and collections.absolute(),
        "MMRAG_RUNS": runs and runs.absolute(),
        "MMRAG_ALLOW": os.pathsep.join(str(folder.absolute()) for folder in allow),
        "MMRAG_CHOICES": json.dumps({name: value for name, value in choices.items() if value is not None}),
        "MMRAG_WARM_UP": "yes",
    }
    return {name: str(value) for name, value in found.items() if value}


def serve(host: str, port: int, *, public_name: str | None, max_upload: int, browser: bool) -> None:
    """Runs until Ctrl-C. MissingExtra without Streamlit."""
    require_installed("streamlit", extra="app")
    from streamlit.web.cli import main

    flags = list(_flags(host, port, public_name, max_upload, browser))
    main(["run", str(SCRIPT), *flags], prog_name="streamlit", standalone_mode=False)


def _flags(host: str, port: int, public_name: str | None, max_upload: int, browser: bool) -> Iterator[str]:
    own = f"https://{public_name}" if public_name else address(host, port)
    # A page elsewhere whose name comes to mean this machine (DNS rebinding) is no page of ours.
    names = ["localhost", "127.0.0.1", "::1", host, public_name or host] if is_local(host) else [public_name or "*"]
    options: dict[str, object] = _ALWAYS | {
        "server.address": host,
        "server.port": port,
        "server.maxUploadSize": max_upload,
        "server.corsAllowedOrigins": own,
        "client.allowedOrigins": own,
        "browser.serverAddress": public_name or _shown(host),
        "browser.serverPort": port,
    }
    if not browser or public_name:
        options["server.headless"] = "true"
    yield from (f"--{name}={value}" for name, value in options.items())
    yield from (f"--server.allowedHosts={name}" for name in dict.fromkeys(names))


def is_local(host: str | None) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return False


def address(host: str, port: int) -> str:
    """For the browser on this machine."""
    return f"http://{_shown(host)}:{port}"


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def free_port(host: str, wanted: int | None) -> int:
    """That which was asked for, or the usual one or the next that is free. UsageError where there is none."""
    for port in [wanted] if wanted else range(PORT, PORT + _TRIED):
        if _is_free(host, port):
            return port
    if wanted:
        raise UsageError(f"Port {wanted} is taken: choose another with --port, or leave it out for the next free one.")
    raise UsageError(f"No port from {PORT} to {PORT + _TRIED - 1} is free: choose one with --port.")


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            if os.name != "nt":  # there it lets two programs listen at one port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        if isinstance(error, PermissionError):
            raise UsageError(f"Port {port} may not be used: choose one above 1023 with --port.") from error
        raise UsageError(
            f"--host {host} is no address of this machine ({error.strerror}): localhost is for this machine alone, "
            "0.0.0.0 for all its addresses."
        ) from error
    return True
