"""The Streamlit app: `mmrag app`, or  streamlit run apps/chat.py.  Its pages are modules of apps.ui.

What it may open comes from the environment, which `mmrag app` sets: MMRAG_STORE, MMRAG_COLLECTIONS, MMRAG_ALLOW.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from apps.ui.ask import ask_page
from apps.ui.evals import evals_page
from apps.ui.evidence import evidence_page
from apps.ui.library import collections
from apps.ui.look import STYLE, favicon
from apps.ui.state import collection, conversation
from apps.ui.words import LANGUAGES, language, t

# By the end of its address: title, icon, what it shows.
PAGES: dict[str, tuple[str, str, Callable[[], None]]] = {
    "ask": ("Ask", ":material/forum:", ask_page),
    "evidence": ("Evidence", ":material/stacked_bar_chart:", evidence_page),
    "evals": ("Evals", ":material/fact_check:", evals_page),
}


def main() -> None:
    st.set_page_config(page_title="mmrag", page_icon=favicon(), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    pages = {
        name: st.Page(show, title=t(title), icon=icon, url_path=name, default=name == "ask")
        for name, (title, icon, show) in PAGES.items()
    }
    st.session_state["pages"] = pages
    chosen = st.navigation(list(pages.values()))
    conversation()
    _choose_collection()
    chosen.run()
    _choose_language()


def _choose_collection() -> None:
    here, known = collection(), [each.name for each in collections()]
    with st.sidebar:
        if here:
            picked = st.selectbox(t("Collection"), known, index=known.index(here.name), key="picked-collection")
            if picked != here.name:
                st.session_state["collection"] = picked
                st.session_state.pop("shown", None)
                st.rerun()


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
