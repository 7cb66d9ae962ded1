"""The Streamlit app under AppTest: opened on a store, its elements and components found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit import config
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from tests.conftest import ROOT

CHAT = ROOT / "apps" / "chat.py"


def open_app(monkeypatch: pytest.MonkeyPatch, folder: Path, store: Path | None = None, **address: str) -> AppTest:
    """The app with a data folder of its own, and `store` as the collection that it was started with."""
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("MMRAG_ALLOW", str(folder))
    monkeypatch.setenv("MMRAG_STORE", str(store or folder / "no-store"))
    listen_at("localhost", monkeypatch)
    st.cache_resource.clear()
    return visit(**address)


def listen_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.get_config_options()["server.address"], "_get_val_func", lambda: address)


def visit(**address: str) -> AppTest:
    """Another browser tab."""
    at = AppTest.from_file(str(CHAT), default_timeout=60)
    for name, value in address.items():
        at.query_params[name] = value
    return at.run()


def turn_to(at: AppTest, page: str) -> AppTest:
    """A page by the end of its address; AppTest's own way knows only pages that are files."""
    at._page_hash = calc_hash(page)
    return at.run()


def ask(at: AppTest, question: str) -> dict[str, Any]:
    """What the answer's component is given."""
    at.chat_input[0].set_value(question).run()
    assert not at.exception
    return components(at, "answer")[-1]


def components(at: AppTest, name: str) -> list[dict[str, Any]]:
    found = [element.proto for element in _elements(at.main) if element.type == "bidi_component"]
    return [json.loads(proto.json) for proto in found if proto.component_name == f"mmrag_{name}"]


def markdown(at: AppTest) -> list[str]:
    """All that Streamlit would read as Markdown, labels and tooltips included."""
    found = []
    for element in (*_elements(at.main), *_elements(at.sidebar)):
        proto = getattr(element, "proto", None)
        found += [str(getattr(proto, part)) for part in ("body", "label", "help") if hasattr(proto, part)]
        if element.type == "text":  # no Markdown
            found.remove(element.proto.body)
    return [text for text in found if text]


def _elements(block: Any) -> Iterator[Any]:
    for child in getattr(block, "children", {}).values():
        yield child
        yield from _elements(child)


def select(at: AppTest, key: str, *rows: int) -> AppTest:
    """Selects rows of the table with this key, as a click would."""
    (table,) = (frame.proto for frame in at.dataframe if frame.key == key)
    states = at._tree.get_widget_states()
    state = states.widgets.add()
    state.id, state.string_value = table.id, json.dumps({"selection": {"rows": rows, "columns": [], "cells": []}})
    return at._run(states)
