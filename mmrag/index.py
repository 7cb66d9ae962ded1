"""The store on disk: a SQLite ledger with full text (FTS5, WAL) and two Chroma collections, text and image.

The only code that touches SQLite and Chroma. Knows no encoder but the identity string it was given, reads no document.

    store/
      ledger.sqlite3    documents, pages, regions, chunks; full text of chunks and pages; what the vectors were made by
      chroma/           vectors by chunk id
      files/            a copy of every source file, named by its content
      lock              held while a process writes

A document is visible once the ledger has committed it. Its vectors are written before and erased after, under a journal
row, so that whatever a killed process left half done is swept up by the next writer.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from mmrag.errors import StoreBusy, StoreError, StoreMismatch, StoreNotFound
from mmrag.rows import (
    CHUNK,
    PAGE,
    REGION,
    SCHEMA,
    chunk_row,
    document_row,
    page_row,
    region_row,
    to_chunk,
    to_page,
    to_region,
)
from mmrag.text import query_phrases, query_tokens, tokens
from mmrag.types import MEDIA_TYPES, Chunk, Document, Page, Region, RegionKind

FORMAT = "4"
"""Changes with the schema or with what is stored: a store of another format is refused, not misread."""
TEXT, IMAGE = "text", "image"

# SQLite's words for what may be over at the next try, unlike a damaged file.
_PASSING = ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_LOCKED", "SQLITE_READONLY")

Vectors = Mapping[str, Sequence[float]]
"""Vectors by chunk id."""


class Index:
    """Documents, their regions and vectors. Open with `Index.open`; writing needs `with index.writing():`."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._db = database

    @classmethod
    def open(cls, path: Path | str, *, create: bool = False) -> Index:
        """Open the store in folder `path`; raises StoreNotFound unless `create`."""
        path = Path(path).expanduser().resolve()
        ledger = path / "ledger.sqlite3"
        if not ledger.is_file() and not create:
            raise StoreNotFound(
                f"There is no store at {path}: run  mmrag ingest FILE…  first, or name one with --store."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            index = cls(path, sqlite3.connect(ledger, isolation_level=None, check_same_thread=False))
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"The store at {path} cannot be opened ({error}): check the folder's permissions."
            ) from error
        try:
            index._prepare()
        except BaseException as error:
            index.close()
            if isinstance(error, sqlite3.Error) and error.sqlite_errorname.startswith(_PASSING):
                raise StoreError(f"The store at {path} cannot be used now: {error}.") from error
            if isinstance(error, sqlite3.Error):
                advice = "remove the folder and ingest again"
                raise StoreError(f"The ledger in {path} is damaged ({error}): {advice}.") from error
            raise
        return index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _prepare(self) -> None:
        """Set the connection up, make the schema of a new ledger, refuse one of another format."""
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000;")
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            with self.writing(), self._transaction():
                for statement in filter(str.strip, SCHEMA.split(";\n")):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO meta VALUES ('format', ?)", (FORMAT,))
        found = self._meta("format")
        if found != FORMAT:
            raise StoreMismatch(
                f"The store at {self.path} has format {found}, this mmrag reads {FORMAT}: ingest into a new --store."
            )

    def close(self) -> None:
        self._db.close()

    # -- what made the vectors -------------------------------------------------------------------------------------

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def require_encoders(self, *, text: str, image: str) -> None:
        """Remember the encoders of an empty store, then refuse others: vectors of two models do not compare."""
        for role, identity in ((f"{TEXT}_encoder", text), (f"{IMAGE}_encoder", image)):
            known = self._meta(role)
            if known is None:
                self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (role, identity))
            elif known != identity:
                raise StoreMismatch(
                    f"The store at {self.path} was built with the {role.replace('_', ' ')} {known}, not {identity}: "
                    f"use the profile it was built with, or ingest into a new --store."
                )

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for writing and sweep up what a killed writer left; StoreBusy if another process holds it."""
        lock = FileLock(self.path / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusy(
                f"Another mmrag process is writing to {self.path}: wait until it ends, or use another --store."
            ) from error
        try:
            if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'journal'").fetchone():
                self._sweep()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _sweep(self) -> None:
        for (document_id,) in self._db.execute("SELECT document_id FROM journal").fetchall():
            if self.document(document_id) is None:
                self._erase(document_id)
            self._db.execute("DELETE FROM journal WHERE document_id = ?", (document_id,))

    def _erase(self, document_id: str) -> None:
        """Vectors and file copy of a document that the ledger no longer shows."""
        for name in (TEXT, IMAGE):
            self._collection(name).delete(where={"document": document_id})
        for copy in (self.path / "files").glob(f"{document_id}*"):
            copy.unlink()

    def add(
        self,
        document: Document,
        pages: Sequence[Page],
        chunks: Sequence[Chunk],
        *,
        source: Path,
        text_vectors: Vectors,
        image_vectors: Vectors,
    ) -> None:
        """Make a document visible, whole. Whatever its path held before is replaced, and its own earlier version too.

        `source` is the original file, not the store's copy, which goes with the earlier version.
        """
        held = [row[0] for row in self._db.execute("SELECT path FROM sources WHERE document_id = ?", (document.id,))]
        if held:  # before the vectors are written: of two versions' chunks, those of one id differ
            self.remove(document.id)
        self._db.execute("INSERT OR REPLACE INTO journal VALUES (?)", (document.id,))
        self._copy_source(document, source)
        places = {chunk.id: chunk.page for chunk in chunks}
        for name, vectors in ((TEXT, text_vectors), (IMAGE, image_vectors)):
            self._upsert(name, document.id, places, vectors)
        replaced = self.at_path(document.path)
        with self._transaction():
            self._insert(document, pages, chunks)
            for path in (*held, document.path):
                self._link(path, document.id)
            self._db.execute("DELETE FROM journal WHERE document_id = ?", (document.id,))
        if replaced and replaced.id != document.id:
            self._release(replaced.id)

    def link(self, path: str, name: str, document_id: str) -> None:
        """Note that `path` holds the content of a known document; a moved file takes its new name along."""
        replaced, document = self.at_path(path), self.document(document_id)
        with self._transaction():
            self._link(path, document_id)
            if document and not Path(document.path).exists():
                self._db.execute("DELETE FROM sources WHERE path = ?", (document.path,))
                self._db.execute("UPDATE documents SET path = ?, name = ? WHERE id = ?", (path, name, document_id))
        if replaced and replaced.id != document_id:
            self._release(replaced.id)

    def remove(self, document_id: str) -> None:
        """Leave nothing of a document behind."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO journal VALUES (?)", (document_id,))
            for table in ("chunks", "pages"):
                rows = f"SELECT rowid FROM {table} WHERE document_id = ?"  # noqa: S608  # table is one of two constants
                self._db.execute(f"DELETE FROM {table}_fts WHERE rowid IN ({rows})", (document_id,))  # noqa: S608
            self._db.execute("DELETE FROM documents WHERE id = ?", (document_id,))
        self._erase(document_id)
        self._db.execute("DELETE FROM journal WHERE document_id = ?", (document_id,))

    def _release(self, document_id: str) -> None:
        """A path stopped holding this document: remove it, unless another path still does."""
        row = self._db.execute("SELECT path FROM sources WHERE document_id = ?", (document_id,)).fetchone()
        if row is None:
            self.remove(document_id)
        else:  # it lives on under the name of a copy
            name = Path(row[0]).name
            self._db.execute("UPDATE documents SET path = ?, name = ? WHERE id = ?", (row[0], name, document_id))

    def _link(self, path: str, document_id: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (path, document_id))

    def _copy_source(self, document: Document, source: Path) -> None:
        target = self.source(document)
        target.parent.mkdir(exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)

    def _insert(self, document: Document, pages: Sequence[Page], chunks: Sequence[Chunk]) -> None:
        db, document_id = self._db, document.id
        db.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", document_row(document))
        for page in pages:
            cursor = db.execute(
                f"INSERT INTO pages (document_id, {PAGE}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                page_row(document_id, page),
            )
            text = " ".join(region.text for region in page.regions)
            db.execute(
                "INSERT INTO pages_fts (rowid, tokens) VALUES (?, ?)", (cursor.lastrowid, " ".join(tokens(text)))
            )
            db.executemany(
                "INSERT INTO regions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (region_row(document_id, page.number, i, region) for i, region in enumerate(page.regions)),
            )
        for chunk in chunks:
            cursor = db.execute(
                f"INSERT INTO chunks ({CHUNK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                chunk_row(chunk),
            )
            db.execute(
                "INSERT INTO chunks_fts (rowid, tokens) VALUES (?, ?)",
                (cursor.lastrowid, " ".join(tokens(chunk.encoded_text))),
            )

    # -- vectors ---------------------------------------------------------------------------------------------------

    @cached_property
    def _chroma(self) -> Any:
        from chromadb import PersistentClient
        from chromadb.config import Settings

        with self._chroma_errors():
            return PersistentClient(path=str(self.path / "chroma"), settings=Settings(anonymized_telemetry=False))

    @contextlib.contextmanager
    def _chroma_errors(self) -> Iterator[None]:
        from chromadb.errors import ChromaError

        try:
            yield
        except ChromaError as error:
            raise StoreError(
                f"The vectors in {self.path} are damaged ({error}): remove the folder and ingest again."
            ) from error

    def _collection(self, name: str) -> Any:
        with self._chroma_errors():
            return self._chroma.get_or_create_collection(
                f"mmrag-{name}", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            )

    def _upsert(self, name: str, document_id: str, pages: Mapping[str, int], vectors: Vectors) -> None:
        collection, ids = self._collection(name), list(vectors)
        size = self._chroma.get_max_batch_size()
        for batch in (ids[i : i + size] for i in range(0, len(ids), size)):
            collection.upsert(
                ids=batch,
                embeddings=[np.asarray(vectors[i], dtype=np.float32) for i in batch],
                metadatas=[{"document": document_id, "page": pages[i]} for i in batch],
            )

    def nearest(
        self, name: str, vector: Sequence[float], *, top_k: int, documents: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """Chunk ids by cosine (-1..1) to `vector` in the `TEXT` or `IMAGE` collection, best first."""
        collection = self._collection(name)
        with self._chroma_errors():
            found = collection.query(
                query_embeddings=[np.asarray(vector, dtype=np.float32)],
                n_results=top_k,
                where=None if documents is None else {"document": {"$in": list(documents)}},
                include=["distances"],
            )
        return [(i, 1.0 - distance) for i, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    # -- full text -------------------------------------------------------------------------------------------------

    def match_chunks(
        self, query: str, *, top_k: int, documents: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """Chunk ids by BM25 (greater is better), best first."""
        return [(row[0], row[-1]) for row in self._match("chunks", "t.id", query, top_k, documents)]

    def match_pages(
        self, query: str, *, top_k: int, documents: Sequence[str] | None = None
    ) -> list[tuple[tuple[str, int], float]]:
        """(document id, page) by BM25 over whole pages, best first."""
        rows = self._match("pages", "t.document_id, t.number", query, top_k, documents)
        return [((row[0], row[1]), row[-1]) for row in rows]

    def _match(self, table: str, columns: str, query: str, top_k: int, documents: Sequence[str] | None) -> list[Any]:
        # A lone Chinese character is the beginning of a pair in the index.
        words = [f'"{t}"*' if len(t) == 1 and not t.isascii() else f'"{t}"' for t in query_tokens(query)]
        phrases = [f'"{first} {second}"' for first, second in query_phrases(query)]
        # Whoever types words of a document one after the other wants the page that has them so: they count three times.
        verbatim = [f'"{" ".join(all_tokens)}"'] * 3 if len(all_tokens := tokens(query)) > 2 else []
        terms = " OR ".join([*words, *phrases, *verbatim])
        if not terms:
            return []
        scope = "" if documents is None else f"AND t.document_id IN ({_marks(documents)})"
        sql = f"""SELECT {columns}, -bm25({table}_fts) FROM {table}_fts JOIN {table} t ON t.rowid = {table}_fts.rowid
                  WHERE {table}_fts MATCH ? {scope} ORDER BY bm25({table}_fts) LIMIT ?"""  # noqa: S608  # constants only
        return self._db.execute(sql, (terms, *(documents or ()), top_k)).fetchall()

    def numbered_pages(
        self, numbers: Sequence[int], *, documents: Sequence[str] | None = None
    ) -> list[tuple[tuple[str, int], float]]:
        """(document id, page) of the pages that count as one of `numbers`: 1.0 as printed on them, 0.5 by their place.

        Negative numbers count from the end, by place only.
        """
        scope = "" if documents is None else f"AND d.id IN ({_marks(documents)})"
        found: dict[tuple[str, int], float] = {}
        for number in numbers:
            place = "p.number = ?" if number > 0 else "p.number = d.page_count + 1 + ?"
            sql = f"""SELECT p.document_id, p.number, EXISTS (SELECT 1 FROM json_each(p.labels) WHERE value = ?)
                      FROM pages p JOIN documents d ON d.id = p.document_id
                      WHERE ({place} OR EXISTS (SELECT 1 FROM json_each(p.labels) WHERE value = ?)) {scope}"""  # noqa: S608
            label = str(number)
            for document_id, page, printed in self._db.execute(sql, (label, number, label, *(documents or ()))):
                score = 1.0 if printed else 0.5
                found[document_id, page] = max(score, found.get((document_id, page), 0.0))
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))

    def labelled_pages(
        self, labels: Sequence[str], *, documents: Sequence[str] | None = None
    ) -> list[tuple[tuple[str, int], float]]:
        """(document id, page) of the captions and titles that begin with one of `labels`, each 1.0."""
        scope = "" if documents is None else f"AND document_id IN ({_marks(documents)})"
        sql = f"SELECT DISTINCT document_id, page FROM regions WHERE label IN ({_marks(labels)}) {scope} ORDER BY 1, 2"  # noqa: S608
        return [((row[0], row[1]), 1.0) for row in self._db.execute(sql, (*labels, *(documents or ())))]

    # -- reading ---------------------------------------------------------------------------------------------------

    def documents(self) -> list[Document]:
        rows = self._db.execute("SELECT * FROM documents ORDER BY name, id")
        return [Document(*row) for row in rows]

    def document(self, document_id: str) -> Document | None:
        row = self._db.execute("SELECT * FROM documents WHERE id = ?", (document_id,)).fetchone()
        return Document(*row) if row else None

    def at_path(self, path: str) -> Document | None:
        row = self._db.execute("SELECT document_id FROM sources WHERE path = ?", (path,)).fetchone()
        return self.document(row[0]) if row else None

    def source(self, document: Document) -> Path:
        """The store's own copy of the file."""
        suffix = next(suffix for suffix, media in MEDIA_TYPES.items() if media == document.media_type)
        return self.path / "files" / f"{document.id}{suffix}"

    def page(self, document_id: str, number: int) -> Page | None:
        row = self._db.execute(
            f"SELECT {PAGE} FROM pages WHERE document_id = ? AND number = ?",  # noqa: S608
            (document_id, number),
        ).fetchone()
        if row is None:
            return None
        regions = self._db.execute(
            f"SELECT {REGION} FROM regions WHERE document_id = ? AND page = ? ORDER BY ordinal",  # noqa: S608
            (document_id, number),
        )
        return to_page(row, map(to_region, regions))

    def sentences(self) -> Iterator[tuple[str, int, str]]:
        """(document id, page, sentence) of all running text, in reading order."""
        sql = (
            "SELECT document_id, page, text, sentences FROM regions WHERE kind = ? ORDER BY document_id, page, ordinal"
        )
        for document_id, page, text, spans in self._db.execute(sql, (str(RegionKind.TEXT),)):
            yield from ((document_id, page, text[start:end]) for start, end in json.loads(spans))

    def regions(self, ids: Sequence[str]) -> dict[str, Region]:
        rows = self._db.execute(f"SELECT {REGION} FROM regions WHERE id IN ({_marks(ids)})", ids)  # noqa: S608
        return {row[0]: to_region(row) for row in rows}

    def chunks(self, ids: Sequence[str]) -> dict[str, Chunk]:
        rows = self._db.execute(f"SELECT {CHUNK} FROM chunks WHERE id IN ({_marks(ids)})", ids)  # noqa: S608
        return {row[0]: to_chunk(row) for row in rows}

    def pages_of(self, chunk_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(document id, page) by chunk id."""
        distinct = list(set(chunk_ids))
        sql = f"SELECT id, document_id, page FROM chunks WHERE id IN ({_marks(distinct)})"  # noqa: S608
        return {row[0]: (row[1], row[2]) for row in self._db.execute(sql, distinct)}

    def chunks_of(self, pages: Sequence[tuple[str, int]]) -> list[Chunk]:
        """Every chunk of the given (document id, page) pairs, in reading order."""
        found: list[Chunk] = []
        for document_id, number in pages:
            rows = self._db.execute(
                f"SELECT {CHUNK} FROM chunks WHERE document_id = ? AND page = ? ORDER BY rowid",  # noqa: S608
                (document_id, number),
            )
            found.extend(to_chunk(row) for row in rows)
        return found

    def counts(self) -> dict[str, int]:
        """Rows by table and vectors by collection: equal counts mean equal contents for the same documents."""
        tables = ("documents", "pages", "regions", "chunks")
        counts = {t: self._db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}  # noqa: S608
        return counts | {f"{name}_vectors": self._collection(name).count() for name in (TEXT, IMAGE)}


def _marks(values: Sequence[Any]) -> str:
    """As many question marks as there are values, for a list in SQL."""
    return ",".join("?" * len(values))
