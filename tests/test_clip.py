"""ClipEncoder against transformers' own output, on tiny checkpoints of each family."""

import asyncio
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from mmrag import checkpoint, clip, testing
from mmrag.clip import ClipEncoder
from mmrag.errors import MissingExtra, ModelNotFound, UnreadableFile, UsageError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BUILDERS = {
    "clip": testing.tiny_clip,
    "siglip": testing.tiny_siglip,
    "siglip2": testing.tiny_siglip2,
    "chinese_clip": testing.tiny_chinese_clip,
}
LIMITS = {"clip": 77, "siglip": 64, "siglip2": 64, "chinese_clip": 52}
TEXTS = [
    "a cat",
    "the red dog and the people on the grass, seen from a window of the second floor",
    "一只猫在草地上",
    "tables",
    "word " * 200,
    "A Chart Of The Year 2024!",
    "x",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small only wait for one another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Family(NamedTuple):
    name: str
    folder: Path
    encoder: ClipEncoder


@pytest.fixture(scope="module", params=BUILDERS)
def family(request, tmp_path_factory):
    folder = BUILDERS[request.param](tmp_path_factory.mktemp(request.param))
    return Family(request.param, folder, ClipEncoder(folder, device="cpu", dtype="float32", embed_batch_size=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return testing.tiny_clip(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder):
    return ClipEncoder(folder, device="cpu", dtype="float32")


@pytest.fixture
def dead_hub(monkeypatch, tmp_path):
    """An empty cache, and a hub that refuses every connection."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))  # read from HF_HOME when first imported
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def pictures() -> list[Image.Image]:
    """Seeded noise over a slope, in sizes from tiny to wide."""
    rng = np.random.default_rng(0)
    images = []
    for width, height in [(32, 32), (90, 40), (20, 70), (301, 200), (64, 64)]:
        slope = np.linspace(0, rng.integers(80, 200), width * height * 3).reshape(height, width, 3)
        noise = rng.integers(0, 50, (height, width, 3)) + rng.integers(0, 80, 3)
        images.append(Image.fromarray(np.clip(slope + noise, 0, 255).astype(np.uint8)))
    return images


def picture() -> Image.Image:
    return pictures()[1]


def png(image: Image.Image, **options) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def normalised(features) -> np.ndarray:
    vectors = features.pooler_output.numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def close(left, right, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=0, atol=tolerance)


def distinct(vectors) -> bool:
    """No two alike: otherwise a wrong order would pass unseen."""
    vectors = np.asarray(vectors)
    gaps = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    return bool((gaps + np.eye(len(vectors)) > 1e-3).all())


# Against transformers


def test_text_equals_transformers(family):
    model = transformers.AutoModel.from_pretrained(family.folder)
    processor = transformers.AutoProcessor.from_pretrained(family.folder)
    padding = "max_length" if "siglip" in family.name else True
    limit = LIMITS[family.name]
    inputs = processor(text=TEXTS, padding=padding, truncation=True, max_length=limit, return_tensors="pt")
    with torch.no_grad():
        expected = normalised(model.get_text_features(**inputs))
    close(family.encoder.get_text_embedding_batch(TEXTS), expected)
    close([family.encoder.get_query_embedding(text) for text in TEXTS], expected)


def test_images_equal_transformers(family):
    model = transformers.AutoModel.from_pretrained(family.folder)
    processor = transformers.AutoProcessor.from_pretrained(family.folder)
    with torch.no_grad():
        expected = normalised(model.get_image_features(**processor(images=pictures(), return_tensors="pt")))
    close(family.encoder.get_image_embedding_batch(pictures()), expected)


# Batches


def test_batches_equal_one_by_one_in_order(family):
    encoder = family.encoder
    texts = encoder.get_text_embedding_batch(TEXTS)
    assert distinct(texts)
    close(texts, [encoder.get_text_embedding(text) for text in TEXTS])
    close(texts, encoder._get_text_embeddings(TEXTS))
    images = encoder.get_image_embedding_batch(pictures())
    assert distinct(images)
    close(images, [encoder.get_image_embedding(image) for image in pictures()])


def test_async_equals_sync(family):
    encoder = family.encoder

    async def everything():
        return await asyncio.gather(
            encoder.aget_text_embedding_batch(TEXTS),
            encoder.aget_image_embedding_batch(pictures()),
            encoder.aget_query_embedding(TEXTS[1]),
            encoder.aget_text_embedding(TEXTS[1]),
            encoder.aget_image_embedding(picture()),
        )

    texts, images, query, text, image = asyncio.run(everything())
    close(texts, encoder.get_text_embedding_batch(TEXTS))
    close(images, encoder.get_image_embedding_batch(pictures()))
    close([query, text], [encoder.get_text_embedding(TEXTS[1])] * 2)
    close(image, encoder.get_image_embedding(picture()))


def test_a_batch_holds_texts_of_like_length(encoder, monkeypatch):
    batches = []
    encode = ClipEncoder._encode_texts

    def recorded(self, texts):
        batches.append(texts)
        return encode(self, texts)

    monkeypatch.setattr(ClipEncoder, "_encode_texts", recorded)
    monkeypatch.setattr(encoder, "embed_batch_size", 2)
    encoder.get_text_embedding_batch(["a" * 30, "b", "c" * 29, "d"])
    assert batches == [["b", "d"], ["c" * 29, "a" * 30]]


def test_nothing_in_nothing_out(encoder):
    assert encoder.get_text_embedding_batch([]) == encoder.get_image_embedding_batch([]) == []


def test_vectors_are_normalised_and_of_the_stated_length(family):
    encoder = family.encoder
    vectors = np.array(encoder.get_text_embedding_batch([*TEXTS, ""]) + encoder.get_image_embedding_batch(pictures()))
    assert vectors.shape == (len(TEXTS) + 1 + len(pictures()), encoder.dim)
    close(np.linalg.norm(vectors, axis=1), np.ones(len(vectors)))


def test_long_text_is_cut_at_the_models_limit(family):
    encoder = family.encoder
    assert encoder.max_tokens == LIMITS[family.name]
    close(encoder.get_text_embedding("a b " * 500), encoder.get_text_embedding("a b " * 100 + "z" * 3000))
    assert distinct(encoder.get_text_embedding_batch(["a b " * 10, "a b " * 10 + "z"]))


# Images as people have them


def test_every_pil_mode_becomes_rgb(family):
    for mode in ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I", "F"]:
        image = picture().convert(mode)
        vectors = family.encoder.get_image_embedding_batch([image, image.convert("RGB")])
        close(*vectors)


def test_transparency_is_white_paper(encoder):
    drawing = Image.new("RGBA", (32, 32), (0, 0, 0, 0))  # black where nothing is drawn, as drawing programs save it
    drawing.paste((0, 0, 0, 255), (8, 8, 24, 24))
    paper = Image.new("RGB", (32, 32), "white")
    paper.paste("black", (8, 8, 24, 24))
    close(encoder.get_image_embedding(drawing), encoder.get_image_embedding(paper))
    # A palette with a transparent entry, as in GIF and small PNG.
    palette = paper.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    palette.info["transparency"] = palette.getpixel((0, 0))
    close(encoder.get_image_embedding(png(palette)), encoder.get_image_embedding(paper))


@pytest.mark.parametrize(("mode", "order"), [("I;16", "<u2"), ("I;16B", ">u2")])  # little and big end first
def test_sixteen_bit_grey_is_scaled_not_clipped(encoder, mode, order):
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    deep = Image.frombytes(mode, picture().size, grey.astype(order).tobytes())
    close(encoder.get_image_embedding(deep), encoder.get_image_embedding(picture().convert("L")))


def test_photo_is_turned_upright(encoder):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned right
    turned = encoder.get_image_embedding(png(picture(), exif=exif))
    close(turned, encoder.get_image_embedding(picture().rotate(-90, expand=True)))
    assert distinct([turned, encoder.get_image_embedding(picture())])


def test_path_bytes_and_pil_are_the_same_image(encoder, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png(picture()))
    sources = [path, str(path), path.read_bytes(), BytesIO(path.read_bytes()), Image.open(BytesIO(path.read_bytes()))]
    close(encoder.get_image_embedding_batch(sources), [encoder.get_image_embedding(picture())] * len(sources))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/cat.png", "HTTPS://example.org/cat.png", "file:///etc/hosts", "data:image/png;base64,AA=="],
)
def test_urls_are_refused(encoder, url):
    with pytest.raises(UsageError, match="URL"):
        encoder.get_image_embedding(url)


@pytest.mark.parametrize("content", [b"", b"not an image", png(picture())[:60]], ids=["empty", "text", "cut"])
def test_damaged_image_is_named(encoder, tmp_path, content):
    path = tmp_path / "scan.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=re.escape("scan.png")):
        encoder.get_image_embedding(str(path))
    with pytest.raises(UnreadableFile, match="in memory"):
        encoder.get_image_embedding(content)


def test_damage_that_pil_finds_late_is_named(encoder):
    with Image.open(BytesIO(png(picture())[:-400])) as lazy, pytest.raises(UnreadableFile, match="in memory"):
        encoder.get_image_embedding(lazy)


def test_missing_image_is_named(encoder, tmp_path):
    with pytest.raises(UnreadableFile, match=re.escape("gone.png")):
        encoder.get_image_embedding(tmp_path / "gone.png")


# Checkpoints that cannot be had


def assert_helpful(error, name):
    message = str(error.value)
    assert name in message
    assert "local folder" in message
    assert "--profile offline" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "no/such/folder"])
def test_a_path_that_does_not_exist(dead_hub, name):
    started = time.monotonic()
    with pytest.raises(ModelNotFound) as error:
        ClipEncoder(name)
    assert_helpful(error, name)
    assert time.monotonic() - started < 10


def test_hub_that_cannot_be_reached(dead_hub):
    started = time.monotonic()
    with pytest.raises(ModelNotFound) as error:
        ClipEncoder("openai/clip-vit-base-patch32")
    assert_helpful(error, "openai/clip-vit-base-patch32")
    assert time.monotonic() - started < 10


def test_hub_that_never_answers(dead_hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the connection and says nothing
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setattr(checkpoint, "_HUB_SECONDS", 0.5)
        started = time.monotonic()
        with pytest.raises(ModelNotFound) as error:
            ClipEncoder("openai/clip-vit-base-patch32")
        assert_helpful(error, "openai/clip-vit-base-patch32")
        assert time.monotonic() - started < 3


def test_hub_name_is_served_from_the_cache_without_the_hub(dead_hub, folder, encoder):
    repository = dead_hub / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("0" * 40)).symlink_to(folder)
    cached = ClipEncoder("acme/tiny", device="cpu", dtype="float32")
    assert cached.identity == "clip:acme/tiny"
    close(cached.get_text_embedding("a cat"), encoder.get_text_embedding("a cat"))


def hub_with(monkeypatch, names, folder):
    """A hub whose one repository lists `names`; a download gives `folder`. Returns the downloads asked for."""
    downloads = []
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda self, name, **options: info)

    def download(name, **options):
        downloads.append((name, options["revision"]))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return downloads


def test_hub_name_is_downloaded_at_its_revision(dead_hub, monkeypatch, folder):
    downloads = hub_with(monkeypatch, [path.name for path in folder.iterdir()], folder)
    assert ClipEncoder("acme/tiny", revision="v2").identity == "clip:acme/tiny@v2"
    assert downloads == [("acme/tiny", "v2")]


def test_pickled_weights_on_the_hub_are_not_downloaded(dead_hub, monkeypatch, folder):
    names = ["config.json", "pytorch_model.bin", "preprocessor_config.json", "tokenizer.json"]
    downloads = hub_with(monkeypatch, names, folder)
    with pytest.raises(ModelNotFound, match="safetensors") as error:
        ClipEncoder("acme/tiny")
    assert_helpful(error, "acme/tiny")
    assert downloads == []


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "safetensors"),
        ("processor_config.json", "image processor"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_folder_that_lacks_a_part(tmp_path, removed, named):
    folder = testing.tiny_clip(tmp_path / "part")
    (folder / removed).unlink()
    torch.save({}, folder / "pytorch_model.bin")  # must not stand in for the weights
    with pytest.raises(ModelNotFound, match=named) as error:
        ClipEncoder(folder)
    assert_helpful(error, str(folder))


def test_damaged_weights(tmp_path):
    folder = testing.tiny_clip(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelNotFound) as error:
        ClipEncoder(folder)
    assert_helpful(error, str(folder))


def test_weights_that_transformers_would_fill_with_random_numbers(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = testing.tiny_clip(tmp_path / "half")
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelNotFound, match=re.escape("text_projection.weight")):
        ClipEncoder(folder)


@pytest.mark.parametrize("kind", ["bert", "qwen2_vl"])  # no images at all; images, but not in the text's space
def test_other_architectures_are_refused(tmp_path, kind):
    transformers.AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=f"is a {kind} model"):
        ClipEncoder(tmp_path)


def test_code_of_a_checkpoint_is_never_run(tmp_path):
    folder = testing.tiny_clip(tmp_path / "armed")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "acme", "auto_map": {"AutoConfig": "acme.Config", "AutoModel": "acme.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "acme.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    with pytest.raises(ModelNotFound):
        ClipEncoder(folder)
    assert not (tmp_path / "ran").exists()


# Options


def test_identity_of_a_folder_follows_its_weights(folder, encoder, tmp_path):
    size = (folder / "model.safetensors").stat().st_size
    digest = hashlib.sha256((folder / "config.json").read_bytes() + str(size).encode()).hexdigest()
    assert encoder.identity == f"clip:tiny@{digest[:12]}"
    assert ClipEncoder(testing.tiny_siglip(tmp_path / "tiny")).identity != encoder.identity


def test_same_seed_same_checkpoint(folder, tmp_path):
    before = torch.get_rng_state()
    again = testing.tiny_clip(tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_half_precision_stays_close_and_normalised(family):
    half = ClipEncoder(family.folder, device="cpu", dtype="bfloat16")
    assert (half.device, half.dtype) == ("cpu", "bfloat16")
    vectors = np.array(half.get_image_embedding_batch(pictures()) + half.get_text_embedding_batch(TEXTS))
    exact = family.encoder.get_image_embedding_batch(pictures()) + family.encoder.get_text_embedding_batch(TEXTS)
    close(np.linalg.norm(vectors, axis=1), np.ones(len(vectors)))
    assert (vectors * exact).sum(axis=1).min() > 0.95


def test_options_of_a_gpu_change_nothing_but_the_place(family, monkeypatch):
    """What resizing there does to the vectors is measured by gpu_speed.py."""
    assert clip._image_options("cpu") == {}
    options = clip._image_options("cuda:1")
    assert options.pop("device") == "cuda:1"
    expected = family.encoder.get_image_embedding_batch(pictures())
    monkeypatch.setattr(clip, "_image_options", lambda device: {**options, "device": device})
    close(family.encoder.get_image_embedding_batch(pictures()), expected)


@pytest.mark.parametrize(
    ("fast", "enough", "taken"),
    [(None, 0.9, "float32"), ("bfloat16", 0.9, "bfloat16"), ("bfloat16", 1.1, "float32")],
    ids=["slow processor", "close", "not close enough"],
)
def test_a_processor_computes_in_bfloat16_where_the_vectors_stay_the_same(family, monkeypatch, fast, enough, taken):
    monkeypatch.setattr(clip, "fast_dtype", lambda device: fast)
    monkeypatch.setattr(clip, "EXACT_ENOUGH", enough)
    monkeypatch.setattr(clip, "MANY_IMAGES", 1 + len(pictures()))
    encoder = ClipEncoder(family.folder, device="cpu", embed_batch_size=3)
    assert encoder.get_query_embedding(TEXTS[0]) == family.encoder.get_query_embedding(TEXTS[0])
    encoder.get_image_embedding_batch(pictures())
    assert encoder.dtype == "float32"  # few images are not worth finding out
    vectors = np.array(encoder.get_image_embedding_batch(pictures()))
    assert (encoder.device, encoder.dtype) == ("cpu", taken)
    assert encoder._model.dtype == getattr(torch, taken)
    assert encoder.identity == family.encoder.identity  # an index takes vectors of either
    exact = np.array(family.encoder.get_image_embedding_batch(pictures()))
    assert (vectors * exact).sum(axis=1).min() > enough - 0.2
    assert np.array_equal(vectors, exact) == (taken == "float32")


@pytest.mark.parametrize("option", [{"device": "abacus"}, {"dtype": "int8"}, {"dtype": "nn"}])
def test_options_that_cannot_be_used(folder, option):
    with pytest.raises(UsageError, match=next(iter(option.values()))):
        ClipEncoder(folder, **option)


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_missing_extra_says_what_to_install(folder, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # what import does when it is not installed
    with pytest.raises(MissingExtra, match=re.escape(f"{module} is not installed: run  pip install 'mmrag[full]'")):
        ClipEncoder(folder)


def test_tokenizer_that_needs_sentencepiece(tmp_path, monkeypatch):
    folder = testing.tiny_siglip(tmp_path / "first")
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": "SiglipTokenizer"}))

    def load(*args, **kwargs):
        raise ImportError("SiglipTokenizer requires the SentencePiece library but it was not found. Check out …")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", load)
    with pytest.raises(MissingExtra, match=r"SentencePiece library but it was not found\): run  pip install"):
        ClipEncoder(folder)


# The encoder without a model


def test_hash_encoder():
    encoder = testing.HashEncoder()
    assert (encoder.identity, encoder.dim, encoder.max_tokens) == ("hash-64", 64, 512)
    assert encoder.count_tokens(["one two", "", " three "]) == [2, 0, 1]
    one, same, other, none = encoder.get_text_embedding_batch(["Red cat, 红猫", "猫 cat 红 red", "blue dog", ""])
    assert one == same == encoder.get_query_embedding("red cat 红 猫")
    assert np.dot(one, other) < 0.5
    close(np.linalg.norm([one, other, none], axis=1), np.ones(3))
    wide = testing.HashEncoder(dim=128)
    assert (wide.identity, len(wide.get_text_embedding("cat"))) == ("hash-128", 128)


def test_import_loads_no_torch_and_hashes_do_not_change():
    code = (
        "import sys, mmrag.clip, mmrag.testing\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))\n"
        "print(mmrag.testing.HashEncoder().get_text_embedding('red cat'))"
    )
    root = Path(clip.__file__).parents[1]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded, vector = done.stdout.splitlines()
    assert loaded == "[]"
    assert json.loads(vector) == testing.HashEncoder().get_text_embedding("red cat")
