"""Ingestion outside the program that asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrag.settings import Settings


@dataclass(frozen=True, slots=True)
class JobFile:
    name: str
    path: str
    outcome: str
    pages_done: int
    pages_total: int
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    state: str
    started: float
    finished: float | None
    sources: tuple[str, ...]
    files: tuple[JobFile, ...]
    pages_done: int
    pages_total: int
    pages_per_second: float
    seconds_left: float | None
    error: str


def start(
    store: Path,
    sources: Sequence[Path | str],
    *,
    settings: Settings,
    again: bool = False,
    remove: Sequence[str] = (),
) -> str:
    raise NotImplementedError


def jobs(store: Path) -> list[Job]:
    return []


def cancel(store: Path, job_id: str) -> None:
    raise NotImplementedError


def resume(store: Path, job_id: str) -> str:
    raise NotImplementedError


def forget(store: Path, job_id: str) -> None:
    raise NotImplementedError
