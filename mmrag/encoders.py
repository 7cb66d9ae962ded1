"""The bundled text encoder as LlamaIndex wants one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from llama_index.core.base.embeddings.base import BaseEmbedding

from mmrag.bundled import TEXT_DIM, text_vectors, token_counts

# BGE v1.5 was trained with this prefix before questions and none before passages (its model card).
_QUERY_PREFIX = "Represent this sentence for searching relevant passages: "


class BundledTextEncoder(BaseEmbedding):
    """bge-small-en-v1.5 (int8 ONNX, MIT): 384 dimensions, 512 tokens, English."""

    model_name: str = "bge-small-en-v1.5"
    max_tokens: int = 512
    dim: int = TEXT_DIM
    english_only: bool = True
    anywhere: ClassVar[Callable[[Sequence[str]], Any]] = staticmethod(text_vectors)
    """What any process can encode texts by, since the weights come with the install: one thread in each is fastest."""

    @classmethod
    def class_name(cls) -> str:
        return "BundledTextEncoder"

    @property
    def identity(self) -> str:
        """What a store remembers its vectors by."""
        return "bge-small-en-v1.5/int8"

    def count_tokens(self, texts: list[str]) -> list[int]:
        """Tokens that each text takes, without the two special ones."""
        return token_counts(texts)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return text_vectors(texts).tolist()  # type: ignore[no-any-return]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(_QUERY_PREFIX + query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)
