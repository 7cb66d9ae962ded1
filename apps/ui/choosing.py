"""What the settings page makes of its fields, and what it may say of the machine. Knows no Streamlit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.ui.library import allowed_path

if TYPE_CHECKING:
    from apps.fit import Finding

ALWAYS = ("profile", "image_encoder", "reranker", "generator", "top_k")
WHEN_QUOTING = ("risk",)
WHEN_WRITING = ("samples", "max_visual_tokens", "check", "nli", "unsupported")
OF_SERVER = ("base_url", "model", "api_key")
OF_CHECKPOINT = ("contrast", "load_in_4bit")
CHECKPOINTS = ("image_encoder", "reranker", "generator", "nli")
WORDS = ("captions", "none", "bundled", "extractive", "openai")
"""What stands in the place of a checkpoint and is none."""

_PATH = re.compile(r"(?<![\w.-])[/\\]")
"""Where an absolute path or an address begins; a hub name has no such place."""


def fields_of(generator: str) -> tuple[str, ...]:
    """What can be chosen with this generator."""
    if generator == "extractive":
        return (*ALWAYS, *WHEN_QUOTING)
    return (*ALWAYS, *WHEN_WRITING, *(OF_SERVER if generator == "openai" else OF_CHECKPOINT))


def made(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The choices that the fields hold: without what is empty, or has no meaning beside the rest."""
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in fields.items()}
    names = fields_of(stripped.get("generator") or "extractive")
    return {name: stripped[name] for name in names if stripped.get(name) not in (None, "")}


def refuse_strange_folders(chosen: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """UsageError for a checkpoint's folder that the browser may not name; `known` are choices not made there."""
    for name in CHECKPOINTS:
        value = str(chosen.get(name) or "")
        if value and value not in WORDS and value != known.get(name) and _is_path(value):
            allowed_path(value)


def _is_path(text: str) -> bool:
    """Whatever cannot be a name on a hub, so that nobody learns which other folders there are."""
    parts = text.split("/")
    is_name = len(parts) <= 2 and all(re.fullmatch(r"\w[\w.-]*", part) for part in parts)
    return not is_name or Path(text).exists()


def told_elsewhere(findings: Sequence[Finding]) -> list[Finding]:
    """The findings without those words that hold a path or an address, for readers on other machines."""
    return [finding._replace(found=_without(finding.found), advice=_without(finding.advice)) for finding in findings]


def _without(text: str) -> str:
    return "…" if _PATH.search(text) or "\\" in text else text
