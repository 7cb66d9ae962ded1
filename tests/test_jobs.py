"""Jobs as real processes on small documents: watched, waiting, killed, resumed, cancelled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from test_index import sample
from test_pipeline import pdf

from ingest import jobs
from ingest.jobs import Job
from mmrag.errors import UsageError
from mmrag.index import Index
from mmrag.settings import Settings

pytestmark = pytest.mark.slow

SETTINGS = Settings()
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    store = tmp_path / "store"
    yield store
    for job in jobs.jobs(store):
        jobs.cancel(store, job.id)


def the_job(store: Path, job_id: str) -> Job:
    return next(job for job in jobs.jobs(store) if job.id == job_id)


def watch(store: Path, job_id: str, until: Callable[[Job], bool]) -> list[Job]:
    """Every state that is seen on the way to the one that is wanted."""
    seen: list[Job] = []
    ends = monotonic() + 180
    while not seen or not until(seen[-1]):
        assert monotonic() < ends, seen[-1]
        job = the_job(store, job_id)
        if not seen or job != seen[-1]:
            seen.append(job)
        sleep(0.02)
    return seen


def has_ingested(job: Job) -> bool:
    return any(file.outcome == "ingested" for file in job.files)


def end(store: Path, job_id: str) -> Job:
    return watch(store, job_id, lambda job: not job.is_alive)[-1]


def names(store: Path) -> list[str]:
    with Index.open(store) as index:
        return [document.name for document in index.documents()]


def process(store: Path, job_id: str) -> int:
    return int(json.loads((store / "jobs" / f"{job_id}.json").read_text())["pid"])


def children(pid: int) -> set[int]:
    """Processes below one, that live."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            child = int(stat.parent.name)
            found |= {child} | children(child)
    return found


def survivors(pids: set[int]) -> set[int]:
    """Those that have not ended a while later."""
    ends = monotonic() + 20
    while (alive := {pid for pid in pids if is_running(pid)}) and monotonic() < ends:
        sleep(0.1)
    return alive


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_job_is_watched_from_its_start_to_its_end(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    pdf(folder / "a harbour.pdf", *(f"harbour {n}" for n in range(16)))
    pdf(folder / "island.pdf", "island")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 20)
    (folder / "copy.pdf").write_bytes((folder / "island.pdf").read_bytes())
    job_id = jobs.start(store, [folder, tmp_path / "missing.pdf"], settings=SETTINGS)
    assert the_job(store, job_id).is_alive
    seen = watch(store, job_id, lambda job: not job.is_alive)
    last = seen[-1]
    assert (last.state, last.error, last.sources) == ("done", "", (str(folder), str(tmp_path / "missing.pdf")))
    assert last.finished is not None
    assert last.finished > last.started
    assert {file.name: (file.outcome, file.pages_done, file.pages_total, file.reason) for file in last.files} == {
        "a harbour.pdf": ("ingested", 16, 16, ""),
        "copy.pdf": ("ingested", 1, 1, ""),
        "island.pdf": ("unchanged", 1, 1, "Same content as copy.pdf."),
        "broken.pdf": ("failed", 0, 0, "The file is damaged or not a PDF: open it in a viewer and save it anew."),
        "missing.pdf": ("failed", 0, 0, "There is no such file or folder."),
    }
    assert (last.pages_done, last.pages_total) == (17, 17)
    assert last.pages_per_second > 0
    assert names(store) == ["a harbour.pdf", "copy.pdf"]
    # On the way: files that wait, then one that is read page by page.
    assert any({file.outcome for file in job.files} == {""} for job in seen)
    reading = [file for job in seen for file in job.files[:1] if file.outcome == "reading"]
    assert {(file.name, file.pages_total) for file in reading} == {("a harbour.pdf", 16)}
    assert len({file.pages_done for file in reading}) > 1
    assert any(job.seconds_left for job in seen)


def test_of_two_jobs_at_once_one_waits_and_both_are_done(store: Path, tmp_path: Path) -> None:
    first = jobs.start(store, [pdf(tmp_path / "a.pdf", "harbour", "quay")], settings=SETTINGS)
    second = jobs.start(store, [pdf(tmp_path / "b.pdf", "island")], settings=SETTINGS)
    states = [(the_job(store, first).state, the_job(store, second).state)]
    while "waiting" in states[-1] or "running" in states[-1]:
        states.append((the_job(store, first).state, the_job(store, second).state))
        sleep(0.02)
    assert states[-1] == ("done", "done")
    assert {"running", "waiting"} in [set(pair) for pair in states]
    assert ("running", "running") not in states
    assert [job.id for job in jobs.jobs(store)] == [second, first]
    assert names(store) == ["a.pdf", "b.pdf"]
    jobs.forget(store, first)
    assert [job.id for job in jobs.jobs(store)] == [second]
    assert {path.stem for path in (store / "jobs").iterdir()} == {second}


