"""An ingest that others may kill: a process of its own that does one stage of the work, and says how far it is.

It says `ready` when all is imported, waits for a line with the store, the stage and the folder of the files, says
`writing` before each document that it commits, and `done`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ingest.pipeline import ingest_files
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.testing import HashEncoder


def main() -> None:
    import chromadb  # noqa: F401  # so that no kill falls into the import

    add = Index.add

    def noted_add(self: Index, *args: Any, **options: Any) -> None:
        print("writing", flush=True)
        add(self, *args, **options)

    Index.add = noted_add  # type: ignore[method-assign]
    print("ready", flush=True)
    store, stage, folder = sys.stdin.readline().rstrip("\n").split("\t")
    with Index.open(store, create=True) as index:
        if stage == "remove":
            with index.writing():
                for document in index.documents():
                    if document.name == "gone.pdf":
                        index.remove(document.id)
        else:
            sources = sorted(Path(folder).iterdir()) if stage != "again" else [*Path(folder).glob("again*")]
            ingest_files(index, sources, Encoders(HashEncoder()), workers=1, again=stage == "again")
    print("done", flush=True)


if __name__ == "__main__":
    main()
