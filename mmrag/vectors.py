"""Vectors by chunk id in two Chroma collections, text and image; searched by cosine.

The only code that touches Chroma. Knows no ledger: whoever calls says by a version how fresh the vectors must be, and
by a generation which vectors belong together: those of a document's next version never take the place of the last.

An embedded Chroma client keeps its graph in memory and never notices what another process writes; opened anew, it first
applies what the other left in Chroma's log, which is a write as well. Two that write at once corrupt the vectors. So
opening and writing happen under a file lock, a moment at a time, and a process has one client for all its threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mmrag.disk import sync_below
from mmrag.errors import StoreBusy, StoreError

TEXT, IMAGE = "text", "image"
_PATIENCE = 120.0
"""Seconds. Another process holds the lock while it writes a batch: mostly far below one, a few for a huge document."""

_BATCH = 2_000
"""Vectors that are looked through at a time."""


class Key(NamedTuple):
    """Under which a vector is kept."""

    chunk_id: str
    generation: int

    def __str__(self) -> str:
        return f"{self.chunk_id}@{self.generation}"

    @classmethod
    def read(cls, text: str) -> Key:
        chunk_id, _, generation = text.rpartition("@")
        return cls(chunk_id, int(generation)) if generation.isdecimal() else cls(text, -1)  # no key of ours


class Kept(NamedTuple):
    """A vector as it lies on the disk."""

    key: Key
    document_id: str
    vector: NDArray[np.float32]


_shared: dict[Path, VectorStore] = {}
_sharing = threading.Lock()


class VectorStore:
    """Made by `shared`, and to be released."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._users = 0
        self._lock = threading.RLock()
        self._client: Any = None
        self._collections: dict[str, Any] = {}
        self._version = -1

    @classmethod
    def shared(cls, folder: Path) -> Self:
        """The one of this process for `folder`."""
        with _sharing:
            store = _shared.setdefault(folder, cls(folder))
            store._users += 1
            return store  # type: ignore[return-value]  # of this very class

    def release(self) -> None:
        with _sharing:
            self._users -= 1
            if self._users == 0:
                self.forget()
                del _shared[self.folder]

    def forget(self) -> None:
        """Open anew before the next use, whatever the version: a killed writer may have left what no version counts."""
        with self._lock:
            self._version = -1
            self._collections = {}
            client, self._client = self._client, None
            if client:
                client.close()

    def written(self, version: int) -> None:
        """This process alone led to `version`: what was open on the one before holds all that was written."""
        with self._lock:
            if self._version == version - 1:
                self._version = version

    # -- what is asked and written: each as new as `version` at least ------------------------------------------------

    def nearest(
        self,
        name: str,
        vector: Sequence[float],
        *,
        top_k: int,
        documents: Sequence[str] | None,
        version: int,
    ) -> list[tuple[Key, float]]:
        """By cosine (-1..1) to `vector`, best first."""

        def query() -> Any:
            return self._collections[name].query(
                query_embeddings=[np.asarray(vector, dtype=np.float32)],
                n_results=top_k,
                where=None if documents is None else {"document": {"$in": list(documents)}},
                include=["distances"],
            )

        from chromadb.errors import InternalError

        with self._fresh(version):
            try:
                found = query()
            except InternalError:  # Chroma filters by what is on disk now, and misses in memory what was added since
                with self._alone():
                    self._open(version)
                    found = query()
        hits = zip(found["ids"][0], found["distances"][0], strict=True)
        return [(Key.read(i), 1.0 - distance) for i, distance in hits]

    def count(self, name: str, *, version: int) -> int:
        with self._fresh(version):
            return int(self._collections[name].count())

    def upsert(
        self,
        name: str,
        document_id: str,
        generation: int,
        pages: Mapping[str, int],
        vectors: Mapping[str, Sequence[float]],
        *,
        version: int,
    ) -> None:
        """`pages` and `vectors` by chunk id."""
        with self._fresh(version), self._alone():
            ids, size = list(vectors), self._client.get_max_batch_size()
            for batch in (ids[i : i + size] for i in range(0, len(ids), size)):
                self._collections[name].upsert(
                    ids=[str(Key(i, generation)) for i in batch],
                    embeddings=[np.asarray(vectors[i], dtype=np.float32) for i in batch],
                    metadatas=[{"document": document_id, "page": pages[i]} for i in batch],
                )

    def keep_only(self, name: str, document_id: str, generation: int | None, *, version: int) -> None:
        """Erase a document's vectors but those of one generation."""
        with self._fresh(version), self._alone():
            held = self._collections[name].get(where={"document": document_id}, include=[])["ids"]
            self._erase(name, [key for i in held if (key := Key.read(i)).generation != generation])

    def erase(self, name: str, keys: Sequence[Key], *, version: int) -> None:
        with self._fresh(version), self._alone():
            self._erase(name, keys)

    def _erase(self, name: str, keys: Sequence[Key]) -> None:
        size = self._client.get_max_batch_size()
        for start in range(0, len(keys), size):
            batch = [key.chunk_id if key.generation < 0 else str(key) for key in keys[start : start + size]]
            self._collections[name].delete(ids=batch)

    def kept(self, name: str, *, version: int) -> Iterator[list[Kept]]:
        """All that is on the disk, a batch at a time."""
        for offset in range(0, self.count(name, version=version), _BATCH):
            with self._fresh(version):
                found = self._collections[name].get(limit=_BATCH, offset=offset, include=["embeddings", "metadatas"])
            rows = zip(found["ids"], found["metadatas"], found["embeddings"], strict=True)
            yield [Kept(Key.read(i), str((data or {}).get("document")), vector) for i, data, vector in rows]

    def sync(self) -> None:
        """What was written and erased is on the disk, and outlives a loss of power."""
        sync_below(self.folder)

    def set_aside(self) -> Path:
        """Put what cannot be used out of the way and begin anew; returns where it lies now."""
        with self._lock, self._alone():
            self.forget()
            for number in range(1, 1000):
                target = self.folder.with_name(f"{self.folder.name}.damaged-{number}")
                if not target.exists():
                    break
            if self.folder.exists():
                self.folder.rename(target)
            return target

    # -- the client --------------------------------------------------------------------------------------------------

    @contextmanager
    def _fresh(self, version: int) -> Iterator[None]:
        """With the client to oneself among the threads, and open on what was written up to `version`."""
        from chromadb.errors import ChromaError

        with self._lock:
            try:
                if self._version < version:
                    with self._alone():
                        self._open(version)
                yield
            except ChromaError as error:
                self.forget()  # what failed half-way may go on failing in this client's memory
                raise StoreError(
                    f"The vectors in {self.folder.parent} cannot be used ({error}): make room if the disk is full, "
                    "else run  mmrag check --repair  on the store."
                ) from error

    def _open(self, version: int) -> None:
        self.forget()
        self._client = _client(self.folder)
        for name in (TEXT, IMAGE):
            collection = self._client.get_or_create_collection(
                f"mmrag-{name}", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            )
            collection.count()  # at the first use Chroma applies its log, which must happen under the lock
            self._collections[name] = collection
        self._version = version

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens or writes."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_name("vectors.lock"), timeout=_PATIENCE, poll_interval=0.01)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusy(
                f"Another mmrag process has held the vectors in {self.folder.parent} for {_PATIENCE:.0f} s: "
                "wait until it ends, or stop it."
            ) from error
        try:
            yield
        finally:
            lock.release()


def _client(folder: Path) -> Any:
    """A client over a system of its own.

    `PersistentClient` would join a system that this process has open on the folder already, however stale, and one
    that failed to start would stay in its way for good.
    """
    from chromadb.api import ServerAPI
    from chromadb.api.client import Client
    from chromadb.config import Settings, System

    api: Any = ServerAPI  # abstract: the settings choose the class
    system = System(Settings(anonymized_telemetry=False, is_persistent=True, persist_directory=str(folder)))
    system.instance(api)
    system.start()
    return Client.from_system(system)
