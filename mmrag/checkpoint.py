"""Where a checkpoint lies: a folder on this disk, the hub's cache, or the hub itself; and where it will run.

Knows which files make a checkpoint whole and that weights are safetensors. Does not know what a model is for; unpickles
nothing and runs no code that comes with a checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmrag.deadline import within
from mmrag.errors import MmragError, ModelNotFound, UsageError, brief, require

WEIGHTS = "model*.safetensors"  # one file or shards; not the copies for other programs (open_clip_model.safetensors)
CONFIG = {"config.json": ("config.json",)}
TEXT_PARTS = {
    "weights in safetensors form": (WEIGHTS,),
    "tokenizer": ("tokenizer.json", "vocab.json", "vocab.txt", "*.model"),
}
_DOWNLOAD = ["*.json", "*.txt", "*.model", "*.jinja", WEIGHTS]
_HUB_SECONDS = 5.0  # for the hub to answer at all; a download then takes as long as it takes
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of checkpoint."""

    parts: Mapping[str, Sequence[str]]
    """What it consists of, and the files any one of which holds it."""
    instead: str
    """What to type to do without one."""
    ignored: Sequence[str] = ("*/*",)
    """Files of a repository that are not downloaded."""

    def lacks(self, files: Sequence[str]) -> str | None:
        """The first part that is not among the files."""
        for part, patterns in self.parts.items():
            if not any(matching(files, pattern) for pattern in patterns):
                return part
        return next((f"shard {shard}" for shard in _shards(files) if shard not in files), None)

    def not_found(self, name: str, why: str) -> ModelNotFound:
        return ModelNotFound(
            f"{name} {why}: give a local folder that holds the whole checkpoint, or use  {self.instead}."
        )


def placement(device: str | None, dtype: str | None) -> tuple[str, str]:
    """The device and precision to run on, checked to exist."""
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.empty(1, device=device).device.type
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"Device {device} cannot be used here ({brief(error)}): use  cpu.") from error
    if dtype is None and kind == "cpu":
        dtype = "float32"
    elif dtype is None:
        dtype = "bfloat16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "float16"
    if dtype not in _DTYPES:
        raise UsageError(f"Precision {dtype} is unknown: use one of {', '.join(_DTYPES)}.")
    return device, dtype


def fast_dtype(device: str | None) -> str | None:
    """bfloat16 on a CPU made for it, where it halves the memory and more than doubles the speed."""
    import torch

    if device != "cpu" and (device is not None or torch.cuda.is_available() or torch.backends.mps.is_available()):
        return None
    abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if abilities.get("avx512_bf16") or abilities.get("amx_bf16") else None


def locate(name: str, revision: str | None, form: Form) -> Path:
    """The folder of the checkpoint: given, in the hub's cache, or downloaded."""
    hub = require("huggingface_hub", extra="full")
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    try:
        cached = on_disk(name, revision)
        # A cache with all parts is used as it is: no network, and the same weights tomorrow.
        if cached and not form.lacks(file_names(cached)):
            return cached
        if part := form.lacks(_hub_files(hub, name, revision)):
            raise form.not_found(name, f"has no {part} on the hub")
        return Path(
            hub.snapshot_download(name, revision=revision, allow_patterns=_DOWNLOAD, ignore_patterns=list(form.ignored))
        )
    except hub.errors.HFValidationError as error:
        raise form.not_found(name, "is no folder on this disk") from error
    except MmragError:
        raise
    except Exception as error:  # httpx, OSError and the hub's own, by version of huggingface_hub
        why = f"is no folder on this disk, and the hub did not give it ({brief(error)})"
        raise form.not_found(name, why) from error


def on_disk(name: str, revision: str | None = None) -> Path | None:
    """The folder of that name or in the hub's cache, whole or not; asks no network."""
    hub = require("huggingface_hub", extra="full")
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    cached = hub.try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent if isinstance(cached, str) else None


def _hub_files(hub: Any, name: str, revision: str | None) -> list[str]:
    """What the repository holds, or an error within `_HUB_SECONDS`.

    Asked directly, because huggingface_hub's downloads retry for minutes.
    """
    ask = partial(hub.HfApi().model_info, name, revision=revision, timeout=_HUB_SECONDS)
    return [file.rfilename for file in within(_HUB_SECONDS, ask).siblings or ()]


def identify(name: str, revision: str | None, folder: Path) -> str:
    """Names the checkpoint and its weights."""
    if folder != Path(name).expanduser():
        return f"{name}@{revision}" if revision else name
    # Sizes instead of contents: gigabytes need not be read to tell two checkpoints apart.
    size = sum(file.stat().st_size for file in folder.glob(WEIGHTS))
    digest = sha256((folder / "config.json").read_bytes() + str(size).encode()).hexdigest()
    return f"{folder.resolve().name}@{digest[:12]}"


def _shards(files: Sequence[str]) -> list[str]:
    """All weight files that belong to those there: a download that broke off leaves some behind."""
    found = [match for file in files if (match := re.fullmatch(r"(model.*-)\d{5}-of-(\d{5})\.safetensors", file))]
    sets = {(match[1], match[2]) for match in found}
    return [f"{name}{n:05}-of-{count}.safetensors" for name, count in sorted(sets) for n in range(1, int(count) + 1)]


def file_names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]
