"""How fast a profile's models run on this machine, and what they take of its memory.

Reads no label and no store: the pages are drawn. Neither speed nor memory depends on what weights say, so a checkpoint
of random weights is as fast as the published one of its shape.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from PIL import Image, ImageDraw, ImageFont

from ingest.timing import peak_bytes
from mmrag import prompts
from mmrag.errors import require
from mmrag.generate.marks import PAGES, TOKEN_SIDE, fitted, png

IMAGES, NEW_TOKENS = 64, 128
_DIFFERENT = 8
_REPEATS = 3
_A4 = (1240, 1754)
"""Pixels at 150 dpi."""
_QUESTION = "What do these pages say, line by line?"


@dataclass(frozen=True, slots=True)
class EncoderSpeed:
    model: str
    device: str
    dtype: str
    load_seconds: float
    images: int
    images_per_second: float
    """From a page's pixels in memory, resized here, to its vector."""
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class GeneratorSpeed:
    model: str
    """With its precision."""
    device: str
    load_seconds: float
    prompt_tokens: int
    visual_tokens: int
    """Of the prompt's tokens, those of the images."""
    seconds_to_first_token: float
    """From the call, the images as PNG: their decoding and preparation count."""
    new_tokens: int
    tokens_per_second: float
    """After the first; 0 where the model said no more."""
    peak_bytes: int


def encoder_speed(load: Callable[[], Any], *, images: int = IMAGES) -> EncoderSpeed:
    """Of the `ClipEncoder` that `load` gives, on that many page images."""
    _forget_peak()
    load_seconds, encoder = _timed(load)
    pages = draw_pages(min(images, _DIFFERENT))
    shown = [pages[i % len(pages)] for i in range(images)]
    encoder.get_image_embedding_batch(shown)  # kernels and precision are chosen, memory is taken
    seconds, _ = _timed(partial(encoder.get_image_embedding_batch, shown))
    where = _device_name(encoder.device), encoder.dtype
    return EncoderSpeed(encoder.identity, *where, load_seconds, images, images / seconds, peak(encoder.device))


def generator_speed(load: Callable[[], Any], device: str, *, new_tokens: int = NEW_TOKENS) -> GeneratorSpeed:
    """Of the `Qwen2VL` that `load` gives on `device`, asked about five A4 pages that fill its visual tokens."""
    _forget_peak()
    load_seconds, llm = _timed(load)
    prompt = evidence(draw_pages(PAGES), llm.max_visual_tokens, llm.token_side)
    ask = partial(llm.chat, prompt, max_repeats=0)  # a loop is as good a text as any
    ask(max_new_tokens=2)
    first = median(_timed(partial(ask, max_new_tokens=1))[0] for _ in range(_REPEATS))
    whole, response = _timed(partial(ask, max_new_tokens=new_tokens))
    used = response.additional_kwargs
    more = used["completion_tokens"] - 1
    return GeneratorSpeed(
        *(llm.identity, _device_name(device), load_seconds, used["prompt_tokens"], used["visual_tokens"]),
        *(first, used["completion_tokens"], more / max(whole - first, 1e-9), peak(device)),
    )


def evidence(pages: Sequence[Image.Image], visual_tokens: int, unit: int) -> list[ChatMessage]:
    """A question about the pages as mmrag asks it, without the words of regions beside them."""
    blocks: list[TextBlock | ImageBlock] = []
    for number, page in enumerate(pages, 1):
        image = fitted(page, visual_tokens // len(pages), unit or TOKEN_SIDE)
        blocks.append(TextBlock(text=prompts.PAGE.format(page=number, document="drawn.pdf")))
        blocks.append(ImageBlock(image=png(image), image_mimetype="image/png"))
    blocks.append(TextBlock(text=prompts.QUESTION.format(question=_QUESTION)))
    return [
        ChatMessage(role=MessageRole.SYSTEM, content=prompts.ANSWER_RULES),
        ChatMessage(role=MessageRole.USER, blocks=blocks),
    ]


def draw_pages(count: int) -> list[Image.Image]:
    """A4 at 150 dpi: lines of print around a coloured figure, on each page others."""
    rng = random.Random(0)  # noqa: S311  # no secret
    font = ImageFont.load_default(24)
    pages = []
    for _ in range(count):
        page = Image.new("RGB", _A4, "white")
        draw = ImageDraw.Draw(page)
        for y in range(120, 1640, 36):
            words = ("".join(rng.choices("aeinorstlcdu", k=rng.randint(2, 9))) for _ in range(14))
            draw.text((110, y), " ".join(words)[:84], "black", font)
        left, top = rng.randint(110, 500), rng.randint(120, 1200)
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        draw.rectangle((left, top, left + rng.randint(200, 600), top + rng.randint(100, 400)), colour)
        pages.append(page)
    return pages


def peak(device: str) -> int:
    """Bytes at most: of tensors on all GPUs together, or of this process since it began where the model is on none."""
    import torch

    if not device.startswith("cuda"):
        return peak_bytes()
    return sum(torch.cuda.max_memory_allocated(gpu) for gpu in range(torch.cuda.device_count()))


def _forget_peak() -> None:
    torch = require("torch", extra="full")
    require("transformers", extra="full")  # its import is no part of loading a model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.init()
        torch.cuda.empty_cache()
        for gpu in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(gpu)


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = perf_counter()
    done = work()
    return perf_counter() - began, done
