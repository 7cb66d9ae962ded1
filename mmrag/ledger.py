"""Connections to a SQLite file for a process with several threads, and the version of what belongs to it elsewhere.

Knows SQLite and threads; knows no table and nothing of what the version counts.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrag.errors import StoreError


class Ledger:
    """A thread has a connection to itself for as long as it reads or writes, so that none sees what is uncommitted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._mine = threading.local()
        self._lock = threading.Lock()
        self.is_closed = False
        self._give_back(self._take())

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the ledger for all that this thread reads inside, whatever others commit meanwhile."""
        with self._connection() as db:
            if db.in_transaction:
                yield db
                return
            db.execute("BEGIN")
            try:
                yield db
            finally:
                _roll_back(db)

    @contextmanager
    def latest(self) -> Iterator[sqlite3.Connection]:
        """What is committed now, also inside of `reading`."""
        db = self._take()
        try:
            yield db
        finally:
            self._give_back(db)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside becomes visible at its end, or none of it where it fails."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                _roll_back(db)

    def version(self) -> int:
        """How often `count_version` was committed: the same in every thread and process."""
        with self.reading() as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])

    def count_version(self) -> int:
        """Inside a transaction: with its commit the version goes up by one, to what is returned."""
        with self._connection() as db:
            version = self.version() + 1
            db.execute(f"PRAGMA user_version = {version}")
            return version

    def use_wal(self) -> None:
        """From now on, for this file, readers and a writer do not wait for each other."""
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if (db := getattr(self._mine, "db", None)) is not None:
            yield db
            return
        db = self._mine.db = self._take()
        try:
            yield db
        finally:
            self._mine.db = None
            self._give_back(db)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self.is_closed:
                raise StoreError(f"The store at {self._path.parent} was closed: open it again.")
            if self._idle:
                return self._idle.pop()
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        # A commit must outlive a loss of power: what it counts on elsewhere is erased right after it.
        db.executescript("PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL;")
        return db

    def _give_back(self, db: sqlite3.Connection) -> None:
        with self._lock:
            if self.is_closed:
                db.close()
            else:
                self._idle.append(db)


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:  # not after a commit, nor after an error by which SQLite itself rolled back
        db.execute("ROLLBACK")
