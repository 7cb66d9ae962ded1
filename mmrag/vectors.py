"""Vectors by chunk id in two Chroma collections, text and image; searched by cosine.

The only code that touches Chroma. Knows no ledger: whoever calls says by a version how fresh the vectors must be.

An embedded Chroma client keeps its graph in memory and never notices what another process writes; opened anew, it first
applies what the other left in Chroma's log, which is a write as well. Two that write at once corrupt the vectors. So
opening and writing happen under a file lock, a moment at a time, and a process has one client for all its threads.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from mmrag.errors import StoreBusy, StoreError

TEXT, IMAGE = "text", "image"
_PATIENCE = 120.0
"""Seconds. Another process holds the lock while it writes a batch: mostly far below one, a few for a huge document."""

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
    ) -> list[tuple[str, float]]:
        """Chunk ids by cosine (-1..1) to `vector`, best first."""

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
        return [(i, 1.0 - distance) for i, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    def count(self, name: str, *, version: int) -> int:
        with self._fresh(version):
            return int(self._collections[name].count())

    def upsert(
        self,
        name: str,
        document_id: str,
        pages: Mapping[str, int],
        vectors: Mapping[str, Sequence[float]],
        *,
        version: int,
    ) -> None:
        """`pages` by chunk id."""
        with self._fresh(version), self._alone():
            ids, size = list(vectors), self._client.get_max_batch_size()
            for batch in (ids[i : i + size] for i in range(0, len(ids), size)):
                self._collections[name].upsert(
                    ids=batch,
                    embeddings=[np.asarray(vectors[i], dtype=np.float32) for i in batch],
                    metadatas=[{"document": document_id, "page": pages[i]} for i in batch],
                )

    def keep_only(self, name: str, document_id: str, ids: Collection[str], *, version: int) -> None:
        """Erase a document's vectors but those of `ids`."""
        with self._fresh(version), self._alone():
            collection = self._collections[name]
            held = collection.get(where={"document": document_id}, include=[])["ids"]
            if surplus := [i for i in held if i not in ids]:
                collection.delete(ids=surplus)

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
                raise StoreError(
                    f"The vectors in {self.folder.parent} cannot be used ({error}): make room if the disk is full, "
                    "else remove the folder and ingest again."
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
