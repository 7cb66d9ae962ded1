"""The Streamlit app: `mmrag app`, or  streamlit run apps/chat.py.  Its pages are modules of apps.ui.

What it may open comes from the environment, which `mmrag app` sets: MMRAG_STORE, MMRAG_COLLECTIONS, MMRAG_ALLOW.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import streamlit as st

from apps.ui.library import collections
from apps.ui.look import STYLE, favicon
from apps.ui.state import collection, conversation, warm_up
from apps.ui.words import LANGUAGES, language, t

# By the end of its address: title, icon, the module whose function of the page's name and `_page` shows it.
PAGES = {
    "ask": ("Ask", ":material/forum:", "apps.ui.ask"),
    "collections": ("Collections", ":material/folder_open:", "apps.ui.collections"),
    "evidence": ("Evidence", ":material/stacked_bar_chart:", "apps.ui.evidence"),
    "evals": ("Evals", ":material/fact_check:", "apps.ui.evals"),
    "settings": ("Settings", ":material/tune:", "apps.ui.settings_page"),
}


def _shows(name: str, module: str) -> Callable[[], None]:
    """Imports a page when it is opened: the first need not wait for what only others draw with."""

    def show() -> None:
        getattr(import_module(module), f"{name}_page")()

    return show


def main() -> None:
    st.set_page_config(page_title="mmrag", page_icon=favicon(), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    pages = {
        name: st.Page(_shows(name, module), title=t(title), icon=icon, url_path=name, default=name == "ask")
        for name, (title, icon, module) in PAGES.items()
    }
    st.session_state["pages"] = pages
    chosen = st.navigation(list(pages.values()))
    conversation()
    _choose_collection()
    chosen.run()
    _choose_language()
    if (here := collection()) and not here.is_empty_folder:
        warm_up(here)


def _choose_collection() -> None:
    here, known = collection(), [each.name for each in collections()]
    with st.sidebar:
        if here:
            st.session_state["picked-collection"] = here.name  # a page may have chosen another
            st.selectbox(t("Collection"), known, key="picked-collection", on_change=_pick)


def _pick() -> None:
    st.session_state["collection"] = st.session_state["picked-collection"]
    st.session_state.pop("shown", None)


def _choose_language() -> None:
    with st.sidebar:
        st.segmented_control(
            t("Language"),
            list(LANGUAGES),
            format_func=LANGUAGES.__getitem__,
            default=language(),
            required=True,
            label_visibility="collapsed",
            key="language-picked",
            on_change=_speak,
        )


def _speak() -> None:
    st.session_state["language"] = st.session_state["language-picked"]


main()
