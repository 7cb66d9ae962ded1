"""What a person can choose, with its defaults by profile. Read by programs only: components take keyword arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmrag.errors import UsageError

DEFAULT_STORE = Path("mmrag-store")


@dataclass(frozen=True, slots=True)
class Settings:
    """One set of choices.

    `image_encoder` is a CLIP-family checkpoint by hub name or folder, or `captions` for none. `reranker` is a
    cross-encoder by hub name or folder, `bundled` for the one that comes with the install, or `none`.
    """

    profile: str = "offline"
    store: Path = DEFAULT_STORE
    image_encoder: str = "captions"
    reranker: str = "none"
    generator: str = "extractive"
    device: str | None = None


PROFILES: dict[str, Settings] = {
    "offline": Settings(),
    # SigLIP 2 rather than the first CLIP: on document pages it finds several times as much (ViDoRe), it speaks
    # Chinese too, and its weights are published as safetensors, the only form that is ever loaded.
    "full": Settings(profile="full", image_encoder="google/siglip2-base-patch16-224"),
}


def load_settings(profile: str | None = None, **choices: Any) -> Settings:
    """A profile with single choices changed. What is None comes from MMRAG_PROFILE, MMRAG_STORE or the profile."""
    name = profile or os.environ.get("MMRAG_PROFILE") or "offline"
    if name not in PROFILES:
        raise UsageError(f"There is no profile {name!r}: choose {' or '.join(PROFILES)}.")
    if choices.get("store") is None and os.environ.get("MMRAG_STORE"):
        choices["store"] = Path(os.environ["MMRAG_STORE"])
    return replace(PROFILES[name], **{key: value for key, value in choices.items() if value is not None})
