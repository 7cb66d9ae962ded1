"""Strangers in the place of the packages beside the library: said in one sentence, never run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import mmrag

Python = Callable[..., "subprocess.CompletedProcess[str]"]

ROOT = Path(mmrag.__file__).resolve().parents[1]
PACKAGES = ("mmrag", "ingest", "apps", "eval")
STRANGER = 'print("the stranger runs")\n'
# What `mmrag list` says when it does start.
STARTED = "mmrag: There is no store at "


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the four packages, as in a site-packages folder that others install into as well."""
    folder = tmp_path / "site"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mmrag cannot start: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize("name", ["ingest", "apps", "eval"])
@pytest.mark.parametrize("form", ["{}/__init__.py", "{}.py"])
def test_a_stranger_first_on_the_path_is_named(tmp_path: Path, python: Python, name: str, form: str) -> None:
    stranger = tmp_path / "stranger" / form.format(name)
    stranger.parent.mkdir(parents=True)
    stranger.write_text(STRANGER)
    done = python("-m", "mmrag", "list", path=f"{tmp_path / 'stranger'}:{ROOT}")
    assert_refused(done, f"`{name}`", str(stranger), str(ROOT / name / "__init__.py"), "off PYTHONPATH")


def test_a_strangers_package_in_the_working_folder_is_named(tmp_path: Path, python: Python) -> None:
    stranger = tmp_path / "elsewhere" / "ingest" / "__init__.py"  # where the fixture starts Python
    stranger.parent.mkdir()
    stranger.write_text(STRANGER)
    assert_refused(python("-m", "mmrag", "list"), "`ingest`", str(stranger), "Start it from another folder")


@pytest.mark.parametrize("name", ["ingest", "apps", "eval"])
def test_an_overwritten_package_is_named(installed: Path, python: Python, name: str) -> None:
    (installed / name / "__init__.py").write_text(STRANGER)
    done = python("-m", "mmrag", "list", path=installed)
    assert_refused(done, f"overwritten `{name}` in {installed}", "a virtual environment of its own")


def test_a_whole_copy_starts(installed: Path, python: Python) -> None:
    done = python("-m", "mmrag", "list", path=installed)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(STARTED)


def test_a_missing_package_is_named(installed: Path, python: Python) -> None:
    shutil.rmtree(installed / "eval")
    done = python("-m", "mmrag", "list", path=installed)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "`eval`" in done.stderr  # missing, or another installed copy's


@pytest.mark.parametrize("name", ["ingest", "apps", "eval", "tests", "docs"])
def test_a_plain_folder_of_that_name_does_no_harm(tmp_path: Path, python: Python, name: str) -> None:
    folder = tmp_path / "elsewhere" / name
    folder.mkdir()
    (folder / "cli.py").write_text(STRANGER)
    done = python("-m", "mmrag", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(STARTED)
