"""A pool of workers on a Ray cluster, by Ray Data: `ingest.worker` on the cores of many machines.

Knows Ray; knows nothing of the work. The machines need share no disk: a file that a task names travels as bytes, once
for each machine. A machine that dies costs nothing, its tasks run again elsewhere. On each of them a task runs under
the same limits as here, in a process that it may crash.

Ray's driver is a process of its own: it writes to the terminal what it likes, and what is written here is for machines.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import multiprocessing
import os
import pickle
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from ingest.limits import Limits
from ingest.worker import Pool, die_with_parent
from mmrag.errors import ClusterError, UsageError, brief, require_installed
from mmrag.settings import is_base_url

LOCAL, AUTO = "local", "auto"
_RUNS = 2
"""Datasets at a time: while the last tasks of one are waited for, the next one keeps the cores busy."""
_TASKS = 8
"""Of one dataset for each core: more could not be recalled when their file is given up."""
_START_SECONDS = 120.0
_REACH_SECONDS = 5.0
_IDLE_SECONDS = 300.0
"""Without any progress the cluster is given up: no machine that could work is left."""
_RETRIES = 3
"""Machines that a task may lose before it is given up itself."""


class ClusterPool(Pool):
    """On the cluster at `address`: `local` (one of this machine alone, with so many `workers`), `auto`, or HOST:PORT.

    The constructor raises ClusterError where none answers, and MissingExtra without Ray.
    """

    def __init__(self, address: str, limits: Limits, *, workers: int) -> None:
        require_installed("ray", extra="ray")
        _check(address)
        super().__init__(workers, limits)
        self._futures: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        is_quiet = not logging.getLogger().isEnabledFor(logging.DEBUG)
        self._driver = context.Process(target=_drive, args=(theirs, address, limits, workers, is_quiet), daemon=True)
        self._driver.start()
        theirs.close()
        try:
            self.workers = self._started(address)
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._listen, name="ray-listener", daemon=True).start()

    def _started(self, address: str) -> int:
        said: Any = "it does not answer"
        with contextlib.suppress(EOFError, OSError):
            if self._connection.poll(_START_SECONDS):
                said = self._connection.recv()
        if isinstance(said, int):
            return said
        raise ClusterError(
            f"The Ray cluster {address} cannot be used ({said}): start it with  ray start --head,  let this machine "
            "join it, or take --ray local."
        )

    def submit(self, function: Callable[..., Any], *args: Any, pages: int = 1) -> Future[Any]:
        """The path of a file, wherever in `args`, becomes there that of a copy of it."""
        return self._send(function, args, pages)

    def submit_unlimited(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._send(function, args, None)

    def _send(self, function: Callable[..., Any], args: tuple[Any, ...], pages: int | None) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            self._futures[number] = future
            try:
                self._connection.send(Task(number, function, args, pages))
            except OSError:
                self._give_up()
        future.add_done_callback(lambda done: self._recall(number) if done.cancelled() else None)
        return future

    def _recall(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(number)

    def close(self) -> None:
        """Also ends what is running."""
        self._connection.close()
        self._driver.terminate()
        self._driver.join(10)
        self._driver.kill()
        self._driver.join()
        super().close()

    def _listen(self) -> None:
        while True:
            try:
                number, answer, error = self._connection.recv()
            except (EOFError, OSError, TypeError):  # TypeError: closed here, meanwhile
                break
            with self._lock:
                future = self._futures.pop(number)
            _settle(future, answer, error)
        with self._lock:
            self._give_up()

    def _give_up(self) -> None:
        while self._futures:
            _, future = self._futures.popitem()
            _settle(future, error=ClusterError("The Ray cluster went away: run the same command again to go on."))


def _settle(future: Future[Any], answer: Any = None, error: Exception | None = None) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)


class Task(NamedTuple):
    number: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    pages: int | None
    """As many pages' time it may take; None for as long as it likes."""


def _check(address: str) -> None:
    if address in (LOCAL, AUTO):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address or not is_base_url(f"http://{address}"):
        raise UsageError(f"--ray {address!r} names no cluster: give local, auto, or its address as HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"The Ray cluster at {address} cannot be reached ({error.strerror or error}): start it with "
            "ray start --head,  or correct --ray."
        ) from error


# -- the driver ------------------------------------------------------------------------------------------------------


def _drive(connection: Connection, address: str, limits: Limits, workers: int, is_quiet: bool) -> None:
    die_with_parent()
    if is_quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    else:
        os.dup2(2, 1)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    try:
        connection.send(cores := _joined(address, workers))
    except Exception as error:
        connection.send(brief(error))
        return
    waiting, answer = _Waiting(_TASKS * max(1, cores)), _Answer(connection)
    for _ in range(_RUNS):
        threading.Thread(target=_work, args=(waiting, answer, limits), daemon=True).start()
    with contextlib.suppress(EOFError):
        while True:
            waiting.add(connection.recv())


def _joined(address: str, workers: int) -> int:
    """How many cores the cluster has."""
    import ray
    import ray.data

    own: dict[str, Any] = {"include_dashboard": False, "num_cpus": workers} if address == LOCAL else {}
    ray.init(address, log_to_driver=False, **own)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = _IDLE_SECONDS
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(resources.get("CPU", 0))


