"""Ctrl-C and worse, sent to a real `mmrag ingest`: it ends at once with a sentence, its workers with it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_index import HOLD
from test_pipeline import pdf

from mmrag.check import check
from mmrag.index import Index

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")]

ROOT = Path(__file__).resolve().parents[1]


def group(leader: int) -> list[int]:
    """Processes of a process group that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp, *_ = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == leader and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def wait_until(seconds: float, condition: object) -> None:
    ends = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.05)


@contextmanager
def ingesting(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, while its workers read the second of two files."""
    files = folder / "files"
    files.mkdir()
    pdf(files / "a.pdf", "harbour")
    pdf(files / "b.pdf", *(f"island number {n}" for n in range(300)))
    command = [sys.executable, "-m", "mmrag", "ingest", "--store", str(folder / "store"), "--workers", "2", str(files)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True, env=environment, start_new_session=True
    ) as process:
        wait_until(120, lambda: committed(folder / "store") or process.poll() is not None)
        assert process.poll() is None
        assert len(group(process.pid)) >= 3  # with two workers
        yield process


def committed(store: Path) -> list[str]:
    if not (store / "ledger.sqlite3").exists():
        return []
    db = sqlite3.connect(store / "ledger.sqlite3")
    try:
        return [row[0] for row in db.execute("SELECT name FROM documents")]
    except sqlite3.OperationalError:  # the tables are being made
        return []
    finally:
        db.close()


@pytest.mark.parametrize("to_all", [True, False])
def test_ctrl_c_ends_it_with_a_sentence(tmp_path: Path, to_all: bool) -> None:
    with ingesting(tmp_path) as process:
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert said == "mmrag: Interrupted. What was committed stays; run the same command again to go on.\n"
        wait_until(2, lambda: not group(process.pid))
    assert committed(tmp_path / "store") == ["a.pdf"]
    with Index.open(tmp_path / "store") as index:
        assert check(index) == []


def test_the_workers_of_a_killed_ingest_end(tmp_path: Path) -> None:
    with ingesting(tmp_path) as process:
        process.kill()
        process.communicate(timeout=20)
        wait_until(2, lambda: not group(process.pid))
    assert committed(tmp_path / "store") == ["a.pdf"]


def test_a_second_ingest_says_who_writes_or_waits(tmp_path: Path) -> None:
    store, file = tmp_path / "store", pdf(tmp_path / "a.pdf", "harbour")
    Index.open(store, create=True).close()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mmrag", "ingest", "--store", str(store), str(file)]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store)], stdin=-1, stdout=-1, text=True, env=environment
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refused = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert refused.returncode == 1
        assert f"(process {holder.pid}, python, since " in refused.stderr
        assert refused.stderr.count("\n") == 1
        with subprocess.Popen([*command, "--wait"], stdout=-1, stderr=-1, text=True, env=environment) as waiting:
            assert waiting.stderr is not None
            said = waiting.stderr.readline()
            assert f"process {holder.pid}" in said
            assert said.endswith(": waiting until it ends.\n")
            holder.communicate()
            out, wrong = waiting.communicate(timeout=120)
            assert waiting.returncode == 0, wrong
            assert "1 ingested" in out
