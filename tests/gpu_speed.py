"""How fast models of the published shapes are on this machine, with random weights: none need be downloaded.

    python -m tests.gpu_speed RESULT.json [FOLDER]

Makes one checkpoint after the other in FOLDER (20 GB, best in memory), measures it as `mmrag eval speed` does, and
removes it. Beside that: memory by visual tokens, for mmrag/footprint.py, and what half precision does to the image
encoder's vectors. No test: it needs a GPU, and minutes.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torchvision
import transformers

from eval.speed import draw_pages, encoder_speed, evidence, generator_speed
from mmrag import clip, testing
from mmrag.clip import ClipEncoder
from mmrag.errors import OutOfMemory
from mmrag.footprint import footprint, read_shape
from mmrag.generate import vlm
from mmrag.generate.qwen2_vl import Qwen2VL

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMAGES = 96
BUDGETS = (1_000, 2_500, 5_000, 10_000)
VOCABULARY = 151_643
"""Ordinary tokens; the special ones follow."""

# As in the published config.json files.
SIGLIP = {
    "siglip2-base-patch16-224": (
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        {"image_size": 224, "patch_size": 16},
    ),
    "siglip2-so400m-patch14-384": (
        {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
        {"image_size": 384, "patch_size": 14},
    ),
}
_TEXT_7B = {
    **{"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
    **{"num_key_value_heads": 4, "vocab_size": 152_064, "tie_word_embeddings": False},
}
_TEXT_2B = {
    **{"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    **{"num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True},
}
_TOWER = {"depth": 32, "num_heads": 16, "patch_size": 14}
_TOWER_2 = {**_TOWER, "embed_dim": 1280, "mlp_ratio": 4}
_TOWER_2_5 = {
    **_TOWER,
    **{"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
    **{"window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2},
}
QWEN = {
    "Qwen2-VL-2B": ("Qwen2VL", _TEXT_2B, {**_TOWER_2, "hidden_size": 1536}),
    "Qwen2-VL-7B": ("Qwen2VL", _TEXT_7B, {**_TOWER_2, "hidden_size": 3584}),
    "Qwen2.5-VL-7B": ("Qwen2_5_VL", _TEXT_7B, _TOWER_2_5),
}


def make_siglip(folder: Path, tower: dict[str, int], sight: dict[str, int]) -> Path:
    """In float32, as published; the tokenizer is the tests' own, which takes no part in encoding images."""
    testing.tiny_siglip(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.SiglipConfig(
        text_config={**tower, "vocab_size": 256_000, "max_position_embeddings": 64},
        vision_config={**tower, **sight},
    )
    side = sight["image_size"]
    images = transformers.SiglipImageProcessor(size={"height": side, "width": side})
    _save(transformers.SiglipModel, config, torch.float32, folder)
    transformers.SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def make_qwen(folder: Path, family: str, text: dict[str, Any], vision: dict[str, Any]) -> Path:
    """In bfloat16, as published; a byte is a token, so that words take more of them than in the published ones."""
    letters = sorted(testing._byte_alphabet())
    pieces = [*letters, *(f"{letters[33]}{n}" for n in range(VOCABULARY - len(letters))), *testing._QWEN_SPECIAL]
    ids = {piece: number for number, piece in enumerate(pieces)}
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = transformers.Qwen2Tokenizer(vocab=ids, merges=[], **ends)
    tokenizer.add_special_tokens({"additional_special_tokens": testing._QWEN_SPECIAL})
    config = getattr(transformers, f"{family}Config")(
        text_config={
            **{"max_position_embeddings": 32_768, "bos_token_id": 151_643, "eos_token_id": 151_645},
            **{"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}},
            **text,
        },
        vision_config=vision,
        tie_word_embeddings=text["tie_word_embeddings"],
        **{f"{name}_token_id": ids[f"<|{name}|>"] for name in ("vision_start", "vision_end")},
        **{f"{name}_token_id": ids[f"<|{name}_pad|>"] for name in ("image", "video")},
    )
    _save(getattr(transformers, f"{family}ForConditionalGeneration"), config, torch.bfloat16, folder)
    images, videos = transformers.Qwen2VLImageProcessor(), transformers.Qwen2VLVideoProcessor()
    processor = getattr(transformers, f"{family}Processor")
    processor(images, tokenizer, videos, chat_template=testing._QWEN_TEMPLATE).save_pretrained(folder)
    return folder


def _save(architecture: Any, config: Any, dtype: torch.dtype, folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(DEVICE):
            model = architecture(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)


def measure_siglip(folder: Path) -> dict[str, Any]:
    pages = draw_pages(IMAGES)
    found: dict[str, Any] = {"default dtype": ClipEncoder(folder).dtype}
    exact = torch.empty(0)
    for dtype in ("float32", "bfloat16"):
        loaded: list[ClipEncoder] = []
        speed = encoder_speed(partial(_kept, loaded, partial(ClipEncoder, folder, dtype=dtype)))
        encoder = loaded[0]
        vectors = _vectors(encoder, pages)
        found[dtype] = asdict(speed) | {"images a second, model alone": _model_alone(encoder, pages[:32])}
        with _instead(clip, "_image_options", lambda device: {}):
            began = perf_counter()
            here = _vectors(encoder, pages)
            found[dtype]["images a second, resized by the processor"] = len(pages) / (perf_counter() - began)
        exact = here if dtype == "float32" else exact
        for how, some in {"": here, ", resized by the card": vectors}.items():
            found[dtype][f"cosines with float32 resized by the processor{how}"] = _summary((some * exact).sum(dim=1))
            found[dtype][f"nearest other page the same{how}"] = _nearest_same(some, exact)
        del encoder, loaded  # or the next one's peak would count it
    between = exact @ exact.T
    found["cosines between different pages"] = _summary(between[~torch.eye(len(exact), dtype=torch.bool)])
    return found


def _vectors(encoder: ClipEncoder, pages: list[Any]) -> torch.Tensor:
    return torch.tensor(encoder.get_image_embedding_batch(pages))  # (pages, dim)


def _model_alone(encoder: ClipEncoder, pages: list[Any]) -> float:
    inputs = encoder._image_processor(images=pages, return_tensors="pt")
    seconds = []
    for _ in range(6):
        began = perf_counter()
        encoder._vectors(encoder._model.get_image_features, inputs)
        seconds.append(perf_counter() - began)
    return len(pages) / median(seconds)


@contextmanager
def _instead(module: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    usual = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, usual)


def _nearest_same(asked: torch.Tensor, kept: torch.Tensor) -> float:
    """The share of pages whose nearest other page among `kept` is the same for both; asked (n, dim), kept (n, dim)."""
    own = 2 * torch.eye(len(kept))  # out of the way
    return ((asked @ kept.T - own).argmax(dim=1) == (kept @ kept.T - own).argmax(dim=1)).float().mean().item()


def _summary(cosines: torch.Tensor) -> dict[str, float]:
    return {"min": cosines.min().item(), "mean": cosines.mean().item(), "max": cosines.max().item()}


def measure_qwen(folder: Path) -> dict[str, Any]:
    loaded: list[Qwen2VL] = []
    speed = generator_speed(partial(_kept, loaded, partial(Qwen2VL, folder, device=DEVICE)), DEVICE)
    llm, shape = loaded[0], read_shape(folder)
    found = {**asdict(speed), "parameters": shape.parameters}
    with _instead(vlm, "_attention", lambda device: nullcontext()):
        found["a token with all of torch's kernels, first and second time, s"] = [_a_token(llm), _a_token(llm)]
    found["a token, s"] = [_a_token(llm), _a_token(llm)]
    found["memory"] = [_memory(llm, shape, budget) for budget in BUDGETS]
    if DEVICE == "cuda":
        found["fits, by visual tokens and share of the prediction"] = {
            f"{budget}, {share}": _fits(llm, shape, budget, share) for budget in BUDGETS for share in (0.9, 1.0, 1.1)
        }
    return found


def _a_token(llm: Qwen2VL) -> float:
    """Seconds, of 48 after a prompt of another length than the others'."""
    ask = partial(llm.chat, evidence(draw_pages(5), 4_000, llm.token_side), max_repeats=0)
    ask(max_new_tokens=1)
    began = perf_counter()
    ask(max_new_tokens=1)
    first = perf_counter() - began
    began = perf_counter()
    ask(max_new_tokens=49)
    return (perf_counter() - began - first) / 48


def _fits(llm: Qwen2VL, shape: Any, budget: int, share: float) -> bool:
    """Whether an answer can be had with that share of the predicted memory, no visual token given up."""
    prompt = evidence(draw_pages(5), budget, llm.token_side)
    ask = partial(llm.chat, prompt, max_visual_tokens=budget, max_new_tokens=8, max_repeats=0)
    used = ask().additional_kwargs
    text = used["prompt_tokens"] - used["visual_tokens"] + 8
    needs = footprint(shape, visual_tokens=used["visual_tokens"], text_tokens=text, on_gpu=True)
    _peak_since()
    torch.cuda.set_per_process_memory_fraction(share * needs.total / torch.cuda.mem_get_info()[1])
    try:
        return bool(ask().additional_kwargs["visual_tokens"] == used["visual_tokens"])
    except OutOfMemory:
        return False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _memory(llm: Qwen2VL, shape: Any, budget: int) -> dict[str, int]:
    """Bytes beside so many visual tokens: held before, at most while the tower sees and while the text is read."""
    prompt = evidence(draw_pages(5), budget, llm.token_side)
    ask = partial(llm.chat, prompt, max_visual_tokens=budget, max_new_tokens=8, max_repeats=0)
    _peak_since()
    ask()
    free = torch.cuda.mem_get_info() if DEVICE == "cuda" else (0, 0)
    peaks: list[int] = []
    hook = llm._model._model.model.visual.register_forward_hook(lambda *_: peaks.append(_peak_since()))
    held = (_peak_since(), _peak_since())[1]
    used = ask().additional_kwargs
    reading = _peak_since()
    hook.remove()
    tokens = used["prompt_tokens"], used["visual_tokens"]
    needs = footprint(shape, visual_tokens=tokens[1], text_tokens=tokens[0] - tokens[1] + 8, on_gpu=True)
    return {
        **{"prompt_tokens": tokens[0], "visual_tokens": tokens[1], "held": held, "seeing": peaks[0]},
        **{"reading": reading, "of the card": free[1] - free[0]},
        **{f"predicted {name}": value for name, value in needs._asdict().items()},
        "predicted": needs.total,
    }


def _peak_since() -> int:
    """Bytes of tensors on the card at most, since this was last asked; 0 without one."""
    if DEVICE != "cuda":
        return 0
    gc.collect()
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def _kept(kept: list[Any], load: Callable[[], Any]) -> Any:
    kept.append(load())
    return kept[0]


def main(result: str, folder: str = tempfile.gettempdir(), *names: str) -> None:
    """Writes after each model: what is measured is not lost when the next one fails."""
    found: dict[str, Any] = {
        "card": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "made_by": {package.__name__: package.__version__ for package in (torch, torchvision, transformers)},
    }
    if DEVICE == "cuda":
        free, total = torch.cuda.mem_get_info()
        found["of the card before anything"] = total - free
    jobs: list[tuple[str, Callable[[Path], Path], Callable[[Path], dict[str, Any]]]] = [
        (name, partial(_made, make_siglip, shape), measure_siglip) for name, shape in SIGLIP.items()
    ]
    jobs += [(name, partial(_made, make_qwen, shape), measure_qwen) for name, shape in QWEN.items()]
    for name, make, measure in jobs:
        if names and name not in names:
            continue
        place = Path(folder, "mmrag-shape", name)
        began = perf_counter()
        try:
            make(place)
            made = perf_counter() - began
            gc.collect()
            found[name] = {**measure(place), "seconds to make": made, "seconds": perf_counter() - began}
        except Exception:
            found[name] = {"failed": traceback.format_exc()}
        shutil.rmtree(place, ignore_errors=True)
        Path(result).write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(name, json.dumps(found[name], indent=1), flush=True)


def _made(make: Callable[..., Path], shape: Sequence[Any], folder: Path) -> Path:
    return make(folder, *shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
