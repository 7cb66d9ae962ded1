"""Loaders that several threads ask at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from mmrag.once import once

Python = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_loader_runs_once_however_many_ask() -> None:
    loads, together = [], Barrier(8)

    @once
    def load() -> object:
        loads.append(1)
        return object()

    def ask() -> object:
        together.wait()
        return load()

    with ThreadPoolExecutor(8) as threads:
        found = {id(call.result()) for call in [threads.submit(ask) for _ in range(8)]}
    assert (len(loads), len(found)) == (1, 1)


def test_a_loader_that_failed_is_asked_again() -> None:
    answers = iter([ValueError("not yet"), 3])

    @once
    def load() -> int:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    with pytest.raises(ValueError, match="not yet"):
        load()
    assert load() == 3


def test_the_bundled_models_may_be_asked_by_several_threads_at_first(python: Python) -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
from mmrag.bundled import BundledCrossEncoder
from mmrag.encoders import BundledTextEncoder
with ThreadPoolExecutor(4) as threads:
    vectors = list(threads.map(lambda i: BundledTextEncoder().get_query_embedding("profit"), range(4)))
    scores = list(threads.map(lambda i: BundledCrossEncoder().score("profit?", ["the profit"]), range(4)))
print(len({tuple(v) for v in vectors}), len({tuple(s) for s in scores}))
"""
    done = python("-c", program)
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_what_is_forgotten_is_loaded_again() -> None:
    loads: list[int] = []

    @once
    def load() -> int:
        loads.append(1)
        return len(loads)

    assert [load(), load()] == [1, 1]
    load.forget()
    assert load() == 2
