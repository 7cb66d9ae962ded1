"""From settings to loaded models: the one place that knows which class stands behind a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from mmrag.errors import UsageError, require
from mmrag.render import ImageInput, Picture, open_image
from mmrag.settings import Settings, check_generator
from mmrag.text import is_mostly_cjk
from mmrag.verify import Check, check

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from llama_index.core.postprocessor.types import BaseNodePostprocessor

    from mmrag.engine import AnswerGenerator


ReadWords = Callable[[Image.Image], str]
"""What is printed on a picture; empty where nothing is."""
_PICTURE_CHARACTERS = 2_000
"""Of what is read on a picture: enough to know a page by, and more would only make the search slow."""


@dataclass(frozen=True, slots=True)
class Encoders:
    """The models that make vectors: `text` is a LlamaIndex embedding that counts tokens, `image` a multimodal one.

    `read_words` reads what is printed on a picture, for stores where no vector of the picture itself can be looked for.
    """

    text: Any
    image: Any = None
    read_words: ReadWords | None = None

    @property
    def text_identity(self) -> str:
        return str(self.text.identity)

    @property
    def image_identity(self) -> str:
        return str(self.image.identity) if self.image else f"captions by {self.text_identity}"

    def reads(self, text: str) -> bool:
        """Whether the text encoder knows the language."""
        return reads(self.text, text)

    def encode_image_query(self, query: str) -> list[float]:
        """The question in the space of the image collection."""
        return list((self.image or self.text).get_query_embedding(query))

    def picture(self, image: ImageInput | Picture, *, with_words: bool = False) -> Picture:
        """What a question comes with, its words read where they are wished, or all that can be looked for."""
        found = image if isinstance(image, Picture) else Picture(open_image(image))
        if found.words or self.read_words is None or not (with_words or self.image is None):
            return found
        return found._replace(words=" ".join(self.read_words(found.image).split())[:_PICTURE_CHARACTERS])

    def encode_picture(self, picture: Picture) -> list[float] | None:
        """In the space of the image collection; None where that holds captions, and UsageError if no words help."""
        if self.image is not None:
            return list(self.image.get_image_embedding(picture.image))
        if picture.words:
            return None
        unread = "" if self.read_words is None else " without words"
        raise UsageError(
            f"Looking for a picture{unread} needs an image encoder, and the store must have been ingested with it: "
            "choose --profile full or --image-encoder."
        )


def reads(model: Any, text: str) -> bool:
    """Whether a model knows the language of the text: one that says nothing of it is taken to know them all."""
    return not (getattr(model, "english_only", False) and is_mostly_cjk(text))


def load_encoders(settings: Settings, read_words: ReadWords | None = None) -> Encoders:
    """Raises ModelNotFound or MissingExtra when a chosen encoder is not there."""
    from mmrag.encoders import BundledTextEncoder

    return Encoders(BundledTextEncoder(), load_image_encoder(settings), read_words)


def load_image_encoder(settings: Settings) -> Any:
    """None where pictures are found by their captions."""
    if settings.image_encoder == "captions":
        return None
    from mmrag.clip import ClipEncoder

    return ClipEncoder(model_name=settings.image_encoder, device=settings.device)


def load_generator(settings: Settings, llm: LLM | None = None) -> AnswerGenerator:
    """What writes the answers: an LLM that is there already, or what the settings name."""
    if llm := llm or load_llm(settings):
        from mmrag.generate.grounded import VISUAL_TOKENS, GroundedGenerator
        from mmrag.generate.marks import TOKEN_SIDE

        # The dialect of Qwen2.5-VL, by the identity of a checkpoint or the name that a server gives it.
        pixels = re.search(r"qwen[-_ ]?2[._]5[-_]?vl", _name(llm), re.IGNORECASE)
        return GroundedGenerator(
            llm,
            visual_tokens=settings.max_visual_tokens or VISUAL_TOKENS,
            unit=getattr(llm, "token_side", 0) or TOKEN_SIDE,
            samples=settings.samples,
            boxes="pixels" if pixels else "thousandths",
        )
    from mmrag.bundled import BundledCrossEncoder
    from mmrag.generate.extractive import ExtractiveGenerator

    return ExtractiveGenerator(BundledCrossEncoder())


def load_check(settings: Settings) -> Check:
    """What holds a claim against passages."""
    from mmrag.bundled import BundledAligner

    entail = None
    if settings.nli:
        from mmrag.rerank import HubEntailment

        entail = HubEntailment(settings.nli, device=settings.device)
    return partial(check, align=BundledAligner().align, entail=entail)


def load_llm(settings: Settings) -> LLM | None:
    """None for the extractive generator. Raises ModelNotFound, MissingExtra, or GenerationError where no server is."""
    check_generator(settings)
    if settings.generator == "extractive":
        return None
    if settings.generator == "openai":
        return _endpoint(settings)
    from mmrag.generate.qwen2_vl import VISUAL_TOKENS, Qwen2VL

    return Qwen2VL(
        settings.generator,
        device=settings.device,
        load_in_4bit=settings.load_in_4bit,
        contrast=settings.contrast,
        max_visual_tokens=settings.max_visual_tokens or VISUAL_TOKENS,
    )


def _endpoint(settings: Settings) -> LLM:
    if not settings.base_url or not settings.model:
        raise UsageError(
            "--generator openai needs --model, the name by which the server knows its model:  "
            f"mmrag doctor --generator openai --base-url {settings.base_url}  lists what it has."
        )
    require("llama_index.llms.openai_like", extra="openai")
    from mmrag.generate.endpoint import Endpoint

    return Endpoint(settings.base_url, settings.model, api_key=settings.api_key)


def _name(llm: LLM) -> str:
    return str(getattr(llm, "identity", None) or llm.metadata.model_name)


def load_reranker(settings: Settings) -> BaseNodePostprocessor | None:
    """Raises ModelNotFound or MissingExtra when the chosen reranker is not there."""
    if settings.reranker == "none":
        return None
    from mmrag.bundled import BundledCrossEncoder
    from mmrag.rerank import HubCrossEncoder, Reranker

    if settings.reranker == "bundled":
        return Reranker(BundledCrossEncoder())
    return Reranker(HubCrossEncoder(settings.reranker, device=settings.device))
