"""Waiting no longer than said for a call that has no time limit of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """What the call returns or raises, or TimeoutError.

    In a thread, because no timeout of an HTTP client covers the resolution of the host name. A daemon thread: it must
    not hold up the program's exit.
    """
    results: list[Any] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer in {seconds:g} seconds")
    result: T = results[0]
    return result
