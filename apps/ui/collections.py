"""The page of the collections: to make, choose and delete one, to add documents to it and look at what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from apps.ui.browser import show_document
from apps.ui.documents import opened_document, show_documents, size_told
from apps.ui.ingests import show_ingests
from apps.ui.library import (
    Collection,
    allowed_files,
    allowed_folders,
    collections,
    delete_collection,
    demo_collection,
    keep_uploads,
    new_collection,
)
from apps.ui.parts import plain
from apps.ui.progress import active_jobs
from apps.ui.state import choose, close, collection, index, problems, settings
from apps.ui.welcome import start_demo
from apps.ui.words import t
from ingest.jobs import start
from mmrag.index import Index
from mmrag.types import MEDIA_TYPES, Document


def collections_page() -> None:
    here = collection()
    if here is None:
        st.title(t("Collections"), anchor=False)
        st.markdown(t("A collection holds documents that are asked together. Make the first one:"))
        with st.container(border=True):
            _new()
        return
    document = opened_document(here)
    if document:
        with problems():
            show_document(here, document)
        return
    _choose(here)
    with problems():
        documents = index(here).documents()
        _facts(here, documents)
        _add(here, is_empty=not documents)
        show_ingests(here)
        show_documents(here)


# -- which collection ------------------------------------------------------------------------------------------------


def _choose(here: Collection) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="collections-row"):
        st.session_state["collection-pill"] = here.name
        st.pills(
            t("Collection"),
            [each.name for each in collections()],
            format_func=plain,
            required=True,
            label_visibility="collapsed",
            key="collection-pill",
            on_change=_picked,
        )
        label = t("New collection")
        if st.button(label, icon=":material/create_new_folder:", type="tertiary", key="new-collection-dialog"):
            st.dialog(label)(_new)()


def _picked() -> None:
    st.session_state["collection"] = st.session_state["collection-pill"]
    st.session_state.pop("shown", None)


def _new() -> None:
    with st.form("new-collection", border=False):
        name = st.text_input(t("Name"), max_chars=100, placeholder=t("Annual reports"), key="new-name")
        wanted = st.form_submit_button(t("Make the collection"), type="primary", icon=":material/add:")
    with problems():
        if wanted:
            made = new_collection(name)
            Index.open(made.store, create=True).close()
            choose(made)
            st.rerun()
        if not (demo_collection().store / "ledger.sqlite3").is_file():
            st.caption(t("Or look around first:"))
            if st.button(t("Start the demo"), icon=":material/play_arrow:", key="demo"):
                start_demo()
                st.rerun()


def _facts(here: Collection, documents: Sequence[Document]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container():
            st.header(plain(here.name), anchor=False)
            st.caption(plain(_told(here, documents)))
        if st.button(
            t("Delete"),
            icon=":material/delete:",
            type="tertiary",
            disabled=not here.is_own,
            help=None if here.is_own else t("It was not made in this app: remove its folder yourself."),
            key="delete-collection",
        ):
            st.dialog(t("Delete this collection?"))(_confirm)(here)


def _told(here: Collection, documents: Sequence[Document]) -> str:
    pages = sum(document.page_count for document in documents)
    size = size_told(sum(document.size for document in documents))
    counts = t("{documents} documents · {pages} pages · {size}", documents=len(documents), pages=pages, size=size)
    return f"{counts} · {here.store}"


def _confirm(here: Collection) -> None:
    st.markdown(
        t(
            "**{name}** goes for good, with all that was uploaded to it. Files that stand elsewhere are not touched.",
            name=plain(here.name),
        )
    )
    busy = bool(active_jobs(here))
    if busy:
        st.warning(t("It is being written to: cancel that first."), icon=":material/hourglass:")
    with problems():
        if st.button(t("Delete for good"), type="primary", icon=":material/delete:", disabled=busy, key="delete-sure"):
            close(here)
            delete_collection(here)
            st.session_state.pop("shown", None)
            st.rerun()


# -- adding ----------------------------------------------------------------------------------------------------------


def _add(here: Collection, *, is_empty: bool) -> None:
    label = t("Add documents")
    with st.expander(label, expanded=is_empty and not active_jobs(here), icon=":material/upload_file:"):
        files, folder, on_machine = st.tabs([t("Files"), t("A whole folder"), t("From this machine")])
        with files:
            _upload(here, "files", several=True)
        with folder:
            _upload(here, "folder", several="directory")
        with on_machine, problems():
            _from_machine(here)


def _upload(here: Collection, key: str, *, several: Any) -> None:
    taken = st.session_state.setdefault("uploads-taken", 0)
    given = st.file_uploader(
        t("Documents and pictures"),
        type=[suffix[1:] for suffix in MEDIA_TYPES],
        accept_multiple_files=several,
        key=f"upload-{key}-{taken}",
        label_visibility="collapsed",
    )
    st.caption(t("A file that is uploaded again under its name replaces the older version."))
    if not given:
        return
    with problems():
        chosen = settings(here.store)  # what is wrong with these is said before anything is written
        paths = keep_uploads(here.store, ((file.name, file.getvalue()) for file in given))
        start(here.store, paths, settings=chosen)
        st.session_state["uploads-taken"] = taken + 1  # another uploader, which is empty
        st.rerun()


def _from_machine(here: Collection) -> None:
    with st.form("from-machine", border=False):
        path = st.text_input(t("Folder or file on the machine that runs this app"), key="machine-path")
        wanted = st.form_submit_button(t("Add"), icon=":material/add:")
    st.caption(plain(t("Allowed: {folders}", folders=", ".join(map(str, allowed_folders())))))
    if wanted:
        files = allowed_files(path, exclude=here.store.resolve())
        start(here.store, files, settings=settings(here.store))
        st.rerun()
