"""Ingestion outside the program that asks for it: a process of its own for each job, its state in a file of the store.

    store/jobs/
      ID.json    what is to be done and how far it is, written by the process a few times a second
      ID.lock    held by the process for as long as it lives: a job without an end whose lock is free was interrupted
      ID.log     what the process wrote to its standard error

Plain functions on plain data, for programs that must not wait. Knows how to start, watch and end the process, nothing
of how files are read. Light to import: what reads documents is loaded by the process alone.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, NoReturn

from filelock import FileLock, Timeout

from mmrag.errors import MmragError, UsageError, brief
from mmrag.settings import Settings, load_settings

if TYPE_CHECKING:
    from ingest.report import FileResult, Progress
    from mmrag.index import Index

STATES = ("waiting", "running", "done", "failed", "cancelled", "interrupted")
_ALIVE = ("waiting", "running")
_ID = re.compile(r"[0-9a-f]{16}")
_SETTINGS = ("profile", "image_encoder", "device")
"""What of the settings an ingest goes by; never a secret."""
_PACE = 0.3
"""Seconds between two states in the file, at the least; more where writing it takes long."""
_PATIENCE = 15.0
"""Seconds that a cancelled process gets to end its workers."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """One file of a job. `outcome`: empty before its turn, then `reading`, then one of the pipeline's or `removed`."""

    name: str
    path: str
    outcome: str = ""
    pages_done: int = 0
    pages_total: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A moment of a job: `waiting` for another writer, `running`, or how it ended. Times in seconds since the epoch."""

    id: str
    state: str
    started: float
    finished: float | None
    sources: tuple[str, ...]
    files: tuple[JobFile, ...]
    pages_done: int
    pages_total: int
    pages_per_second: float
    error: str
    """Why the whole job failed, in a sentence."""

    @property
    def is_alive(self) -> bool:
        return self.state in _ALIVE

    @property
    def seconds_left(self) -> float | None:
        """None where nothing is known of it."""
        if self.state != "running" or not self.pages_per_second:
            return None
        return (self.pages_total - self.pages_done) / self.pages_per_second


# -- for the program that asks ---------------------------------------------------------------------------------------


def start(
    store: Path | str,
    sources: Sequence[Path | str],
    *,
    settings: Settings,
    again: bool = False,
    remove: Sequence[str] = (),
) -> str:
    """Start a process that removes the documents with the ids `remove` and ingests `sources`; returns the job's id."""
    paths = [os.path.abspath(Path(source).expanduser()) for source in sources]  # noqa: PTH100  # leaves links as named
    chosen = {name: getattr(settings, name) for name in _SETTINGS}
    return _start(Path(store), {"sources": paths, "again": again, "remove": list(remove), "settings": chosen})


def jobs(store: Path | str) -> list[Job]:
    """Every job that is not forgotten, newest first."""
    found = [_job(path) for path in _folder(store).glob("*.json") if _ID.fullmatch(path.stem)]
    return sorted((job for job in found if job), key=lambda job: (job.started, job.id), reverse=True)


def cancel(store: Path | str, job_id: str) -> None:
    """End a job; the documents that it has committed stay."""
    path = _path(store, job_id)
    if not _is_held(path):
        return
    _signal(path, signal.SIGTERM)
    ends = monotonic() + _PATIENCE
    while _is_held(path):
        if monotonic() > ends:
            _signal(path, getattr(signal, "SIGKILL", signal.SIGTERM))
        sleep(0.05)
    record = _read(path)
    if record["state"] in _ALIVE:  # ended before it could say so
        _write(path, record | {"state": "cancelled", "finished": time()})


def resume(store: Path | str, job_id: str) -> str:
    """Start anew what a job that ended was to do; returns the id of the job that takes its place."""
    path = _ended(store, job_id)
    record = _read(path)
    new = _start(Path(store), {key: record[key] for key in ("sources", "again", "remove", "settings")})
    forget(store, job_id)
    return new


