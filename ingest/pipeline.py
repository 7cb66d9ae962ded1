"""Files in, documents in the index: pages are read in worker processes, chunked, encoded and committed one by one.

Reading, encoding and writing overlap: while one document is chunked and committed here, the workers encode it and read
those after it. A file or page that cannot be read costs only itself: the batch goes on, and a row gives the reason.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.chunk import chunk_pages
from ingest.convert import prepare
from ingest.describe import Describer, Tally, undescribed, with_descriptions, without_descriptions
from ingest.encode import Encoding, tagged
from ingest.files import failed, find_files
from ingest.limits import Limits
from ingest.pdf import read_page, unread
from ingest.report import FileResult, Outcome, Progress, Report
from ingest.tasks import Models, Task, copies, find_tasks, told_pages
from ingest.timing import spent, stage
from ingest.worker import Pool, TooCostly
from mmrag.disk import sha256
from mmrag.errors import ClusterError, DocumentError, StoreError, StoreUnreachable, UnreadableFile
from mmrag.index import Index
from mmrag.models import Encoders, load_encoders
from mmrag.settings import load_settings
from mmrag.tags import zero_shot_tagger
from mmrag.types import Chunk, Document, Page

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

__all__ = ["FileResult", "Limits", "Outcome", "Progress", "Report", "find_files", "ingest_files", "ingest_into"]

log = logging.getLogger(__name__)

AHEAD_PAGES = 16
"""Pages for each worker that may be under way or wait to be taken, so that memory does not grow with the batch."""
CONVERT_PAGES = 5
"""As many pages' time does a file get to be laid out."""
GIVE_UP_AFTER = 2
"""Pages of a file that hang, crash or take too much memory, after which the rest of it is not tried."""


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
    ray: str | None = None,
    limits: Limits = Limits(),  # noqa: B008  # immutable
    passwords: Sequence[str] = (),
    ocr: bool = True,
    describer: LLM | None = None,
    again: bool = False,
    wait: bool = False,
    on_wait: Callable[[str], None] = lambda said: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_result: Callable[[FileResult], None] = lambda result: None,
) -> Report:
    """Bring files, folders (searched below) and glob patterns into the index; content that it already holds is skipped.

    `ray` is the address of a cluster that reads and encodes instead of this machine's `workers` (see `ingest.cluster`).
    Each of `passwords` is tried on an encrypted file. Without `ocr` only text layers are read. A `describer`, which
    must read images, says of every picture what it shows; it is also asked about the pictures of documents that the
    index holds but another model, or none, has described. `again` reads known content anew, from the store's own copy
    where a named file is gone; the version before stays until then. `on_result` hears of each file as soon as it is
    done with.
    Raises StoreBusy (unless it may `wait`, of which `on_wait` hears) and StoreMismatch before anything is read;
    whatever goes wrong with one file is in its FileResult.
    """
    started = perf_counter()
    report = Report(on_result=on_result)
    index.require_encoders(text=encoders.text_identity, image=encoders.image_identity)
    models = Models(encoders, zero_shot_tagger(encoders.image), Describer(describer) if describer else None)
    with index.writing(wait=wait, on_wait=on_wait):
        with stage("hashing"):
            tasks, paths = find_tasks(index, sources, models, limits, report, again=again)
        if tasks:
            with (
                TemporaryDirectory(ignore_cleanup_errors=True) as folder,
                closing(_pool(ray, workers, limits)) as pool,
            ):
                _Batch(index, models, pool, Path(folder), report, on_progress, ocr).work(tasks, passwords)
                report.timings = pool.timings
        report.timings.add(spent())
    order = {path: i for i, path in enumerate(paths)}
    report.results.sort(key=lambda result: order.get(result.path, -1))
    report.seconds = perf_counter() - started
    return report


def _pool(ray: str | None, workers: int | None, limits: Limits) -> Pool:
    if ray is None:
        return Pool(workers or _workers(limits), limits)
    from ingest.cluster import ClusterPool

    return ClusterPool(ray, limits, workers=workers or _workers(limits))


