"""Worker processes: a pool of them, what each may take of the machine, and how they end. Knows nothing of their work.

A worker that crashes, hangs or takes too much costs the task that it was at: its future says what happened, and another
process takes the place. Each computes in one thread, so that as many as there are cores do not get in each other's way.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Any

from pebble import ProcessExpired, ProcessPool

from ingest.limits import Limits, megabytes
from ingest.timing import Spent, Timings, resident_bytes, spent
from mmrag.errors import UnreadableFile

try:
    import fcntl
    import resource
except ImportError:  # on Windows
    fcntl = resource = None  # type: ignore[assignment]

RECYCLE_TASKS = 400
"""Tasks after which a worker is replaced, whatever its libraries have kept."""
_LOOK_SECONDS = 0.05
_RESERVED = 2.5
"""Times the limit of memory that a worker may reserve, most of it never used: a last bar to what grows in no time."""
_GRACE = 2.0
"""Times the limit of processor time that a task may take by the clock."""


class Pool:
    """Started by spawn: MuPDF must not be forked, and Chroma's threads neither."""

    def __init__(self, workers: int, limits: Limits) -> None:
        self.workers, self.limits = workers, limits
        self.timings = Timings(workers=workers)
        """Of every task whose result was asked for."""
        self._here = ThreadPoolExecutor(1)
        self._too_big: set[int] = set()
        """Ids of processes that were ended for their memory."""
        self._is_closed = threading.Event()
        context = get_context("spawn")
        self._born = context.SimpleQueue()
        """Ids of the workers: other pools of this process may have other limits."""
        threading.Thread(target=self._watch_memory, daemon=True).start()
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=RECYCLE_TASKS,
            initializer=_start,
            initargs=[limits.memory, self._born],
            context=context,
        )

    def submit(self, function: Callable[..., Any], *args: Any, pages: int = 1) -> Future[Any]:
        """A future of what `function` returns, within the time of so many pages."""
        seconds = self.limits.page_seconds * pages
        return self._pool.schedule(_run, args=(function, args, seconds), timeout=_GRACE * seconds)

    def submit_beside(self, function: Callable[..., Any], *args: Any, pages: int = 1) -> Future[Any]:
        """As `submit`, for what leaves a file behind: on this machine, wherever the others are."""
        return Pool.submit(self, function, *args, pages=pages)

    def submit_unlimited(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """For work of our own, which no document can make longer."""
        return self._pool.schedule(_run, args=(function, args, None))

    def submit_here(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """For models too big to be in every worker: in one thread of this process, which computes with all cores."""
        return self._here.submit(_run, function, args, None)

    def result(self, future: Future[Any]) -> Any:
        """What a worker returned; raises what it raised, and TooCostly for whatever happened to it instead."""
        try:
            result, cost = future.result()
        except TimeoutError as error:
            raise self._too_slow() from error
        except ProcessExpired as error:
            if resource and error.exitcode == -signal.SIGXCPU:
                raise self._too_slow() from error
            if error.pid in self._too_big:
                raise self._too_large() from error
            raise TooCostly(f"reading it ended the process ({_end(error.exitcode)})") from error
        except MemoryError as error:
            raise self._too_large() from error
        self.timings.add(cost)
        return result

    def close(self) -> None:
        self._is_closed.set()
        self._here.shutdown(cancel_futures=True)
        self._pool.stop()
        self._pool.join()

    def _too_slow(self) -> TooCostly:
        return TooCostly(f"it took too long; --max-seconds allows more than {self.limits.page_seconds:g} s a page")

    def _too_large(self) -> TooCostly:
        return TooCostly(f"it took too much memory; --max-memory allows more than {megabytes(self.limits.memory)}")

    def _watch_memory(self) -> None:
        """From outside: a worker inside MuPDF gives its own threads no turn. Where there is no /proc, nobody looks."""
        mine: set[int] = set()
        while not self._is_closed.wait(_LOOK_SECONDS):
            while not self._born.empty():
                mine.add(self._born.get())
            for process in active_children():
                if process.pid in mine and resident_bytes(process.pid) > self.limits.memory:
                    self._too_big.add(process.pid)
                    process.kill()


class InProcess:
    """In the place of a pool, where processes are not worth their start: what is submitted is done at once."""

    def submit_here(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future

    submit_unlimited = submit_here

    def result(self, future: Future[Any]) -> Any:
        return future.result()


class TooCostly(UnreadableFile):
    """What a task asked for took too much of the machine, or its worker along. The message is a clause."""


def give_back() -> None:
    """What this process has let go of, to the system: the allocator would keep it."""
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # musl has no such call
            ctypes.CDLL(None).malloc_trim(0)


def _end(exitcode: int) -> str:
    try:
        return signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"
    except ValueError:
        return f"signal {-exitcode}"


def _start(memory: int, born: SimpleQueue[int]) -> None:
    die_with_parent()
    born.put(os.getpid())
    if resource:
        reserved = round(_RESERVED * memory), resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, reserved)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of a crashed worker would fill the disk


def _run(function: Callable[..., Any], args: tuple[Any, ...], seconds: float | None) -> tuple[Any, Spent]:
    if resource and seconds is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (_rounded_up(_used() + seconds), hard))
    try:
        return function(*args), spent()
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
