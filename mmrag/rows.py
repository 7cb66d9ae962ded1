"""What the ledger's tables hold: the way from data to their rows and back. Opens no database, ends no transaction."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmrag.questions import leading_label
from mmrag.text import tokens
from mmrag.types import BBox, Chunk, Document, Page, Region, RegionKind, Span, TextSpan, Word

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE journal (document_id TEXT PRIMARY KEY);
CREATE TABLE documents (
    id TEXT PRIMARY KEY, sha256 TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, media_type TEXT NOT NULL,
    title TEXT NOT NULL, page_count INTEGER NOT NULL, size INTEGER NOT NULL,
    described_by TEXT NOT NULL, undescribed INTEGER NOT NULL);
CREATE TABLE sources (
    path TEXT PRIMARY KEY, document_id TEXT NOT NULL REFERENCES documents ON DELETE CASCADE);
CREATE TABLE pages (
    rowid INTEGER PRIMARY KEY, document_id TEXT NOT NULL REFERENCES documents ON DELETE CASCADE,
    number INTEGER NOT NULL, width REAL NOT NULL, height REAL NOT NULL, text_source TEXT NOT NULL,
    labels TEXT NOT NULL, problem TEXT NOT NULL, UNIQUE (document_id, number));
CREATE TABLE regions (
    id TEXT PRIMARY KEY, document_id TEXT NOT NULL REFERENCES documents ON DELETE CASCADE, page INTEGER NOT NULL,
    ordinal INTEGER NOT NULL, kind TEXT NOT NULL, box TEXT NOT NULL, text TEXT NOT NULL, words BLOB NOT NULL,
    sentences TEXT NOT NULL, header_rows INTEGER NOT NULL, caption_id TEXT,
    description TEXT NOT NULL, tags TEXT NOT NULL, label TEXT);
CREATE INDEX regions_of_page ON regions (document_id, page, ordinal);
CREATE INDEX regions_by_label ON regions (label) WHERE label IS NOT NULL;
CREATE TABLE chunks (
    rowid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    document_id TEXT NOT NULL REFERENCES documents ON DELETE CASCADE,
    page INTEGER NOT NULL, kind TEXT NOT NULL, box TEXT NOT NULL, text TEXT NOT NULL, context TEXT NOT NULL,
    spans TEXT NOT NULL, description TEXT NOT NULL);
CREATE INDEX chunks_of_page ON chunks (document_id, page);
CREATE TABLE vectors (
    document_id TEXT PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    generation INTEGER NOT NULL, text INTEGER NOT NULL, image INTEGER NOT NULL);
"""
FULL_TEXT = """
CREATE VIRTUAL TABLE chunks_fts USING fts5 (tokens, tokenize = "porter unicode61 tokenchars '.'");
CREATE VIRTUAL TABLE pages_fts USING fts5 (tokens, tokenize = "porter unicode61 tokenchars '.'");
"""

PAGE = "number, width, height, text_source, labels, problem"
REGION = "id, kind, box, text, words, sentences, header_rows, caption_id, description, tags"
CHUNK = "id, document_id, page, kind, text, box, spans, context, description"


def document_row(document: Document) -> tuple[Any, ...]:
    d = document
    return d.id, d.sha256, d.name, d.path, d.media_type, d.title, d.page_count, d.size, d.described_by, d.undescribed


def page_row(document_id: str, page: Page) -> tuple[Any, ...]:
    return document_id, page.number, page.width, page.height, page.text_source, json.dumps(page.labels), page.problem


def to_page(row: Any, regions: Iterable[Region]) -> Page:
    number, width, height, text_source, labels, problem = row
    return Page(number, width, height, tuple(regions), text_source, tuple(json.loads(labels)), problem)


def region_row(document_id: str, page: int, ordinal: int, region: Region) -> tuple[Any, ...]:
    label = leading_label(region.text) if region.kind.is_pointer else None
    words = [(w.text, *(round(v * 1e5) for v in w.box), w.start) for w in region.words]
    blob = zlib.compress(json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode())
    return (
        *(region.id, document_id, page, ordinal, str(region.kind), json.dumps(region.box), region.text, blob),
        *(json.dumps(region.sentences), region.header_rows, region.caption_id),
        *(region.description, json.dumps(region.tags), label),
    )


def to_region(row: Any) -> Region:
    region_id, kind, box, text, blob, sentences, header_rows, caption_id, description, tags = row
    words = (Word(w[0], BBox(*(v / 1e5 for v in w[1:5])), w[5]) for w in json.loads(zlib.decompress(blob)))
    spans = tuple(TextSpan(*span) for span in json.loads(sentences))
    place = (region_id, RegionKind(kind), BBox(*json.loads(box)))
    told = (description, tuple(json.loads(tags)))
    return Region(*place, text, tuple(words), spans, header_rows, caption_id, *told)


