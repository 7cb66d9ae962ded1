"""Models for tests: encoders, a cross-encoder and vision-language models of toy size, and two without a model.

The checkpoints know nothing of the world (their weights are random, from a fixed seed), but they load, tokenise, batch
and pad exactly as the published ones do. Nothing here is downloaded; torch and transformers load inside the builders.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import LLM

from mmrag.errors import require
from mmrag.generate.streams import ByChat

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


class ScriptedLLM(ByChat, LLM):
    """A LlamaIndex LLM whose replies are a function of the messages; `asked` keeps all messages and options."""

    asked: list[tuple[list[ChatMessage], dict[str, Any]]] = []  # noqa: RUF012 -- pydantic copies it
    stopped: str = "end"

    _reply: Callable[[Sequence[ChatMessage]], str] = PrivateAttr()

    def __init__(self, reply: str | Callable[[Sequence[ChatMessage]], str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._reply = (lambda _: reply) if isinstance(reply, str) else reply

    @classmethod
    def class_name(cls) -> str:
        return "ScriptedLLM"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="scripted", is_chat_model=True)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self.asked.append((list(messages), kwargs))
        return self._response(self._reply(messages))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        text = self.chat(messages, **kwargs).message.content or ""
        ends = [match.end() for match in re.finditer(r"\S+\s*", text)] or [0]
        return (self._response(text[:end], text[start:end]) for start, end in zip([0, *ends], ends, strict=False))

    def _response(self, text: str, delta: str | None = None) -> ChatResponse:
        message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
        return ChatResponse(message=message, delta=delta, additional_kwargs={"stopped": self.stopped})


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


def tiny_qwen2_vl(folder: str | Path, *, width: int = 48, depth: int = 2, spread: float = 0.2) -> Path:
    """Byte-level tokenizer, patches of 14 x 14 in twos, 4,096 tokens; `spread` is that of the random weights."""
    vision = {"depth": 2, "embed_dim": width, "hidden_size": width, "num_heads": width // 16, "mlp_ratio": 2}
    return _tiny_qwen("Qwen2VL", folder, width, depth, {**vision, "patch_size": 14}, spread=spread)


def tiny_qwen2_5_vl(folder: str | Path) -> Path:
    """As `tiny_qwen2_vl`, with windows in the vision tower."""
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 48, "num_heads": 2, "intermediate_size": 64}
    windows = {"window_size": 56, "fullatt_block_indexes": [1]}
    return _tiny_qwen("Qwen2_5_VL", folder, 48, 2, {**vision, **windows, "patch_size": 14})


def tiny_qwen3_vl(folder: str | Path) -> Path:
    """Byte-level tokenizer, patches of 16 x 16 in twos, features of the vision tower's first layer added deep down."""
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 48, "num_heads": 2, "intermediate_size": 64}
    places = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return _tiny_qwen("Qwen3VL", folder, 48, 2, {**vision, **places, "patch_size": 16}, head_dim=16)


def tiny_llava(folder: str | Path) -> Path:
    """A CLIP tower before a LLaMA, no Qwen: every image becomes 32 x 32 pixels and 16 tokens."""
    transformers = _transformers()
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "</s>"}
    tokenizer = _byte_tokenizer(["<s>", "</s>", "<image>"], **roles)
    ids = tokenizer.get_vocab()
    ends = {"bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"], "pad_token_id": ids["</s>"]}
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **_TOWER, **ends, "vocab_size": len(ids), "max_position_embeddings": 4096},
        vision_config={"model_type": "clip_vision_model", **_TOWER, "image_size": 32, "patch_size": 8},
        image_token_index=ids["<image>"],
        image_seq_length=16,
    )
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = transformers.LlavaProcessor(
        images, tokenizer, 8, "default", chat_template=_LLAVA_TEMPLATE, num_additional_image_tokens=1
    )
    return _save(transformers.LlavaForConditionalGeneration, config, processor, folder)


# As the published checkpoints have them; Qwen's with videos and numbered pictures left out.
_QWEN_TEMPLATE = """\
{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
_QWEN_SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
]
_LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>\n"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def _tiny_qwen(
    family: str, folder: str | Path, width: int, depth: int, vision: dict[str, Any], *, spread: float = 0.2, **text: Any
) -> Path:
    transformers = _transformers()
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = _byte_tokenizer(_QWEN_SPECIAL, **ends)
    ids = tokenizer.get_vocab()
    text |= {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": depth}
    text |= {"num_attention_heads": width // 16, "num_key_value_heads": 1, "max_position_embeddings": 4096}
    # Half of a head's 16 numbers turn by the token's time, row and column.
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    text |= {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    config = getattr(transformers, f"{family}Config")(
        text_config={**text, "vocab_size": len(ids), "pad_token_id": ids["<|endoftext|>"]},
        vision_config=vision,
        **{f"{name}_token_id": ids[f"<|{name}|>"] for name in ("vision_start", "vision_end")},
        **{f"{name}_token_id": ids[f"<|{name}_pad|>"] for name in ("image", "video")},
    )
    images = transformers.Qwen2VLImageProcessor(patch_size=vision["patch_size"])
    videos = getattr(transformers, "Qwen3VLVideoProcessor" if family == "Qwen3VL" else "Qwen2VLVideoProcessor")()
    processor = getattr(transformers, f"{family}Processor")(images, tokenizer, videos, chat_template=_QWEN_TEMPLATE)
    architecture = getattr(transformers, f"{family}ForConditionalGeneration")
    return _save(architecture, config, processor, folder, spread)


def _byte_tokenizer(special: list[str], **roles: str) -> Any:
    transformers = _transformers()
    vocab = _numbered([*sorted(_byte_alphabet()), *special])
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocab, merges=[], **roles)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    return tokenizer


def _transformers() -> Any:
    require("torch", extra="full")
    return require("transformers", extra="full")


def _byte_alphabet() -> list[str]:
    import tokenizers

    alphabet: list[str] = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    return alphabet


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def _save(architecture: Any, config: Any, processor: Any, folder: str | Path, spread: float = 0.2) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had happened
        torch.manual_seed(0)
        model = architecture(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Ten times the usual spread: otherwise two layers hardly tell one input from another.
                torch.nn.init.normal_(parameter, std=spread)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)
