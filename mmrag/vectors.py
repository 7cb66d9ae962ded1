"""Vectors by chunk id in two Chroma collections, text and image; searched by cosine.

With `mmrag.chroma`, the only code that touches Chroma. Knows no ledger: whoever calls says by a version how fresh the
vectors must be, and by a generation which vectors belong together: those of a document's next version never take the
place of the last.

An embedded Chroma client keeps its graph in memory and never notices what another process writes; opened anew, it first
applies what the other left in Chroma's log, which is a write as well. Two that write at once corrupt the vectors. So
opening and writing happen under a file lock, a moment at a time, and a process has one client for all its threads.
A server is one process that all ask: there the version counts for nothing and there is no file lock.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mmrag.chroma import ChromaServer, api_of, chromadb, start_client, start_embedded, stop, trouble
from mmrag.disk import sync_below
from mmrag.errors import StoreBusy, StoreError

TEXT, IMAGE = "text", "image"
_PATIENCE = 120.0
"""Seconds. Another process holds the lock while it writes a batch: mostly far below one, a few for a huge document."""

_BATCH = 1_000
"""Vectors in one request: of 4,096 dimensions, 22 MB of the 40 that a server takes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store's vectors are: in `folder`, or on a server in collections whose names begin with `prefix`."""

    folder: Path
    server: ChromaServer | None = None
    prefix: str = "mmrag"


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


_shared: dict[Place, VectorStore] = {}
_sharing = threading.Lock()


class VectorStore:
    """Made by `shared`, and to be released."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._users = 0
        self._lock = threading.RLock()
        self._system: Any = None
        self._collections: dict[str, Any] = {}
        self._version: float = -1

    @classmethod
    def shared(cls, place: Place) -> Self:
        """The one of this process for `place`."""
        with _sharing:
            store = _shared.setdefault(place, cls(place))
            store._users += 1
            return store  # type: ignore[return-value]  # of this very class

    def release(self) -> None:
        with _sharing:
            self._users -= 1
            if self._users == 0:
                self.forget()
                del _shared[self.place]

    def forget(self) -> None:
        """Open anew before the next use, whatever the version: a killed writer may have left what no version counts."""
        with self._lock:
            self._version = -1
            self._collections = {}
            system, self._system = self._system, None
            if system:
                stop(system)

    def reach(self, version: int) -> None:
        """StoreError where a server cannot be used, before any work is done for it."""
        if self.place.server:
            with self._fresh(version):
                pass

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

        with self._fresh(version):
            try:
                found = query()
            except chromadb().errors.InternalError:
                # Chroma filters by what is on disk now, and misses in memory what was added since.
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
            ids, size = list(vectors), min(_BATCH, self._api.get_max_batch_size())
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
        for start in range(0, len(keys), _BATCH):
            batch = [key.chunk_id if key.generation < 0 else str(key) for key in keys[start : start + _BATCH]]
            self._collections[name].delete(ids=batch)

    def kept(self, name: str, *, version: int) -> Iterator[list[Kept]]:
        """All that is on the disk, a batch at a time."""
        for offset in range(0, self.count(name, version=version), _BATCH):
            with self._fresh(version):
                found = self._collections[name].get(limit=_BATCH, offset=offset, include=["embeddings", "metadatas"])
            rows = zip(found["ids"], found["metadatas"], found["embeddings"], strict=True)
            yield [Kept(Key.read(i), str((data or {}).get("document")), vector) for i, data, vector in rows]

    def sync(self) -> None:
        """What was written and erased is on the disk, and outlives a loss of power. A server sees to that itself."""
        if self.place.server is None:
            sync_below(self.place.folder)

    def set_aside(self) -> str:
        """Put what cannot be used out of the way and begin anew; returns where it lies now."""
        if server := self.place.server:
            return f"{self._set_aside_there()} on {server.address}"
        folder = self.place.folder
        with self._lock, self._alone():
            self.forget()
            for number in range(1, 1000):
                target = folder.with_name(f"{folder.name}.damaged-{number}")
                if not target.exists():
                    break
            if folder.exists():
                folder.rename(target)
            return str(target)

    def _set_aside_there(self) -> str:
        """In collections of another name."""
        suffix = f"damaged-{secrets.token_hex(2)}"
        with self._lock:
            self.forget()
            with self._fresh(0):  # which makes what the server has lost
                for name, collection in self._collections.items():
                    collection.modify(name=f"{self.place.prefix}-{name}-{suffix}")
                self._open(0)
        return f"{self.place.prefix}-*-{suffix}"

    # -- the client --------------------------------------------------------------------------------------------------

    @contextmanager
    def _fresh(self, version: int) -> Iterator[None]:
        """With the client to oneself among the threads, and open on what was written up to `version`."""
        server = self.place.server
        with self._lock:
            try:
                if self._version < version:
                    with self._alone():
                        self._open(version)
                yield
            except StoreError:
                raise
            except Exception as error:
                if not server and not isinstance(error, chromadb().errors.ChromaError):
                    raise
                self.forget()  # what failed half-way may go on failing in this client's memory
                if server:
                    raise trouble(server.address, error) from error
                raise StoreError(
                    f"The vectors in {self.place.folder.parent} cannot be used ({error}): make room if the disk is "
                    "full, else run  mmrag check --repair  on the store."
                ) from error

    def _open(self, version: int) -> None:
        self.forget()
        server = self.place.server
        self._system = start_client(server) if server else start_embedded(self.place.folder)
        for name in (TEXT, IMAGE):
            model = self._model(f"{self.place.prefix}-{name}", is_new=version == 0 or server is None)
            collection = chromadb().Collection(client=self._api, model=model, embedding_function=None)
            collection.count()  # at the first use Chroma applies its log, which must happen under the lock
            self._collections[name] = collection
        self._version = inf if server else version

    def _model(self, name: str, *, is_new: bool) -> Any:
        """A server that lost what it held must not look like one that holds nothing yet."""
        if is_new:
            return self._api.get_or_create_collection(name, configuration={"hnsw": {"space": "cosine"}})
        return self._api.get_collection(name)

    @property
    def _api(self) -> Any:
        return api_of(self._system)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens or writes."""
        if self.place.server:
            yield
            return
        folder = self.place.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name("vectors.lock"), timeout=_PATIENCE, poll_interval=0.01)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusy(
                f"Another mmrag process has held the vectors in {folder.parent} for {_PATIENCE:.0f} s: "
                "wait until it ends, or stop it."
            ) from error
        try:
            yield
        finally:
            lock.release()