def forget(store: Path | str, job_id: str) -> None:
    """Remove the record of a job that ended."""
    path = _ended(store, job_id)
    for suffix in (".json", ".lock", ".log"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _start(store: Path, task: Mapping[str, Any]) -> str:
    job_id = secrets.token_hex(8)
    folder = _folder(store)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{job_id}.json"
    progress = {"pages_done": 0, "pages_total": 0, "pages_per_second": 0.0, "files": [], "error": ""}
    record = {"id": job_id, "state": "waiting", "started": time(), "finished": None, **task, **progress}
    _write(path, record)
    # -P: a module in the folder where somebody keeps documents must not stand in for one of Python's or ours.
    command = [sys.executable, "-P", "-m", "ingest.jobs", str(path.resolve())]
    with path.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # this very Python
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None  # noqa: S101  # for the type checker
    with process.stdout:
        is_up = bool(process.stdout.readline())  # it holds its lock now
    threading.Thread(target=process.wait, daemon=True).start()  # or it would stay behind as a zombie
    if not is_up:
        error = f"The process that was to ingest did not start: see {path.with_suffix('.log')}."
        _write(path, record | {"state": "failed", "finished": time(), "error": error})
    return job_id


def _folder(store: Path | str) -> Path:
    return Path(store).expanduser() / "jobs"


def _path(store: Path | str, job_id: str) -> Path:
    path = _folder(store) / f"{job_id}.json"
    if not _ID.fullmatch(job_id) or not path.is_file():
        raise UsageError(f"There is no job {job_id!r} in {store}.")
    return path


def _ended(store: Path | str, job_id: str) -> Path:
    path = _path(store, job_id)
    if _is_held(path):
        raise UsageError(f"Job {job_id} has not ended: cancel it first.")
    return path


def _job(path: Path) -> Job | None:
    """None for what is not a job of ours."""
    try:
        record = _read(path)
        if record["state"] in _ALIVE and not _is_held(path):
            record = _read(path)  # it may have ended since
            if record["state"] in _ALIVE:
                record["state"] = "interrupted"
        return _from_record(path.stem, record)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_record(job_id: str, record: Mapping[str, Any]) -> Job:
    if record["state"] not in STATES:
        raise ValueError(record["state"])
    return Job(
        id=job_id,
        state=record["state"],
        started=float(record["started"]),
        finished=None if record["finished"] is None else float(record["finished"]),
        sources=tuple(map(str, record["sources"])),
        files=tuple(
            JobFile(str(name), str(path), str(outcome), int(done), int(total), str(reason))
            for name, path, outcome, done, total, reason in record["files"]
        ),
        pages_done=int(record["pages_done"]),
        pages_total=int(record["pages_total"]),
        pages_per_second=float(record["pages_per_second"]),
        error=str(record["error"]),
    )


def _read(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise TypeError(path)
    return record


def _write(path: Path, record: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(path)


def _is_held(path: Path) -> bool:
    """Whether the job's process lives."""
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            return False
    except Timeout:
        return True


def _signal(path: Path, number: int) -> None:
    pid = _read(path).get("pid")
    if isinstance(pid, int) and pid > 0 and _is_held(path):
        os.kill(pid, number)


# -- the process -----------------------------------------------------------------------------------------------------


class _State:
    """What the process writes into the file: what is new, a few times a second, and `now` what must not wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.record = _read(path) | {"pid": os.getpid()}
        self._files: dict[str, list[Any]] = {}
        self._reading_since: float | None = None
        self._lock = threading.Lock()
        self._is_new = False
        threading.Thread(target=self._keep_writing, daemon=True).start()

    def _keep_writing(self) -> None:
        """In a thread: what was told last must be seen while the work that follows is silent."""
        while True:
            began = monotonic()
            if self._is_new:
                self.now()
            sleep(max(_PACE, 20 * (monotonic() - began)))

    def now(self, **changes: Any) -> None:
        with self._lock:
            self._is_new = False
            self.record |= changes | {"files": list(self._files.values())}
            _write(self._path, self.record)

    def tell(self, file: list[Any], **changes: Any) -> None:
        """`file` is a `JobFile` as a list."""
        with self._lock:
            self._files[file[1]] = file
            self.record |= changes
            self._is_new = True

    def on_progress(self, step: Progress) -> None:
        self._reading_since = self._reading_since or monotonic()
        seconds = monotonic() - self._reading_since
        self.tell(
            [step.file, str(step.path), "reading", step.file_pages_done, step.file_pages_total, ""],
            pages_done=step.pages_done,
            pages_total=step.pages_total,
            pages_per_second=step.pages_done / seconds if seconds else 0.0,
        )

    def on_result(self, result: FileResult) -> None:
        path = str(result.path)
        done = total = result.pages
        if result.outcome == "failed" and path in self._files:
            done, total = self._files[path][3:5]
        self.tell([result.path.name, path, str(result.outcome), done, total, result.reason])


def main(file: str) -> int:
    path = Path(file)
    with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE):
        print(flush=True)  # whoever started this may go on
        os.dup2(2, 1)  # and does not listen any longer
        if hasattr(os, "nice"):
            os.nice(5)
        state = _State(path)
        with _cancellable():
            state.now()
            try:
                _work(path.parents[1], state)
                state.now(state="done", finished=time())
            except _Cancelled:
                state.now(state="cancelled", finished=time())
            except KeyboardInterrupt:  # the terminal's, not the user's wish for this job: it may be resumed
                return 130
            except Exception as error:
                traceback.print_exc()
                message = str(error) if isinstance(error, MmragError) else f"{type(error).__name__}: {brief(error)}."
                state.now(state="failed", finished=time(), error=message)
                return 1
    return 0


class _Cancelled(BaseException):
    """Not an Exception: what guards a batch against the faults of one file must let it pass."""


@contextmanager
def _cancellable() -> Iterator[None]:
    def stop(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the workers are being ended
        raise _Cancelled

    signal.signal(signal.SIGTERM, stop)
    yield


def _work(store: Path, state: _State) -> None:
    from mmrag.index import Index

    task = state.record
    settings = load_settings(store=store, **task["settings"])
    with Index.open(store, create=True, chroma=settings.chroma) as index, index.writing(wait=True):
        state.now(state="running")
        _remove(index, task["remove"], state)
        if task["sources"]:
            _ingest(index, settings, state)


def _remove(index: Index, ids: Sequence[str], state: _State) -> None:
    documents = [document for i in ids if (document := index.document(i))]
    for document in documents:
        state.tell([document.name, document.path, "", 0, document.page_count, ""])
    for document in documents:
        index.remove(document.id)
        pages = document.page_count
        state.tell([document.name, document.path, "removed", pages, pages, ""])


def _ingest(index: Index, settings: Settings, state: _State) -> None:
    from ingest.files import find_files
    from ingest.pipeline import ingest_files
    from mmrag.models import load_encoders

    sources = state.record["sources"]
    for path in find_files(sources, exclude=index.path)[0]:
        state.tell([path.name, str(path), "", 0, 0, ""])
    state.now()
    ingest_files(
        index,
        sources,
        load_encoders(settings),
        again=state.record["again"],
        on_progress=state.on_progress,
        on_result=state.on_result,
    )
    state.record["pages_done"] = state.record["pages_total"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
