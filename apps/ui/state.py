"""What a person has chosen and said so far, and what the server keeps open for all of them.

A conversation is kept by the server under an id that stands in the address, so that a reload of the page finds it
again; it ends with the server. Choices belong to one browser tab. Models and stores are opened once for everybody.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import streamlit as st

from apps.pictures import read_words
from apps.serve import is_local
from apps.ui.answering import Turn
from apps.ui.library import Collection, collections, home
from mmrag.errors import MmragError, UsageError
from mmrag.index import Index
from mmrag.render import close_kept
from mmrag.settings import CHECKS, EVIDENCE_PAGES, OF_GENERATOR, PROFILES, Settings, load_settings

if TYPE_CHECKING:
    from mmrag.engine import Rag

_MOST_CONVERSATIONS = 500


@dataclass(slots=True)
class Conversation:
    id: str
    turns: dict[Path, list[Turn]] = field(default_factory=dict)
    """By store."""


@st.cache_resource(show_spinner=False)
def _conversations() -> tuple[OrderedDict[str, Conversation], Lock]:
    return OrderedDict(), Lock()


def conversation() -> Conversation:
    """That of the address, which is new where the address names none that the server knows."""
    kept, lock = _conversations()
    wanted = st.session_state.get("conversation") or st.query_params.get("chat", "")
    with lock:
        if wanted not in kept:
            wanted = secrets.token_urlsafe(12)  # also the secret that keeps others out
            kept[wanted] = Conversation(wanted)
        kept.move_to_end(wanted)
        while len(kept) > _MOST_CONVERSATIONS:
            kept.popitem(last=False)
    st.session_state["conversation"] = st.query_params["chat"] = wanted
    return kept[wanted]


def collection() -> Collection | None:
    """The chosen one, else the first; None where there is none."""
    known = {each.name: each for each in collections()}
    wanted = st.session_state.get("collection") or st.query_params.get("in", "")
    if not known:
        return None
    found = known.get(wanted) or next(iter(known.values()))
    st.session_state["collection"] = st.query_params["in"] = found.name
    return found


def choose(of: Collection) -> None:
    """From the next run on."""
    st.session_state["collection"] = of.name


def page(name: str) -> Any:
    """A page of the app by the end of its address, to switch to."""
    return st.session_state["pages"][name]


# -- settings --------------------------------------------------------------------------------------------------------

CHOICES = (*(each.name for each in fields(Settings) if each.name not in ("store", "device", "chroma")), "top_k")
"""What can be chosen in the app: fields of Settings, and how many pages a question looks at."""
_SECRET = ("api_key",)
_ONE_OF: dict[str, Container[Any]] = {"profile": PROFILES, "check": CHECKS, "unsupported": ("flag", "drop")}


def choices() -> dict[str, Any]:
    """What this tab has chosen; what it has not is as the app was started, or as kept for all."""
    if "choices" not in st.session_state:
        st.session_state["choices"] = defaults()
    found: dict[str, Any] = st.session_state["choices"]
    return found


def defaults() -> dict[str, Any]:
    """As kept for all, and over that what the app was started with: what was typed last counts."""
    started, kept = _started(), _known(_read(_kept_path()))
    if started.keys() & {"profile", "generator"}:  # a kept server's address belongs to the kept generator
        kept = {name: value for name, value in kept.items() if name not in OF_GENERATOR}
    return kept | started


def settings(store: Path) -> Settings:
    """UsageError where choices contradict each other, or name a server that may not be asked."""
    return checked(choices(), store)


def checked(chosen: dict[str, Any], store: Path) -> Settings:
    """As `settings`, of choices that are not yet made."""
    given = {name: value for name, value in chosen.items() if name not in ("profile", "top_k")}
    found = load_settings(chosen.get("profile"), store=store, **given)
    if found.generator == "openai" and not _is_from_start(found.base_url):
        if not listens_locally():
            raise UsageError(
                "This app can be reached from other machines, so it asks only the server that it was started with: "
                "mmrag app --generator openai --base-url ADDRESS"
            )
        # What stands in the environment was not given for an address that somebody types.
        found = replace(found, api_key=chosen.get("api_key"))
    return found


def evidence_pages() -> int:
    """How many pages an answer is made from."""
    return int(choices().get("top_k") or EVIDENCE_PAGES)


def listens_locally() -> bool:
    """Whether nobody but this machine's own users reaches the app."""
    return is_local(st.get_option("server.address")) and is_local(st.get_option("browser.serverAddress"))


