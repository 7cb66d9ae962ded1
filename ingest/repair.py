"""Mends what `mmrag.check` found: sweeps, erases, copies, and encodes anew what lost its vectors.

Knows where everything comes from: full text and vectors from the chunks in the ledger, a copy from the original file.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.encode import encode
from ingest.jobs import jobs
from mmrag.check import Finding, OnProgress, What, check, strays
from mmrag.disk import copy_durably, room_on, sha256
from mmrag.index import Index
from mmrag.ledger import Ledger
from mmrag.models import Encoders
from mmrag.rows import index_anew, visible_keys
from mmrag.types import Document
from mmrag.vectors import IMAGE, TEXT, VectorStore

_ALL_ANEW = {What.UNREADABLE, What.LOST}
_ANEW = {What.MISSING, What.WRONG}


_ROUNDS = 3
"""What is mended may uncover what lay below it."""


@dataclass(frozen=True, slots=True)
class Repaired:
    found: list[Finding]
    """Before anything was mended."""
    left: list[Finding]
    notes: list[str]
    """What was done that is not to be seen."""

    @property
    def mended(self) -> list[Finding]:
        return [finding for finding in self.found if finding not in self.left]

    def to_json(self) -> dict[str, Any]:
        kinds = {"findings": self.left, "mended": self.mended}
        return {name: [f.to_json() for f in found] for name, found in kinds.items()} | {"notes": self.notes}


def repair(
    index: Index,
    load: Callable[[], Encoders],
    *,
    on_progress: OnProgress = lambda done, total, what: None,
) -> Repaired:
    """Checks a store and mends what can be mended; `load` is called where encoders are needed.

    Raises StoreBusy, StoreMismatch where the encoders are not those of the store, and what loading them raises.
    """
    found = left = check(index, on_progress=on_progress)
    notes: list[str] = []
    for _ in range(_ROUNDS):
        before = left
        if not any(finding.is_mendable for finding in before):
            break
        notes += _mend(index, before, load, on_progress)
        left = check(index, on_progress=on_progress)
        if left == before:
            break
    return Repaired(found, left, notes)


def interrupted_jobs(store: Path) -> list[str]:
    """They are no fault: somebody may want to resume them."""
    count = sum(job.state == "interrupted" for job in jobs(store))
    return [f"{count} jobs of the app were interrupted: resume or remove them there."] if count else []


def _mend(
    index: Index, findings: Sequence[Finding], load: Callable[[], Encoders], on_progress: OnProgress
) -> list[str]:
    what, notes = {finding.what for finding in findings}, []
    encoders = _load(index, load) if what & (_ALL_ANEW | _ANEW) else None
    with room_on(index.path), index.inspecting() as (ledger, vectors):
        if What.LEDGER in what:
            _reindex(ledger)
            return []
        _mend_rows(ledger, what)
        _mend_copies(index, ledger, (f.document for f in findings if f.what is What.COPY))
        if what & _ALL_ANEW:  # before anything opens them
            notes.append(f"The damaged vectors lie in {vectors.set_aside()}: remove that when all is well.")
    with room_on(index.path), index.writing():  # sweeps
        if What.STRAYS in what:
            _remove_strays(index)
        if encoders:
            anew = [f.document.id for f in findings if f.document and f.what in _ANEW]
            everything = [document.id for document in index.documents()] if what & _ALL_ANEW else []
            _encode_anew(index, dict.fromkeys(everything or anew), encoders, on_progress)
        if What.ORPHANS in what:
            _erase_orphans(index)
    return notes


def _load(index: Index, load: Callable[[], Encoders]) -> Encoders:
    encoders = load()
    index.require_encoders(text=encoders.text_identity, image=encoders.image_identity)
    return encoders


def _reindex(ledger: Ledger) -> None:
    with contextlib.suppress(sqlite3.DatabaseError), ledger.transaction() as db:
        db.execute("REINDEX")


def _mend_rows(ledger: Ledger, what: set[What]) -> None:
    with ledger.transaction() as db:
        if What.STRANDED in what:
            for table, rowid, *_ in db.execute("PRAGMA foreign_key_check").fetchall():
                db.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))  # noqa: S608  # by SQLite itself
        if what & {What.STRANDED, What.FULL_TEXT}:
            index_anew(db)


def _mend_copies(index: Index, ledger: Ledger, documents: Iterable[Document | None]) -> None:
    for document in filter(None, documents):
        with ledger.reading() as db:
            paths = db.execute("SELECT path FROM sources WHERE document_id = ?", (document.id,)).fetchall()
        for original in (Path(row[0]) for row in paths):
            if _is_whole(original, document):
                target = index.original(document)
                target.parent.mkdir(exist_ok=True)
                copy_durably(original, target)
                break


def _is_whole(file: Path, document: Document) -> bool:
    try:
        return file.is_file() and sha256(file) == document.sha256
    except OSError:
        return False


def _remove_strays(index: Index) -> None:
    for path in strays(index, {document.id: document for document in index.documents()}):
        if path.is_file() or path.is_symlink():
            path.unlink()


def _encode_anew(index: Index, ids: Iterable[str], encoders: Encoders, on_progress: OnProgress) -> None:
    documents = [document for i in ids if (document := index.document(i))]
    for number, document in enumerate(documents):
        on_progress(number, len(documents), document.name)
        if encoders.image and not _is_whole(index.original(document), document):
            continue  # its pictures cannot be seen
        chunks = index.chunks_of([(document.id, page) for page in range(1, document.page_count + 1)])
        text, image = encode(chunks, index.source(document), encoders)
        index.replace_vectors(document.id, text_vectors=text, image_vectors=image)


def _erase_orphans(index: Index) -> None:
    with index.inspecting() as (ledger, vectors):
        for name in (TEXT, IMAGE):
            _erase_from(ledger, vectors, name)
        vectors.sync()
        with ledger.transaction():
            version = ledger.count_version()
        vectors.written(version)


def _erase_from(ledger: Ledger, vectors: VectorStore, name: str) -> None:
    version, orphans = ledger.version(), []
    for batch in vectors.kept(name, version=version):
        keys = [kept.key for kept in batch]
        with ledger.reading() as db:
            known = visible_keys(db, [key.chunk_id for key in keys])
        orphans += [key for key in keys if key not in known]
    vectors.erase(name, orphans, version=version)
