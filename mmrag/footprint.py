"""How much memory a vision-language checkpoint takes, by arithmetic on its shapes. Loads no model and no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
"""Bytes of a number by its name in safetensors; all others take one."""
TEXT_TOKENS = 2_000
"""Question, instructions and answer, beside the pictures."""
_FOUR_BITS = 4.5 / 8
"""Bytes of a weight in NF4: four bits, and 32 more for each block of 64."""
_PEAK = 3
"""A block's two narrow and three broad rows, times what is held at once: copies in float32 and for the kernels.

Measured on a processor as growth of the process, Qwen2-VL 2B's shape in bfloat16: 73 to 94 kB a patch at 1,600 to 6,400
patches (by this arithmetic 108), 165 kB a token of text between 420 and 920 (180).
"""
_PEAK_ON_GPU = 1.5
"""The same as torch counts it on an H100: 47 kB a patch (by this arithmetic 54), 82 to 91 kB a token of 2B's text (90),
169 to 177 of 7B's (192). In 4 bits, where weights are unpacked as they are used, it was not measured.
"""
_LONGEST_HEADER = 100_000_000  # the safetensors format's own limit
_NO_LINEAR = re.compile(r"embed|lm_head|norm")


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a checkpoint counts; the vision tower's fields begin with `vision_`."""

    parameters: int
    linear: int
    """Parameters in linear layers, which alone are loaded in 4 bits."""
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vision_hidden: int
    vision_intermediate: int
    patches_per_token: int = 4


class Footprint(NamedTuple):
    """Bytes."""

    weights: int
    cache: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


# Parameters as the hub states them; the rest is from each config.json.
KNOWN = {
    "Qwen/Qwen2-VL-2B-Instruct": Shape(2_208_985_600, 1_973_420_032, 28, 2, 128, 1536, 8960, 1280, 5120),
    "Qwen/Qwen2.5-VL-3B-Instruct": Shape(3_754_622_976, 3_441_197_056, 36, 2, 128, 2048, 11008, 1280, 3420),
    "Qwen/Qwen2-VL-7B-Instruct": Shape(8_291_375_616, 7_198_998_528, 28, 4, 128, 3584, 18944, 1280, 5120),
    "Qwen/Qwen2.5-VL-7B-Instruct": Shape(8_292_166_656, 7_199_817_728, 28, 4, 128, 3584, 18944, 1280, 3420),
}


def footprint(
    shape: Shape,
    *,
    visual_tokens: int,
    text_tokens: int = TEXT_TOKENS,
    width: int = 2,
    four_bits: bool = False,
    on_gpu: bool = False,
) -> Footprint:
    """`width` is that of a number in bytes: 2 in bfloat16, 4 in float32."""
    weights = shape.parameters * width
    if four_bits:
        weights -= math.floor(shape.linear * (width - _FOUR_BITS))
    tokens = visual_tokens + text_tokens
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * tokens * width
    # All patches in one picture is the worst case; the tower and the language model do not run at the same time.
    patches = visual_tokens * shape.patches_per_token
    seeing = patches * (2 * shape.vision_hidden + 3 * shape.vision_intermediate) * width
    reading = tokens * (2 * shape.hidden + 3 * shape.intermediate) * width
    peak = _PEAK_ON_GPU if on_gpu and not four_bits else _PEAK
    return Footprint(weights, cache, math.ceil(peak * max(seeing, reading)))


def read_shape(folder: Path) -> Shape:
    """From config.json and the headers of the weights; ValueError or OSError where they cannot be read."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError("config.json holds no object")
    # Published Qwen2-VL checkpoints have the language model's numbers at the top, newer ones below text_config.
    text, vision = config.get("text_config") or config, config.get("vision_config") or {}
    tensors = _tensors(folder)
    try:
        return Shape(
            parameters=sum(math.prod(shape) for _, shape in tensors.values()),
            linear=sum(math.prod(s) for name, (_, s) in tensors.items() if len(s) == 2 and not _NO_LINEAR.search(name)),
            **_text_shape(text),
            **_vision_shape(vision),
        )
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"config.json is no vision-language model's ({error})") from error


def weight_bytes(folder: Path) -> int:
    """Of all tensors, as they are on disk."""
    return sum(math.prod(shape) * WIDTHS.get(dtype, 1) for dtype, shape in _tensors(folder).values())


def _text_shape(text: Mapping[str, Any]) -> dict[str, int]:
    heads = text["num_attention_heads"]
    return {
        "layers": text["num_hidden_layers"],
        "kv_heads": text.get("num_key_value_heads") or heads,
        "head_dim": text.get("head_dim") or text["hidden_size"] // heads,
        "hidden": text["hidden_size"],
        "intermediate": text["intermediate_size"],
    }


def _vision_shape(vision: Mapping[str, Any]) -> dict[str, int]:
    # Qwen2-VL calls the tower's width embed_dim, and hidden_size what it hands over.
    hidden = vision.get("embed_dim") or vision["hidden_size"]
    return {
        "vision_hidden": hidden,
        "vision_intermediate": vision.get("intermediate_size") or int(hidden * vision["mlp_ratio"]),
        "patches_per_token": vision.get("spatial_merge_size", 1) ** 2,
    }


def _tensors(folder: Path) -> dict[str, tuple[str, list[int]]]:
    """Data type and shape of every tensor, by name."""
    found: dict[str, tuple[str, list[int]]] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 2 <= size <= min(_LONGEST_HEADER, file.stat().st_size - 8):
                raise ValueError(f"{file.name} is damaged")
            header = json.loads(stream.read(size))
        if not isinstance(header, dict):
            raise ValueError(f"{file.name} is damaged")
        header.pop("__metadata__", None)
        found |= {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items()}
    if not found:
        raise ValueError("there are no weights in safetensors form")
    return found
