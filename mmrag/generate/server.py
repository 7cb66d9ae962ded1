"""The server that runs a model: whether it is there, which models it has, and what its failures mean.

Knows HTTP and what servers of OpenAI's protocol answer; knows no LlamaIndex and no images. What a server says is quoted
in errors by its first sentence, and never with the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from mmrag.deadline import within
from mmrag.errors import GenerationError, MmragError, brief

CONNECT_SECONDS = 5.0
READ_SECONDS = 120.0
_LIST_SECONDS = 2.0  # no server computes anything for its list
_LISTED = 8
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout, TimeoutError)
_TOO_LONG = re.compile(r"context|too long|too large|max(imum)?\W.{0,20}(length|tokens)|max_model_len", re.IGNORECASE)
_NO_IMAGES = re.compile(r"image|multi-?modal|vision", re.IGNORECASE)


class Server:
    """What answers at `base_url`, an address without a password, over the connections of `http`."""

    def __init__(self, base_url: str, api_key: str | None, http: httpx.Client) -> None:
        self.base_url = base_url.rstrip("/")
        self._key, self._http = api_key, http

    def reach(self, connect_seconds: float = CONNECT_SECONDS) -> None:
        """Raises GenerationError where nobody is there or the key is refused."""
        try:
            self._list(connect_seconds)
        except (httpx.HTTPError, OSError, ValueError) as error:
            # One that is there may still keep no list, or be too busy to give it.
            if _status(error) == 401 or isinstance(error, _UNREACHABLE):
                raise self.explained(error) from None

    def models(self, connect_seconds: float = CONNECT_SECONDS) -> list[str]:
        """The names that the server lists, or GenerationError."""
        with self.one_sentence():
            return self._list(connect_seconds)

    def _list(self, connect_seconds: float) -> list[str]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Timeout(_LIST_SECONDS, connect=connect_seconds)

        def ask() -> Any:
            response = self._http.get(f"{self.base_url}/models", headers=headers, timeout=limits)
            return response.raise_for_status().json()

        answer = within(connect_seconds + _LIST_SECONDS + 0.5, ask)
        entries = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise ValueError("no list of models")
        return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]

    @contextmanager
    def one_sentence(self, model: str = "") -> Iterator[None]:
        """Makes a GenerationError of whatever goes wrong inside."""
        try:
            yield
        except MmragError:
            raise
        except Exception as error:
            cause = None if self._key and self._key in str(error) else error
            raise self.explained(error, model) from cause

    def explained(self, error: Exception, model: str = "") -> GenerationError:
        status, said = _status(error), self._said(error)
        cause = error.__cause__ if isinstance(error.__cause__, httpx.TransportError) else error
        if status is not None:
            return self._refusal(status, said, model)
        if isinstance(cause, _UNREACHABLE):
            why = re.sub(r"^\[Errno -?\d+\] ", "", brief(cause)).removesuffix("timed out") or "it does not answer"
            return self._sentence(f"cannot be reached ({why})", "start it, or correct --base-url")
        if isinstance(cause, httpx.TimeoutException):
            return self._sentence(
                "took too long to answer",
                "look whether it is busy, show it fewer pages (--top-k, --max-visual-tokens), or take a smaller model",
            )
        if isinstance(cause, httpx.TransportError):
            return self._sentence(f"broke off its answer ({brief(cause)})", "ask again, or look at its log")
        if hasattr(error, "body"):  # an error in the middle of a stream
            return self._refusal(None, said, model)
        return self._sentence(
            "answered with what is no chat completion", "does --base-url name such a server, and end in /v1?"
        )

    def _refusal(self, status: int | None, said: str, model: str) -> GenerationError:
        why = ": ".join(filter(None, (str(status or ""), brief(ValueError(said)) if said else "")))
        why = f" ({why})" if why else ""
        if status == 401:
            return self._sentence(f"refused the request{why}", "set MMRAG_API_KEY to a key of this server")
        if status == 403:
            return self._sentence(f"forbade it{why}", "set MMRAG_API_KEY to a key that may, or choose another --model")
        if status == 404:
            return self._not_found(why, model)
        if status == 429:
            return self._sentence(f"is asked too much, or its quota is used up{why}", "wait, or ask less at once")
        if status is not None and status < 400:
            return self._sentence(f"redirects elsewhere{why}", "give its final address as --base-url")
        if _TOO_LONG.search(said) or status == 413:
            advice = "show it fewer pages (--top-k), lower --max-visual-tokens, or start it with a longer context"
            return self._sentence(f"cannot read so much{why}", advice)
        if _NO_IMAGES.search(said):
            return self._sentence(
                f"does not take these images{why}", "choose a --model that reads images, several in one request"
            )
        return self._sentence(f"failed{why}", "look at its log")

    def _not_found(self, why: str, model: str) -> GenerationError:
        try:
            names = self._list(CONNECT_SECONDS)
        except Exception:
            names = []
        if names and model and model not in names:
            return self._sentence(f"has no model {model}", f"choose --model among {listed(names)}")
        return self._sentence(
            f"has no chat completions there{why}", "does --base-url end in /v1, and is --model right?"
        )

    def _sentence(self, what: str, advice: str) -> GenerationError:
        return GenerationError(f"The server at {self.base_url} {what}: {advice}{'' if advice.endswith('?') else '.'}")

    def _said(self, error: Exception) -> str:
        """The server's own words on one line, without the key; none where it sent a page of HTML."""
        body = getattr(error, "body", None)
        if isinstance(error, httpx.HTTPStatusError):
            try:
                body = error.response.json()
            except ValueError:
                body = error.response.text
        words = " ".join(_message(body)[:2000].split())
        if self._key:
            words = words.replace(self._key, "…")
        return "" if words.startswith("<") else words


def http_options(
    base_url: str, connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS
) -> dict[str, Any]:
    """Of an httpx client that asks this server alone: pages go to no address that was not named."""
    return {
        "timeout": httpx.Timeout(read_seconds, connect=connect_seconds),
        "follow_redirects": False,
        "trust_env": httpx.URL(base_url).host not in _LOOPBACK,  # no proxy reaches this machine's own servers
    }


def listed(names: Sequence[str]) -> str:
    """The first names, each cut to a length that a line can hold."""
    shown = ", ".join(name[:60] for name in names[:_LISTED])
    return f"{shown} and {len(names) - _LISTED} more" if len(names) > _LISTED else shown


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _message(body: Any) -> str:
    """Servers differ: {"error": {"message": …}}, {"error": "…"}, {"message": …}, {"detail": …}, or plain text."""
    while isinstance(body, dict):
        body = next((body[key] for key in ("error", "message", "detail") if body.get(key)), "")
    return body if isinstance(body, str) else ""
