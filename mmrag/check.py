"""Whether a store is whole: its ledger in itself, the vectors against the ledger, the copies of files against both.

Looks and says what it found, and what becomes of it; mends nothing (`ingest.repair` does) and recomputes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from mmrag.check_vectors import Found, Trouble, check_apart, check_vectors
from mmrag.disk import sha256
from mmrag.index import Index
from mmrag.ledger import Ledger
from mmrag.types import LAID_OUT, Document, Span

FULL_TEXT = ("chunks_fts", "pages_fts")


class What(StrEnum):
    LEDGER = "the ledger is damaged"
    STRANDED = "rows in the ledger belong to nothing"
    UNFINISHED = "changes were interrupted"
    PAGES = "pages are missing, or more than the document has"
    REGIONS = "regions or chunks do not fit their page"
    FULL_TEXT = "the full text does not hold what the tables hold"
    UNREADABLE = "the vectors cannot be read"
    LOST = "vectors are there and cannot be found"
    MISSING = "vectors are missing"
    WRONG = "vectors have no direction"
    ORPHANS = "vectors belong to no chunk"
    COPY = "the store's copy of the file is missing, or differs from it"
    STRAYS = "files in the store belong to no document"


_REMEDIES = {
    What.LEDGER: "--repair rebuilds its indexes; where that is not enough, remove the folder and ingest again (copies "
    "of the files lie in its folder files)",
    What.STRANDED: "--repair deletes them",
    What.UNFINISHED: "--repair or the next ingest sweeps up what they left",
    What.FULL_TEXT: "--repair makes it anew",
    What.UNREADABLE: "--repair puts them aside and encodes every document anew",
    What.LOST: "--repair puts all vectors aside and encodes every document anew",
    What.MISSING: "--repair encodes the document anew",
    What.WRONG: "--repair encodes the document anew",
    What.ORPHANS: "--repair erases them",
    What.STRAYS: "--repair removes them",
}
_TROUBLES = {
    Trouble.UNREADABLE: What.UNREADABLE,
    Trouble.LOST: What.LOST,
    Trouble.MISSING: What.MISSING,
    Trouble.WRONG: What.WRONG,
    Trouble.ORPHANS: What.ORPHANS,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be. `count`: of the rows, vectors or files that are concerned."""

    what: What
    count: int = 1
    document: Document | None = None
    """None where it concerns the store as a whole."""
    detail: str = ""

    @property
    def remedy(self) -> str:
        """What mends it."""
        if self.document and self.what is What.COPY:
            return f"--repair takes it from {self.document.path}, if that is still the same file; else put that back"
        if self.document and self.what in (What.PAGES, What.REGIONS):
            return f"ingest it again:  mmrag ingest '{self.document.path}' --again"
        return _REMEDIES[self.what]

    @property
    def is_mendable(self) -> bool:
        """Whether a repair may help: pages and their regions come from reading the file alone."""
        return self.what not in (What.PAGES, What.REGIONS)

    def to_json(self) -> dict[str, Any]:
        of = {"document": self.document.name, "id": self.document.id} if self.document else {}
        return {"what": self.what.name.lower(), **of, "count": self.count, "detail": self.detail, "remedy": self.remedy}


OnProgress = Callable[[int, int, str], None]


def check(index: Index, *, on_progress: OnProgress = lambda done, total, what: None) -> list[Finding]:
    """Everything that is wrong with a store, which nobody writes to meanwhile: raises StoreBusy."""
    with index.inspecting() as (ledger, vectors):
        try:
            if damaged := list(_ledger(ledger)):
                return damaged  # whatever else is asked of it may be answered wrongly
            unfinished = _unfinished(ledger)
            documents = {document.id: document for document in index.documents()}
            found = [*_stranded(ledger), *_full_text(ledger)]
            if unfinished:
                found.append(Finding(What.UNFINISHED, len(unfinished)))
            for number, document in enumerate(documents.values()):
                on_progress(number, len(documents), document.name)
                found += _document(ledger, document)
                found += _copy(index, document)
            found += _strays(index, documents, unfinished)
        except sqlite3.DatabaseError as error:
            return [Finding(What.LEDGER, detail=str(error))]
        tell = partial(_tell, on_progress)
        # What a server holds is read there, where it cannot end this process.
        of_vectors = check_vectors(ledger, vectors, tell) if index.server else check_apart(index.path, tell)
        return [*found, *(_of_vectors(item, documents) for item in of_vectors)]


def _tell(on_progress: OnProgress, done: int, total: int) -> None:
    on_progress(done, total, "vectors")


