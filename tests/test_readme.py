"""What README.md and docs/ say is run: shell blocks, Python blocks, commands and options that they name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, demo_documents: Path) -> Path:
    """A folder with the files that the README's examples name."""
    reports, scans = tmp_path / "reports", tmp_path / "scans"
    shutil.copytree(demo_documents, reports)
    scans.mkdir()
    shutil.copy(reports / "control-room.png", scans)
    shutil.copy(reports / "harbour-energy-annual-report-2025.pdf", tmp_path / "slides.pdf")
    (tmp_path / "questions.txt").write_text(
        "Who inspected the Sea Lavender?\n澜屿海上风电项目的总投资是多少？\n", encoding="utf-8"
    )
    return tmp_path


def bash(script: str, folder: Path) -> None:
    command = f'mmrag() {{ "{sys.executable}" -m mmrag "$@"; }}\n{script}'
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, check=True)


@pytest.mark.slow
def test_the_readmes_own_documents_block_runs(desk: Path) -> None:
    bash(blocks(ROOT / "README.md", "sh")[2], desk)
    assert "img" in (desk / "answer.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readmes_library_example_runs(desk: Path) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    indented = code.replace("\n", "\n    ")
    (desk / "example.py").write_text(f'if __name__ == "__main__":\n    {indented}', encoding="utf-8")
    subprocess.run([sys.executable, "example.py"], cwd=desk, env={"PYTHONPATH": str(ROOT)}, check=True)
    with Image.open(desk / "cited-page.png") as page:
        assert page.width > 500


def test_the_readme_has_two_commands_for_a_fresh_machine() -> None:
    first, second = blocks(ROOT / "README.md", "sh")[:2]
    assert first.strip().endswith("mmrag demo")
    assert second.strip().endswith("pytest")
    assert first.count("\n") == second.count("\n") == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_named_exists(page: Path) -> None:
    from typer.main import get_command

    from apps.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    text = page.read_text(encoding="utf-8")
    calls = re.findall(r"`mmrag ([^`]+)`", text) + re.findall(
        r"^mmrag (.+)$", "".join(blocks(page, "sh")), re.MULTILINE
    )
    for name, rest in (call.partition(" ")[::2] for call in calls):
        assert name in commands, f"{page.name} names the command {name}"
        command = commands[name]
        if name == "eval":
            name, rest = rest.partition(" ")[::2]
            command = command.commands[name]
        options = {option for p in _parameters(command) for option in p.opts}
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert option in options, f"{page.name} names {name} {option}"


def _parameters(command) -> list:  # type: ignore[no-untyped-def,type-arg]
    return [p for c in getattr(command, "commands", {}).values() for p in c.params] + command.params


def test_the_annotated_tree_names_every_folder() -> None:
    named = set(re.findall(r"^([a-z]+)/  ", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and re.fullmatch(r"[a-z]+", path.name)}
    assert named == folders - {"build", "dist", "venv"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links {target}"