class _Batch:
    """Tasks on their way: first their pages are read, then their chunks encoded, then they are committed."""

    def __init__(
        self,
        index: Index,
        models: Models,
        pool: Pool,
        folder: Path,
        report: Report,
        on_progress: Callable[[Progress], None],
        ocr: bool,
    ) -> None:
        """`folder` takes the pages of files that have none, until they are committed."""
        self._index, self._models, self._pool, self._folder = index, models, pool, folder
        self._report, self._on_progress = report, on_progress
        self._passwords: Sequence[str] = ()
        self._read_page = partial(read_page, ocr=ocr)
        self._copies: dict[tuple[str, str], list[Task]] = {}
        self._unopened: deque[Task] = deque()
        """What has no pages of its own."""
        self._opening: deque[_Opening] = deque()
        self._queue: deque[Task] = deque()
        self._reading: deque[Task] = deque()
        self._encoding: deque[_Encoded] = deque()
        self._under_way: list[Future[Any]] = []
        """Pages that are being read, or will be."""
        self._total = self._done = 0
        self._lost: Exception | None = None
        """Why no file can be stored any more."""

    def work(self, tasks: Sequence[Task], passwords: Sequence[str]) -> None:
        self._copies, self._passwords = copies(tasks), passwords
        firsts = [same[0] for same in self._copies.values()]
        self._unopened.extend(task for task in firsts if task.needs_layout)
        opening = [self._open(task) for task in firsts if not task.needs_layout]
        self._lay_out_ahead()
        for each in opening:
            self._opened(each)
        while self._has_more():
            self._take(self._reading[0])
        self._commit_encoded(wait=True)

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open(self, task: Task) -> _Opening:
        """To have its pages counted; what has none is laid out as a PDF."""
        target = self._folder / f"{task.document_id}.{task.path.suffix[1:].lower()}.pdf"
        args = (task.file, target, self._pool.limits, self._passwords)
        look = self._pool.submit_beside(prepare, *args, pages=CONVERT_PAGES) if task.is_read else None
        return _Opening(task, target, look)

    def _opened(self, opening: _Opening) -> None:
        """Waits for it, and queues it to be read."""
        task, target, look = opening
        try:
            if look:
                task.facts = self._pool.result(look)
                task.laid_out = target if target.exists() else None
            self._queue.append(task)
            self._total += task.facts.page_count
        except TooCostly as error:
            self._fail(task, f"The file cannot be opened: {error}.")
        except Exception as error:
            self._fail_by(error, task)

    def _lay_out_ahead(self) -> None:
        """So many that no worker waits for them: more would fill the disk for hours."""
        while self._unopened and len(self._opening) < self._pool.workers:
            self._opening.append(self._open(self._unopened.popleft()))

    def _take_laid_out(self) -> None:
        self._opened(self._opening.popleft())
        self._lay_out_ahead()

    # -- reading -----------------------------------------------------------------------------------------------------

    def _has_more(self) -> bool:
        """Whether a file is being read; one that is being laid out is waited for where there is no other."""
        self._read_ahead()
        while not self._reading and self._opening:
            self._take_laid_out()
            self._read_ahead()
        return bool(self._reading)

    def _read_ahead(self) -> None:
        """So many pages under way that no worker waits for the next one, and what follows them not for long."""
        self._under_way = [page for page in self._under_way if not page.done()]
        while len(self._under_way) < AHEAD_PAGES * self._pool.workers and (task := self._next_to_read()):
            number = len(task.pages) + 1
            page = self._pool.submit(self._read_page, task.pages_file, task.document_id, number)
            task.pages.append(page)
            self._under_way.append(page)

    def _next_to_read(self) -> Task | None:
        """The file whose next page is to be read."""
        while not (self._reading and self._reading[-1].has_unread_pages):
            while not self._queue and self._opening and self._opening[0].is_done():
                self._take_laid_out()
            if not self._queue:
                return None
            self._reading.append(self._queue.popleft())
        return self._reading[-1]

    def _take(self, task: Task) -> None:
        """Wait for the pages, and send their chunks to be encoded."""
        tally, pages = Tally(), list[Page]()
        self._step(task, 0, 0)
        try:
            for page in self._pages(task):
                if self._models.describer:
                    told = lambda: self._step(task, len(pages), tally.pictures)  # noqa: E731
                    page = self._models.describer.describe(page, task.pages_file, tally, told)
                pages.append(page)
                self._step(task, len(pages), tally.pictures)
                self._commit_encoded()
                if self._lost:
                    raise self._lost
            with stage("chunking"):
                chunks = chunk_pages(task.document_id, pages, self._models.encoders.text)
            encoding = Encoding(chunks, task.pages_file, self._models.encoders, self._pool)
            self._encoding.append(_Encoded(task, pages, chunks, tally, encoding))
        except Exception as error:
            if not task.is_given_up:
                self._fail_by(error, task)
        finally:
            task.give_up()  # the pages that nobody waits for any more
            if self._reading and self._reading[0] is task:
                self._reading.popleft()
            self._done += task.facts.page_count

    def _pages(self, task: Task) -> Iterator[Page]:
        """As the workers bring them, or as the index holds them, without another model's descriptions."""
        known, describer = task.known, self._models.describer
        keep = known and (describer is None or describer.identity == known.described_by)
        for page in self._fresh_pages(task):
            before = self._index.page(known.id, page.number) if known and keep else None
            yield with_descriptions(page, before) if before else page
        if known and not task.is_read:
            pages = (self._index.page(known.id, number) for number in range(1, known.page_count + 1))
            yield from (page if keep else without_descriptions(page) for page in pages if page)

    def _fresh_pages(self, task: Task) -> Iterator[Page]:
        """Raises UnreadableFile where none can be read, or where the file costs too much to go on with."""
        problems: dict[int, str] = {}
        costly = 0
        for number in range(1, task.pages_to_read + 1):
            self._read_ahead()  # this page at the least
            if self._lost:
                raise self._lost
            try:
                page = self._pool.result(task.pages[number - 1])
            except TooCostly as error:
                costly += 1
                page = unread(number, str(error))
            if page.problem:
                problems[number] = page.problem
            if costly >= GIVE_UP_AFTER or len(problems) == task.pages_to_read:
                raise UnreadableFile(told_problems(problems))
            yield page

    def _step(self, task: Task, pages: int, pictures: int) -> None:
        total = task.facts.page_count
        self._on_progress(Progress(task.path, self._done + pages, self._total, pages, total, pictures))

    # -- committing --------------------------------------------------------------------------------------------------

    def _commit_encoded(self, *, wait: bool = False) -> None:
        """What is ready, in its order; what is not is waited for where that is wished, or too many pages are kept."""
        while self._encoding:
            kept = sum(len(done.pages) for done in self._encoding)
            if not (wait or self._encoding[0].encoding.is_done() or kept > AHEAD_PAGES * self._pool.workers):
                return
            done = self._encoding.popleft()
            try:
                self._report.add(self._commit(done))
                for copy in self._copies[done.task.content][1:]:
                    self._report.add(self._linked(done.task.document(), copy))
            except Exception as error:
                self._fail_by(error, done.task)
            finally:
                self._remove_laid_out(done.task)

    def _remove_laid_out(self, task: Task) -> None:
        if task.laid_out and task.laid_out.parent == self._folder:
            with suppress(OSError):  # on Windows, where a worker has it open still
                task.laid_out.unlink()

    def _commit(self, done: _Encoded) -> FileResult:
        task, pages, index = done.task, done.pages, self._index
        document, known = task.document(), index.document(task.document_id)
        if known and not task.known:  # the same bytes under a suffix of another kind, stored a moment ago
            return self._linked(known, task)
        if known:  # a copy that is described does not give its name to what others know by another
            document = replace(document, path=known.path, name=known.name)
        if self._models.describer:
            document = replace(document, described_by=self._models.describer.identity, undescribed=done.tally.failed)
        elif known and known.described_by:
            document = replace(document, described_by=known.described_by, undescribed=undescribed(pages))
        replaces = index.at_path(document.path) is not None
        text_vectors, image_vectors = done.encoding.vectors()
        if self._models.tagger:
            pages = tagged(pages, done.chunks, image_vectors, self._models.tagger)
        with stage("writing"):
            if sha256(task.file) != task.sha256:  # a batch may take hours, and the store keeps the file by its content
                raise UnreadableFile("The file changed while it was read: ingest it again.")
            index.add(
                document,
                pages,
                done.chunks,
                source=task.file,
                laid_out=task.laid_out,
                text_vectors=text_vectors,
                image_vectors=image_vectors,
            )
        problems = {page.number: page.problem for page in pages if page.problem}
        outcome = Outcome.REPLACED if replaces else Outcome.INGESTED
        reason = " ".join(filter(None, (told_problems(problems), str(done.tally))))
        return FileResult(task.path, outcome, len(pages), len(done.chunks), reason, len(problems))

    def _linked(self, known: Document, task: Task) -> FileResult:
        self._index.link(str(task.path), task.path.name, known.id)
        reason = f"Same content as {known.name}."
        return FileResult(task.path, Outcome.UNCHANGED, known.page_count, reason=reason)

    # -- failing -----------------------------------------------------------------------------------------------------

    def _fail_by(self, error: Exception, task: Task) -> None:
        """Only some errors are expected; a defect of ours must not take the other files along."""
        if isinstance(error, StoreUnreachable | ClusterError):
            self._give_up(task, error)
            return
        if isinstance(error, DocumentError | StoreError):
            self._fail(task, str(error))
            return
        log.debug("ingest of %s failed", task.path, exc_info=error)
        self._fail(task, f"Not stored ({type(error).__name__}: {error}).")

    def _give_up(self, task: Task, error: Exception) -> None:
        """A server is gone: the other files would fare no better, after hours of reading."""
        self._lost = error
        opening = (each.task for each in self._opening)
        left = [task, *self._queue, *self._reading, *(done.task for done in self._encoding), *opening, *self._unopened]
        for waiting in (self._queue, self._reading, self._encoding, self._opening, self._unopened):
            waiting.clear()
        for each in {id(each): each for each in left}.values():
            each.give_up()
            self._fail(each, str(error))

    def _fail(self, task: Task, reason: str) -> None:
        for same in self._copies[task.content]:
            self._report.add(failed(same.path, reason))


class _Opening(NamedTuple):
    """A file of which it is being found out what pages it has."""

    task: Task
    target: Path
    """Where its pages are laid out, where it has none that everybody may open."""
    look: Future[Any] | None

    def is_done(self) -> bool:
        return self.look is None or self.look.done()


class _Encoded(NamedTuple):
    """A document whose pages are read, and whose vectors are there or on their way."""

    task: Task
    pages: list[Page]
    chunks: list[Chunk]
    tally: Tally
    encoding: Encoding


def told_problems(problems: dict[int, str]) -> str:
    """Which pages could not be read, and why the first of them; empty where all could."""
    if not problems:
        return ""
    return f"{told_pages(problems)} could not be read: {next(iter(problems.values())).rstrip('.')}."


def _workers(limits: Limits) -> int:
    """One for each core, as far as half of the machine's memory holds them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not hasattr(os, "sysconf"):
        return cores
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores, memory // 2 // limits.memory))
