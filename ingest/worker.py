"""Worker processes: a pool of them, what each may take of the machine, and how they end. Knows nothing of their work.

A worker that crashes, hangs or takes too much costs the task that it was at: its future says what happened, and another
process takes the place. Each computes in one thread, so that as many as there are cores do not get in each other's way.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

from pebble import ProcessExpired, ProcessPool

from ingest.limits import Limits, megabytes
from mmrag.errors import UnreadableFile

try:
    import fcntl
    import resource
except ImportError:  # on Windows
    fcntl = resource = None  # type: ignore[assignment]

RECYCLE_TASKS = 500
"""Tasks after which a worker is replaced: MuPDF keeps caches for as long as its process lives."""
_GRACE = 2.0
"""Times the limit of processor time that a task may take by the clock."""


class Pool:
    """Started by spawn: MuPDF must not be forked, and Chroma's threads neither."""

    def __init__(self, workers: int, limits: Limits) -> None:
        self.limits = limits
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=RECYCLE_TASKS,
            initializer=_start,
            initargs=[limits.memory],
            context=get_context("spawn"),
        )

    def submit(self, function: Callable[..., Any], *args: Any, limited: bool = True) -> Future[Any]:
        """A future of what `function` returns; one that is `limited` gets the seconds of a page."""
        seconds = self.limits.page_seconds
        task = (function, args, seconds if limited else None)
        return self._pool.schedule(_run, args=task, timeout=_GRACE * seconds if limited else None)

    def result(self, future: Future[Any]) -> Any:
        """What a worker returned; raises what it raised, and TooCostly for whatever happened to it instead."""
        try:
            return future.result()
        except TimeoutError as error:
            raise self._too_slow() from error
        except ProcessExpired as error:
            if resource and error.exitcode == -signal.SIGXCPU:
                raise self._too_slow() from error
            raise TooCostly(f"reading it ended the process ({_end(error.exitcode)})") from error
        except MemoryError as error:
            raise TooCostly(f"it needs more than {megabytes(self.limits.memory)} of memory: --max-memory") from error

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()

    def _too_slow(self) -> TooCostly:
        return TooCostly(f"it took more than {self.limits.page_seconds:g} s to read: --max-seconds")


def threads() -> int | None:
    """That a model may compute with in this process: one in a worker, as many as it likes elsewhere."""
    return 1 if parent_process() else None


class TooCostly(UnreadableFile):
    """What a task asked for took too much of the machine, or its worker along. The message is a clause."""


def _end(exitcode: int) -> str:
    try:
        return signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"
    except ValueError:
        return f"signal {-exitcode}"


def _start(memory: int) -> None:
    die_with_parent()
    if resource:
        # What a process has written to or may write to; the address space alone would count what models only reserve.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of a crashed worker would fill the disk


def _run(function: Callable[..., Any], args: tuple[Any, ...], seconds: float | None) -> Any:
    if resource and seconds is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (_rounded_up(_used() + seconds), hard))
    try:
        return function(*args)
    finally:
        if resource and seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _rounded_up(seconds: float) -> int:
    return int(seconds) + 1


def die_with_parent() -> None:
    """To be called first in a spawned process, as the initializer of a pool: however the parent ends, this one follows.

    A killed parent cannot end its workers, and one that reads a hostile page would go on for good.
    """
    parent = parent_process()
    if parent is None:  # not spawned at all
        return
    _let_the_kernel_kill(parent)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _let_the_kernel_kill(parent: BaseProcess) -> None:
    """On Linux: no thread of Python gets a turn while MuPDF holds the interpreter's lock, in a loop perhaps."""
    if fcntl and hasattr(fcntl, "F_SETSIG"):
        pipe = parent.sentinel  # its other end is open in the parent alone
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


def _follow(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
