"""Loaders whose result is kept. Where several threads ask at once, one loads and the others wait for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


def once(load: Callable[[], T]) -> Callable[[], T]:
    lock, kept = Lock(), cache(load)

    def loaded() -> T:
        with lock:
            return kept()

    return loaded
