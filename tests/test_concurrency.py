"""One open store shared by threads while other processes write to it: nothing stale, nothing half done, no error."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from test_index import ENCODER, ROOT, sample

from mmrag.engine import Rag
from mmrag.errors import StoreBusy, StoreError
from mmrag.generate.extractive import ExtractiveGenerator
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.vectors import IMAGE, TEXT, VectorStore

pytestmark = pytest.mark.slow

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_index as t
index, folder = t.Index.open(sys.argv[2]), Path(sys.argv[3])
for line in sys.stdin:
    action, name, *pages = line.rstrip("\\n").split("\\t")
    if action == "add":
        t.sample(folder, name, *pages).add_to(index)
    elif action == "remove":
        with index.writing():
            index.remove(next(d.id for d in index.documents() if d.name == name))
    print("done", flush=True)
"""

Write = Callable[..., None]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "store", create=True) as index:
        yield index


@pytest.fixture
def write(index: Index, tmp_path: Path) -> Iterator[Write]:
    """Lets a process of its own write to the store of `index`, one action at a time."""
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(index.path), str(tmp_path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env={"PYTHONPATH": str(ROOT)}) as other:

        def write(*action: str) -> None:
            assert other.stdin is not None
            assert other.stdout is not None
            print(*action, sep="\t", file=other.stdin, flush=True)
            assert other.stdout.readline() == "done\n"

        yield write


def nearest(index: Index, text: str, **options: object) -> str | None:
    """The text of the chunk that lies nearest, where it is the very same."""
    hits = index.nearest(TEXT, ENCODER.get_text_embedding(text), top_k=1, **options)  # type: ignore[arg-type]
    found = index.chunks([chunk_id for chunk_id, cosine in hits if cosine > 0.999])
    return next((chunk.text for chunk in found.values()), None)


FIRST_QUESTIONS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from mmrag.index import Index
index = Index.open(sys.argv[1])
def ask(delay):
    sleep(delay)
    return len(index.nearest("text", [1.0] * int(sys.argv[2]), top_k=5))
with ThreadPoolExecutor(8) as pool:
    print(list(pool.map(ask, [n / 20 for n in range(8)])))
"""


def test_the_first_questions_of_a_process_may_come_at_once(index: Index, tmp_path: Path) -> None:
    """Chroma's modules import each other in a circle, which threads that begin at different ones would break."""
    sample(tmp_path, "a.pdf", "wind and water").add_to(index)
    width = str(len(ENCODER.get_text_embedding("wind")))
    command = [sys.executable, "-c", FIRST_QUESTIONS, str(index.path), width]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, timeout=60)
    assert done.stdout == f"{[1] * 8}\n", done.stderr


# -- what another process wrote --------------------------------------------------------------------------------------


def test_vectors_of_another_process_are_found_by_the_next_query(index: Index, write: Write) -> None:
    for text in ("wind and water", "quay and crane", "rotor and blade"):
        assert nearest(index, text) is None
        write("add", f"{text}.pdf", text)
        assert nearest(index, text) == text
        (document,) = [d for d in index.documents() if d.name == f"{text}.pdf"]
        assert nearest(index, text, documents=[document.id]) == text
    write("remove", "quay and crane.pdf")
    assert len(index.nearest(TEXT, ENCODER.get_text_embedding("quay"), top_k=9)) == 2
    assert index.counts()["text_vectors"] == 2


def test_two_that_share_a_store_in_one_process_are_both_fresh(index: Index, write: Write) -> None:
    with Index.open(index.path) as second:
        assert nearest(index, "wind") is None
        assert nearest(second, "wind") is None
        write("add", "a.pdf", "wind")
        assert nearest(second, "wind") == nearest(index, "wind") == "wind"
        write("add", "b.pdf", "water")
        assert nearest(index, "water") == nearest(second, "water") == "water"
    write("add", "c.pdf", "quay")
    assert nearest(index, "quay") == "quay"  # after the other was closed


def test_processes_that_take_turns_in_writing_lose_nothing(index: Index, write: Write, tmp_path: Path) -> None:
    texts = "harbour lighthouse breakwater ferry island wharf gangway pilot".split()
    for mine, others in zip(texts[::2], texts[1::2], strict=True):
        sample(tmp_path, f"{mine}.pdf", mine).add_to(index)
        write("add", f"{others}.pdf", others)
    with Index.open(index.path) as fresh:
        assert [nearest(fresh, text) for text in texts] == [nearest(index, text) for text in texts] == texts
        assert fresh.counts()["text_vectors"] == 8


def test_a_writer_need_not_open_again_what_it_wrote(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = VectorStore._open
    monkeypatch.setattr(VectorStore, "_open", lambda self, version: (opened.append(version), real(self, version)))
    with index.writing():
        for name in ("wind", "water", "quay"):
            kept = sample(tmp_path, f"{name}.pdf", name)
            index.add(*kept[:3], source=kept.source, text_vectors={kept.chunks[0].id: [1.0] * 64}, image_vectors={})
            index.remove(kept.document.id)
    assert index.counts()["text_vectors"] == 0
    assert len(opened) == 1


def test_vectors_on_disk_that_no_version_counts_do_not_break_a_query(index: Index, tmp_path: Path) -> None:
    """Chroma filters by the disk, and looks up in a memory that does not hold them yet."""
    added = sample(tmp_path, "a.pdf", "wind")
    added.add_to(index)
    assert nearest(index, "wind") == "wind"
    program = """
import sys
from mmrag.vectors import Place, VectorStore
from pathlib import Path
VectorStore.shared(Place(Path(sys.argv[1]))).upsert("text", sys.argv[2], 1, {"x": 1}, {"x": [1.0] * 64}, version=99)
"""
    command = [sys.executable, "-c", program, str(index.path / "chroma"), added.document.id]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(ROOT)})
    assert nearest(index, "wind", documents=[added.document.id]) == "wind"


