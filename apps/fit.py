"""What `mmrag doctor` says of the generator: whether its weights are here and fit, or its server answers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mmrag.checkpoint import CONFIG, TEXT_PARTS, Form, fast_dtype, file_names, on_disk, placement
from mmrag.errors import MmragError, brief
from mmrag.footprint import KNOWN, Shape, footprint, read_shape
from mmrag.generate.grounded import VISUAL_TOKENS
from mmrag.settings import PROFILES, Settings

_HEADROOM = 1.1  # torch keeps more than it uses, and so does whatever else runs
_FORM = Form(parts={**CONFIG, **TEXT_PARTS}, instead="")
_OTHERWISE = "a server (--generator openai) or  --generator Qwen/Qwen2-VL-2B-Instruct"


class Finding(NamedTuple):
    ok: bool
    what: str
    found: str
    advice: str = ""


class Room(NamedTuple):
    """Memory that a model can have, and what it would run in."""

    free: float
    dtype: str
    has_cuda: bool


def examine_generator(settings: Settings) -> Iterator[Finding]:
    """What is chosen first; then what would fit here."""
    if settings.generator == "openai":
        yield _server(settings)
        return
    room = _room(settings.device)
    visual_tokens = settings.max_visual_tokens or VISUAL_TOKENS
    if settings.generator == "extractive":
        yield Finding(True, "generator", "extractive: quotes the page, needs no weights")
        yield _checkpoint("generator (full)", PROFILES["full"].generator, room, visual_tokens)
    else:
        yield _checkpoint("generator", settings.generator, room, visual_tokens)
    if room:
        for name, shape in KNOWN.items():
            yield Finding(True, f"would {name} fit?", verdict(shape, room, visual_tokens)[1])


def _server(settings: Settings) -> Finding:
    import httpx

    from mmrag.generate.server import Server, http_options, listed

    url = settings.base_url or ""
    try:
        with httpx.Client(**http_options(url)) as http:
            names = Server(url, settings.api_key, http).models()
    except MmragError as error:
        return Finding(False, "generator", f"{settings.model or 'no model chosen'} at {url}", str(error))
    found = f"{url} answers and has {listed(names) or 'no model'}"
    if settings.model in names:
        return Finding(True, "generator", f"{settings.model}: {found}")
    instead = f", instead of {settings.model}" if settings.model else ""
    return Finding(False, "generator", found, f"choose one with --model{instead}")


def _checkpoint(what: str, name: str, room: Room | None, visual_tokens: int) -> Finding:
    folder = _folder(name)
    if folder is None:
        advice = "give a local folder with --generator, or a server: --generator openai --base-url … --model …"
        return Finding(False, what, f"{name}, not on this disk", advice)
    try:
        if part := _FORM.lacks(file_names(folder)):
            raise ValueError(f"it has no {part}")
        shape = read_shape(folder)
    except (OSError, ValueError) as error:
        return Finding(
            False, what, f"{name}, cannot be read ({brief(error)})", "give the whole checkpoint with --generator"
        )
    if room is None:
        return Finding(True, what, f"{name}, {shape.parameters / 1e9:.2f} billion parameters")
    fits, found = verdict(shape, room, visual_tokens)
    return Finding(fits, what, f"{name}, {found}", "" if fits else f"use {_OTHERWISE}")


def _folder(name: str) -> Path | None:
    try:
        return on_disk(name)
    except Exception:  # a name that no hub would take: huggingface_hub has its own error for that
        return None


def verdict(shape: Shape, room: Room, visual_tokens: int) -> tuple[bool, str]:
    """Whether it fits, and how, in words."""
    width = 4 if room.dtype == "float32" else 2
    needs = footprint(shape, visual_tokens=visual_tokens, width=width, on_gpu=room.has_cuda)
    parts = f"{shape.parameters / 1e9:.2f} billion parameters, about {needs.total / 1e9:.1f} GB in {room.dtype}"
    if needs.total * _HEADROOM <= room.free:
        return True, f"{parts}: fits into the {room.free / 1e9:.1f} GB that are free"
    small = footprint(shape, visual_tokens=visual_tokens, four_bits=True)
    if room.has_cuda and small.total * _HEADROOM <= room.free:
        return True, f"{parts}: fits with --load-in-4bit, at about {small.total / 1e9:.1f} GB"
    return False, f"{parts}: does not fit into the {room.free / 1e9:.1f} GB that are free"


def _room(device: str | None) -> Room | None:
    """None where torch is not installed, or nobody knows what is free."""
    if find_spec("torch") is None:
        return None
    import torch

    device, dtype = placement(device, fast_dtype(device))
    if device.startswith("cuda"):
        return Room(float(torch.cuda.mem_get_info(device)[0]), dtype, has_cuda=True)
    free = free_memory()
    return Room(free, dtype, has_cuda=False) if free is not None else None


def free_memory() -> float | None:
    """Bytes, from /proc on Linux; None where that is not there."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines)
    return float(values["MemAvailable"].split()[0]) * 1024
