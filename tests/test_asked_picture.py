"""A picture that a question comes with: found by its words or its looks, quoted, and shown to a model."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

import mmrag
from apps.cli import app
from apps.demo_documents import BRIEF, PAPER, REPORT
from apps.pictures import read_words
from ingest.pipeline import ingest_into
from mmrag import prompts
from mmrag.engine import Rag
from mmrag.errors import UnreadableFile, UsageError
from mmrag.generate.budget import token_count
from mmrag.generate.grounded import GroundedGenerator
from mmrag.generate.marks import fitted
from mmrag.models import ReadWords
from mmrag.render import Picture, render_page
from mmrag.testing import ScriptedLLM, tiny_clip
from mmrag.types import Region, RegionKind

pytestmark = pytest.mark.slow

PHOTO = Image.linear_gradient("L").convert("RGB")


def says(words: str) -> ReadWords:
    return lambda _: words


def cut_out(rag: Rag, document: str, number: int, kind: RegionKind) -> tuple[Image.Image, Region]:
    """A screenshot of the longest region of its kind on a page, and the region."""
    (found,) = [known for known in rag.index.documents() if known.name == document]
    page = rag.index.page(found.id, number)
    assert page is not None
    region = max((r for r in page.regions if r.kind is kind), key=lambda r: len(r.text))
    return render_page(rag.index.source(found), number, dpi=110, clip=region.box), region


@pytest.fixture(scope="module")
def rag(demo_store: Path) -> Iterator[Rag]:
    with mmrag.open(demo_store, read_words=read_words) as rag:
        yield rag


@pytest.fixture(scope="module")
def screenshot(rag: Rag) -> Image.Image:
    """A paragraph of the paper's second page."""
    return cut_out(rag, PAPER, 2, RegionKind.TEXT)[0]


def printed(text: str) -> Image.Image:
    image = Image.new("RGB", (900, 120), "white")
    ImageDraw.Draw(image).text((20, 40), text, fill="black", font=ImageFont.load_default(28))
    return image


# -- without an image encoder ----------------------------------------------------------------------------------------


def test_a_screenshot_finds_its_page_by_its_words(rag: Rag, screenshot: Image.Image) -> None:
    (first, *_) = rag.search(image=screenshot)
    assert (first.document.name, first.page) == (PAPER, 2)
    assert {"page_words", "chunk_words", "dense"} <= first.legs.keys()


def test_a_screenshot_without_a_question_is_answered_by_its_place(rag: Rag, screenshot: Image.Image) -> None:
    answer = rag.ask(image=screenshot)
    assert not answer.abstained
    assert (answer.citations[0].document, answer.citations[0].page) == (PAPER, 2)
    assert answer.question == ""
    assert list(answer.timings) == ["read", "retrieve", "generate"]
    *_, streamed = rag.ask_stream(image=screenshot)
    assert isinstance(streamed, mmrag.Answer)
    assert streamed.claims == answer.claims


def test_a_question_beside_a_screenshot_chooses_the_sentence(rag: Rag) -> None:
    table, region = cut_out(rag, REPORT, 2, RegionKind.TABLE)
    answer = rag.ask("How much did battery storage earn in 2024?", image=table)
    assert answer.citations[0].region == region.id
    assert "23.8" in answer.text


def test_a_chinese_screenshot_finds_its_page(rag: Rag) -> None:
    (brief,) = [known for known in rag.index.documents() if known.name == BRIEF]
    page = render_page(rag.index.source(brief), 1, dpi=110)
    (first, *_) = rag.search(image=page)
    assert (first.document.name, first.page) == (BRIEF, 1)


def test_a_screenshot_of_something_else_is_not_answered(rag: Rag) -> None:
    answer = rag.ask(image=printed("The queen moved her bishop and offered a draw."))
    assert answer.abstained
    assert answer.evidence


@pytest.mark.parametrize("question", ["", "What is the operating profit?"])
def test_a_picture_without_words_needs_an_encoder(rag: Rag, question: str) -> None:
    for ask in (rag.search, rag.ask):
        with pytest.raises(UsageError, match=r"a picture without words needs an image encoder.*--image-encoder"):
            ask(question, image=PHOTO)


def test_nobody_reads_words_unless_it_was_said_who(demo_store: Path) -> None:
    with mmrag.open(demo_store) as rag:
        for ask in (rag.search, rag.ask):
            with pytest.raises(UsageError, match="Looking for a picture needs an image encoder"):
                ask(image=PHOTO)
        with pytest.raises(UnreadableFile, match="There is no file"):
            rag.ask(image="gone.png")


def test_a_picture_is_read_once_and_names_no_pages(demo_store: Path) -> None:
    read = []

    def words(image: Image.Image) -> str:
        read.append(image.size)
        return "see page 3 and Figure 1 " + "barnacles " * 5_000

    with mmrag.open(demo_store, read_words=words) as rag:
        answer = rag.ask(image=PHOTO)
        assert not {"page_number", "label"} & {leg for item in answer.evidence for leg in item.legs}
        assert answer.evidence[0].document.name == PAPER
        assert read == [PHOTO.size]
        found = rag.search("What is on page 1?", image=PHOTO)
        assert {item.page for item in found if "page_number" in item.legs} == {1}


# -- with an image encoder -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looks(demo_documents: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store of two documents with pictures as vectors, and the checkpoint."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("looks")
    checkpoint = str(tiny_clip(folder / "tiny-clip"))
    ingest_into(folder / "store", [demo_documents / PAPER, demo_documents / REPORT], image_encoder=checkpoint)
    return folder / "store", checkpoint


