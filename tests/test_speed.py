"""Measuring speed and memory: tiny checkpoints through the real command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apps.cli import app
from mmrag import testing

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.slow
def test_an_encoder_and_a_generator_are_measured(tmp_path: Path) -> None:
    options = ["--image-encoder", str(testing.tiny_siglip(tmp_path / "siglip"))]
    options += ["--generator", str(testing.tiny_qwen2_vl(tmp_path / "qwen")), "--max-visual-tokens", "200"]
    call = ["eval", "speed", *options, "--new-tokens", "70", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, [*call, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "speed.json").read_text())
    assert {"mmrag", "torch", "transformers"} == found["made_by"].keys()
    encoder, generator = found["image encoder"], found["generator"]
    assert encoder["model"].startswith("clip:siglip@")
    assert encoder["images"] == 64
    assert encoder["images_per_second"] > 0
    assert 150 < generator["visual_tokens"] <= 200
    assert generator["visual_tokens"] < generator["prompt_tokens"]
    assert generator["new_tokens"] == 70  # although random weights repeat themselves
    for speed in (encoder, generator):
        assert speed["load_seconds"] > 0
        assert speed["peak_bytes"] > 100e6


@pytest.mark.slow
def test_figures_are_printed(tmp_path: Path) -> None:
    folder = str(testing.tiny_clip(tmp_path / "clip"))
    done = CliRunner().invoke(app, ["eval", "speed", "--image-encoder", folder, "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "images per second" in done.output
    assert "MB" in done.output
    assert "speed.json" in done.output


@pytest.mark.parametrize(
    ("options", "says"), [([], "nothing to measure"), (["--generator", "openai"], "depends on it alone")]
)
def test_what_cannot_be_measured_is_said(options: list[str], says: str) -> None:
    environment = {"MMRAG_BASE_URL": "http://localhost:9/v1", "MMRAG_MODEL": "any"}
    done = CliRunner().invoke(app, ["eval", "speed", *options], env=environment)
    assert done.exit_code == 2
    assert says in done.output
