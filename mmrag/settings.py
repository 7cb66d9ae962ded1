"""What a person can choose, with its defaults by profile. Read by programs only: components take keyword arguments."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmrag.abstain import RISK
from mmrag.chroma import ChromaServer
from mmrag.errors import UsageError

DEFAULT_STORE = Path("mmrag-store")
CHECKS = ("words", "look", "none")
EVIDENCE_PAGES = 8
"""How many pages an answer is made from, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One set of choices.

    `image_encoder` is a CLIP-family checkpoint by hub name or folder, or `captions` for none. `reranker` is a
    cross-encoder by hub name or folder, `bundled` for the one that comes with the install, or `none`. `generator` is
    `extractive`, `openai` (a server at `base_url` that speaks OpenAI's protocol, asked for its `model`), or a
    vision-language checkpoint by hub name or folder, which `contrast` and `load_in_4bit` are for. `check` holds a
    model's claims against the `words` of their regions (by `nli`, an NLI model, where one is named), lets the model
    `look` at the regions once more too, or is `none`; what nothing supports is flagged or dropped, as `unsupported`
    says. `risk` is the share of wrong answers, among those given, that is accepted. `chroma` is a server for a
    new store's vectors.
    """

    profile: str = "offline"
    store: Path = DEFAULT_STORE
    image_encoder: str = "captions"
    reranker: str = "none"
    generator: str = "extractive"
    base_url: str | None = None
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    samples: int = 1
    contrast: float = 0.0
    max_visual_tokens: int | None = None
    load_in_4bit: bool = False
    check: str = "words"
    nli: str | None = None
    unsupported: str = "flag"
    device: str | None = None
    risk: float = RISK
    chroma: ChromaServer | None = None


PROFILES: dict[str, Settings] = {
    "offline": Settings(),
    # SigLIP 2 rather than the first CLIP: on document pages it finds several times as much (ViDoRe), it speaks
    # Chinese too, and its weights are published as safetensors, the only form that is ever loaded.
    "full": Settings(
        profile="full", image_encoder="google/siglip2-base-patch16-224", generator="Qwen/Qwen2-VL-2B-Instruct"
    ),
}


OF_GENERATOR = frozenset(
    "generator base_url model samples contrast max_visual_tokens load_in_4bit".split(),
)
"""What is said of the generator, or only together with it."""


def load_settings(profile: str | None = None, **choices: Any) -> Settings:
    """A profile with single choices changed; what is None comes from the environment (MMRAG_…) or the profile.

    `chroma` is given as an address.

    UsageError where choices contradict each other.
    """
    name = profile or os.environ.get("MMRAG_PROFILE") or "offline"
    if name not in PROFILES:
        raise UsageError(f"There is no profile {name!r}: choose {' or '.join(PROFILES)}.")
    chosen = {key: value for key, value in choices.items() if value is not None}
    chosen["chroma"] = _chroma(chosen.get("chroma"))
    settings = replace(PROFILES[name], **_from_environment("store", "generator") | chosen)
    if settings.generator == "openai":
        settings = replace(settings, **_from_environment("base_url", "model") | chosen)
        settings = replace(settings, api_key=settings.api_key or _key_for(settings.base_url))
    check_checks(settings)
    # What stands in the environment must not keep a command from working that asks no generator.
    if chosen.keys() & OF_GENERATOR:
        check_generator(settings)
    return settings


def check_generator(settings: Settings) -> None:
    """Raises UsageError where the generator's settings do not go together."""
    for is_wrong, message in _mistakes(settings):
        if is_wrong:
            raise UsageError(message)


def check_checks(settings: Settings) -> None:
    """Raises UsageError where it is not clear how claims are to be checked."""
    if settings.check not in CHECKS:
        raise UsageError(f"There is no check {settings.check!r}: choose {', '.join(CHECKS)}.")
    if settings.unsupported not in ("flag", "drop"):
        raise UsageError(f"What nothing supports cannot be {settings.unsupported!r}: choose flag or drop.")


def _mistakes(settings: Settings) -> list[tuple[bool, str]]:
    extractive, server = settings.generator == "extractive", settings.generator == "openai"
    one = "name one with --generator (mmrag doctor says which fits here)"
    return [
        (settings.base_url is not None and not server, "--base-url is for a server: add --generator openai."),
        (settings.model is not None and not server, "--model is for a server: add --generator openai and --base-url."),
        (
            server and not settings.base_url,
            "--generator openai needs --base-url, the server's address: http://localhost:8000/v1, for example.",
        ),
        (server and not is_base_url(settings.base_url or ""), _NO_BASE_URL),
        (settings.samples < 1, f"--samples {settings.samples} asks nothing: give 1 or more."),
        (settings.samples > 1 and extractive, f"--samples is for a model that writes: {one}."),
        (not 0 <= settings.contrast < inf, f"--contrast {settings.contrast} has no meaning: give 0 or more."),
        (settings.contrast > 0 and extractive, f"--contrast is for a checkpoint in this process: {one}."),
        (
            settings.contrast > 0 and server,
            "--contrast needs a checkpoint in this process, no server: leave it out, or name one with --generator.",
        ),
        (
            settings.max_visual_tokens is not None and settings.max_visual_tokens < 1,
            f"--max-visual-tokens {settings.max_visual_tokens} shows nothing: give 1 or more.",
        ),
        (
            settings.max_visual_tokens is not None and extractive,
            f"--max-visual-tokens is for a model that reads images: {one}.",
        ),
        (
            settings.load_in_4bit and (extractive or server),
            f"--load-in-4bit is for a checkpoint in this process: {one}.",
        ),
    ]


# Does not repeat the address: what is wrong with it may be a password in it.
_NO_BASE_URL = (
    "--base-url must be an address such as http://localhost:8000/v1, with no name, password, query or fragment in it; "
    "a key goes into MMRAG_API_KEY."
)


def is_base_url(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.query or parts.fragment) and "@" not in parts.netloc
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and plain and address.isprintable()


_NO_CHROMA = (
    "--chroma and MMRAG_CHROMA must be an address such as http://localhost:8000, with no name, password, query or "
    "fragment in it; what a login needs goes into MMRAG_CHROMA_HEADERS."
)
_NO_HEADERS = 'MMRAG_CHROMA_HEADERS must be JSON of names and texts: {"Authorization": "Bearer …"}, for example.'


def _chroma(named: str | None) -> ChromaServer | None:
    known = os.environ.get("MMRAG_CHROMA")
    address, meant_for = (url.rstrip("/") if url else "" for url in (named or known, known or named))
    if not address:
        return None
    if not is_base_url(address):
        raise UsageError(_NO_CHROMA)
    return ChromaServer(address, _chroma_headers() if same_origin(address, meant_for) else (), named is not None)


def _chroma_headers() -> tuple[tuple[str, str], ...]:
    try:
        found = json.loads(os.environ.get("MMRAG_CHROMA_HEADERS") or "{}")
    except ValueError:
        raise UsageError(_NO_HEADERS) from None  # it may be a secret that stands there
    if not isinstance(found, dict) or not all(_is_header(*item) for item in found.items()):
        raise UsageError(_NO_HEADERS)
    return tuple(found.items())


def _is_header(name: str, value: Any) -> bool:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not isinstance(value, str):
        return False
    return value.isascii() and value.isprintable() and value == value.strip()


def _from_environment(*names: str) -> dict[str, Any]:
    found = {name: os.environ.get(f"MMRAG_{name.upper()}") for name in names}
    return {name: Path(value) if name == "store" else value for name, value in found.items() if value}


def _key_for(base_url: str | None) -> str | None:
    """No key goes to a server that it was not given for, nor to those who listen on the way."""
    place = _origin(base_url)
    meant_for = os.environ.get("MMRAG_BASE_URL") or base_url
    if place and (key := os.environ.get("MMRAG_API_KEY")) and _origin(meant_for) == place:
        return key
    return os.environ.get("OPENAI_API_KEY") if place == ("https", "api.openai.com", 443) else None


def same_origin(one: str, other: str) -> bool:
    """Whether both addresses lead to one server, so that what was given for one may be sent to the other."""
    return (found := _origin(one)) is not None and found == _origin(other)


def _origin(base_url: str | None) -> tuple[str, str, int] | None:
    if not base_url or not is_base_url(base_url):
        return None
    parts = urlsplit(base_url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
