"""The full profile on a real PDF, from the command line to the answer: CLIP finds, a Qwen2-VL of toy size replies.

The checkpoints' weights are random, so nothing is asked of the reply but that it is read as what it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import mmrag
from ingest.pipeline import ingest_into
from mmrag.engine import Rag
from mmrag.generate.conversation import read_messages
from mmrag.generate.decoding import Decoding
from mmrag.generate.grounded import VISUAL_TOKENS, GroundedGenerator
from mmrag.generate.marks import mark_pages, messages
from mmrag.testing import tiny_clip, tiny_qwen2_vl

pytestmark = pytest.mark.slow

PDF = "PEPSICO_2023_8K_dated-2023-05-05.pdf"
QUESTION = "How many votes were cast for the shareholder proposal on a net-zero report?"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    qwen = tiny_qwen2_vl(folder / "qwen2-vl")
    config = json.loads((qwen / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 65_536  # five pages, spelled byte by byte
    (qwen / "config.json").write_text(json.dumps(config))
    return {"generator": qwen, "image_encoder": tiny_clip(folder / "clip")}


@pytest.fixture(scope="module")
def store(shared_data: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("full") / "store"
    source = shared_data / "documents" / "pdf" / PDF
    report = ingest_into(store, [source], profile="full", image_encoder=str(models["image_encoder"]))
    assert [result.reason for result in report.results] == [""]
    return store


@pytest.fixture
def rag(store: Path, models: dict[str, Path]) -> Iterator[Rag]:
    with mmrag.open(store, profile="full", **{name: str(path) for name, path in models.items()}) as rag:
        yield rag


def test_ask_answers_from_a_real_pdf_without_a_network(
    store: Path, models: dict[str, Path], python: Callable[..., CompletedProcess[str]]
) -> None:
    choices = ["--image-encoder", models["image_encoder"], "--generator", models["generator"]]
    command = ["ask", QUESTION, "--store", store, "--profile", "full", *choices, "--json", "--html", "answer.html"]
    done = python("-m", "mmrag", *command, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    answer = json.loads(done.stdout)
    assert answer["question"] == QUESTION
    # Noise cites nothing that was shown, and whatever it said is reported.
    assert answer["abstained"] or all(claim["regions"] for claim in answer["claims"])
    assert answer["notes"]


def test_five_pages_stay_within_the_stated_visual_tokens(rag: Rag) -> None:
    generator = rag.generator
    assert isinstance(generator, GroundedGenerator)
    evidence = rag.retriever.search(QUESTION, top_k=5, per_page=6)
    pages = mark_pages(evidence, visual_tokens=VISUAL_TOKENS)
    assert (len(pages), sum(page.image is not None for page in pages)) == (5, 4)  # the print is small
    prompt = generator.llm._model.encode([read_messages(messages(QUESTION, pages))], VISUAL_TOKENS, Decoding())  # type: ignore[attr-defined]
    shown = int(prompt.inputs["image_grid_thw"].prod(dim=1).sum()) // 4
    assert prompt.visual_tokens == [shown]
    assert 0.5 * VISUAL_TOKENS < shown <= VISUAL_TOKENS
    # What the model sees is what was sent: nothing was resized a second time.
    sizes = [tuple(page.image.size) for page in pages if page.image]
    assert [(14 * width, 14 * height) for _, height, width in prompt.inputs["image_grid_thw"].tolist()] == sizes


def test_a_stream_ends_in_the_answer_that_ask_gives(rag: Rag) -> None:
    rag.generator.llm.max_new_tokens = 16  # type: ignore[attr-defined]
    *pieces, streamed = rag.ask_stream(QUESTION)
    answer = rag.ask(QUESTION)
    assert isinstance(streamed, mmrag.Answer)
    assert (streamed.claims, streamed.notes) == (answer.claims, answer.notes)
    assert all(isinstance(piece, str) for piece in pieces)