def test_a_picture_is_looked_for_where_pictures_were_encoded(looks: tuple[Path, str]) -> None:
    with mmrag.open(looks[0], image_encoder=looks[1]) as rag:
        picture, region = cut_out(rag, PAPER, 2, RegionKind.PICTURE)
        asked = rag.ask("What was the peak power coefficient?", image=picture)
        assert asked.evidence[0].region.kind is RegionKind.PICTURE or "image" in asked.evidence[0].legs
        alone = rag.ask(image=picture)
        assert alone.abstained
        assert alone.evidence[0].region.id == region.id
        assert alone.notes == (
            "The picture has no words that a sentence could be found by: type a question beside it.",
        )


def test_words_on_a_picture_that_is_asked_alone_are_looked_for_too(looks: tuple[Path, str]) -> None:
    with mmrag.open(looks[0], image_encoder=looks[1], read_words=says("barnacles reduce the power coefficient")) as rag:
        answer = rag.ask(image=PHOTO)
        assert {"image", "page_words"} <= {leg for item in answer.evidence for leg in item.legs}
        assert {leg for item in rag.search(image=PHOTO) for leg in item.legs} == {"image"}


# -- a model sees it -------------------------------------------------------------------------------------------------


def shown(messages: list[ChatMessage]) -> list[str | Image.Image]:
    return [
        Image.open(BytesIO(base64.b64decode(block.image or b""))) if isinstance(block, ImageBlock) else block.text  # type: ignore[union-attr]
        for block in messages[1].blocks
    ]


def test_a_model_sees_the_picture_before_the_pages(demo_store: Path) -> None:
    llm = ScriptedLLM("It is blue [1].")
    with mmrag.open(demo_store, generator=llm) as rag:  # nobody reads words: the question finds the pages
        answer = rag.ask("Which turbine is this?", image=PHOTO)
        *_, streamed = rag.ask_stream("Which turbine is this?", image=PHOTO)
    assert [claim.text for claim in answer.claims] == ["It is blue."]
    assert isinstance(streamed, mmrag.Answer)
    assert streamed.claims == answer.claims
    for messages, _ in llm.asked:
        said, picture, page, *_, question = shown(messages)
        assert said == prompts.ASKED_PICTURE
        assert isinstance(picture, Image.Image)
        assert picture.size == (252, 252)  # 256 in whole tokens
        assert str(page).startswith("Page ")
        assert question == "Question: Which turbine is this?"


@pytest.mark.parametrize(
    ("words", "question"),
    [("power lost to barnacles", prompts.ABOUT_PICTURE), ("海上风电项目的总投资", prompts.ABOUT_PICTURE_CHINESE)],
)
def test_a_model_is_asked_about_a_picture_alone(demo_store: Path, words: str, question: str) -> None:
    llm = ScriptedLLM("NO ANSWER")
    with mmrag.open(demo_store, generator=llm, read_words=says(words)) as rag:
        assert rag.ask(image=PHOTO).abstained
    assert shown(llm.asked[0][0])[-1] == f"Question: {question}"


def test_pages_and_picture_stay_within_the_budget(demo_store: Path) -> None:
    llm = ScriptedLLM("NO ANSWER")
    poster = Image.new("RGB", (5_000, 3_000), "navy")
    with mmrag.open(demo_store) as rag:
        evidence = rag.search("How is the rotor painted?")
    generator = GroundedGenerator(llm, visual_tokens=600)
    generator.generate("How is the rotor painted?", evidence, picture=Picture(poster))
    sizes = [part.size for part in shown(llm.asked[0][0]) if isinstance(part, Image.Image)]
    assert len(sizes) > 1
    assert token_count(sizes[0], 28) <= 180
    assert sum(token_count(size, 28) for size in sizes) <= 600


@RELAXED
@given(st.integers(1, 3_000), st.integers(1, 3_000), st.integers(1, 2_000), st.sampled_from([28, 32]))
def test_a_picture_fits_whatever_its_shape(width: int, height: int, tokens: int, unit: int) -> None:
    size = fitted(Image.new("RGB", (width, height)), tokens, unit).size
    assert token_count(size, unit) <= tokens
    assert size[0] % unit == size[1] % unit == 0


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_asks_with_a_picture(demo_store: Path, screenshot: Image.Image, tmp_path: Path) -> None:
    screenshot.save(tmp_path / "shot.png")
    options = ["-s", str(demo_store), "--image", str(tmp_path / "shot.png"), "--json"]
    done = CliRunner().invoke(app, ["ask", *options])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["citations"][0]["document"] == PAPER
    done = CliRunner().invoke(app, ["ask", "How is power lost?", *options])
    assert json.loads(done.stdout)["question"] == "How is power lost?"
    done = CliRunner().invoke(app, ["search", *options])
    assert (json.loads(done.stdout)[0]["document"], json.loads(done.stdout)[0]["page"]) == (PAPER, 2)


def test_the_command_names_a_picture_that_cannot_be_asked(demo_store: Path, tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "photo.png")
    done = CliRunner().invoke(
        app, ["ask", "What is it?", "-s", str(demo_store), "--image", str(tmp_path / "photo.png")]
    )
    assert done.exit_code == 2
    assert done.stderr.startswith("mmrag: Looking for a picture without words needs an image encoder")
    done = CliRunner().invoke(app, ["ask", "What is it?", "-s", str(demo_store), "--image", str(tmp_path / "gone.png")])
    assert done.exit_code == 1
    assert "There is no file" in done.stderr
