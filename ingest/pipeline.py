"""Files in, documents in the index: finds files, reads them in worker processes, chunks, encodes, commits one by one.

A file that cannot be read costs only itself: it ends as a row with its reason, and the batch goes on.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pebble import ProcessExpired, ProcessPool

from ingest.chunk import chunk_pages
from ingest.describe import Describer, Tally, without_descriptions
from ingest.encode import encode, tagged
from ingest.pdf import FileFacts, inspect_file, read_pages
from mmrag.errors import DocumentError, MmragError, UnreadableFile
from mmrag.index import Index
from mmrag.models import Encoders, load_encoders
from mmrag.settings import load_settings
from mmrag.tags import ZeroShotTagger, zero_shot_tagger
from mmrag.types import MEDIA_TYPES, Document, Page

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

log = logging.getLogger(__name__)

BATCH_PAGES = 4
"""Pages that a worker reads at a time: enough to spread the opening of the file, few enough to show progress."""
PAGE_SECONDS = 60.0
"""A page that takes longer is given up, and its file with it."""
AHEAD_PAGES = 64
"""Pages that may wait, read but not yet encoded, so that memory does not grow with the batch."""
RECYCLE_TASKS = 100
"""Batches after which a worker is replaced: MuPDF keeps caches for as long as its process lives."""


class Outcome(StrEnum):
    INGESTED = "ingested"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file. `reason` says what to do when it failed, or which of its pictures were not described."""

    path: Path
    outcome: Outcome
    pages: int = 0
    chunks: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a running ingest."""

    file: str
    pages_done: int
    pages_total: int
    pictures: int = 0
    """How many of the file's pictures a model has described, or tried to."""


@dataclass(slots=True)
class Report:
    """What became of a batch."""

    results: list[FileResult] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome is outcome for result in self.results)

    def to_json(self) -> dict[str, Any]:
        files = [
            {"path": str(r.path), "outcome": str(r.outcome), "pages": r.pages, "chunks": r.chunks, "reason": r.reason}
            for r in self.results
        ]
        return {"files": files, "pages_read": self.pages_read, "seconds": round(self.seconds, 3)}

    @property
    def pages_read(self) -> int:
        return sum(r.pages for r in self.results if r.outcome in (Outcome.INGESTED, Outcome.REPLACED))


def ingest_into(
    store: str | Path,
    sources: Iterable[str | Path],
    *,
    profile: str | None = None,
    describer: LLM | None = None,
    **choices: Any,
) -> Report:
    """Ingest into the store in folder `store`, made if there is none; `choices` as in `mmrag.settings.Settings`."""
    settings = load_settings(profile, store=Path(store), **choices)
    with Index.open(settings.store, create=True) as index:
        return ingest_files(index, sources, load_encoders(settings), describer=describer)


