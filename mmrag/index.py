"""The store on disk: a SQLite ledger with full text (FTS5, WAL), vectors by chunk id, and a copy of every file.

Knows no encoder but the identity string it was given, reads no document; how threads share SQLite and Chroma is known
to `mmrag.ledger` and `mmrag.vectors` alone.

    store/
      ledger.sqlite3    documents, pages, regions, chunks; full text of chunks and pages; what the vectors were made by
      chroma/           vectors by chunk id
      files/            a copy of every source file, named by its content, and the PDF that was laid out of it, if any
      lock              held while a process writes
      writer.json       which process that is
      vectors.lock      held for the moments in which a process opens or changes the vectors

A document is visible once the ledger has committed it. Its vectors are written before and erased after, under a journal
row, so that whatever a killed process left half done is swept up by the next writer. The vectors of each version of a
document are a generation of their own, and only those of the committed one are found. The commit that ends such a
change counts the ledger's version up: whoever asks after it, in any thread or process, opens the vectors anew.

The vectors can be on a Chroma server instead, in collections named by the store's own id. The ledger remembers where.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mmrag.chroma import ChromaServer, reach
from mmrag.disk import copy_durably, room_on, sync
from mmrag.errors import StoreError, StoreMismatch, StoreNotFound
from mmrag.fulltext import marks, match
from mmrag.ledger import Ledger
from mmrag.lock import WriterLock
from mmrag.rows import (
    CHUNK,
    PAGE,
    REGION,
    delete,
    insert,
    link,
    make_schema,
    release,
    remember_vectors,
    to_chunk,
    to_page,
    to_region,
    visible_keys,
)
from mmrag.settings import is_base_url, same_origin
from mmrag.types import MEDIA_TYPES, Chunk, Document, Page, Region, RegionKind
from mmrag.vectors import IMAGE, TEXT, Key, Place, VectorStore

FORMAT = "5"
"""Changes with the schema or with what is stored: a store of another format is refused, not misread."""

# SQLite's words for what may be over at the next try, unlike a damaged file.
_PASSING = ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_LOCKED", "SQLITE_READONLY")

EMBEDDED = "embedded"

Vectors = Mapping[str, Sequence[float]]
"""Vectors by chunk id."""


class Index:
    """Documents, their regions and vectors. Open with `Index.open`; writing needs `with index.writing():`.

    Threads may share one: each sees what was committed before it asked, by whichever process.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self.path = path
        self._ledger = ledger
        self._lock = WriterLock(path)
        self._open = contextlib.ExitStack()
        self._open.callback(ledger.close)
        self._vectors: VectorStore

    @classmethod
    def open(cls, path: Path | str, *, create: bool = False, chroma: ChromaServer | None = None) -> Index:
        """Open the store in folder `path`; raises StoreNotFound unless `create`.

        A new store has its vectors on the server `chroma`, where one is given; one that has them elsewhere is refused
        (StoreMismatch) where `chroma` was asked for by name. Its headers are sent to no other server.
        """
        path = Path(path).expanduser().resolve()
        ledger = path / "ledger.sqlite3"
        if not ledger.is_file() and not create:
            raise StoreNotFound(
                f"There is no store at {path}: run  mmrag ingest FILE…  first, or name one with --store."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            index = cls(path, Ledger(ledger))
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        try:
            index._prepare(chroma)
        except BaseException as error:
            index.close()
            if isinstance(error, sqlite3.Error):
                raise _unusable(path, error) from error
            raise
        return index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _prepare(self, chroma: ChromaServer | None) -> None:
        """Make the schema of a new ledger, refuse one of another format, find its vectors."""
        self._ledger.use_wal()
        if not self._has_table("meta"):
            if chroma:
                reach(chroma)  # an address that was mistyped is not to be remembered
            with self._lock.held(wait=True, on_wait=lambda said: None):
                if not self._has_table("meta"):  # two may have come to make the store at once
                    self._make_schema(chroma.address if chroma else EMBEDDED)
        found = self._meta("format")
        if found != FORMAT:
            raise StoreMismatch(
                f"The store at {self.path} has format {found}, this mmrag reads {FORMAT}: ingest into a new --store."
            )
        self._vectors = VectorStore.shared(self._place(chroma))
        self._open.callback(self._vectors.release)

    def _has_table(self, name: str) -> bool:
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)))

    def _make_schema(self, vectors: str) -> None:
        with self._ledger.transaction() as db:
            make_schema(db)
            facts = {"format": FORMAT, "vectors": vectors, "id": secrets.token_hex(8)}
            db.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())

    def close(self) -> None:
        self._open.close()

    # -- what made the vectors -------------------------------------------------------------------------------------

    def _meta(self, key: str) -> str | None:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    @property
    def server(self) -> ChromaServer | None:
        """That which holds the vectors, if any does."""
        return self._vectors.place.server

    def _place(self, chroma: ChromaServer | None) -> Place:
        address, folder = self._meta("vectors") or EMBEDDED, self.path / "chroma"
        if chroma and chroma.is_named and chroma.address != address:
            place = "in its own folder" if address == EMBEDDED else f"on the Chroma server at {address}"
            raise StoreMismatch(
                f"The store at {self.path} has its vectors {place}, not at {chroma.address}: leave --chroma out, or "
                "ingest into a new --store."
            )
        if address == EMBEDDED:
            return Place(folder)
        if not is_base_url(address):
            raise StoreError(f"The ledger in {self.path} is damaged (no server's address): ingest into a new --store.")
        headers = chroma.headers if chroma and same_origin(chroma.address, address) else ()
        return Place(folder, ChromaServer(address, headers), f"mmrag-{self._meta('id')}")

    def require_encoders(self, *, text: str, image: str) -> None:
        """Remember the encoders of an empty store, then refuse others: vectors of two models do not compare."""
        for role, identity in ((f"{TEXT}_encoder", text), (f"{IMAGE}_encoder", image)):
            if self._meta(role) is None:
                with self._ledger.transaction() as db:
                    db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (role, identity))
            if (known := self._meta(role)) != identity:
                raise StoreMismatch(
                    f"The store at {self.path} was built with the {role.replace('_', ' ')} {known}, not {identity}: "
                    f"use the profile it was built with, or ingest into a new --store."
                )

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self, *, wait: bool = False, on_wait: Callable[[str], None] = lambda said: None) -> Iterator[None]:
        """Hold the store for writing and sweep up what a killed writer left; inside, a thread may say so once more.

        While another process or thread holds it: StoreBusy, or its end is waited for, which `on_wait` hears.
        """
        with self._held(wait=wait, on_wait=on_wait):
            self._vectors.reach(self._ledger.version())
            with room_on(self.path):
                for (document_id,) in self._rows("SELECT document_id FROM journal"):
                    self._finish(document_id)
            yield

    @contextlib.contextmanager
    def inspecting(self) -> Iterator[tuple[Ledger, VectorStore]]:
        """Both halves of the store, held against writers and not swept: for `mmrag.check`, which looks below."""
        with self._held(wait=False, on_wait=lambda said: None):
            yield self._ledger, self._vectors

    @contextlib.contextmanager
    def _held(self, *, wait: bool, on_wait: Callable[[str], None]) -> Iterator[None]:
        with self._lock.held(wait=wait, on_wait=on_wait):
            self._vectors.forget()
            yield

    @contextlib.contextmanager
    def _changing(self, document_id: str) -> Iterator[None]:
        """Under a journal row, that the change inside takes back itself or leaves to `_finish`."""
        with room_on(self.path):
            if self._rows("SELECT 1 FROM journal WHERE document_id = ?", (document_id,)):
                self._finish(document_id)  # of a change that failed
            with self._ledger.transaction() as db:
                db.execute("INSERT INTO journal VALUES (?)", (document_id,))
            try:
                yield
            except Exception:
                with contextlib.suppress(Exception):  # or the next writer does it
                    self._finish(document_id)
                raise

    def _finish(self, document_id: str) -> None:
        """Erase what a change leaves over, whether or not it was committed; then it is done with."""
        version, generation = self._ledger.version(), self._generation(document_id)
        for name in (TEXT, IMAGE):
            self._vectors.keep_only(name, document_id, generation, version=version)
        if generation is None and (files := self.path / "files").exists():
            for copy in files.glob(f"{document_id}*"):
                copy.unlink()
            sync(files)
        self._vectors.sync()
        with self._ledger.transaction() as db:
            db.execute("DELETE FROM journal WHERE document_id = ?", (document_id,))
            version = self._ledger.count_version()
        self._vectors.written(version)

    def _generation(self, document_id: str) -> int | None:
        """None where there is no such document."""
        sql = """SELECT coalesce(v.generation, 0) FROM documents d LEFT JOIN vectors v ON v.document_id = d.id
                 WHERE d.id = ?"""
        rows = self._rows(sql, (document_id,))
        return rows[0][0] if rows else None

    def add(
        self,
        document: Document,
        pages: Sequence[Page],
        chunks: Sequence[Chunk],
        *,
        source: Path,
        laid_out: Path | None = None,
        text_vectors: Vectors,
        image_vectors: Vectors,
    ) -> None:
        """Make a document visible, whole. Whatever its path held before is replaced, and its own earlier version too.

        `source` is the original file, or the store's own copy where that is all there is; `laid_out` a PDF of its pages
        where the file itself has none that everybody may open, unless that is kept already.
        """
        with self._changing(document.id):
            self._copy_source(document, source)
            fresh = self._copy_pages(document, laid_out) if laid_out else None
            before = self._generation(document.id)
            of = {chunk.id: chunk.page for chunk in chunks}
            generation = self._write_vectors(document.id, before, of, text_vectors, image_vectors)
            with self._ledger.transaction() as db:
                held = [row[0] for row in db.execute("SELECT path FROM sources WHERE document_id = ?", (document.id,))]
                delete(db, document.id)
                insert(db, document, pages, chunks)
                remember_vectors(db, document.id, generation, len(text_vectors), len(image_vectors))
                gone = [link(db, path, document.id) for path in (*held, document.path)]
                if before is None:
                    db.execute("DELETE FROM journal WHERE document_id = ?", (document.id,))
                version = self._ledger.count_version()
                if fresh:  # last, so that regions are never shown on pages of another version
                    fresh.replace(self._pages_file(document))
            self._vectors.written(version)
            if before is not None:
                self._finish(document.id)
        for document_id in filter(None, gone):
            self._finish(document_id)

    def _write_vectors(
        self, document_id: str, before: int | None, pages: Mapping[str, int], text: Vectors, image: Vectors
    ) -> int:
        """Returns their generation, which is not visible yet."""
        version, generation = self._ledger.version(), (before or 0) + 1
        for name, vectors in ((TEXT, text), (IMAGE, image)):
            self._vectors.upsert(name, document_id, generation, pages, vectors, version=version)
        self._vectors.sync()
        return generation

    def replace_vectors(self, document_id: str, *, text_vectors: Vectors, image_vectors: Vectors) -> None:
        """Put these in the place of all vectors of a document, in one step."""
        pages = dict(self._rows("SELECT id, page FROM chunks WHERE document_id = ?", (document_id,)))
        with self._changing(document_id):
            before = self._generation(document_id)
            generation = self._write_vectors(document_id, before, pages, text_vectors, image_vectors)
            with self._ledger.transaction() as db:
                remember_vectors(db, document_id, generation, len(text_vectors), len(image_vectors))
                version = self._ledger.count_version()
            self._vectors.written(version)
            self._finish(document_id)

    def link(self, path: str, name: str, document_id: str) -> None:
        """Note that `path` holds the content of a known document; a moved file takes its new name along."""
        document, held = self.document(document_id), self.at_path(path)
        if document and document == held and Path(document.path).exists():
            return  # as mostly: nothing is written
        with room_on(self.path):
            with self._ledger.transaction() as db:
                gone = link(db, path, document_id)
                if document and not Path(document.path).exists():
                    db.execute("DELETE FROM sources WHERE path = ?", (document.path,))
                    db.execute("UPDATE documents SET path = ?, name = ? WHERE id = ?", (path, name, document_id))
            if gone:
                self._finish(gone)

    def remove(self, document_id: str) -> None:
        """Leave nothing of a document behind."""
        with room_on(self.path):
            with self._ledger.transaction() as db:
                release(db, document_id)
            self._finish(document_id)

    def _copy_source(self, document: Document, source: Path) -> None:
        target = self.original(document)
        if target.exists() and target.samefile(source):
            return
        target.parent.mkdir(exist_ok=True)
        copy_durably(source, target)

    def _copy_pages(self, document: Document, laid_out: Path) -> Path | None:
        """Where the copy waits for the rest of its version; None where these are the pages that are kept."""
        target = self._pages_file(document)
        if target.exists() and target.samefile(laid_out):
            return None
        waiting = target.with_name(f"{target.name}.new")
        copy_durably(laid_out, waiting)
        return waiting

    # -- vectors ---------------------------------------------------------------------------------------------------

    def nearest(
        self, name: str, vector: Sequence[float], *, top_k: int, documents: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """Chunk ids by cosine (-1..1) to `vector` in the `TEXT` or `IMAGE` collection, best first."""
        wanted = top_k
        while True:
            version = self._ledger.version()
            hits = self._vectors.nearest(name, vector, top_k=wanted, documents=documents, version=version)
            seen = self._visible(hits)
            if len(seen) >= top_k or len(hits) < wanted:
                return seen[:top_k]
            wanted *= 2  # what is being written at this moment takes the places of others

    def _visible(self, hits: Sequence[tuple[Key, float]]) -> list[tuple[str, float]]:
        """Of them what is committed, or was when this thread began to read: what was replaced since is erased."""
        ids = [key.chunk_id for key, _ in hits]
        with self._ledger.reading() as db:
            known = visible_keys(db, ids)
        if any(key not in known for key, _ in hits):
            with self._ledger.latest() as db:
                known |= visible_keys(db, ids)
        found: dict[str, float] = {}
        for key, cosine in hits:
            if key in known:
                found.setdefault(key.chunk_id, cosine)
        return list(found.items())

    # -- full text -------------------------------------------------------------------------------------------------

    def match_chunks(
        self, query: str, *, top_k: int, documents: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """Chunk ids by BM25 (greater is better), best first."""
        return [(row[0], row[-1]) for row in match(self._rows, "chunks", "t.id", query, top_k, documents)]

    def match_pages(
        self, query: str, *, top_k: int, documents: Sequence[str] | None = None
    ) -> list[tuple[tuple[str, int], float]]:
        """(document id, page) by BM25 over whole pages, best first."""
        rows = match(self._rows, "pages", "t.document_id, t.number", query, top_k, documents)
        return [((row[0], row[1]), row[-1]) for row in rows]

    def numbered_pages(
        self, numbers: Sequence[int], *, documents: Sequence[str] | None = None
    ) -> list[tuple[tuple[str, int], float]]:
        """(document id, page) of the pages that count as one of `numbers`: 1.0 as printed on them, 0.5 by their place.

        Negative numbers count from the end, by place only.
        """
        scope = "" if documents is None else f"AND d.id IN ({marks(documents)})"
        found: dict[tuple[str, int], float] = {}
        for number in numbers:
            place = "p.number = ?" if number > 0 else "p.number = d.page_count + 1 + ?"
            sql = f"""SELECT p.document_id, p.number, EXISTS (SELECT 1 FROM json_each(p.labels) WHERE value = ?)
                      FROM pages p JOIN documents d ON d.id = p.document_id
                      WHERE ({place} OR EXISTS (SELECT 1 FROM json_each(p.labels) WHERE value = ?)) {scope}"""  # noqa: S608
            label = str(number)
            for document_id, page, printed in self._rows(sql, (label, number, label, *(documents or ()))):
                score = 1.0 if printed else 0.5
                found[document_id, page] = max(score, found.get((document_id, page), 0.0))
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))

    def labelled_pages(
        self, labels: Sequence[str], *, documents: Sequence[str] | None = None
    ) -> list[tuple[tuple[str, int], float]]:
        """(document id, page) of the captions and titles that begin with one of `labels`, each 1.0."""
        scope = "" if documents is None else f"AND document_id IN ({marks(documents)})"
        sql = f"SELECT DISTINCT document_id, page FROM regions WHERE label IN ({marks(labels)}) {scope} ORDER BY 1, 2"  # noqa: S608
        return [((row[0], row[1]), 1.0) for row in self._rows(sql, (*labels, *(documents or ())))]

    # -- reading ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the ledger for everything that this thread reads inside, whatever others commit meanwhile."""
        with self._ledger.reading():
            yield

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._ledger.reading() as db:
            return db.execute(sql, values).fetchall()

    def documents(self) -> list[Document]:
        return [Document(*row) for row in self._rows("SELECT * FROM documents ORDER BY name, id")]

    def document(self, document_id: str) -> Document | None:
        rows = self._rows("SELECT * FROM documents WHERE id = ?", (document_id,))
        return Document(*rows[0]) if rows else None

    def at_path(self, path: str) -> Document | None:
        sql = "SELECT d.* FROM documents d JOIN sources s ON s.document_id = d.id WHERE s.path = ?"
        rows = self._rows(sql, (path,))
        return Document(*rows[0]) if rows else None

    def source(self, document: Document) -> Path:
        """What its pages are read and drawn from: the store's own copy of the file, or the PDF laid out of it."""
        laid_out = self._pages_file(document)
        return laid_out if laid_out.exists() else self.original(document)

    def _pages_file(self, document: Document) -> Path:
        return self.path / "files" / f"{document.id}.pages.pdf"

    def original(self, document: Document) -> Path:
        """The store's own copy of the file."""
        suffix = next(suffix for suffix, media in MEDIA_TYPES.items() if media == document.media_type)
        return self.path / "files" / f"{document.id}{suffix}"

    def page(self, document_id: str, number: int) -> Page | None:
        place = (document_id, number)
        with self.reading():
            rows = self._rows(f"SELECT {PAGE} FROM pages WHERE document_id = ? AND number = ?", place)  # noqa: S608
            regions = self._rows(
                f"SELECT {REGION} FROM regions WHERE document_id = ? AND page = ? ORDER BY ordinal",  # noqa: S608
                place,
            )
        return to_page(rows[0], map(to_region, regions)) if rows else None

    def unread_pages(self, document_id: str) -> dict[int, str]:
        """Why pages could not be read, by their number."""
        sql = "SELECT number, problem FROM pages WHERE document_id = ? AND problem != '' ORDER BY number"
        return dict(self._rows(sql, (document_id,)))

    def sentences(self) -> Iterator[tuple[str, int, str]]:
        """(document id, page, sentence) of all running text, in reading order."""
        sql = (
            "SELECT document_id, page, text, sentences FROM regions WHERE kind = ? ORDER BY document_id, page, ordinal"
        )
        for document_id, page, text, spans in self._rows(sql, (str(RegionKind.TEXT),)):
            yield from ((document_id, page, text[start:end]) for start, end in json.loads(spans))

    def regions(self, ids: Sequence[str]) -> dict[str, Region]:
        rows = self._rows(f"SELECT {REGION} FROM regions WHERE id IN ({marks(ids)})", ids)  # noqa: S608
        return {row[0]: to_region(row) for row in rows}

    def chunks(self, ids: Sequence[str]) -> dict[str, Chunk]:
        rows = self._rows(f"SELECT {CHUNK} FROM chunks WHERE id IN ({marks(ids)})", ids)  # noqa: S608
        return {row[0]: to_chunk(row) for row in rows}

    def pages_of(self, chunk_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(document id, page) by chunk id."""
        distinct = list(set(chunk_ids))
        sql = f"SELECT id, document_id, page FROM chunks WHERE id IN ({marks(distinct)})"  # noqa: S608
        return {row[0]: (row[1], row[2]) for row in self._rows(sql, distinct)}

    def chunks_of(self, pages: Sequence[tuple[str, int]]) -> list[Chunk]:
        """Every chunk of the given (document id, page) pairs, in reading order."""
        sql = f"SELECT {CHUNK} FROM chunks WHERE document_id = ? AND page = ? ORDER BY rowid"  # noqa: S608
        with self.reading():
            return [to_chunk(row) for page in pages for row in self._rows(sql, page)]

    def counts(self) -> dict[str, int]:
        """Rows by table and vectors by collection: equal counts mean equal contents for the same documents."""
        tables = ("documents", "pages", "regions", "chunks")
        with self.reading():
            counts = {t: self._rows(f"SELECT count(*) FROM {t}")[0][0] for t in tables}  # noqa: S608
            version = self._ledger.version()
        return counts | {f"{name}_vectors": self._vectors.count(name, version=version) for name in (TEXT, IMAGE)}


def _unusable(path: Path, error: OSError | sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", "SQLITE_CANTOPEN")
    if name == "SQLITE_CANTOPEN":
        return StoreError(f"The store at {path} cannot be opened ({error}): check the folder's permissions.")
    if name.startswith(_PASSING):
        return StoreError(f"The store at {path} cannot be used now: {error}.")
    advice = f"remove the folder and ingest again; copies of its files lie in {path / 'files'}"
    return StoreError(f"The ledger in {path} is damaged ({error}): {advice}.")
