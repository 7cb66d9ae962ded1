"""What is told of an ingest: what became of each file, and how far the batch is. Plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ingest.timing import Timings


class Outcome(StrEnum):
    INGESTED = "ingested"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file. `reason` says what to do when it failed, or which of its pages could not be read or
    pictures not be described."""

    path: Path
    outcome: Outcome
    pages: int = 0
    chunks: int = 0
    reason: str = ""
    unread_pages: int = 0
    """How many of its pages could not be read; the others were."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a running ingest: of the whole batch, and of the file that is being read.

    Files that have no pages until they are laid out count from then on, so `pages_total` may grow.
    """

    path: Path
    pages_done: int
    pages_total: int
    file_pages_done: int
    file_pages_total: int
    pictures: int = 0
    """How many of the file's pictures a model has described, or tried to."""

    @property
    def file(self) -> str:
        return self.path.name


@dataclass(slots=True)
class Report:
    """What became of a batch."""

    results: list[FileResult] = field(default_factory=list)
    seconds: float = 0.0
    timings: Timings = field(default_factory=Timings)
    on_result: Callable[[FileResult], None] = field(default=lambda result: None, repr=False, compare=False)

    def add(self, result: FileResult) -> None:
        self.results.append(result)
        self.on_result(result)

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome is outcome for result in self.results)

    def to_json(self) -> dict[str, Any]:
        files = [
            {
                **{"path": str(r.path), "outcome": str(r.outcome), "pages": r.pages, "chunks": r.chunks},
                **{"reason": r.reason, "unread_pages": r.unread_pages},
            }
            for r in self.results
        ]
        return {"files": files, "pages_read": self.pages_read, "seconds": round(self.seconds, 3)}

    @property
    def is_complete(self) -> bool:
        """Whether every file was read, and every page of it."""
        return not any(r.outcome is Outcome.FAILED or r.unread_pages for r in self.results)

    @property
    def pages_read(self) -> int:
        return sum(r.pages for r in self.results if r.outcome in (Outcome.INGESTED, Outcome.REPLACED))
