"""Files in, documents in the index: reads files in worker processes, chunks, encodes, commits one by one.

A file that cannot be read costs only itself: it ends as a row with its reason, and the batch goes on.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pebble import ProcessExpired, ProcessPool

from ingest.chunk import chunk_pages
from ingest.describe import Describer, Tally, undescribed, with_descriptions, without_descriptions
from ingest.encode import encode, tagged
from ingest.files import absolute, failed, find_files, is_known, is_special, is_text
from ingest.pdf import FileFacts, inspect_file, read_pages
from ingest.report import FileResult, Outcome, Progress, Report
from mmrag.errors import DocumentError, MmragError, UnreadableFile
from mmrag.index import Index
from mmrag.models import Encoders, load_encoders
from mmrag.settings import load_settings
from mmrag.tags import ZeroShotTagger, zero_shot_tagger
from mmrag.types import MEDIA_TYPES, Document, Page

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

__all__ = ["FileResult", "Outcome", "Progress", "Report", "find_files", "ingest_files", "ingest_into"]

log = logging.getLogger(__name__)

BATCH_PAGES = 4
"""Pages that a worker reads at a time: enough to spread the opening of the file, few enough to show progress."""
PAGE_SECONDS = 60.0
"""A page that takes longer is given up, and its file with it."""
AHEAD_PAGES = 64
"""Pages that may wait, read but not yet encoded, so that memory does not grow with the batch."""
RECYCLE_TASKS = 100
"""Batches after which a worker is replaced: MuPDF keeps caches for as long as its process lives."""


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
    with Index.open(settings.store, create=True, chroma=settings.chroma) as index:
        return ingest_files(index, sources, load_encoders(settings), describer=describer)


def ingest_files(
    index: Index,
    sources: Iterable[str | Path],
    encoders: Encoders,
    *,
    workers: int | None = None,
    describer: LLM | None = None,
    again: bool = False,
    wait: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_result: Callable[[FileResult], None] = lambda result: None,
) -> Report:
    """Bring files, folders (searched below) and glob patterns into the index; content that it already holds is skipped.

    A `describer`, which must read images, says of every picture what it shows; it is also asked about the pictures of
    documents that the index holds but another model, or none, has described. `again` reads known content anew, from the
    store's own copy where a named file is gone; the version before stays until then. `on_result` hears of each file as
    soon as it is done with.
    Raises StoreBusy (unless it may `wait`) and StoreMismatch before anything is read; whatever goes wrong with one file
    is in its FileResult.
    """
    started = perf_counter()
    report = Report(on_result=on_result)
    index.require_encoders(text=encoders.text_identity, image=encoders.image_identity)
    models = _Models(encoders, zero_shot_tagger(encoders.image), Describer(describer) if describer else None)
    with index.writing(wait=wait):
        gone = _gone(index, sources := list(sources)) if again else {}
        files, problems = find_files((s for s in sources if s not in gone), exclude=index.path)
        for problem in problems:
            report.add(problem)
        new = [job for document in gone.values() if (job := _from_own_copy(index, document, report)) is not None]
        new += [job for path in files if (job := _new_content(index, path, models, report, again)) is not None]
        if new:
            _ingest_new(index, new, models, workers or _cores(), report, on_progress)
    order = {path: i for i, path in enumerate([*(Path(document.path) for document in gone.values()), *files])}
    report.results.sort(key=lambda result: order.get(result.path, -1))
    report.seconds = perf_counter() - started
    return report


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
    """A file whose content the index does not hold, that is to be read again, or whose pictures are to be described."""

    path: Path
    sha256: str
    known: Document | None = None
    """Where the index holds the content: its pages are not read, unless `again`."""
    again: bool = False
    file: Path = Path()
    """Where the bytes lie: at `path`, or in the store when that is gone."""
    facts: FileFacts = field(default_factory=lambda: FileFacts(0, ""))
    pages: list[Future[list[Page]]] = field(default_factory=list)

    @property
    def content(self) -> tuple[str, str]:
        """What makes two files copies of each other: the same bytes, to be read in the same way."""
        return self.sha256, MEDIA_TYPES[self.path.suffix.lower()]

    @property
    def document_id(self) -> str:
        return self.sha256[:16]  # 64 bits: no two files of a collection share them by chance

    @property
    def is_read(self) -> bool:
        return self.known is None or self.again

    def document(self) -> Document:
        return Document(
            id=self.document_id,
            sha256=self.sha256,
            name=self.path.name,
            path=str(self.path),
            media_type=self.content[1],
            title=self.facts.title,
            page_count=self.facts.page_count,
            size=self.file.stat().st_size,
        )


def _new_content(index: Index, path: Path, models: _Models, report: Report, again: bool) -> _Job | None:
    if not is_known(path.name):
        kinds = ", ".join(sorted(suffix[1:] for suffix in MEDIA_TYPES))
        report.add(failed(path, f"Files of this kind cannot be ingested; known are {kinds}."))
        return None
    if is_special(path):
        report.add(failed(path, "This is no regular file."))
        return None
    if not is_text(path):
        report.add(failed(path, "The file's name is not valid UTF-8: rename the file."))
        return None
    try:
        job = _Job(path, _sha256(path), file=path)
    except OSError as error:
        report.add(failed(path, f"The file cannot be read: {error.strerror}."))
        return None
    known = index.document(job.document_id)
    if known is None:
        return job
    index.link(str(path), path.name, known.id)
    if (again or models.have_more_to_say(known)) and known.media_type == job.content[1]:
        job.known, job.again, job.facts = known, again, FileFacts(known.page_count, known.title)
        return job
    report.add(FileResult(path, Outcome.UNCHANGED, known.page_count))
    return None


def _gone(index: Index, sources: Iterable[str | Path]) -> dict[str | Path, Document]:
    """Documents by the sources that name them, where nothing is at their place any more."""
    paths = ((source, absolute(source)) for source in sources)
    missing = ((source, str(path)) for source, path in paths if not os.path.lexists(path) and is_text(path))
    return {source: document for source, path in missing if (document := index.at_path(path))}


def _from_own_copy(index: Index, document: Document, report: Report) -> _Job | None:
    path, file = Path(document.path), index.source(document)
    try:
        if _sha256(file) == document.sha256:
            facts = FileFacts(document.page_count, document.title)
            return _Job(path, document.sha256, document, again=True, file=file, facts=facts)
        reason = "is damaged"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    report.add(failed(path, f"The file is gone, and the store's own copy {reason}: ingest the file from elsewhere."))
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
        for same in copies[job.content]:
            report.add(failed(same.path, reason))

    with closing(_Pool(workers)) as pool:
        ready = _inspected([same[0] for same in copies.values()], pool, fail)
        total, done = sum(job.facts.page_count for job in ready), 0
        waiting: deque[_Job] = deque()
        queue = deque(ready)
        while queue or waiting:
            while queue and sum(job.facts.page_count for job in waiting) < AHEAD_PAGES:
                waiting.append(_schedule(queue.popleft(), pool))
            job = waiting.popleft()
            step = partial(_step, on_progress, job, done, total)
            step(0, 0)
            try:
                pages, tally = _take(index, job, models, step)
                report.add(_commit(index, job, pages, models, tally))
                for copy in copies[job.content][1:]:
                    report.add(_linked(index, job.document(), copy))
            except DocumentError as error:
                fail(job, str(error))
            except Exception as error:  # a defect of ours, or a full disk, must not take the other files along
                log.debug("ingest of %s failed", job.path, exc_info=True)
                fail(job, f"Not stored ({type(error).__name__}: {error}).")
            done += job.facts.page_count


def _step(
    on_progress: Callable[[Progress], None], job: _Job, before: int, total: int, pages: int, pictures: int
) -> None:
    on_progress(Progress(job.path, before + pages, total, pages, job.facts.page_count, pictures))


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
    looks = [(job, pool.submit(inspect_file, job.file) if job.is_read else None) for job in jobs]
    ready = []
    for job, look in looks:
        try:
            job.facts = _result(look) if look else job.facts
            ready.append(job)
        except DocumentError as error:
            fail(job, str(error))
    return ready


def _schedule(job: _Job, pool: _Pool) -> _Job:
    numbers = range(1, job.facts.page_count + 1 if job.is_read else 1)
    batches = [numbers[i : i + BATCH_PAGES] for i in range(0, len(numbers), BATCH_PAGES)]
    job.pages = [pool.submit(read_pages, job.file, job.document_id, list(b), pages=len(b)) for b in batches]
    return job


def _take(index: Index, job: _Job, models: _Models, step: Callable[[int, int], None]) -> tuple[list[Page], Tally]:
    """The pages of a file, their pictures described; `step` hears how many pages and pictures are done."""
    pages: list[Page] = []
    tally = Tally()
    for page in _read(index, job, models):
        if models.describer:
            page = models.describer.describe(page, job.file, tally, lambda: step(len(pages), tally.pictures))
        pages.append(page)
        step(len(pages), tally.pictures)
    return pages, tally


def _read(index: Index, job: _Job, models: _Models) -> Iterator[Page]:
    """The pages as the workers bring them, or as the index holds them, without another model's descriptions."""
    known = job.known
    keep = known and (models.describer is None or models.describer.identity == known.described_by)
    for page in (page for future in job.pages for page in _result(future)):
        before = index.page(known.id, page.number) if known and keep else None
        yield with_descriptions(page, before) if before else page
    if known and not job.is_read:
        pages = (index.page(known.id, number) for number in range(1, known.page_count + 1))
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
    elif known and known.described_by:
        document = replace(document, described_by=known.described_by, undescribed=undescribed(pages))
    replaces = index.at_path(document.path) is not None
    chunks = chunk_pages(document.id, pages, models.encoders.text)
    text_vectors, image_vectors = encode(chunks, job.file, models.encoders)
    if models.tagger:
        pages = tagged(pages, chunks, image_vectors, models.tagger)
    if _sha256(job.file) != job.sha256:  # a batch may take hours, and the store keeps the file under its content
        raise UnreadableFile("The file changed while it was read: ingest it again.")
    index.add(document, pages, chunks, source=job.file, text_vectors=text_vectors, image_vectors=image_vectors)
    outcome = Outcome.REPLACED if replaces else Outcome.INGESTED
    return FileResult(job.path, outcome, len(pages), len(chunks), str(tally))


def _linked(index: Index, known: Document, job: _Job) -> FileResult:
    index.link(str(job.path), job.path.name, known.id)
    return FileResult(job.path, Outcome.UNCHANGED, known.page_count, reason=f"Same content as {known.name}.")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
