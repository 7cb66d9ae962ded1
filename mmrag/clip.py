"""Pictures and words in one space: any CLIP-family checkpoint as a LlamaIndex embedding.

Knows how CLIP, SigLIP, SigLIP 2 and Chinese-CLIP want text padded and images prepared. Does not know what a page or an
index is, opens no URL, unpickles nothing, and runs no code that comes with a checkpoint.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from PIL import Image, ImageDraw

from mmrag.checkpoint import CONFIG, TEXT_PARTS, Form, fast_dtype, file_names, identify, locate, placement
from mmrag.errors import MissingExtra, MmragError, UsageError, brief, require, require_installed
from mmrag.render import ImageInput, open_image
from mmrag.tags import Calibration

_FORM = Form(
    parts={
        **CONFIG,
        **TEXT_PARTS,
        "image processor": ("preprocessor_config.json", "processor_config.json"),
    },
    instead=(
        "--image-encoder captions  which finds pictures by their captions, "
        "or  --profile offline  which needs no weights"
    ),
)

EXACT_ENOUGH = 0.995
"""The least cosine to its vector in float32 that a vector in a faster precision may have."""

MANY_IMAGES = 64

# A fast tokenizer must not be used by two threads at once ("Already borrowed"); it takes milliseconds a batch.
_TOKENIZER_LOCK = threading.Lock()
_TRYING = threading.Lock()


class ClipEncoder(MultiModalEmbedding):
    """Text and images as L2-normalised vectors of one space; `model_name` is a hub name or a local folder.

    The constructor loads the weights: a missing model or extra then shows where the program is set up, not inside its
    first query, and no two threads can load at once. Unless a `dtype` is given, a processor made for bfloat16 computes
    in that from MANY_IMAGES on, where these very weights give the same vectors by it.
    """

    device: str = "cpu"
    dtype: str = "float32"
    revision: str | None = None

    _model: Any = PrivateAttr()
    _tokenizer: Any = PrivateAttr()
    _image_processor: Any = PrivateAttr()
    _text_options: dict[str, Any] = PrivateAttr()
    _calibration: Calibration | None = PrivateAttr()
    _images: int = PrivateAttr(default=0)
    _untried: str | None = PrivateAttr()
    """A precision that may be faster."""
    _identity: str = PrivateAttr()
    _dim: int = PrivateAttr()

    def __init__(
        self,
        model_name: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        embed_batch_size: int = 32,
        **kwargs: Any,  # LlamaIndex's own: callback_manager, embeddings_cache, num_workers, rate_limiter
    ) -> None:
        require_installed("torch", "transformers", extra="full")
        folder = locate(str(model_name), revision, _FORM)
        where = placement(device, dtype)
        super().__init__(model_name=str(model_name), embed_batch_size=embed_batch_size, **kwargs)
        self.device, self.dtype = where
        self.revision = revision
        model, self._tokenizer, self._image_processor, self._calibration = _load(self.model_name, folder, self.dtype)
        self._model = model.to(self.device)
        self._identity = f"clip:{identify(self.model_name, revision, folder)}"
        self._text_options = _text_options(model.config, self._tokenizer)
        self._untried = None if dtype else fast_dtype(device)
        self._dim = len(self._get_text_embedding("a photo"))  # measured: each family's config calls it something else

    def _hurry(self) -> None:
        """Take a faster precision if the vectors stay the same: weights differ in what they make of rounding.

        Once: finding out takes as long as some twenty pictures.
        """
        import torch

        with _TRYING:
            dtype, self._untried = self._untried, None
            if dtype is None:
                return
            exact, expected = self._model, self._samples()
            self._model = copy.deepcopy(exact).to(getattr(torch, dtype))
            if min((expected * self._samples()).sum(dim=-1)) >= EXACT_ENOUGH:
                self.dtype = dtype
            else:
                self._model = exact

    def _samples(self) -> Any:
        """Vectors of some texts and pictures, as a tensor (n, dim)."""
        import torch

        return torch.tensor(self._encode_texts(_SAMPLE_TEXTS) + self._encode_images(_sample_images()))

    @classmethod
    def class_name(cls) -> str:
        return "ClipEncoder"

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def identity(self) -> str:
        """Names the encoder and its weights, for an index to remember."""
        return self._identity

    @property
    def family(self) -> str:
        """As transformers calls it: clip, siglip, siglip2, chinese_clip …"""
        return str(self._model.config.model_type)

    @property
    def calibration(self) -> Calibration | None:
        """How sure a cosine makes the model; None where the checkpoint lacks the numbers."""
        return self._calibration

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut to this, special tokens included."""
        limit: int = self._text_options["max_length"]
        return limit

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return _short_first(texts, lambda ordered: self._in_batches(self._encode_texts, ordered))

    def _get_image_embeddings(self, img_file_paths: Sequence[ImageInput]) -> list[Embedding]:
        self._images += len(img_file_paths)
        if self._images >= MANY_IMAGES:
            self._hurry()
        return self._in_batches(self._encode_images, img_file_paths)

    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        # The base class cuts batches before `_get_text_embeddings` sees them: sort here, or a batch mixes all lengths.
        batched = super().get_text_embedding_batch
        return _short_first(texts, lambda ordered: batched(ordered, show_progress, **kwargs))

    def _in_batches(self, encode: Callable[[Any], list[Embedding]], items: Sequence[Any]) -> list[Embedding]:
        starts = range(0, len(items), self.embed_batch_size)
        return [vector for start in starts for vector in encode(items[start : start + self.embed_batch_size])]

    def _encode_texts(self, texts: list[str]) -> list[Embedding]:
        with _TOKENIZER_LOCK:
            inputs = self._tokenizer(texts, **self._text_options)
        return self._vectors(self._model.get_text_features, inputs)

    def _encode_images(self, images: Sequence[ImageInput]) -> list[Embedding]:
        opened = [open_image(image) for image in images]
        inputs = self._image_processor(images=opened, return_tensors="pt", **_image_options(self.device))
        return self._vectors(self._model.get_image_features, inputs)

    def _vectors(self, features: Callable[..., Any], inputs: Any) -> list[Embedding]:
        import torch

        with torch.inference_mode():
            # The models themselves bring pixels to their precision.
            placed = {name: tensor.to(self.device) for name, tensor in inputs.items()}
            pooled = features(**placed).pooler_output  # (n, dim), projected into the common space
            # Normalised in float32: in half precision the lengths would be off by up to a percent.
            vectors: list[Embedding] = torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().tolist()
        return vectors

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._encode_texts([text])[0]

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    def _get_image_embedding(self, img_file_path: ImageInput) -> Embedding:
        return self._encode_images([img_file_path])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_image_embedding(self, img_file_path: ImageInput) -> Embedding:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: Sequence[ImageInput]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)


