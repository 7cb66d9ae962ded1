"""What somebody sees who has no collection yet: the demo in one click, or the way to their own documents."""

from __future__ import annotations

import streamlit as st

from apps.demo import demo_folder
from apps.ui.library import demo_collection
from apps.ui.state import choose, page, problems
from apps.ui.words import t
from ingest.jobs import start
from mmrag.index import Index
from mmrag.settings import load_settings


def welcome() -> None:
    st.title("mmrag", anchor=False)
    st.markdown(t("Ask your documents, and see the exact place that answers."))
    demo, own = st.columns(2, border=True)
    with demo, problems():
        st.markdown(f"**{t('Try the demo collection')}**")
        st.caption(t("Five short documents in English and Chinese, drawn on this machine: nothing is downloaded."))
        if st.button(t("Start the demo"), type="primary", icon=":material/play_arrow:", key="demo"):
            start_demo()
            st.rerun()
    with own:
        st.markdown(f"**{t('Use your own documents')}**")
        st.caption(
            t(
                "PDFs, Office files, e-books, pictures: reports, papers, slides, scans, photos. They stay on this machine."
            )
        )
        if st.button(t("Add documents"), icon=":material/upload_file:", key="own"):
            st.switch_page(page("collections"))


def start_demo() -> None:
    """Draws the documents and has them ingested by a process of its own; the collection is there at once, empty."""
    from apps.demo_documents import build_demo_documents  # seconds, which the page need not wait for

    demo = demo_collection()
    Index.open(demo.store, create=True).close()
    files = build_demo_documents(demo_folder() / "documents")
    start(demo.store, files, settings=load_settings("offline", store=demo.store))
    choose(demo)