def servers() -> list[str]:
    """Addresses that whoever started the app has named."""
    named = (_started().get("base_url"), os.environ.get("MMRAG_BASE_URL"))
    return list(dict.fromkeys(str(address) for address in named if address))


def _is_from_start(base_url: str | None) -> bool:
    return (base_url or "").rstrip("/") in [address.rstrip("/") for address in servers()]


def _started() -> dict[str, Any]:
    """What `mmrag app` was given."""
    try:
        return _known(json.loads(os.environ.get("MMRAG_CHOICES") or "{}"))
    except ValueError:
        return {}


def _kept_path() -> Path:
    return home() / "settings.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _known(found: Any) -> dict[str, Any]:
    """Of what stands in a file that anybody may have edited, what can be a choice."""
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name in CHOICES if name in found and _fits(name, found[name])}


def _fits(name: str, value: Any) -> bool:
    if name in _ONE_OF:
        return isinstance(value, str) and value in _ONE_OF[name]
    if name == "load_in_4bit":
        return isinstance(value, bool)
    if name in ("samples", "max_visual_tokens", "top_k"):
        return type(value) is int and value >= 1
    if name in ("contrast", "risk"):
        return type(value) in (int, float) and 0 <= value <= (1 if name == "risk" else inf)
    return isinstance(value, str)


def has_kept() -> bool:
    return _kept_path().is_file()


def forget_kept() -> None:
    _kept_path().unlink(missing_ok=True)


def keep_choices() -> None:
    """For the next start, without secrets."""
    kept = {name: value for name, value in choices().items() if name not in _SECRET}
    _kept_path().parent.mkdir(parents=True, exist_ok=True)
    part = _kept_path().with_suffix(".part")
    part.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    part.replace(_kept_path())


# -- what is open for everybody --------------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False)
def _opened() -> WeakSet[Rag | Index]:
    return WeakSet()


@st.cache_resource(show_spinner=False, max_entries=8)
def _open(settings: Settings) -> Rag:
    from mmrag.engine import open_rag  # seconds, which the first page need not wait for

    opened = open_rag(settings, read_words=read_words)
    _opened().add(opened)
    return opened


def rag(of: Collection) -> Rag:
    """Loads models at its first use. Raises what `open_rag` does."""
    return _open(settings(of.store))


def warm_up(of: Collection) -> None:
    """Loads what the first question needs while the page is read. `mmrag app` asks for it."""
    if os.environ.get("MMRAG_WARM_UP"):
        with suppress(MmragError):
            _warm(settings(of.store))


@st.cache_resource(show_spinner=False, max_entries=64)
def _warm(settings: Settings) -> None:
    def load() -> None:
        with suppress(Exception):  # the first question will say what is wrong
            opened = _open(settings)
            opened.search("mmrag", top_k=1)
            if settings.generator == "extractive":  # gigabytes are loaded when they are asked for
                _ = opened.generator

    Thread(target=load, name="warm-up", daemon=True).start()


@st.cache_resource(show_spinner=False, max_entries=32)
def _index(store: Path, file: int) -> Index:
    opened = Index.open(store)
    _opened().add(opened)
    return opened


def index(of: Collection) -> Index:
    """For looking at what a collection holds; needs no models."""
    return _index(of.store, (of.store / "ledger.sqlite3").stat().st_ino)  # another once the store is made anew


def close(of: Collection) -> None:
    """What is open of a collection that is to be deleted, for everybody. Of others it is opened anew when needed."""
    store = of.store.resolve()
    for opened in list(_opened()):
        if (opened if isinstance(opened, Index) else opened.index).path == store:
            opened.close()
    close_kept()
    _open.clear()
    _warm.clear()
    _index.clear()


# -- errors ----------------------------------------------------------------------------------------------------------


@contextmanager
def problems() -> Iterator[None]:
    """What goes wrong on purpose is shown as one sentence, and the rest of the page goes on."""
    try:
        yield
    except (MmragError, OSError) as error:
        from apps.ui.parts import plain

        st.error(plain(str(error)), icon=":material/error:")
