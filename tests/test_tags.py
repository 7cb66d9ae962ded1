"""Zero-shot tags: the probabilities are the model's own, and a tag is given only where the choice is clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from apps.cli import app
from ingest.pipeline import ingest_files
from mmrag import testing
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.prompts import PICTURE_TAGS, TAG_TEMPLATES
from mmrag.tags import LEAST, MARGIN, Calibration, ZeroShotTagger, choose_tags, zero_shot_tagger
from mmrag.testing import HashEncoder
from mmrag.types import RegionKind

# -- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probabilities", "chosen"),
    [
        ({"map": 0.05, "chart": 0.8, "photo": 0.15}, ("chart",)),
        ({"map": 0.5, "chart": 0.25, "photo": 0.25}, ("map",)),
        ({"map": 0.4, "chart": 0.5, "photo": 0.1}, ("chart", "map")),
        ({"map": 0.34, "chart": 0.33, "photo": 0.33}, ()),
        ({"map": 0.4, "chart": 0.35, "photo": 0.25}, ()),
        ({"map": 1e-3, "chart": 1e-5, "photo": 1e-5}, ()),  # a sigmoid: it is none of these
        ({"map": 0.06, "chart": 0.04, "photo": 1e-5}, ()),  # the second is too unlikely, the first not alone
        ({"map": 0.9, "chart": 0.8, "photo": 0.01}, ("map", "chart")),
        ({"map": 0.3}, ("map",)),
        ({}, ()),
    ],
)
def test_a_tag_is_given_where_the_choice_is_clear(probabilities: dict[str, float], chosen: tuple[str, ...]) -> None:
    assert choose_tags(probabilities) == chosen


@RELAXED
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_what_is_chosen_is_likely_and_far_ahead(probabilities: dict[str, float]) -> None:
    chosen = choose_tags(probabilities)
    assert len(chosen) <= 2
    left = [chance for tag, chance in probabilities.items() if tag not in chosen]
    for tag in chosen:
        assert probabilities[tag] >= LEAST
        assert all(probabilities[tag] >= MARGIN * chance for chance in left)


def test_a_sigmoid_does_not_overflow() -> None:
    cosines = np.asarray([[-1.0, 0.0, 1.0]])
    assert Calibration(1e4, 0.0).probabilities(cosines).tolist() == [[0.0, 0.5, 1.0]]
    assert Calibration(1e4).probabilities(cosines).tolist() == [[0.0, 0.0, 1.0]]


# -- the probabilities -----------------------------------------------------------------------------------------------

BUILDERS = {"clip": testing.tiny_clip, "siglip": testing.tiny_siglip, "siglip2": testing.tiny_siglip2}
TAGS = {"chart": ("a bar chart",), "map": ("a map of a country",), "photo": ("a photo",)}
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)).resize((64, 64))
    for seed in range(3)
]


class Family(NamedTuple):
    name: str
    folder: Path
    encoder: object


@pytest.fixture(scope="module", params=BUILDERS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    pytest.importorskip("torch")
    from mmrag.clip import ClipEncoder

    folder = BUILDERS[request.param](tmp_path_factory.mktemp(request.param))
    return Family(request.param, _calibrated(folder), ClipEncoder(folder, device="cpu", dtype="float32"))


def _calibrated(folder: Path) -> Path:
    """As trained models are: a random one has the scale and bias that training starts from."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = np.full_like(weights["logit_scale"], 3.5)
    if "logit_bias" in weights:
        weights["logit_bias"] = np.full_like(weights["logit_bias"], -2.0)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def _plain_logits(family: Family, texts: list[str]) -> np.ndarray:
    """transformers' own: the whole model, asked about all pictures and texts at once."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(family.folder)
    processor = transformers.AutoProcessor.from_pretrained(family.folder)
    padding = "max_length" if family.name.startswith("siglip") else True
    options = {"max_length": 64} if family.name.startswith("siglip") else {}
    inputs = processor(text=texts, images=PICTURES, padding=padding, return_tensors="pt", **options)
    with torch.inference_mode():
        return model(**inputs).logits_per_image.numpy()


def test_probabilities_are_the_models_own(family: Family) -> None:
    logits = _plain_logits(family, [text for (text,) in TAGS.values()])
    if family.name == "clip":
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    else:
        expected = 1 / (1 + np.exp(-logits))
    tagger = ZeroShotTagger(family.encoder, family.encoder.calibration, tags=TAGS, templates=("{}",))
    found = tagger.probabilities(family.encoder.get_image_embedding_batch(PICTURES))
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert expected.std() > 1e-3  # or anything would be equal to it
    assert tagger.tags(family.encoder.get_image_embedding_batch(PICTURES)) == [
        choose_tags(dict(zip(TAGS, row, strict=True))) for row in expected
    ]


def test_prompts_of_one_tag_are_averaged_and_encoded_once(family: Family) -> None:
    asked: list[list[str]] = []

    class Listening:
        def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
            asked.append(texts)
            return family.encoder.get_text_embedding_batch(texts)

    tagger = ZeroShotTagger(Listening(), Calibration(1.0, 0.0))
    vectors = family.encoder.get_image_embedding_batch(PICTURES)
    assert tagger.probabilities([]).shape == (0, len(PICTURE_TAGS))
    assert asked == []
    first = tagger.probabilities(vectors)
    assert tagger.probabilities(vectors).tolist() == first.tolist()
    assert [len(texts) for texts in asked] == [len(TAG_TEMPLATES) * sum(map(len, PICTURE_TAGS.values()))]
    prompts = [t.format(name) for t in TAG_TEMPLATES for name in PICTURE_TAGS["photo"]]
    mean = np.mean(family.encoder.get_text_embedding_batch(prompts), axis=0)
    cosines = np.asarray(vectors) @ mean / np.linalg.norm(mean)
    place = list(PICTURE_TAGS).index("photo")
    np.testing.assert_allclose(first[:, place], 1 / (1 + np.exp(-cosines)), rtol=1e-5)


def test_without_numbers_to_go_by_there_are_no_tags(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from safetensors.numpy import load_file, save_file

    from mmrag.clip import ClipEncoder

    folder = testing.tiny_siglip(tmp_path / "siglip")
    weights = load_file(folder / "model.safetensors")
    del weights["logit_bias"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert zero_shot_tagger(ClipEncoder(folder, device="cpu")) is None
    chinese = ClipEncoder(testing.tiny_chinese_clip(tmp_path / "chinese"), device="cpu")
    assert zero_shot_tagger(chinese) is None  # the prompts are English
    assert zero_shot_tagger(HashEncoder()) is zero_shot_tagger(None) is None


# -- at ingest -------------------------------------------------------------------------------------------------------


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], list[int]]:
    """Counts the images that an encoder encodes."""

    def of(encoder: object) -> list[int]:
        counts: list[int] = []
        encode = type(encoder)._encode_images

        def spy(self: object, images: list[object]) -> object:
            counts.append(len(images))
            return encode(self, images)

        monkeypatch.setattr(type(encoder), "_encode_images", spy)
        return counts

    return of


@pytest.mark.slow
def test_a_picture_is_tagged_by_the_vector_it_is_found_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: Callable[[object], list[int]]
) -> None:
    pytest.importorskip("torch")
    from mmrag.clip import ClipEncoder

    encoder = ClipEncoder(testing.tiny_clip(tmp_path / "clip"), device="cpu")
    encoder._calibration = Calibration(2000.0)  # as sure as a trained model: its cosines differ by more
    PICTURES[0].resize((400, 300)).save(tmp_path / "a.png")
    images = counting(encoder)
    with Index.open(tmp_path / "store", create=True) as index:
        (row,) = ingest_files(index, [tmp_path / "a.png"], Encoders(HashEncoder(), encoder), workers=1).results
        assert row.reason == ""
        (document,) = index.documents()
        page = index.page(document.id, 1)
        assert page is not None
        (picture,) = [region for region in page.regions if region.kind is RegionKind.PICTURE]
        assert sum(images) == 1
        tagger = zero_shot_tagger(encoder)
        assert tagger is not None
        crop = Image.open(index.source(document)).convert("RGB")
        assert picture.tags == tagger.tags([encoder.get_image_embedding(crop)])[0]
        assert len(picture.tags) == 1
        (tag,) = picture.tags
        assert index.match_chunks(tag, top_k=3) == index.match_pages(tag, top_k=3) == []  # noise must not be searched

    monkeypatch.setattr("mmrag.engine.load_encoders", lambda settings, read_words: Encoders(HashEncoder(), encoder))
    options = ["-s", str(tmp_path / "store"), "--image", str(tmp_path / "a.png")]
    assert f"picture ({tag})" in CliRunner().invoke(app, ["search", *options]).stdout
    assert json.loads(CliRunner().invoke(app, ["search", *options, "--json"]).stdout)[0]["tags"] == [tag]
    shown = CliRunner().invoke(app, ["show", "-s", options[1], "a.png", "-o", str(tmp_path / "page.png")])
    assert f"  {picture.id}  picture ({tag})\n" in shown.stdout
