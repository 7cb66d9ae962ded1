"""The vectors against the ledger, in a process of its own: reading a damaged graph can end the process that reads it.

Knows how many vectors each document was given and of which generation, not what they ought to be.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmrag.errors import StoreError, brief
from mmrag.ledger import Ledger
from mmrag.rows import visible_keys
from mmrag.vectors import IMAGE, TEXT, Kept, Key, Place, VectorStore

SAMPLE = 50
"""Vectors of each collection that must be found by themselves: that many tell a graph that came apart."""
_NEAREST = 10
_SAME = 0.9999
"""Cosine from which two vectors count as one: as many as that may stand before the one that is looked for."""


class Trouble(StrEnum):
    UNREADABLE = "unreadable"
    LOST = "lost"
    MISSING = "missing"
    WRONG = "wrong"
    ORPHANS = "orphans"


@dataclass(frozen=True, slots=True)
class Found:
    trouble: Trouble
    count: int
    document_id: str = ""
    detail: str = ""


# -- for the process that asks ---------------------------------------------------------------------------------------


def check_apart(store: Path, on_progress: Callable[[int, int], None]) -> list[Found]:
    """As `check_vectors` of a store with vectors of its own, safe from what it reads."""
    command = [sys.executable, "-P", "-m", "mmrag.check_vectors", str(store)]
    found: list[Found] = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8") as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101  # for the type checker
        for line in process.stdout:
            said = json.loads(line)
            if "done" in said:
                on_progress(said["done"], said["total"])
            else:
                found.append(Found(Trouble(said.pop("trouble")), **said))
    if process.returncode:
        found.append(Found(Trouble.UNREADABLE, 1, detail=f"reading them ended its process ({process.returncode})"))
    return found


# -- the process -----------------------------------------------------------------------------------------------------


def main(folder: str) -> None:
    ledger, vectors = Ledger(Path(folder) / "ledger.sqlite3"), VectorStore.shared(Place(Path(folder) / "chroma"))

    def tell(done: int, total: int) -> None:
        print(json.dumps({"done": done, "total": total}), flush=True)

    for found in check_vectors(ledger, vectors, tell):
        print(json.dumps(asdict(found)), flush=True)
    vectors.release()
    ledger.close()


def check_vectors(ledger: Ledger, vectors: VectorStore, tell: Callable[[int, int], None]) -> Iterator[Found]:
    try:
        for name in (TEXT, IMAGE):
            yield from _collection(ledger, vectors, name, tell)
    except StoreError as error:
        yield Found(Trouble.UNREADABLE, 1, detail=brief(error.__cause__ or error))


def _collection(ledger: Ledger, vectors: VectorStore, name: str, tell: Callable[[int, int], None]) -> Iterator[Found]:
    version, owed = ledger.version(), _owed(ledger, name)
    total, done, orphans = vectors.count(name, version=version), 0, 0
    held, wrong = Counter[str](), Counter[str]()
    sample = _Sample()
    for batch in vectors.kept(name, version=version):
        keys = _visible(ledger, [kept.key for kept in batch])
        for kept in batch:
            if kept.key not in keys:
                orphans += kept.document_id not in owed.unfinished
                continue
            held[kept.document_id] += 1
            if _is_direction(kept.vector):
                sample.offer(kept)
            else:
                wrong[kept.document_id] += 1
        tell(done := done + len(batch), total)
    for document_id, count in owed.counts.items():
        if count > held[document_id]:
            yield Found(Trouble.MISSING, count - held[document_id], document_id, name)
    yield from (Found(Trouble.WRONG, count, document_id, name) for document_id, count in wrong.items())
    if orphans:
        yield Found(Trouble.ORPHANS, orphans, detail=name)
    if lost := sum(not _is_found(vectors, name, kept, version) for kept in sample.items):
        yield Found(Trouble.LOST, lost, detail=f"{name}, of {len(sample.items)} that were looked for")


class _Owed(NamedTuple):
    counts: dict[str, int]
    """Vectors by document, as many as it was given."""
    unfinished: set[str]
    """Documents whose change was interrupted: what is left of it is swept up."""


def _owed(ledger: Ledger, name: str) -> _Owed:
    # Where nothing is known of a document's vectors, one at least is missing.
    sql = f"SELECT d.id, coalesce(v.{name}, 1) FROM documents d LEFT JOIN vectors v ON v.document_id = d.id"  # noqa: S608
    with ledger.reading() as db:
        unfinished = {row[0] for row in db.execute("SELECT document_id FROM journal")}
        return _Owed(dict(db.execute(sql).fetchall()), unfinished)


def _visible(ledger: Ledger, keys: Sequence[Key]) -> set[tuple[str, int]]:
    with ledger.reading() as db:
        return visible_keys(db, [key.chunk_id for key in keys])


def _is_direction(vector: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(vector).all() and np.any(vector))


class _Sample:
    """`SAMPLE` of all that are offered, each as likely as any other; the same ones every time."""

    def __init__(self) -> None:
        self.items: list[Kept] = []
        self._seen = 0
        self._random = random.Random(0)  # noqa: S311  # no secret

    def offer(self, kept: Kept) -> None:
        self._seen += 1
        if len(self.items) < SAMPLE:
            self.items.append(kept)
        elif (place := self._random.randrange(self._seen)) < SAMPLE:
            self.items[place] = kept


def _is_found(vectors: VectorStore, name: str, kept: Kept, version: int) -> bool:
    hits = vectors.nearest(name, kept.vector.tolist(), top_k=_NEAREST, documents=None, version=version)
    same = [key for key, cosine in hits if cosine >= _SAME]
    return kept.key in same or len(same) == _NEAREST


if __name__ == "__main__":
    main(sys.argv[1])
