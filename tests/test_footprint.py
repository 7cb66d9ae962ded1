"""What a checkpoint takes of memory: held against real tensors, real caches and real configurations."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from apps.fit import Room, verdict
from mmrag import testing
from mmrag.footprint import KNOWN, Shape, footprint, read_shape, weight_bytes

BUILDERS = [testing.tiny_qwen2_vl, testing.tiny_qwen2_5_vl, testing.tiny_qwen3_vl, testing.tiny_llava]
SMALL, LARGE = KNOWN["Qwen/Qwen2-VL-2B-Instruct"], KNOWN["Qwen/Qwen2-VL-7B-Instruct"]


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_parameters_and_cache_are_those_of_the_loaded_model(build, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = build(tmp_path / "tiny")
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    tensors = {tensor.data_ptr(): tensor for tensor in model.parameters()}.values()
    shape = read_shape(folder)
    assert shape.parameters == sum(tensor.numel() for tensor in tensors)
    assert weight_bytes(folder) == sum(tensor.nbytes for tensor in tensors)
    linear = [module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    head = model.get_output_embeddings()
    assert shape.linear == sum(module.weight.numel() for module in linear if module is not head)

    cache = model.model.language_model(input_ids=torch.ones(1, 37, dtype=torch.long), use_cache=True).cache
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    needs = footprint(shape, visual_tokens=30, text_tokens=7, width=4)
    assert (needs.weights, needs.cache) == (weight_bytes(folder), held)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_the_known_shapes_are_those_of_the_architectures(name: str) -> None:
    """Built from their configurations without memory for the weights."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    shape = KNOWN[name]
    family = "Qwen2_5_VL" if "2.5" in name else "Qwen2VL"
    tied = shape.hidden < 3584
    text = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.hidden // shape.head_dim,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": 151_936 if tied else 152_064,
        "tie_word_embeddings": tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }
    vision = {"depth": 32, "num_heads": 16, "patch_size": 14}
    if family == "Qwen2VL":
        vision |= {"embed_dim": shape.vision_hidden, "hidden_size": shape.hidden, "mlp_ratio": 4}
    else:
        vision |= {"hidden_size": shape.vision_hidden, "out_hidden_size": shape.hidden}
        vision |= {"intermediate_size": shape.vision_intermediate}
    config = getattr(transformers, f"{family}Config")(text_config=text, vision_config=vision, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = getattr(transformers, f"{family}ForConditionalGeneration")(config)
    head = model.get_output_embeddings()
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters
    assert sum(module.weight.numel() for module in linear) == shape.linear


def test_the_cache_by_hand() -> None:
    assert footprint(SMALL, visual_tokens=900, text_tokens=100).cache == 2 * 28 * 2 * 128 * 1000 * 2
    assert footprint(SMALL, visual_tokens=900).weights == 2 * 2_208_985_600


@pytest.mark.parametrize(
    ("shape", "visual_tokens", "peak"),
    [
        (SMALL, 880, 4_626_880_512),
        (SMALL, 2_340, 4_892_240_896),
        (SMALL, 4_810, 5_351_285_248),
        (SMALL, 9_805, 6_284_481_536),
        (LARGE, 880, 17_018_351_616),
        (LARGE, 2_340, 17_347_876_352),
        (LARGE, 4_810, 17_928_522_240),
        (LARGE, 9_805, 19_098_636_800),
    ],
)
def test_a_gpu_takes_what_was_measured_on_one(shape: Shape, visual_tokens: int, peak: int) -> None:
    """By tests/gpu_speed.py on an H100: with a tenth more than this arithmetic says, none ran out of memory."""
    found = footprint(shape, visual_tokens=visual_tokens, text_tokens=684, on_gpu=True)
    assert found.total == pytest.approx(peak, rel=0.09)
    assert peak < 1.01 * found.total


def test_more_pictures_take_more_and_fewer_bits_less() -> None:
    few, many = (footprint(SMALL, visual_tokens=tokens) for tokens in (1_000, 10_000))
    assert few.weights == many.weights
    assert few.cache < many.cache
    assert few.activations < many.activations
    small = footprint(SMALL, visual_tokens=1_000, four_bits=True)
    kept = SMALL.parameters - SMALL.linear
    assert small.weights == pytest.approx(2 * kept + SMALL.linear * 4.5 / 8, abs=1)
    assert small.cache == few.cache


@pytest.mark.parametrize(
    ("free", "dtype", "has_cuda", "fits", "says"),
    [
        (80e9, "bfloat16", True, True, "fits into the 80.0 GB"),
        (16e9, "bfloat16", True, True, "fits with --load-in-4bit, at about 9.3 GB"),
        (16e9, "bfloat16", False, False, "does not fit into the 16.0 GB"),
        (30e9, "float32", False, False, "GB in float32: does not fit into the 30.0 GB"),
        (5e9, "bfloat16", True, False, "does not fit into the 5.0 GB"),
    ],
)
def test_a_verdict_on_7b(free: float, dtype: str, has_cuda: bool, fits: bool, says: str) -> None:
    found = verdict(LARGE, Room(free, dtype, has_cuda), 5_000)
    assert found[0] is fits
    assert says in found[1]
    assert "8.29 billion parameters" in found[1]


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ("{", b""),
        ("[]", b""),
        ("{}", struct.pack("<Q", 2) + b"{}"),
        ('{"vision_config": {}}', b"\xff" * 20),
        ("{}", b"\x10"),
        ("{}", struct.pack("<Q", 2) + b"[]"),
        (json.dumps({"num_attention_heads": 0, "hidden_size": 8, "num_hidden_layers": 1}), b"\x01"),
    ],
)
def test_a_damaged_checkpoint_is_an_error(tmp_path: Path, config: str, weights: bytes) -> None:
    (tmp_path / "config.json").write_text(config)
    if weights:
        (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r".+"):
        read_shape(tmp_path)