# -- the ledger ------------------------------------------------------------------------------------------------------


def _ledger(ledger: Ledger) -> Iterator[Finding]:
    with ledger.reading() as db:
        said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(100)")]
    # Newer SQLites look into the full text as well, of which more is said below.
    said = [line for line in said if line != "ok" and not any(table in line for table in FULL_TEXT)]
    if said:
        yield Finding(What.LEDGER, len(said), detail=said[0].splitlines()[-1])


def _stranded(ledger: Ledger) -> Iterator[Finding]:
    with ledger.reading() as db:
        tables = [str(row[0]) for row in db.execute("PRAGMA foreign_key_check")]
    if tables:
        yield Finding(What.STRANDED, len(tables), detail=", ".join(sorted(set(tables))))


def _unfinished(ledger: Ledger) -> list[str]:
    with ledger.reading() as db:
        return [row[0] for row in db.execute("SELECT document_id FROM journal")]


def _full_text(ledger: Ledger) -> Iterator[Finding]:
    for table in FULL_TEXT:
        try:
            with ledger.transaction() as db:  # it looks like a write and is none
                db.execute(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")  # noqa: S608  # a constant
            if differ := _differ(ledger, table):
                yield Finding(What.FULL_TEXT, differ, detail=table)
        except sqlite3.DatabaseError as error:
            yield Finding(What.FULL_TEXT, detail=f"{table}: {error}")


def _differ(ledger: Ledger, table: str) -> int:
    """Rows that only the table or only its full text has."""
    both = (table, table.removesuffix("_fts"))
    sql = "SELECT count(*) FROM (SELECT rowid FROM {} EXCEPT SELECT rowid FROM {})"
    with ledger.reading() as db:
        return sum(db.execute(sql.format(*pair)).fetchone()[0] for pair in (both, both[::-1]))


def _document(ledger: Ledger, document: Document) -> Iterator[Finding]:
    """One document after the other, so that no more than one is in memory."""
    of = (document.id,)
    with ledger.reading() as db:
        pages = {row[0] for row in db.execute("SELECT number FROM pages WHERE document_id = ?", of)}
        regions = db.execute("SELECT id, page, text, caption_id FROM regions WHERE document_id = ?", of).fetchall()
        chunks = db.execute("SELECT page, text, spans FROM chunks WHERE document_id = ?", of).fetchall()
    if astray := pages ^ set(range(1, document.page_count + 1)):
        yield Finding(What.PAGES, len(astray), document)
    texts = {region_id: text for region_id, _, text, _ in regions}
    bad = sum(page not in pages or (caption or region) not in texts for region, page, _, caption in regions)
    bad += sum(page not in pages or not _fits(text, json.loads(spans), texts) for page, text, spans in chunks)
    if bad:
        yield Finding(What.REGIONS, bad, document)


def _fits(text: str, spans: list[list[Any]], texts: Mapping[str, str]) -> bool:
    """Whether every piece of a chunk stands in its region, word for word."""
    for span in (Span(*values) for values in spans):
        piece, start = text[span.start : span.end], span.region_start
        if not 0 <= span.start <= span.end <= len(text):
            return False
        if texts.get(span.region_id, "")[start : start + len(piece)] != piece or span.region_id not in texts:
            return False
    return True


# -- files and vectors -----------------------------------------------------------------------------------------------


def _copy(index: Index, document: Document) -> Iterator[Finding]:
    try:
        if sha256(index.original(document)) != document.sha256:
            yield Finding(What.COPY, 1, document, "it differs")
        elif document.media_type in LAID_OUT.values() and index.source(document) == index.original(document):
            yield Finding(What.COPY, 1, document, "the PDF of its pages is missing")
    except OSError as error:
        yield Finding(What.COPY, 1, document, error.strerror or str(error))


def _strays(index: Index, documents: Mapping[str, Document], unfinished: list[str]) -> Iterator[Finding]:
    names = [path.name for path in strays(index, documents) if not path.name.startswith(tuple(unfinished))]
    if names:
        yield Finding(What.STRAYS, len(names), detail=", ".join(names[:3]))


def strays(index: Index, documents: Mapping[str, Document]) -> list[Path]:
    known = {file(document).name for document in documents.values() for file in (index.source, index.original)}
    folder = index.path / "files"
    return sorted(path for path in folder.iterdir() if path.name not in known) if folder.exists() else []


def _of_vectors(found: Found, documents: Mapping[str, Document]) -> Finding:
    return Finding(_TROUBLES[found.trouble], found.count, documents.get(found.document_id), found.detail)
