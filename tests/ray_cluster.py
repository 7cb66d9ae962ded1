"""A Ray cluster of two workers, each a node of its own, run as a program: `kill` on its input kills the first of them.

Apart from the tests' process, whose output and warnings Ray would disturb.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    print(f"address {cluster.address}", flush=True)
    for _ in sys.stdin:
        (raylet,) = workers[0].all_processes["raylet"]
        for pid in (raylet.process.pid, *_below(raylet.process.pid)):
            os.kill(pid, signal.SIGKILL)
        print("killed", flush=True)
    cluster.shutdown()


def _below(pid: int) -> Iterator[int]:
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield child
        yield from _below(child)


class RunningCluster:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._said("address ")

    def kill_worker(self) -> None:
        assert self._process.stdin is not None
        print("kill", file=self._process.stdin, flush=True)
        self._said("killed")

    def _said(self, start: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(start):
                return line.removeprefix(start).strip()
        raise AssertionError("the cluster ended")


@contextmanager
def ray_cluster() -> Iterator[RunningCluster]:
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield RunningCluster(process)
        finally:
            process.communicate()


if __name__ == "__main__":
    main()
