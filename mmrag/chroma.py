"""Two ways to a Chroma, in a folder of this machine or on a server, and what a server's failures mean.

Knows Chroma's settings and HTTP; knows no collection and no store. A server is asked over a connection of our own: that
of Chroma's client waits for ever. Its headers are secrets: they stand in no message and go to no other address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrag.errors import StoreError, StoreUnreachable, brief
from mmrag.once import once

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
"""A server that was just started reads a large collection from its disk before it answers the first query."""


@dataclass(frozen=True, slots=True)
class ChromaServer:
    """Where the vectors of stores can be, and the headers that it alone is sent.

    `is_named` where somebody wants this one and no other, rather than to have it known as one that there is.
    """

    address: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    is_named: bool = False


@once
def chromadb() -> Any:
    """The package, imported by one thread alone and as a whole.

    Its modules import each other in a circle: where one thread begins at one of them and another elsewhere, neither
    import ends well.
    """
    import chromadb

    return chromadb


def start_embedded(folder: Path) -> Any:
    """A system of its own, to be stopped.

    `PersistentClient` would join a system that this process has open on the folder already, however stale, and one
    that failed to start would stay in its way for good.
    """
    settings = chromadb().config.Settings
    return _started(settings(anonymized_telemetry=False, is_persistent=True, persist_directory=str(folder)))


def start_client(server: ChromaServer) -> Any:
    """As `start_embedded`, for a server: nothing is asked yet, and no answer is waited for longer than READ_SECONDS."""
    import httpx

    from mmrag.generate.server import http_options

    settings = chromadb().config.Settings(
        _env_file=None,  # of whatever folder we are in
        anonymized_telemetry=False,
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_client_auth_provider=None,
        chroma_server_headers={},
        chroma_server_host=server.address,
        chroma_server_http_port=0,  # required and unused: the address has it
    )
    system = _started(settings)
    api = api_of(system)
    api._session.close()
    options = http_options(server.address, CONNECT_SECONDS, READ_SECONDS)
    headers = {"Content-Type": "application/json"} | dict(server.headers)
    api._session = httpx.Client(headers=headers, verify=httpx.create_ssl_context(), **options)
    return system


def _started(settings: Any) -> Any:
    system = chromadb().config.System(settings)
    api_of(system)
    system.start()
    return system


def api_of(system: Any) -> Any:
    """What it is asked by: the settings choose the class."""
    return system.instance(chromadb().api.ServerAPI)


def stop(system: Any) -> None:
    session = getattr(api_of(system), "_session", None)
    system.stop()
    if session is not None:
        session.close()


def reach(server: ChromaServer) -> str:
    """The version of the server's interface; StoreUnreachable or StoreError where there is none."""
    system = start_client(server)
    try:
        api = api_of(system)
        api.get_user_identity()  # unlike the version, behind whatever login there is
        return str(api.get_version())
    except Exception as error:
        raise trouble(server.address, error) from error
    finally:
        stop(system)


def trouble(address: str, error: Exception) -> StoreError:
    """What went wrong with the server, and what to do. Chroma's client raises nearly anything."""
    import httpx

    causes = list(_causes(error))
    status = next((status for cause in causes if (status := _status(cause))), None)
    transport = next((cause for cause in causes if isinstance(cause, httpx.TransportError)), None)
    start = f"The Chroma server at {address}"
    if isinstance(transport, httpx.ConnectError | httpx.ConnectTimeout):
        why = re.sub(r"^\[Errno -?\d+\] ", "", brief(transport)) or "no answer"
        return StoreUnreachable(f"{start} cannot be reached ({why}): start it, or correct its address.")
    if isinstance(transport, httpx.TimeoutException):
        return StoreUnreachable(f"{start} has not answered for {READ_SECONDS:.0f} s: look whether it is busy.")
    if transport:
        return StoreUnreachable(f"{start} broke off its answer ({brief(transport)}): look at its log.")
    if status in (401, 403):
        advice = "set MMRAG_CHROMA to its address and MMRAG_CHROMA_HEADERS to what it wants, as JSON"
        return StoreUnreachable(f"{start} refuses us ({status}): {advice}.")
    if isinstance(error, chromadb().errors.NotFoundError):
        return StoreError(
            f"{start} does not hold the vectors of this store: start it with the folder that it had then "
            "(chroma run --path), or ingest into a new --store."
        )
    if status in (502, 503, 504):
        return StoreUnreachable(f"{start} is not there, says the proxy before it ({status}): start it.")
    if status == 404 or isinstance(error, ValueError | KeyError | TypeError):
        return StoreUnreachable(f"What answers at {address} is no Chroma server of version 1: correct the address.")
    return StoreError(f"{start} failed ({status or brief(error)}): look at its log, its disk may be full.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    if isinstance(error, chromadb().errors.ChromaError):
        return int(error.code())
    return getattr(getattr(error, "response", None), "status_code", None)
