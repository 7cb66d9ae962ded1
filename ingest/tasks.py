"""What there is to do in a batch: files with new content, and known content that is to be looked at once more.

Looks at names, sizes and hashes; opens no document.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.convert import FileFacts
from ingest.describe import Describer
from ingest.files import absolute, failed, find_files, is_known, is_special, is_text
from ingest.limits import Limits, megabytes
from ingest.report import FileResult, Outcome, Report
from mmrag.disk import sha256
from mmrag.errors import StoreError
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.tags import ZeroShotTagger
from mmrag.types import LAID_OUT, MEDIA_TYPES, Document


@dataclass(frozen=True, slots=True)
class Models:
    """What is asked about a document."""

    encoders: Encoders
    tagger: ZeroShotTagger | None
    describer: Describer | None

    def have_more_to_say(self, of: Document) -> bool:
        return self.describer is not None and (self.describer.identity != of.described_by or of.undescribed > 0)


@dataclass(slots=True)
class Task:
    """A file whose content the index does not hold, that is to be read again, or whose pictures are to be described."""

    path: Path
    sha256: str
    file: Path
    """Where the bytes lie: at `path`, or in the store when that is gone."""
    known: Document | None = None
    """Where the index holds the content: its pages are not read, unless `again`."""
    again: bool = False
    facts: FileFacts = field(default_factory=lambda: FileFacts(0, ""))
    laid_out: Path | None = None
    """A PDF of the pages, where the file itself has none that everybody may open."""
    pages: list[Future[Any]] = field(default_factory=list)
    """Those that are being read or have been, from the first."""
    is_given_up: bool = False

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

    @property
    def needs_layout(self) -> bool:
        """Whether it has no pages until they are laid out as a PDF."""
        return self.is_read and self.path.suffix.lower() in LAID_OUT

    @property
    def pages_to_read(self) -> int:
        return self.facts.page_count if self.is_read else 0

    @property
    def has_unread_pages(self) -> bool:
        return not self.is_given_up and len(self.pages) < self.pages_to_read

    def give_up(self) -> None:
        """None of its pages is waited for any more."""
        self.is_given_up = True
        for future in self.pages:
            future.cancel()

    @property
    def pages_file(self) -> Path:
        return self.laid_out or self.file

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


def find_tasks(
    index: Index, sources: Iterable[str | Path], models: Models, limits: Limits, report: Report, *, again: bool
) -> tuple[list[Task], list[Path]]:
    """What is to be done, and the paths of all that was named, in their order; the report gets what is not."""
    gone = _gone(index, sources := list(sources)) if again else {}
    files, problems = find_files((s for s in sources if s not in gone), exclude=index.path)
    for problem in problems:
        report.add(problem)
    found = [_from_own_copy(index, document, report) for document in gone.values()]
    found += [_new_content(index, path, models, limits, report, again) for path in files]
    return [task for task in found if task], [*(Path(document.path) for document in gone.values()), *files]


def copies(tasks: Sequence[Task]) -> dict[tuple[str, str], list[Task]]:
    """Tasks by content: one of each is worked on, the others follow it."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.content, []).append(task)
    return groups


def _new_content(index: Index, path: Path, models: Models, limits: Limits, report: Report, again: bool) -> Task | None:
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
        if (size := path.stat().st_size) > limits.file_bytes:
            most = megabytes(limits.file_bytes)
            advice = "allow more with --max-file-size, or split it"
            report.add(failed(path, f"The file has {megabytes(size)}, more than {most}: {advice}."))
            return None
        task = Task(path, sha256(path), path)
    except OSError as error:
        report.add(failed(path, f"The file cannot be read: {error.strerror}."))
        return None
    known = index.document(task.document_id)
    if known is None:
        return task
    try:
        index.link(str(path), path.name, known.id)
    except StoreError as error:  # a full disk
        report.add(failed(path, str(error)))
        return None
    if (again or models.have_more_to_say(known)) and known.media_type == task.content[1]:
        task.known, task.again, task.facts = known, again, FileFacts(known.page_count, known.title)
        task.laid_out = _laid_out(index, known)
        return task
    unread = index.unread_pages(known.id)
    reason = f"{told_pages(unread)} could not be read then: --again tries once more." if unread else ""
    report.add(FileResult(path, Outcome.UNCHANGED, known.page_count, reason=reason))
    return None


def _laid_out(index: Index, known: Document) -> Path | None:
    source = index.source(known)
    return None if source == index.original(known) else source


def _gone(index: Index, sources: Iterable[str | Path]) -> dict[str | Path, Document]:
    """Documents by the sources that name them, where nothing is at their place any more."""
    paths = ((source, absolute(source)) for source in sources)
    missing = ((source, str(path)) for source, path in paths if not os.path.lexists(path) and is_text(path))
    return {source: document for source, path in missing if (document := index.at_path(path))}


def _from_own_copy(index: Index, document: Document, report: Report) -> Task | None:
    path, file = Path(document.path), index.original(document)
    try:
        if sha256(file) == document.sha256:
            facts = FileFacts(document.page_count, document.title)
            return Task(path, document.sha256, file, document, True, facts, _laid_out(index, document))
        reason = "is damaged"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    report.add(failed(path, f"The file is gone, and the store's own copy {reason}: ingest the file from elsewhere."))
    return None


def told_pages(numbers: Iterable[int]) -> str:
    """ "Page 3" or "Pages 3, 4 and 9"; of many the first few, and how many more."""
    found = [str(number) for number in sorted(numbers)]
    if len(found) == 1:
        return f"Page {found[0]}"
    if len(found) > _NAMED_PAGES:
        found = [*found[:_NAMED_PAGES], f"{len(found) - _NAMED_PAGES} more"]
    return f"Pages {', '.join(found[:-1])} and {found[-1]}"


_NAMED_PAGES = 5