def test_a_writer_waits_for_another_where_it_is_told_to(index: Index) -> None:
    held, order = threading.Event(), []

    def hold() -> None:
        with index.writing():
            held.set()
            with pytest.raises(StoreBusy), Index.open(index.path) as second, second.writing():
                pytest.fail("two writers at once")
            order.append("first")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(hold)
        held.wait()
        with index.writing(wait=True):
            order.append("second")
        first.result()
    assert order == ["first", "second"]


# -- threads ---------------------------------------------------------------------------------------------------------


def test_no_thread_sees_what_another_has_not_committed(index: Index, tmp_path: Path) -> None:
    document = sample(tmp_path, "a.pdf", "wind").add_to(index)
    with ThreadPoolExecutor(1) as other:
        with index.reading():
            assert index.documents() == [document]
            other.submit(sample(tmp_path, "b.pdf", "water").add_to, index).result()
            assert index.documents() == [document]  # one state for as long as it reads
            assert len(other.submit(index.documents).result()) == 2
        assert len(index.documents()) == 2

        with index._ledger.transaction() as db:
            db.execute("DELETE FROM documents")
            assert index.documents() == []
            assert len(other.submit(index.documents).result()) == 2
        assert other.submit(index.documents).result() == []


def test_a_closed_store_says_so(index: Index) -> None:
    index.close()
    index.close()
    with pytest.raises(StoreError, match="was closed: open it again"):
        index.documents()


def test_a_new_version_of_a_document_takes_its_place_at_once(index: Index, tmp_path: Path) -> None:
    """Searched all the while, it is there in one version or the other, never in none and never in pieces."""
    first = sample(tmp_path, "a.pdf", "wind and water", "quay and crane")
    second = first._replace(
        pages=[replace(page, regions=tuple(replace(r, text="rotor") for r in page.regions)) for page in first.pages],
        chunks=[replace(chunk, text="rotor") for chunk in first.chunks],
    )
    first.add_to(index)
    stop = threading.Event()

    def look() -> set[tuple[str, ...]]:
        seen = set()
        while not stop.is_set():
            with index.reading():
                pages = [index.page(first.document.id, number) for number in (1, 2)]
            seen.add(tuple(page.regions[0].text if page else "gone" for page in pages))
        return seen

    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        for version in [second, first] * 10:
            version.add_to(index)
        stop.set()
    assert looks[0].result() | looks[1].result() == {("wind and water", "quay and crane"), ("rotor", "rotor")}
    assert index.counts()["text_vectors"] == 2
    assert index.source(first.document).read_bytes() == first.source.read_bytes()


INGEST = """
import sys
from ingest.pipeline import ingest_files
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.testing import HashEncoder
if __name__ == "__main__":
    with Index.open(sys.argv[1]) as index:
        ingest_files(index, sys.argv[2:], Encoders(HashEncoder()), workers=1, wait=True)
"""


class AnyMatch:
    """A cross-encoder that likes everything."""

    identity, english_only = "any", False

    def score(self, question: str, passages: list[str]) -> list[float]:
        return [1.0 for _ in passages]


def test_threads_ask_while_another_process_ingests(index: Index, tmp_path: Path) -> None:
    from test_pipeline import pdf

    subjects = "harbour lighthouse breakwater ferry island wharf gangway pilot".split()
    files = [pdf(tmp_path / f"{subject}.pdf", subject) for subject in subjects]
    index.require_encoders(text=ENCODER.identity, image=Encoders(ENCODER).image_identity)
    rag = Rag(index, Encoders(ENCODER), lambda: ExtractiveGenerator(AnyMatch()))
    late: list[str] = []
    done = threading.Event()

    def ask(turn: int) -> int:
        asked = 0
        while not done.is_set() or not asked:
            for subject in subjects[turn:] + subjects[:turn]:
                shown = f"{subject}.pdf" in {document.name for document in index.documents()}
                answer = rag.ask(f"What was rebuilt, the {subject}?")
                vote = {e.document.name: e.legs for e in answer.evidence}.get(f"{subject}.pdf", {})
                if shown and "dense" not in vote:
                    late.append(subject)
                asked += 1
        return asked

    command = [sys.executable, "-c", INGEST, str(index.path), *map(str, files)]
    with ThreadPoolExecutor(4) as pool:
        turns = [pool.submit(ask, turn) for turn in range(4)]
        finished = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        done.set()
        assert finished.returncode == 0, finished.stderr
        assert min(turn.result() for turn in turns) > 0
    assert late == []
    assert len(index.documents()) == len(subjects)
    assert index.counts()["text_vectors"] == index.counts()["chunks"]
    assert index.nearest(IMAGE, ENCODER.get_query_embedding("harbour"), top_k=3) == []
