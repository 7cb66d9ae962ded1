"""What a worker process does for itself: it dies with the process that started it. Knows nothing of its work."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


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