@needs_proc
def test_a_killed_job_is_interrupted_and_can_be_resumed(store: Path, tmp_path: Path) -> None:
    small, large = pdf(tmp_path / "a.pdf", "island"), pdf(tmp_path / "b.pdf", *(f"harbour {n}" for n in range(120)))
    job_id = jobs.start(store, [small, large], settings=SETTINGS)
    watch(store, job_id, has_ingested)
    with pytest.raises(UsageError, match="has not ended: cancel it first"):
        jobs.resume(store, job_id)
    pid = process(store, job_id)
    workers = children(pid)
    os.kill(pid, signal.SIGKILL)
    assert end(store, job_id).state == "interrupted"
    assert names(store) == ["a.pdf"]
    again = jobs.resume(store, job_id)
    assert [job.id for job in jobs.jobs(store)] == [again]
    last = end(store, again)
    assert last.state == "done"
    assert {file.name: file.outcome for file in last.files} == {"a.pdf": "unchanged", "b.pdf": "ingested"}
    assert names(store) == ["a.pdf", "b.pdf"]
    assert workers
    assert survivors(workers) == set()


@needs_proc
def test_a_cancelled_job_leaves_what_it_committed_and_no_process(store: Path, tmp_path: Path) -> None:
    small, large = pdf(tmp_path / "a.pdf", "island"), pdf(tmp_path / "b.pdf", *(f"harbour {n}" for n in range(120)))
    job_id = jobs.start(store, [small, large], settings=SETTINGS)
    watch(store, job_id, has_ingested)
    pid = process(store, job_id)
    workers = children(pid)
    assert workers
    jobs.cancel(store, job_id)
    job = the_job(store, job_id)
    assert job.state == "cancelled"
    assert job.finished is not None
    assert survivors({pid} | workers) == set()
    assert names(store) == ["a.pdf"]
    jobs.cancel(store, job_id)  # a second time: nothing happens
    assert the_job(store, job_id) == job


def test_a_job_removes_documents_and_passes_over_ids_that_are_none(store: Path, tmp_path: Path) -> None:
    with Index.open(store, create=True) as index:
        first, *others = (sample(tmp_path, name, name).add_to(index) for name in ("a.pdf", "b.pdf"))
        job_id = jobs.start(store, [], settings=SETTINGS, remove=[first.id, "*", "", "nothing"])
        job = end(store, job_id)
        assert (job.state, job.error) == ("done", "")
        assert [(file.name, file.outcome) for file in job.files] == [(first.name, "removed")]
        assert index.documents() == others
        assert len(list((store / "files").iterdir())) == len(others)


def test_what_stops_the_whole_job_is_said(store: Path, tmp_path: Path) -> None:
    with Index.open(store, create=True) as index:
        index.require_encoders(text="another", image="another")
    job = end(store, jobs.start(store, [pdf(tmp_path / "a.pdf", "island")], settings=SETTINGS))
    assert job.state == "failed"
    assert job.error.startswith(f"The store at {store} was built with the text encoder another")


def test_nothing_of_the_folder_where_it_is_started_is_imported(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    monkeypatch.chdir(tmp_path)
    for module in ("json", "sqlite3", "ingest"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('imported from a folder of documents')")
    assert end(store, jobs.start(store, [], settings=SETTINGS)).state == "done"


@pytest.mark.parametrize(
    "job_id", ["", "..", "../ledger", "a" * 15, "A" * 16, "0" * 16, "a" * 16 + "\n", "/etc/passwd"]
)
@pytest.mark.parametrize("action", [jobs.cancel, jobs.resume, jobs.forget])
def test_what_is_no_id_is_refused(store: Path, job_id: str, action: Callable[[Path, str], object]) -> None:
    (store / "jobs").mkdir(parents=True)
    for name in ("..json", f"{'a' * 15}.json", f"{'A' * 16}.json"):
        (store / "jobs" / name).write_text("{}")
    with pytest.raises(UsageError, match="There is no job"):
        action(store, job_id)
    assert len(list((store / "jobs").iterdir())) == 3


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"state": "done"}', '{"state": "done", "started": "x"}', "\x00\xff"]
)
def test_records_of_strangers_are_passed_over(store: Path, content: str) -> None:
    (store / "jobs").mkdir(parents=True)
    (store / "jobs" / f"{'a' * 16}.json").write_text(content)
    (store / "jobs" / "notes.json").write_text("{}")
    assert jobs.jobs(store) == []


def test_a_store_without_jobs_has_none(tmp_path: Path) -> None:
    assert jobs.jobs(tmp_path / "nowhere") == []


def test_watching_needs_no_model() -> None:
    program = "import sys, ingest.jobs; print([m for m in ('chromadb', 'pymupdf', 'llama_index') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