_SAMPLE_TEXTS = [
    "a photo",
    "a bar chart of revenue by region, 2019 to 2024",
    "港口的地图",
    "Figure 3: the pump, seen from above",
]


def _sample_images() -> list[Image.Image]:
    """Shades, noise, print."""
    page = Image.new("RGB", (300, 400), "white")
    draw = ImageDraw.Draw(page)
    for y in range(20, 380, 20):
        draw.text((20, y), f"Line {y} of a page, {y * 37} in all", "black")
    shades = [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.new("L", (256, 256), 90)]
    noise = random.Random(0).randbytes(3 * 256 * 256)  # noqa: S311  # no secret
    return [page, Image.merge("RGB", shades), Image.frombytes("RGB", (256, 256), noise)]


def _short_first(texts: list[str], encode: Callable[[list[str]], list[Embedding]]) -> list[Embedding]:
    """Encode from short to long, so that a batch pads little; the vectors come back in the order of `texts`."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    vectors = encode([texts[index] for index in order])
    return [vector for _, vector in sorted(zip(order, vectors, strict=True))]


def _text_options(config: Any, tokenizer: Any) -> dict[str, Any]:
    """The tokenizer's options for this family."""
    # SigLIP 2's tokenizer knows no limit, Chinese-CLIP's model and tokenizer may differ: the smaller one holds.
    positions = getattr(config.text_config, "max_position_embeddings", tokenizer.model_max_length)
    # SigLIP has learned to read its answer from the last of 64 places, padding and all.
    padding = "max_length" if config.model_type.startswith("siglip") else "longest"
    max_length = min(positions, tokenizer.model_max_length)
    return {"padding": padding, "truncation": True, "max_length": max_length, "return_tensors": "pt"}


def _image_options(device: str) -> dict[str, Any]:
    """Where images are resized: on a GPU, if there is one; it waits for a processor otherwise, most of the time."""
    if not device.startswith("cuda"):
        return {}
    # One by one: a batch of large pages in float32 would take gigabytes.
    return {"device": device, "disable_grouping": True}


def _load(name: str, folder: Path, dtype: str) -> tuple[Any, Any, Any, Calibration | None]:
    """Model, tokenizer, image processor and calibration, all from files of `folder`."""
    import torch

    transformers = require("transformers", extra="full")
    if "config.json" not in file_names(folder):
        raise _FORM.not_found(name, "has no config.json")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        _check_family(name, config)
        if part := _FORM.lacks(file_names(folder)):
            raise _FORM.not_found(name, f"has no {part}")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        image_processor = transformers.AutoImageProcessor.from_pretrained(folder, **options)
        model, report = transformers.AutoModel.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, **options
        )
    except MmragError:
        raise
    except ImportError as error:
        # The `full` extra brings torchvision; sentencepiece and protobuf are what SigLIP's first tokenizer needs.
        hint = "run  pip install sentencepiece protobuf torchvision"
        raise MissingExtra(f"{name} needs a package that is not installed ({brief(error)}): {hint}") from error
    except Exception as error:  # OSError, ValueError, SafetensorError, RuntimeError …: each loader has its own
        raise _FORM.not_found(name, f"cannot be loaded from {folder} ({brief(error)})") from error
    # transformers fills what a file lacks with random numbers and goes on; the logits' scale takes no part in encoding.
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith("logit_")):
        raise _FORM.not_found(name, f"lacks {len(missing)} of its weights, {missing[0]} for one")
    return model, tokenizer, image_processor, None if report["missing_keys"] else _calibration(model)


def _calibration(model: Any) -> Calibration | None:
    if not hasattr(model, "logit_scale"):
        return None
    bias = getattr(model, "logit_bias", None)
    return Calibration(model.logit_scale.float().exp().item(), None if bias is None else bias.float().item())


def _check_family(name: str, config: Any) -> None:
    architecture = require("transformers", extra="full").MODEL_MAPPING.get(type(config), None)
    # Vision-language models have get_image_features alone: their images are no vectors of the text's space.
    if not (hasattr(architecture, "get_image_features") and hasattr(architecture, "get_text_features")):
        raise UsageError(
            f"{name} is a {config.model_type} model, which does not put text and images into one space: "
            "name a CLIP-family checkpoint, for example  openai/clip-vit-base-patch32."
        )
