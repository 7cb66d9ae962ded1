"""Worker processes end with the one that started them, whatever that dies of and whatever they are doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest.worker import die_with_parent

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

POOL = """
import ctypes, os, sys, time
from multiprocessing import get_context
from pebble import ProcessPool
from ingest.worker import die_with_parent

def work(hold):
    print(os.getpid(), flush=True)
    while True:
        (ctypes.PyDLL(None) if hold else ctypes.CDLL(None)).sleep(60)  # the first keeps the interpreter's lock

if __name__ == "__main__":
    pool = ProcessPool(2, initializer=die_with_parent, context=get_context("spawn"))
    for _ in range(2):
        pool.schedule(work, args=[sys.argv[1] == "hold"])
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("hold", ["hold", "let go"])
def test_workers_end_with_a_killed_parent(tmp_path: Path, hold: str) -> None:
    if hold == "hold" and not sys.platform.startswith("linux"):
        pytest.skip("only Linux ends a process that holds the interpreter's lock")
    program = tmp_path / "program.py"
    program.write_text(POOL)
    command = [sys.executable, str(program), hold]
    with subprocess.Popen(command, stdout=-1, text=True, env={"PYTHONPATH": str(ROOT)}) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(is_alive, workers))
        parent.send_signal(signal.SIGKILL)
        ends = time.monotonic() + 5
        while any(map(is_alive, workers)) and time.monotonic() < ends:
            time.sleep(0.05)
        assert not any(map(is_alive, workers))


def test_a_process_that_nobody_spawned_is_left_alone() -> None:
    die_with_parent()
