"""Loaders whose result is kept. Where several threads ask at once, one loads and the others wait for it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801  # a decorator
    def __init__(self, load: Callable[[], T]) -> None:
        self._load, self._lock = load, Lock()
        self._kept: list[T] = []
        self.__doc__ = load.__doc__

    def __call__(self) -> T:
        with self._lock:
            if not self._kept:
                self._kept.append(self._load())
            return self._kept[0]

    def forget(self) -> None:
        """The next call loads again."""
        with self._lock:
            self._kept.clear()
