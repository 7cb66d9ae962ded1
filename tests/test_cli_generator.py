"""Choosing a generator on the command line: a server over real sockets, and checkpoints that are nowhere."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from apps.demo_documents import QUESTIONS, REPORT
from mmrag import testing
from tests.chat_server import fails, models, says, serving

pytest.importorskip("llama_index.llms.openai_like")
Python = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.slow

QUESTION = QUESTIONS[0].text
PATIENCE = 30
"""Seconds for an error to show, the start of Python included, on a machine that is busy with other tests."""


def run(*args: object, stdin: str = "") -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)


def test_a_server_answers(demo_store: Path) -> None:
    with serving(says("The profit was 5 million [1].")) as chat:
        server = ("--generator", "openai", "--base-url", chat.url, "--model", "tiny-vl")
        result = run("ask", QUESTION, "-s", demo_store, *server, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["answer"] == "The profit was 5 million."
    assert answer["citations"][0]["document"] == REPORT
    (request,) = chat.requests
    kinds = [part["type"] for message in request["messages"] for part in message["content"] if isinstance(part, dict)]
    assert "image_url" in kinds


def test_a_server_from_the_environment_is_asked_as_often_as_told(
    demo_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(says("It was 5 million [1].")) as chat:
        monkeypatch.setenv("MMRAG_GENERATOR", "openai")
        monkeypatch.setenv("MMRAG_BASE_URL", chat.url)
        monkeypatch.setenv("MMRAG_MODEL", "tiny-vl")
        monkeypatch.setenv("MMRAG_API_KEY", "sk-ours")
        result = run("ask", QUESTION, "-s", demo_store, "--samples", "3")
        assert (result.exit_code, result.stderr) == (0, "")
        assert len(chat.requests) == 3
        assert {headers["authorization"] for headers in chat.headers} == {"Bearer sk-ours"}
        quoted = run("ask", QUESTION, "-s", demo_store, "--generator", "extractive")
        assert quoted.exit_code == 0
        assert len(chat.requests) == 3  # whoever quotes asks nobody


def test_fewer_visual_tokens_are_smaller_pictures(demo_store: Path) -> None:
    with serving(says("It was 5 million [1].")) as chat:
        server = ("--generator", "openai", "--base-url", chat.url, "--model", "tiny-vl")
        for tokens in (200, 2000):
            assert run("ask", QUESTION, "-s", demo_store, *server, "--max-visual-tokens", tokens).exit_code == 0
    small, large = (len(json.dumps(request)) for request in chat.requests)
    assert small < large / 2


def test_a_server_that_is_not_there_is_said_once(demo_store: Path, python: Python) -> None:
    began = time.perf_counter()
    server = ("--generator", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "tiny-vl")
    done = python("-m", "mmrag", "ask", "-", "--store", demo_store, *server, stdin="one?\ntwo?\n")
    assert time.perf_counter() - began < PATIENCE
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mmrag: The server at http://127.0.0.1:9/v1 cannot be reached (Connection refused): "
        "start it, or correct --base-url.\n"
    )


def test_what_a_server_says_is_printed_harmlessly(demo_store: Path, python: Python) -> None:
    with serving(fails(400, {"error": "\x1b[31mred\x07 alert"})) as chat:
        server = ("--generator", "openai", "--base-url", chat.url, "--model", "tiny-vl")
        done = python("-m", "mmrag", "ask", QUESTION, "--store", demo_store, *server)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not {"\x1b", "\x07"} & set(done.stderr)
    assert "red" in done.stderr


@pytest.mark.slow
def test_with_debug_neither_key_nor_pictures_are_printed(demo_store: Path, python: Python) -> None:
    with serving(fails(401, {"error": {"message": "Wrong key sk-ours."}}), listing=models("tiny-vl")) as chat:
        server = ("--generator", "openai", "--base-url", chat.url, "--model", "tiny-vl")
        done = python(
            "-m", "mmrag", "ask", QUESTION, "--store", demo_store, *server, "--debug", MMRAG_API_KEY="sk-ours"
        )
    assert "GenerationError" in done.stderr
    assert "sk-ours" not in done.stderr + done.stdout
    assert "base64" not in done.stderr


# -- checkpoints -----------------------------------------------------------------------------------------------------


def nowhere(python: Python, tmp_path: Path, *args: object) -> str:
    """What a command prints where there is no cache and the hub refuses every connection."""
    pytest.importorskip("torch")
    began = time.perf_counter()
    done = python("-m", "mmrag", *args, HF_HOME=str(tmp_path / "empty"), HF_ENDPOINT="http://127.0.0.1:9")
    assert time.perf_counter() - began < PATIENCE
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_full_profile_without_weights_names_the_ways_on(demo_store: Path, tmp_path: Path, python: Python) -> None:
    said = nowhere(python, tmp_path, "ask", QUESTION, "--store", demo_store, "--profile", "full")
    assert "google/siglip2-base-patch16-224" in said
    for way in ("a local folder", "--image-encoder captions", "--profile offline"):
        assert way in said
    # Whoever takes the second of these comes to the generator.
    full = ("--profile", "full", "--image-encoder", "captions")
    said = nowhere(python, tmp_path, "ask", QUESTION, "--store", demo_store, *full)
    assert "Qwen/Qwen2-VL-2B-Instruct" in said
    for way in ("a local folder", "--profile offline", "--generator openai --base-url http", "--model NAME"):
        assert way in said


@pytest.mark.parametrize("name", ["acme/nothing", "extractve", "/nonexistent/folder"])
def test_a_generator_that_is_nowhere(demo_store: Path, tmp_path: Path, python: Python, name: str) -> None:
    said = nowhere(python, tmp_path, "ask", QUESTION, "--store", demo_store, "--generator", name)
    assert said.startswith(f"mmrag: {name} is no folder on this disk")
    assert "--generator openai --base-url" in said


def test_a_search_needs_no_generator(demo_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRAG_GENERATOR", "acme/nothing")
    assert run("search", "barnacles", "-s", demo_store).exit_code == 0
    assert run("list", "-s", demo_store).exit_code == 0


def test_a_checkpoint_in_a_folder_answers(demo_store: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = testing.tiny_qwen2_vl(tmp_path / "tiny")
    chosen = ("--generator", folder, "--max-visual-tokens", 64, "--contrast", 0.5)
    result = run("ask", QUESTION, "-s", demo_store, *chosen, "--json")
    # Its weights are random, and so is what it says; its words are few and its window is small.
    assert result.exit_code in (0, 2), result.stderr
    assert json.loads(result.stdout)["notes"] if result.exit_code == 0 else "max_visual_tokens" in result.stderr


# -- doctor ----------------------------------------------------------------------------------------------------------


def findings(*args: object) -> dict[str, dict[str, object]]:
    result = run("doctor", *args, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return {finding["what"]: finding for finding in json.loads(result.stdout)}


def test_doctor_asks_the_server_for_its_models(tmp_path: Path) -> None:
    with serving(says("?"), listing=models("tiny-vl", "large-vl")) as chat:
        server = ("-s", tmp_path / "none", "--generator", "openai", "--base-url", chat.url)
        right = findings(*server, "--model", "tiny-vl")["generator"]
        wrong = findings(*server, "--model", "huge-vl")["generator"]
        none = findings(*server)["generator"]
    gone = findings(*server, "--model", "tiny-vl")["generator"]
    assert (right["ok"], right["found"]) == (True, f"tiny-vl: {chat.url} answers and has tiny-vl, large-vl")
    assert (wrong["ok"], wrong["advice"]) == (False, "choose one with --model, instead of huge-vl")
    assert (none["ok"], none["advice"]) == (False, "choose one with --model")
    assert gone["ok"] is False
    assert "cannot be reached" in str(gone["advice"])


def test_doctor_says_what_fits(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = testing.tiny_qwen2_vl(tmp_path / "tiny")
    found = findings("-s", tmp_path / "none", "--generator", folder)
    assert found["generator"]["ok"] is True
    assert "fits into" in str(found["generator"]["found"])
    assert "8.29 billion parameters" in str(found["would Qwen/Qwen2-VL-7B-Instruct fit?"]["found"])
    (folder / "tokenizer.json").unlink()
    for name in ("vocab.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    broken = findings("-s", tmp_path / "none", "--generator", folder)["generator"]
    assert (broken["ok"], "has no tokenizer" in str(broken["found"])) == (False, True)
    missing = findings("-s", tmp_path / "none", "--generator", "no such/name at all")["generator"]
    assert missing["ok"] is False
    assert "not on this disk" in str(missing["found"])