def chunk_row(chunk: Chunk) -> tuple[Any, ...]:
    c = chunk
    place = (c.id, c.document_id, c.page, str(c.kind))
    return *place, c.text, json.dumps(c.box), json.dumps(c.spans), c.context, c.description


def to_chunk(row: Any) -> Chunk:
    chunk_id, document_id, page, kind, text, box, spans, *lead = row
    pieces = tuple(Span(*span) for span in json.loads(spans))
    return Chunk(chunk_id, document_id, page, RegionKind(kind), text, BBox(*json.loads(box)), pieces, *lead)


def insert(db: sqlite3.Connection, document: Document, pages: Sequence[Page], chunks: Sequence[Chunk]) -> None:
    document_id = document.id
    db.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", document_row(document))
    for page in pages:
        cursor = db.execute(
            f"INSERT INTO pages (document_id, {PAGE}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            page_row(document_id, page),
        )
        _index_page(db, cursor.lastrowid, (region.text for region in page.regions))
        db.executemany(
            "INSERT INTO regions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (region_row(document_id, page.number, i, region) for i, region in enumerate(page.regions)),
        )
    for chunk in chunks:
        cursor = db.execute(
            f"INSERT INTO chunks ({CHUNK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            chunk_row(chunk),
        )
        _index_chunk(db, cursor.lastrowid, chunk)


def _index_page(db: sqlite3.Connection, rowid: int | None, texts: Iterable[str]) -> None:
    words = " ".join(tokens(" ".join(texts)))
    db.execute("INSERT INTO pages_fts (rowid, tokens) VALUES (?, ?)", (rowid, words))


def _index_chunk(db: sqlite3.Connection, rowid: int | None, chunk: Chunk) -> None:
    words = " ".join(tokens(chunk.encoded_text))
    db.execute("INSERT INTO chunks_fts (rowid, tokens) VALUES (?, ?)", (rowid, words))


def make_schema(db: sqlite3.Connection) -> None:
    _execute_each(db, SCHEMA + FULL_TEXT)


def index_anew(db: sqlite3.Connection) -> None:
    """Make the full text once more from what the tables hold."""
    _execute_each(db, "DROP TABLE chunks_fts;\nDROP TABLE pages_fts;\n" + FULL_TEXT)
    for rowid, *row in db.execute(f"SELECT rowid, {CHUNK} FROM chunks"):  # noqa: S608
        _index_chunk(db, rowid, to_chunk(row))
    for rowid, *page in db.execute("SELECT rowid, document_id, number FROM pages"):
        texts = db.execute("SELECT text FROM regions WHERE document_id = ? AND page = ? ORDER BY ordinal", page)
        _index_page(db, rowid, (text for (text,) in texts))


def _execute_each(db: sqlite3.Connection, statements: str) -> None:
    """Unlike `executescript`, inside of the transaction that is open."""
    for statement in filter(str.strip, statements.split(";\n")):
        db.execute(statement)


def delete(db: sqlite3.Connection, document_id: str) -> None:
    for table in ("chunks", "pages"):
        rows = f"SELECT rowid FROM {table} WHERE document_id = ?"  # noqa: S608  # table is one of two constants
        db.execute(f"DELETE FROM {table}_fts WHERE rowid IN ({rows})", (document_id,))  # noqa: S608
    db.execute("DELETE FROM documents WHERE id = ?", (document_id,))


def link(db: sqlite3.Connection, path: str, document_id: str) -> str | None:
    """Note that `path` holds this document; the one that is thereby left without a path is released, and returned."""
    before = db.execute("SELECT document_id FROM sources WHERE path = ?", (path,)).fetchone()
    db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (path, document_id))
    if before is None or before[0] == document_id:
        return None
    other = db.execute("SELECT path FROM sources WHERE document_id = ?", before).fetchone()
    if other:  # it lives on under the name of a copy
        db.execute("UPDATE documents SET path = ?, name = ? WHERE id = ?", (*other, Path(other[0]).name, *before))
        return None
    release(db, before[0])
    return str(before[0])


def release(db: sqlite3.Connection, document_id: str) -> None:
    """Delete a document, and note that more than its rows is to be erased."""
    db.execute("INSERT OR REPLACE INTO journal VALUES (?)", (document_id,))
    delete(db, document_id)


def remember_vectors(db: sqlite3.Connection, document_id: str, generation: int, text: int, image: int) -> None:
    """From now on these are the document's vectors: which generation, and how many of each kind."""
    db.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", (document_id, generation, text, image))
