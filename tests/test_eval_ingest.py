"""Measuring ingestion: small collections through the real thing, LlamaIndex's defaults among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_pipeline import pdf
from typer.testing import CliRunner

from apps.cli import app
from eval.ingest import REFERENCE, WITH_OCR, WITHOUT_OCR, Scale, measure_scale, measure_speed
from mmrag.errors import UsageError


@pytest.mark.slow
def test_speed_is_measured_beside_the_reference(tmp_path: Path) -> None:
    (tmp_path / "pdf").mkdir()
    pdf(tmp_path / "pdf" / "a.pdf", "harbour", "ferry")
    pdf(tmp_path / "pdf" / "b.pdf", "quay")
    found = measure_speed(tmp_path / "pdf")
    assert list(found) == [WITHOUT_OCR, WITH_OCR, REFERENCE]
    for speed in found.values():
        assert speed.pages == 3
        assert speed.pages_per_second == pytest.approx(3 / speed.seconds)
        assert speed.peak_bytes > 100e6
        assert speed.index_bytes > 10_000
    assert {"layout", "encoding text", "writing"} <= found[WITH_OCR].stages.keys()


@pytest.mark.slow
def test_a_store_that_grows_is_measured_step_by_step(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["eval", "ingest", "--scale", "2000", "--output", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = Scale(**json.loads(done.stdout)["scale"])
    assert found.pages == list(range(100, 2001, 100))
    assert found.vectors == 2000 * 2  # chunks
    assert 0 < found.query_p50 <= found.query_p95
    assert json.loads((tmp_path / "ingest.json").read_text())["scale"]["vectors"] == found.vectors


def test_the_rate_at_the_end_is_compared_with_that_at_the_start() -> None:
    seconds = [1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 2.0, 2.0]
    pages = list(range(10, 101, 10))
    assert Scale(pages, seconds, [0] * 10, 0.0, 0.0, 0, 0).end_to_start == pytest.approx(0.5)


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(UsageError, match="give 2000 or more"):
        measure_scale(100)
    done = CliRunner().invoke(app, ["eval", "ingest"])
    assert done.exit_code == 2
    assert "give --data, --scale or both" in done.output
