"""From settings to loaded models: the one place that knows which class stands behind a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmrag.settings import Settings
from mmrag.text import is_mostly_cjk


@dataclass(frozen=True, slots=True)
class Encoders:
    """The models that make vectors: `text` is a LlamaIndex embedding that counts tokens, `image` a multimodal one."""

    text: Any
    image: Any = None

    @property
    def text_identity(self) -> str:
        return str(self.text.identity)

    @property
    def image_identity(self) -> str:
        return str(self.image.identity) if self.image else f"captions by {self.text_identity}"

    def reads(self, text: str) -> bool:
        """Whether the text encoder knows the language: one that says nothing of it is taken to know them all."""
        return not (getattr(self.text, "english_only", False) and is_mostly_cjk(text))

    def encode_image_query(self, query: str) -> list[float]:
        """The question in the space of the image collection."""
        return list((self.image or self.text).get_query_embedding(query))


def load_encoders(settings: Settings) -> Encoders:
    """Raises ModelNotFound or MissingExtra when a chosen encoder is not there."""
    from mmrag.encoders import BundledTextEncoder

    image = None
    if settings.image_encoder != "captions":
        from mmrag.clip import ClipEncoder

        image = ClipEncoder(model_name=settings.image_encoder, device=settings.device)
    return Encoders(BundledTextEncoder(), image)
