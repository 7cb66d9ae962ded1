"""One writer at a time: a lock that the operating system frees when its holder dies, and a note of who holds it.

Knows nothing of what is written. A file system that has no locks of its own, as some network drives, cannot be helped.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mmrag.errors import StoreBusy


class WriterLock:
    """On `folder / lock`; beside it, in `writer.json`, the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / "lock")

    @contextmanager
    def held(self, *, wait: bool, on_wait: Callable[[str], None]) -> Iterator[None]:
        """A thread that has it may take it once more. While another has it: StoreBusy, or its end is waited for."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            said = f"Another mmrag process is writing to {self._folder}{self._holder()}"
            if not wait:
                raise StoreBusy(
                    f"{said}: wait until it ends, with --wait for example, or use another --store."
                ) from error
            on_wait(f"{said}: waiting until it ends.")
            self._lock.acquire()
        is_first = self._lock.lock_counter == 1
        try:
            if is_first:
                self._note()
            yield
        finally:
            if is_first:
                self._file.unlink(missing_ok=True)
            self._lock.release()

    @property
    def _file(self) -> Path:
        return self._folder / "writer.json"

    def _note(self) -> None:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "program": _program(), "since": time.time()}
        try:
            self._file.write_text(json.dumps(note), encoding="utf-8")
        except OSError:  # on a full disk, where what is removed makes room
            return

    def _holder(self) -> str:
        """In parentheses; empty where the note is not there yet, or no more."""
        try:
            return f" ({_described(json.loads(self._file.read_text(encoding='utf-8')))})"
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return ""


def _described(note: dict[str, Any]) -> str:
    since = time.localtime(float(note["since"]))
    is_today = time.strftime("%x", since) == time.strftime("%x")
    at = time.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M", since)
    there = "" if note["host"] == socket.gethostname() else f" on {str(note['host'])[:60]}"
    return f"process {int(note['pid'])}{there}, {str(note['program'])[:60]}, since {at}"


def _program() -> str:
    """As one would know it again: `mmrag ingest`, `ingest.jobs`, `notebook.py`."""
    main = getattr(sys.modules["__main__"], "__spec__", None)
    name = main.name.removesuffix(".__main__") if main else Path(sys.argv[0]).name
    command = [word for word in sys.argv[1:2] if name == "mmrag" and word.isalpha()]
    return " ".join([name or "python", *command])