class _Answer:
    """To the process that asked; several threads may."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def __call__(self, number: int, value: Any = None, error: Exception | None = None) -> None:
        with self._lock:
            self._connection.send((number, value, error))


class _Waiting:
    """Tasks that nobody works on yet."""

    def __init__(self, most: int) -> None:
        self._queue: SimpleQueue[Task] = SimpleQueue()
        self._recalled: set[int] = set()
        self._most = most

    def add(self, task: Task | int) -> None:
        """The number of one recalls it."""
        if isinstance(task, int):
            self._recalled.add(task)
        else:
            self._queue.put(task)

    def take(self) -> list[Task]:
        """All that are there, one at least."""
        found = [self._queue.get()]
        with contextlib.suppress(Empty):
            while len(found) < self._most:
                found.append(self._queue.get(timeout=0.02))
        return found

    def is_recalled(self, task: Task) -> bool:
        return task.number in self._recalled


def _work(waiting: _Waiting, answer: _Answer, limits: Limits) -> None:
    while True:
        tasks = []
        for task in waiting.take():
            if waiting.is_recalled(task):
                answer(task.number)
            else:
                tasks.append(task)
        left = tasks if _attempt(tasks, answer, limits) else []
        for task in left:  # one of them was at fault, and costs only itself
            if error := _attempt([task], answer, limits):
                answer(task.number, error=ClusterError(f"The Ray cluster gave it up ({brief(error)})."))


def _attempt(tasks: list[Task], answer: _Answer, limits: Limits) -> Exception | None:
    """Takes what is answered off `tasks`; returns what went wrong with the rest."""
    import ray
    from ray.data.exceptions import ExecutionTimeoutError

    files: dict[str, Any] = {}
    rows = []
    for task in list(tasks):
        try:
            packed, named = _packed(task)
            files |= {str(path): _put(path, path.stat().st_mtime_ns) for path in named}
            rows.append({"number": task.number, "task": packed})
        except OSError as error:
            tasks.remove(task)
            answer(task.number, error=error)
    numbered = {task.number: task for task in tasks}
    try:
        data = ray.data.from_items(rows, override_num_blocks=len(rows)) if rows else None
        run: Any = _run  # Ray's types know no further arguments
        for row in data.map(run, fn_args=(files, limits), num_cpus=1, max_retries=_RETRIES).iter_rows() if data else ():
            tasks.remove(numbered[row["number"]])
            answer(row["number"], *pickle.loads(row["answer"]))  # noqa: S301  # of our own function
    except ExecutionTimeoutError:
        os._exit(1)
    except Exception as error:
        cause = getattr(error, "cause", None)  # of an error on another machine, without a page of traceback
        return cause if isinstance(cause, Exception) else error
    return None


def _packed(task: Task) -> tuple[bytes, list[Path]]:
    """Pickled, and the files that are named in it, wherever."""
    stream, files = io.BytesIO(), []

    class Packing(pickle.Pickler):
        def persistent_id(self, found: Any) -> str | None:
            if not isinstance(found, Path) or not found.is_file():
                return None
            files.append(found)
            return str(found)

    Packing(stream).dump(task)
    return stream.getvalue(), files


@lru_cache(maxsize=16)
def _put(path: Path, written: int) -> Any:
    """The file in the cluster's memory, from where it goes once to each machine that asks for it."""
    import ray

    return ray.put(path.read_bytes())


# -- on the machines of the cluster ----------------------------------------------------------------------------------


def _run(row: dict[str, Any], files: dict[str, Any], limits: Limits) -> dict[str, Any]:
    pool = _pool(limits)
    try:
        task = _unpacked(row["task"], files)
        if task.pages is None:
            future = pool.submit_unlimited(task.function, *task.args)
        else:
            future = pool.submit(task.function, *task.args, pages=task.pages)
        pool.result(future)  # or raises what a failure means
        answer: tuple[Any, Exception | None] = future.result(), None
    except Exception as error:
        answer = None, error
    return {"number": row["number"], "answer": pickle.dumps(answer)}


def _unpacked(packed: bytes, files: dict[str, Any]) -> Task:
    class Unpacking(pickle.Unpickler):  # of our own driver
        def persistent_load(self, name: str) -> Path:
            return _copy(Path(name), files[name])

    task: Task = Unpacking(io.BytesIO(packed)).load()
    return task


@lru_cache(maxsize=1)
def _pool(limits: Limits) -> Pool:
    """One process below this one of Ray's, for as long as that lives."""
    return Pool(1, limits)


_KEPT = 4
_copies: dict[str, tuple[tempfile.TemporaryDirectory[str], Path]] = {}


def _copy(path: Path, stored: Any) -> Path:
    """Those of the last files are kept: pages of a file come one after the other."""
    import ray

    key = stored.hex()
    if key not in _copies:
        while len(_copies) >= _KEPT:
            del _copies[next(iter(_copies))]
        folder = tempfile.TemporaryDirectory(prefix="mmrag-", ignore_cleanup_errors=True)
        copy = Path(folder.name) / f"file{path.suffix}"
        copy.write_bytes(ray.get(stored))
        _copies[key] = folder, copy
    return _copies[key][1]
