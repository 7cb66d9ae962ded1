"""Models for tests: CLIP-family encoders and a cross-encoder of toy size, and an encoder that needs no model at all.

The checkpoints know nothing of the world (their weights are random, from a fixed seed), but they load, tokenise, batch
and pad exactly as the published ones do. Nothing here is downloaded; torch and transformers load inside the builders.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding

from mmrag.errors import require

_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_LETTERS = string.ascii_lowercase + string.digits + string.punctuation
_HANZI = "一只猫在草地上的照片图表是红色狗和人"

# A Chinese character is a word of its own; anything else is a word up to the next gap.
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+")


class HashEncoder(BaseEmbedding):
    """Bag of words, hashed: equal words give equal vectors, on every machine and in every process."""

    model_name: str = "hash"
    dim: int = 64
    max_tokens: int = 512

    @classmethod
    def class_name(cls) -> str:
        return "HashEncoder"

    @property
    def identity(self) -> str:
        return f"hash-{self.dim}"

    def count_tokens(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def _get_text_embedding(self, text: str) -> Embedding:
        vector = [0.0] * self.dim
        for word, count in Counter(_WORD.findall(text.lower())).items():
            # blake2b, because hash() of a string changes with every process.
            digest = blake2b(word.encode(), digest_size=8).digest()
            vector[int.from_bytes(digest, "big") % self.dim] += count
        if not any(vector):
            vector[0] = 1.0  # a text without words still needs a direction: the cosine with a zero vector is undefined
        length = math.hypot(*vector)
        return [value / length for value in vector]

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)


def tiny_clip(folder: str | Path) -> Path:
    """Byte-level tokenizer, 77 tokens, images 32 x 32, 24 dimensions."""
    transformers = _transformers()
    # CLIP writes a byte as a printable character, and marks the last one of a word: 256 x 2, then the two ends.
    pieces = sorted(_byte_alphabet()) + sorted(f"{char}</w>" for char in _byte_alphabet())
    vocab = _numbered([*pieces, "<|startoftext|>", "<|endoftext|>"])
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
    ends = {"bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1, "pad_token_id": len(vocab) - 1}
    config = transformers.CLIPConfig(
        text_config={**_TOWER, **ends, "vocab_size": len(vocab), "max_position_embeddings": 77},
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = transformers.CLIPProcessor(image_processor=images, tokenizer=tokenizer)
    return _save(transformers.CLIPModel, config, processor, folder)


def tiny_siglip(folder: str | Path) -> Path:
    """Character tokenizer, 64 tokens always padded, images 32 x 32, 32 dimensions."""
    transformers = _transformers()
    import tokenizers

    # SigLIP's own tokenizer class needs sentencepiece and a trained model file; this one has its habits: lower case,
    # closing </s> that also pads, no attention mask.
    vocab = _numbered(["<unk>", "</s>", "▁", *_LETTERS])
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, "<unk>"))
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Lowercase(), tokenizers.normalizers.Replace(" ", "▁")]
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    backend.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",  # noqa: S106 -- a token of text, no password
        eos_token="</s>",  # noqa: S106
        pad_token="</s>",  # noqa: S106
        model_input_names=["input_ids"],
        model_max_length=64,
    )
    config = transformers.SiglipConfig(
        text_config={**_TOWER, "vocab_size": len(vocab), "max_position_embeddings": 64, **_SIGLIP_ENDS},
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8},
    )
    images = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    processor = transformers.SiglipProcessor(image_processor=images, tokenizer=tokenizer)
    return _save(transformers.SiglipModel, config, processor, folder)


def tiny_siglip2(folder: str | Path) -> Path:
    """Lower-casing Gemma-style tokenizer, 64 tokens always padded, up to 256 patches of 16 x 16, 32 dimensions."""
    transformers = _transformers()
    vocab = _numbered(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *_LETTERS])
    # As in the published checkpoints: no attention mask, and no limit of its own (the model's 64 is the limit).
    tokenizer = transformers.Siglip2Tokenizer(
        vocab=vocab, merges=[], padding_side="right", model_input_names=["input_ids"]
    )
    config = transformers.Siglip2Config(
        text_config={**_TOWER, "vocab_size": len(vocab), "max_position_embeddings": 64, **_SIGLIP_ENDS},
        vision_config={**_TOWER, "num_patches": 256, "patch_size": 16},
    )
    processor = transformers.Siglip2Processor(transformers.Siglip2ImageProcessor(), tokenizer)
    return _save(transformers.Siglip2Model, config, processor, folder)


def tiny_chinese_clip(folder: str | Path) -> Path:
    """BERT tokenizer with a few Chinese characters, 52 tokens, images 32 x 32, 24 dimensions."""
    transformers = _transformers()
    pieces = [*_LETTERS, *(f"##{char}" for char in _LETTERS), *dict.fromkeys(_HANZI)]
    vocab = _numbered(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
    config = transformers.ChineseCLIPConfig(
        text_config={**_TOWER, "vocab_size": len(vocab), "max_position_embeddings": 52},
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    images = transformers.ChineseCLIPImageProcessor(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}, do_center_crop=False
    )
    processor = transformers.ChineseCLIPProcessor(
        image_processor=images, tokenizer=transformers.BertTokenizer(vocab=vocab)
    )
    return _save(transformers.ChineseCLIPModel, config, processor, folder)


def tiny_cross_encoder(folder: str | Path, *, num_labels: int = 1) -> Path:
    """A BERT that scores pairs: character tokenizer, 64 tokens."""
    transformers = _transformers()
    vocab = _numbered(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_LETTERS, *(f"##{char}" for char in _LETTERS)])
    config = transformers.BertConfig(**_TOWER, vocab_size=len(vocab), max_position_embeddings=64, num_labels=num_labels)
    tokenizer = transformers.BertTokenizer(vocab=vocab, model_max_length=64)
    return _save(transformers.BertForSequenceClassification, config, tokenizer, folder)


_SIGLIP_ENDS = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1}


def _transformers() -> Any:
    require("torch", extra="full")
    return require("transformers", extra="full")


def _byte_alphabet() -> list[str]:
    import tokenizers

    alphabet: list[str] = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    return alphabet


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def _save(architecture: Any, config: Any, processor: Any, folder: str | Path) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had happened
        torch.manual_seed(0)
        model = architecture(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Ten times the usual spread: otherwise two layers hardly tell one input from another.
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)
