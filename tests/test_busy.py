"""Two ingests and four readers at once, each a process of its own: nothing is lost, and nobody sees half a document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_pipeline import pdf

from mmrag.check import check
from mmrag.index import Index

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SECONDS = float(os.environ.get("MMRAG_TEST_SECONDS", "15"))
SUBJECTS = "harbour lighthouse breakwater ferry island wharf gangway pilot".split()

WRITER = """
import json, sys, time
from pathlib import Path
from ingest.pipeline import ingest_files
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.testing import HashEncoder

if __name__ == "__main__":
    store, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    files, ends, told = sorted(folder.iterdir()), time.monotonic() + seconds, {}
    with Index.open(store) as index:
        while time.monotonic() < ends:
            start = len(told) % len(files)  # two new files, and one that is known
            batch = files[start : start + 2]
            for again in (False, True):
                report = ingest_files(
                    index, batch[: 1 if again else 2], Encoders(HashEncoder()), workers=1, wait=True, again=again
                )
                told |= {str(r.path): str(r.outcome) for r in report.results}
    print(json.dumps(told))
"""

READER = """
import json, sys, time
from mmrag.index import Index
from mmrag.testing import HashEncoder

def look(index):
    with index.reading():
        documents = index.documents()
        for document in documents:
            numbers = range(1, document.page_count + 1)
            pages = [index.page(document.id, number) for number in numbers]
            assert all(pages), document
            regions = {region.id for page in pages for region in page.regions}
            chunks = index.chunks_of([(document.id, number) for number in numbers])
            assert chunks and all(span.region_id in regions for chunk in chunks for span in chunk.spans)
            hits = index.nearest("text", [1.0] * 64, top_k=100, documents=[document.id])
            assert {i for i, _ in hits} == {chunk.id for chunk in chunks}, (document, len(hits), len(chunks))
            assert index.source(document).exists()
    vector = HashEncoder().get_query_embedding("the harbour was rebuilt")
    assert index.nearest("text", vector, top_k=3) or not documents
    return len(documents)

if __name__ == "__main__":
    ends, seen = time.monotonic() + float(sys.argv[2]), []
    with Index.open(sys.argv[1]) as index:
        while time.monotonic() < ends:
            seen.append(look(index))
    print(json.dumps(seen))
"""


def test_two_ingests_and_four_readers_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    Index.open(store, create=True).close()
    for name, program in (("writer", WRITER), ("reader", READER)):
        (tmp_path / f"{name}.py").write_text(program)
    for writer in ("one", "two"):
        (tmp_path / writer).mkdir()
        for n in range(30):
            pdf(tmp_path / writer / f"{n:02}.pdf", f"{SUBJECTS[n % 8]} {n} of {writer}", f"{SUBJECTS[n % 7]} {n}")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(name: str, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(tmp_path / f"{name}.py"), *map(str, args)]
        return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment)

    writers = [start("writer", store, tmp_path / folder, SECONDS) for folder in ("one", "two")]
    readers = [start("reader", store, SECONDS + 5) for _ in range(4)]
    said = [process.communicate(timeout=20 * SECONDS + 300) for process in (*writers, *readers)]
    for process, (_, wrong) in zip((*writers, *readers), said, strict=True):
        assert process.returncode == 0, wrong
    told, seen = [json.loads(out) for out, _ in said[:2]], [json.loads(out) for out, _ in said[2:]]
    assert all(told)
    assert {outcome for outcomes in told for outcome in outcomes.values()} <= {"ingested", "replaced", "unchanged"}
    with Index.open(store) as index:
        assert {document.path for document in index.documents()} == {path for outcomes in told for path in outcomes}
        assert check(index) == []
    for counts in seen:
        assert counts == sorted(counts)  # what was there once stays
    with capsys.disabled():
        print(f"\n{SECONDS:.0f} s: {[len(t) for t in told]} written, {[len(s) for s in seen]} looks")
