"""What a person has chosen and said so far, and what the server keeps open for all of them.

A conversation is kept by the server under an id that stands in the address, so that a reload of the page finds it
again; it ends with the server. Choices belong to one browser tab. Models and stores are opened once for everybody.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

import streamlit as st

from apps.ui.library import Collection, collections, home
from mmrag.engine import Rag, open_rag
from mmrag.errors import MmragError
from mmrag.index import Index
from mmrag.settings import Settings, load_settings
from mmrag.types import Answer

_MOST_CONVERSATIONS = 500


@dataclass(slots=True)
class Turn:
    """A question and what became of it; neither answer nor error: it is still to be answered."""

    question: str
    """As typed."""
    asked: str = ""
    """As asked, where it was rewritten to stand alone."""
    picture: bytes | None = None
    documents: tuple[str, ...] = ()
    """Ids of those that were searched; none for all."""
    as_typed: bool = False
    """Not to be rewritten."""
    answer: Answer | None = None
    error: str = ""


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

CHOICES = tuple(each.name for each in fields(Settings) if each.name not in ("store", "device"))
"""What can be chosen in the app."""
_SECRET = ("api_key",)


def choices() -> dict[str, Any]:
    """What this tab has chosen; what it has not is as the app was started, or as kept for all."""
    if "choices" not in st.session_state:
        st.session_state["choices"] = _kept_choices()
    found: dict[str, Any] = st.session_state["choices"]
    return found


def settings(store: Path) -> Settings:
    """UsageError where choices contradict each other."""
    chosen = dict(choices())
    return load_settings(chosen.pop("profile", None), store=store, **chosen)


def _kept_path() -> Path:
    return home() / "settings.json"


def _kept_choices() -> dict[str, Any]:
    try:
        kept = json.loads(_kept_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: kept[name] for name in CHOICES if name in kept} if isinstance(kept, dict) else {}


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
    opened = open_rag(settings)
    _opened().add(opened)
    return opened


def rag(of: Collection) -> Rag:
    """Loads models at its first use. Raises what `open_rag` does."""
    return _open(settings(of.store))


@st.cache_resource(show_spinner=False, max_entries=32)
def _index(store: Path, made: float) -> Index:
    opened = Index.open(store)
    _opened().add(opened)
    return opened


def index(of: Collection) -> Index:
    """For looking at what a collection holds; needs no models."""
    return _index(of.store, (of.store / "ledger.sqlite3").stat().st_ctime_ns)


def close(of: Collection) -> None:
    """What is open of a collection that is to be deleted, for everybody. What else is open is opened anew when needed."""
    store = of.store.resolve()
    for opened in list(_opened()):
        if (opened.index if isinstance(opened, Rag) else opened).path == store:
            opened.close()
    _open.clear()
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
