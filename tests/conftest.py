"""Fixtures that several test modules share: the demo collection, a store that holds it, a Python of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from apps.demo_documents import build_demo_documents
from ingest.pipeline import ingest_files
from mmrag.index import Index
from mmrag.models import load_encoders
from mmrag.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Each process of a parallel run keeps to its share of the cores, else each has threads and workers for all."""
    name, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if name and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if count <= len(cores):
            os.sched_setaffinity(0, cores[int(name.removeprefix("gw")) :: count])


@pytest.fixture(autouse=True)
def no_choices_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MMRAG_", "OPENAI_"))]:
        if name != "MMRAG_NO_SKIPS":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def the_same_main() -> Iterator[None]:
    """Streamlit's AppTest leaves its script behind as `__main__`, and every process that is spawned would run that."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """What `make` writes to a path of this name: once, for all processes of a run."""
    own = tmp_path_factory.getbasetemp()
    path = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(path.with_suffix(".lock")):
        if not (done := path.with_suffix(".done")).exists():
            make(path)
            done.touch()
    return path


@pytest.fixture(scope="session")
def demo_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the demo collection. Do not write into it: copy it."""
    return made_once(tmp_path_factory, "demo-documents", build_demo_documents)


@pytest.fixture(scope="session")
def demo_store(demo_documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the demo collection, by the offline profile. Do not write into it: take `own_store`."""

    def ingest(store: Path) -> None:
        with Index.open(store, create=True) as index:
            report = ingest_files(index, [demo_documents], load_encoders(Settings()))
        assert [result.reason for result in report.results] == [""] * 5

    return made_once(tmp_path_factory, "demo-store", ingest)


@pytest.fixture
def own_store(demo_store: Path, tmp_path: Path) -> Path:
    """A copy of `demo_store` that a test may change."""
    return Path(shutil.copytree(demo_store, tmp_path / "own-store"))


@pytest.fixture(scope="session")
def trained_qwen2_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Qwen2-VL that was trained just now: see trained_vl.py. Takes a minute or two."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from trained_vl import train

    return train(tmp_path_factory.mktemp("models") / "trained")


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with the given arguments in a process of its own, in an empty folder that is not the repository's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(
        *args: object, stdin: str | bytes = "", path: str | Path = ROOT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("MMRAG_", "OPENAI_", "PYTHON"))
        }
        done = subprocess.run(
            [sys.executable, *map(str, args)],
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            cwd=folder,
            env=clean | {"PYTHONPATH": os.fspath(path), "PYTHONUTF8": "1"} | environment,
            timeout=120,
        )
        out, err = (stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    return run


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium; of a module, since Playwright's event loop is in the way of others in its thread."""
    playwright = pytest.importorskip("playwright.sync_api")
    from tests.browser import CHROMIUM, FLAGS

    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium fonts-noto-cjk")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real documents with published labels, beside the checkout where there are any; not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real documents are not here")
    return folder


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With MMRAG_NO_SKIPS set, as in .ci/run, a skipped test fails the run: nothing may be passed over unseen."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and exitstatus == pytest.ExitCode.OK and os.environ.get("MMRAG_NO_SKIPS"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
