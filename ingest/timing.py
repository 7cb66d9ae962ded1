"""Where the time of an ingest goes: seconds by stage, in whichever process they were spent. Knows no stage by name."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

_of_thread = threading.local()


def _seconds() -> dict[str, float]:
    if not hasattr(_of_thread, "seconds"):
        _of_thread.seconds = {}
    return _of_thread.seconds  # type: ignore[no-any-return]


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count what is done inside as `name`, and not as the stage around it."""
    seconds = _seconds()
    began, inner = perf_counter(), sum(seconds.values())
    try:
        yield
    finally:
        own = perf_counter() - began - (sum(seconds.values()) - inner)
        seconds[name] = seconds.get(name, 0.0) + own


@dataclass(frozen=True, slots=True)
class Spent:
    """What a thread spent since it was last asked, and the most memory (bytes) its process ever had; 0 if unknown."""

    pid: int
    seconds: dict[str, float]
    peak_bytes: int


def spent() -> Spent:
    seconds = _seconds()
    told = dict(seconds)
    seconds.clear()
    return Spent(os.getpid(), told, peak_bytes())


def peak_bytes() -> int:
    """The most memory that this process ever had; 0 if unknown."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes(pid: int | None = None) -> int:
    """Memory that this or another process has now; 0 where there is no /proc, or no such process any more."""
    try:
        return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


@dataclass(slots=True)
class Timings:
    """Seconds by stage, summed over all processes, and the peak memory in bytes of each of them."""

    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[int, int] = field(default_factory=dict)
    """By process id."""
    workers: int = 0
    """How many there were at a time."""

    def add(self, other: Spent) -> None:
        for name, seconds in other.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.peaks[other.pid] = max(other.peak_bytes, self.peaks.get(other.pid, 0))

    @property
    def peak_here(self) -> int:
        return self.peaks.get(os.getpid(), 0)

    @property
    def peak_of_workers(self) -> int:
        """The largest one's."""
        return max((peak for pid, peak in self.peaks.items() if pid != os.getpid()), default=0)

    @property
    def peak_together(self) -> int:
        """Of all processes at once, had they peaked at one time; a worker that took another's place is not counted."""
        return self.peak_here + self.peak_of_workers * self.workers
