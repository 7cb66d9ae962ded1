"""Looking for a picture: by a file or PIL image, alone and with words, in the library, LlamaIndex and the command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from llama_index.core.schema import QueryBundle
from PIL import Image
from typer.testing import CliRunner

import mmrag
from apps.cli import app
from ingest.pipeline import ingest_into
from mmrag.engine import Rag
from mmrag.errors import UnreadableFile, UsageError
from mmrag.render import open_image, render_page
from mmrag.testing import tiny_clip
from mmrag.types import RegionKind

pytestmark = pytest.mark.slow


def picture(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Blocks of colour of their own for each seed, of which no two look alike even to an untrained model."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pdf(path: Path, *blocks: str | Image.Image) -> None:
    """One page with sentences and pictures below each other."""
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        for number, block in enumerate(blocks):
            top = 200 + 140 * number  # what stands higher is taken for a running head
            if isinstance(block, str):
                page.insert_text((60, top + 20), block, fontsize=11)
            else:
                page.insert_image(pymupdf.Rect(60, top, 220, top + 120), stream=png(block))
        document.save(path)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures 1 to 4 as files; one page that shows 5 and 6; two reports that show 7, for different years."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in (1, 2, 3, 4):
        picture(seed).save(folder / f"{seed}.png")
    words = "Turbines turn the tide into electricity, and the figure below shows how the blades were painted."
    pdf(folder / "pair.pdf", words, picture(5), "Copper paint keeps the barnacles away from the rotor.", picture(6))
    after = "Sales are counted in the region where the customer lives, and not where the goods are made."
    for year in (2018, 2019):
        pdf(folder / f"{year}.pdf", f"The chart below shows the sales of the year {year} by region.", picture(7), after)
    last = "In the year 2019 the company sold its last region, and no chart was drawn of it."
    pdf(folder / "words.pdf", last, "Its name is remembered by those who once worked there, and by nobody else.")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return str(tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip"))


@pytest.fixture(scope="module")
def store(desk: Path, checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("image-store") / "store"
    report = ingest_into(store, [desk], image_encoder=checkpoint)
    assert [result.reason for result in report.results] == [""] * 8
    return store


@pytest.fixture(scope="module")
def rag(store: Path, checkpoint: str) -> Iterator[Rag]:
    with mmrag.open(store, image_encoder=checkpoint) as rag:
        yield rag


# -- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_picture_finds_itself_first(rag: Rag, desk: Path, seed: int) -> None:
    path = desk / f"{seed}.png"
    found = rag.search(image=path)
    assert found[0].document.name == path.name
    assert found[0].score > found[1].score
    assert found[0].legs.keys() == {"image"}
    assert found[0].legs["image"].rank == 1
    assert found[0].agreement == 0.0  # no words, no agreement between the legs that read words
    assert rag.search(image=str(path)) == rag.search(image=Image.open(path)) == found


@pytest.mark.parametrize("seed", [5, 6])
def test_the_region_shown_is_the_picture_that_matched(rag: Rag, seed: int) -> None:
    (pair,) = [document for document in rag.index.documents() if document.name == "pair.pdf"]
    page = rag.index.page(pair.id, 1)
    assert page is not None
    pictures = [region for region in page.regions if region.kind is RegionKind.PICTURE]
    assert len(pictures) == 2
    asked = pictures[seed - 5]
    crop = render_page(rag.index.source(pair), 1, clip=asked.box)
    found = rag.search(image=crop)
    assert (found[0].document.name, found[0].region.id) == ("pair.pdf", asked.id)
    assert rag.search(image=picture(seed), documents=["pair.pdf"])[0].region.id == asked.id
    assert {evidence.region.kind for evidence in found} == {RegionKind.PICTURE}


def test_the_worst_picture_is_still_the_region_of_its_page(rag: Rag) -> None:
    """Its score is nothing, as is that of the words beside it, which were not asked for."""
    found = rag.search(image=picture(1))
    worst = min(found, key=lambda evidence: evidence.score)
    assert worst.score == 0
    assert worst.region.kind is RegionKind.PICTURE


def test_words_choose_among_pictures_that_are_alike(rag: Rag) -> None:
    alone = {e.document.name: e.score for e in rag.search(image=picture(7))}
    assert alone["2018.pdf"] == alone["2019.pdf"] == max(alone.values())
    for year in ("2018", "2019"):
        found = rag.search(f"sales {year}", image=picture(7))
        assert found[0].document.name == f"{year}.pdf"
        assert {"image", "page_words", "chunk_words", "dense"} <= found[0].legs.keys()
        assert found[0].legs["image"].rank == 1
    # The same words beside another picture, or beside none, find another page.
    assert rag.search("year 2019 company last region")[0].document.name == "words.pdf"
    assert rag.search("year 2019 company last region", image=picture(7))[0].document.name == "2019.pdf"


def test_of_several_frames_the_first_is_looked_for(rag: Rag, tmp_path: Path) -> None:
    for first, second in ((1, 2), (2, 1)):
        picture(first).save(tmp_path / "two.tiff", save_all=True, append_images=[picture(second)])
        assert rag.search(image=tmp_path / "two.tiff")[0].document.name == f"{first}.png"


def test_a_photo_is_looked_for_upright(rag: Rag, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned right
    picture(3).rotate(90, expand=True).save(tmp_path / "photo.png", exif=exif)
    (best, *_) = rag.search(image=tmp_path / "photo.png")
    assert best.document.name == "3.png"
    assert best.score == pytest.approx(rag.search(image=picture(3))[0].score)


def test_a_llamaindex_query_may_hold_a_picture(rag: Rag, desk: Path) -> None:
    for seed in (1, 2):
        nodes = rag.retriever.retrieve(QueryBundle("", image_path=str(desk / f"{seed}.png")))
        assert nodes[0].metadata["document"] == f"{seed}.png"
    nodes = rag.retriever.retrieve(QueryBundle("sales 2019", image_path=str(desk / "1.png")))
    assert {"1.png", "2019.pdf"} <= {node.metadata["document"] for node in nodes[:3]}


def test_nothing_to_look_for(rag: Rag) -> None:
    with pytest.raises(UsageError, match="The question is empty"):
        rag.search()
    with pytest.raises(UsageError, match="UTF-8"):
        rag.search("half \udcff", image=picture(1))


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_looks_for_a_picture(store: Path, checkpoint: str, desk: Path) -> None:
    options = ["-s", str(store), "--image-encoder", checkpoint, "--image", str(desk / "2.png")]
    done = CliRunner().invoke(app, ["search", *options, "-k", "1"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split()[:5] == ["1", done.stdout.split()[8], "2.png", "1", "picture"]
    done = CliRunner().invoke(app, ["search", "sales 2019", *options, "--json"])
    assert {evidence["document"] for evidence in json.loads(done.stdout)[:2]} == {"2.png", "2019.pdf"}


def test_a_store_of_captions_says_what_to_choose(demo_store: Path, desk: Path) -> None:
    done = CliRunner().invoke(app, ["search", "-s", str(demo_store), "--image", str(desk / "1.png")])
    assert done.exit_code == 2
    assert done.stderr.startswith("mmrag: Looking for a picture without words needs an image encoder")
    assert "--profile full or --image-encoder" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_name_is_printed_harmlessly(store: Path, checkpoint: str) -> None:
    options = ["-s", str(store), "--image-encoder", checkpoint, "--image", "\x1b[31mgone.png"]
    done = CliRunner().invoke(app, ["search", *options])
    assert done.exit_code == 1
    assert done.stderr.endswith("mmrag: There is no file �[31mgone.png: check the path.\n")
    assert "\x1b" not in done.stderr


# -- files that are no pictures --------------------------------------------------------------------------------------


def big(width: int, height: int) -> bytes:
    return png(Image.new("1", (width, height)))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.png", None, "There is no file"),
        ("report.pdf", b"%PDF-1.7\n%%EOF", "give a PNG, JPEG, TIFF, WebP, GIF or BMP file"),
        ("note.txt", b"no picture", "give a PNG, JPEG"),
        ("program.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "give a PNG, JPEG"),
        ("empty.png", b"", "give a PNG, JPEG"),
        ("cut.png", png(picture(1))[:-60], "cannot be read as an image"),
        ("poster.png", big(10_000, 10_000), "too many pixels"),
        ("bomb.png", big(16_000, 16_000), "too many pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for source in (path, str(path)):
        with pytest.raises(UnreadableFile, match=re.escape(says)) as error:
            open_image(source)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="There is no file"):
        open_image(tmp_path)


@pytest.mark.parametrize("url", ["https://example.org/cat.png", "file:///etc/hosts", "data:image/png;base64,AA=="])
def test_a_url_is_never_fetched(url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        open_image(url)