def ingest_files(
    index: Index,
    sources: Iterable[str | Path],
    encoders: Encoders,
    *,
    workers: int | None = None,
    describer: LLM | None = None,
    wait: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Bring files, folders (searched below) and glob patterns into the index; content that it already holds is skipped.

    A `describer`, which must read images, says of every picture what it shows; it is also asked about the pictures of
    documents that the index holds but another model, or none, has described.
    Raises StoreBusy and StoreMismatch before anything is read; whatever goes wrong with one file is in its FileResult.
    """
    started = perf_counter()
    report = Report()
    index.require_encoders(text=encoders.text_identity, image=encoders.image_identity)
    models = _Models(encoders, zero_shot_tagger(encoders.image), Describer(describer) if describer else None)
    with index.writing(wait=wait):
        files, problems = find_files(sources, exclude=index.path)
        report.results.extend(problems)
        new = [job for path in files if (job := _new_content(index, path, models, report)) is not None]
        if new:
            _ingest_new(index, new, models, workers or _cores(), report, on_progress)
    order = {path: i for i, path in enumerate(files)}
    report.results.sort(key=lambda result: order.get(result.path, -1))
    report.seconds = perf_counter() - started
    return report


# -- which files -----------------------------------------------------------------------------------------------------


def find_files(sources: Iterable[str | Path], *, exclude: Path | None = None) -> tuple[list[Path], list[FileResult]]:
    """Absolute paths of the files that `sources` name, each once, and a failed row for whatever cannot be looked at.

    A file that is named must be of a known kind; files of other kinds inside a folder are passed over.
    """
    files: dict[Path, None] = {}
    problems: list[FileResult] = []
    for source in sources:
        path = Path(os.path.abspath(Path(source).expanduser()))  # noqa: PTH100  # closes `..` without following links
        if path.is_dir():
            files.update(dict.fromkeys(_files_below(path, exclude, problems)))
        elif os.path.lexists(path):  # a link to nowhere is reported as a file that cannot be read
            files[path] = None
        elif matches := sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  # absolute patterns, which Path.glob refuses
            found, trouble = find_files([m for m in matches if not Path(m).is_file() or _is_known(m)], exclude=exclude)
            files.update(dict.fromkeys(found))
            problems.extend(trouble)
        else:
            problems.append(_failed(path, "There is no such file or folder."))
    return list(files), problems


def _files_below(folder: Path, exclude: Path | None, problems: list[FileResult]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(_failed(Path(error.filename or folder), f"The folder cannot be read: {error.strerror}."))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if Path(root, name).resolve() != exclude)
        yield from (path for name in sorted(names) if _is_known(name) and not _is_special(path := Path(root, name)))


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, socket or device, which would be waited for or read without end."""
    return path.exists() and not path.is_file()


def _is_known(name: str) -> bool:
    return Path(name).suffix.lower() in MEDIA_TYPES


def _failed(path: Path, reason: str) -> FileResult:
    return FileResult(path, Outcome.FAILED, reason=reason)


# -- what is new -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Models:
    """What is asked about a document."""

    encoders: Encoders
    tagger: ZeroShotTagger | None
    describer: Describer | None

    def have_more_to_say(self, of: Document) -> bool:
        return self.describer is not None and (self.describer.identity != of.described_by or of.undescribed > 0)


@dataclass(slots=True)
class _Job:
    """A file whose content the index does not hold, or whose pictures are still to be described."""

    path: Path
    sha256: str
    known: Document | None = None
    """Where the index holds the content: its pages are not read again."""
    facts: FileFacts = field(default_factory=lambda: FileFacts(0, ""))
    pages: list[Future[list[Page]]] = field(default_factory=list)

    @property
    def content(self) -> tuple[str, str]:
        """What makes two files copies of each other: the same bytes, to be read in the same way."""
        return self.sha256, MEDIA_TYPES[self.path.suffix.lower()]

    @property
    def document_id(self) -> str:
        return self.sha256[:16]  # 64 bits: no two files of a collection share them by chance

    def document(self) -> Document:
        return Document(
            id=self.document_id,
            sha256=self.sha256,
            name=self.path.name,
            path=str(self.path),
            media_type=self.content[1],
            title=self.facts.title,
            page_count=self.facts.page_count,
            size=self.path.stat().st_size,
        )


def _new_content(index: Index, path: Path, models: _Models, report: Report) -> _Job | None:
    if not _is_known(path.name):
        kinds = ", ".join(sorted(suffix[1:] for suffix in MEDIA_TYPES))
        report.results.append(_failed(path, f"Files of this kind cannot be ingested; known are {kinds}."))
        return None
    if _is_special(path):
        report.results.append(_failed(path, "This is no regular file."))
        return None
    try:
        str(path).encode()  # a name that is no text can neither be stored nor shown
        job = _Job(path, _sha256(path))
    except UnicodeEncodeError:
        report.results.append(_failed(path, "The file's name is not valid UTF-8: rename the file."))
        return None
    except OSError as error:
        report.results.append(_failed(path, f"The file cannot be read: {error.strerror}."))
        return None
    known = index.document(job.document_id)
    if known is None:
        return job
    index.link(str(path), path.name, known.id)
    if models.have_more_to_say(known) and known.media_type == job.content[1]:
        job.known, job.facts = known, FileFacts(known.page_count, known.title)
        return job
    report.results.append(FileResult(path, Outcome.UNCHANGED, known.page_count))
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- reading, encoding, committing -----------------------------------------------------------------------------------


def _ingest_new(
    index: Index,
    jobs: Sequence[_Job],
    models: _Models,
    workers: int,
    report: Report,
    on_progress: Callable[[Progress], None],
) -> None:
    copies: dict[tuple[str, str], list[_Job]] = {}
    for job in jobs:
        copies.setdefault(job.content, []).append(job)

    def fail(job: _Job, reason: str) -> None:
        report.results.extend(_failed(same.path, reason) for same in copies[job.content])

    with closing(_Pool(workers)) as pool:
        ready = _inspected([same[0] for same in copies.values()], pool, fail)
        total, done = sum(job.facts.page_count for job in ready), 0
        waiting: deque[_Job] = deque()
        queue = deque(ready)
        while queue or waiting:
            while queue and sum(job.facts.page_count for job in waiting) < AHEAD_PAGES:
                waiting.append(_schedule(queue.popleft(), pool))
            job = waiting.popleft()
            step = partial(_step, on_progress, job.path.name, done, total)
            step(0, 0)
            try:
                pages, tally = _take(index, job, models, step)
                report.results.append(_commit(index, job, pages, models, tally))
                report.results.extend(_linked(index, job.document(), copy) for copy in copies[job.content][1:])
            except DocumentError as error:
                fail(job, str(error))
            except Exception as error:  # a defect of ours, or a full disk, must not take the other files along
                log.debug("ingest of %s failed", job.path, exc_info=True)
                fail(job, f"Not stored ({type(error).__name__}: {error}).")
            done += job.facts.page_count


def _step(
    on_progress: Callable[[Progress], None], file: str, before: int, total: int, pages: int, pictures: int
) -> None:
    on_progress(Progress(file, before + pages, total, pictures))


class _Pool:
    """Worker processes, started by spawn: MuPDF must not be forked, and Chroma's threads neither."""

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPool(max_workers=workers, max_tasks=RECYCLE_TASKS, context=get_context("spawn"))

    def submit(self, function: Callable[..., Any], *args: Any, pages: int = 1) -> Future[Any]:
        return self._pool.schedule(function, args=args, timeout=PAGE_SECONDS * pages)

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


def _inspected(jobs: Sequence[_Job], pool: _Pool, fail: Callable[[_Job, str], None]) -> list[_Job]:
    looks = [(job, None if job.known else pool.submit(inspect_file, job.path)) for job in jobs]
    ready = []
    for job, look in looks:
        try:
            job.facts = _result(look) if look else job.facts
            ready.append(job)
        except DocumentError as error:
            fail(job, str(error))
    return ready


def _schedule(job: _Job, pool: _Pool) -> _Job:
    numbers = range(1, 1 if job.known else job.facts.page_count + 1)
    batches = [numbers[i : i + BATCH_PAGES] for i in range(0, len(numbers), BATCH_PAGES)]
    job.pages = [pool.submit(read_pages, job.path, job.document_id, list(b), pages=len(b)) for b in batches]
    return job


def _take(index: Index, job: _Job, models: _Models, step: Callable[[int, int], None]) -> tuple[list[Page], Tally]:
    """The pages of a file, their pictures described; `step` hears how many pages and pictures are done."""
    pages: list[Page] = []
    tally = Tally()
    for page in _read(index, job, models):
        if models.describer:
            page = models.describer.describe(page, job.path, tally, lambda: step(len(pages), tally.pictures))
        pages.append(page)
        step(len(pages), tally.pictures)
    return pages, tally


def _read(index: Index, job: _Job, models: _Models) -> Iterator[Page]:
    """The pages as the workers bring them, or as the index holds them, without another model's descriptions."""
    for future in job.pages:
        yield from _result(future)
    if job.known:
        pages = (index.page(job.known.id, number) for number in range(1, job.known.page_count + 1))
        keep = models.describer is not None and models.describer.identity == job.known.described_by
        yield from (page if keep else without_descriptions(page) for page in pages if page)


def _result(future: Future[Any]) -> Any:
    """What a worker returned; whatever happened to it instead becomes a DocumentError."""
    try:
        return future.result()
    except MmragError:
        raise
    except TimeoutError as error:
        raise UnreadableFile(
            f"A page took more than {PAGE_SECONDS:.0f} s to read: split the file or leave the page out."
        ) from error
    except ProcessExpired as error:
        raise UnreadableFile(
            f"Reading the file ended its process ({error}): open it in a viewer and save it anew."
        ) from error
    except Exception as error:
        raise UnreadableFile(f"The file cannot be read ({type(error).__name__}: {error}).") from error


def _commit(index: Index, job: _Job, pages: Sequence[Page], models: _Models, tally: Tally) -> FileResult:
    document, known = job.document(), index.document(job.document_id)
    if known and not job.known:  # the same bytes under a suffix of another kind, stored a moment ago
        return _linked(index, known, job)
    if known:  # a copy that is described does not give its name to what others know by another
        document = replace(document, path=known.path, name=known.name)
    if models.describer:
        document = replace(document, described_by=models.describer.identity, undescribed=tally.failed)
    replaces = index.at_path(document.path) is not None
    chunks = chunk_pages(document.id, pages, models.encoders.text)
    text_vectors, image_vectors = encode(chunks, job.path, models.encoders)
    if models.tagger:
        pages = tagged(pages, chunks, image_vectors, models.tagger)
    if _sha256(job.path) != job.sha256:  # a batch may take hours, and the store keeps the file under its content
        raise UnreadableFile("The file changed while it was read: ingest it again.")
    index.add(document, pages, chunks, source=job.path, text_vectors=text_vectors, image_vectors=image_vectors)
    outcome = Outcome.REPLACED if replaces else Outcome.INGESTED
    return FileResult(job.path, outcome, len(pages), len(chunks), str(tally))


def _linked(index: Index, known: Document, job: _Job) -> FileResult:
    index.link(str(job.path), job.path.name, known.id)
    return FileResult(job.path, Outcome.UNCHANGED, known.page_count, reason=f"Same content as {known.name}.")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
