"""The documents of a collection as cards: to look for one, open it, have some read again or removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import streamlit as st

from apps.ui.library import Collection, drop_uploads
from apps.ui.parts import component, thumbnail
from apps.ui.progress import active_jobs
from apps.ui.state import index, problems, settings
from apps.ui.words import t
from ingest.jobs import start
from mmrag.errors import MmragError
from mmrag.index import Index
from mmrag.types import Document

CARDS = 24
"""On a screen: as many as show at once, however many there are."""
_SEARCHED_FROM = 8
_RENEWED = 4.0
"""Seconds, while an ingest brings more."""

shelf_component = component("shelf")


# -- which one is open -----------------------------------------------------------------------------------------------


def open_document(here: Collection, document_id: str, *, page: int = 1, region: str | None = None) -> None:
    """Shown on the page of the collections from the next run on."""
    st.session_state["open-document"] = (here.store, document_id)
    st.session_state[page_key(document_id)] = page
    st.session_state["open-region"] = region


def close_document() -> None:
    st.session_state.pop("open-document", None)


def opened_document(here: Collection) -> Document | None:
    store, document_id = st.session_state.get("open-document", (None, ""))
    if store != here.store:
        return None
    with problems():
        return index(here).document(document_id)
    return None


def page_key(document_id: str) -> str:
    """Where the session keeps which page of it is shown."""
    return f"page-of-{document_id}"


# -- what is done to them --------------------------------------------------------------------------------------------


def read_again(here: Collection, documents: Iterable[Document]) -> None:
    start(here.store, [each.path for each in documents], settings=settings(here.store), again=True)


def remove(here: Collection, documents: Iterable[Document]) -> None:
    documents = list(documents)
    start(here.store, [], settings=settings(here.store), remove=[each.id for each in documents])
    drop_uploads(here.store, [each.path for each in documents])


def actions(here: Collection, documents: Sequence[Document], *, key: str) -> None:
    """Buttons for what can be done to these; removing asks once more."""
    if st.button(t("Read again"), icon=":material/refresh:", type="tertiary", key=f"again-{key}"):
        _do(read_again, here, documents)
    with st.popover(t("Remove"), icon=":material/delete:", type="tertiary", key=f"remove-{key}"):
        st.text("\n".join(each.name for each in documents[:5]) + ("\n…" if len(documents) > 5 else ""))
        st.caption(t("Removed from the collection; files that stand elsewhere are not touched."))
        label = t("Remove {count} for good", count=len(documents))
        if st.button(label, type="primary", key=f"remove-sure-{key}"):
            _do(remove, here, documents)


def _do(act: Callable[[Collection, Iterable[Document]], None], here: Collection, to: Sequence[Document]) -> None:
    with problems():
        act(here, to)
        _chosen(here).clear()
        close_document()
        st.rerun()


# -- the cards -------------------------------------------------------------------------------------------------------


def show_documents(here: Collection) -> None:
    every = _RENEWED if active_jobs(here) else None
    st.fragment(_documents, run_every=every)(here)


def _documents(here: Collection) -> None:
    with problems():
        held = index(here)
        documents = held.documents()
        if not documents:
            _nothing(here)
            return
        found = _search(documents)
        chosen = [each for each in documents if each.id in _chosen(here)]
        _bar(here, found, chosen)
        pages = -(-len(found) // CARDS)
        at = st.pagination(pages, key=f"shelf-page-{pages}") if pages > 1 else 1
        _shelf(here, held, found[(at - 1) * CARDS : at * CARDS])


def _nothing(here: Collection) -> None:
    if active_jobs(here):
        st.info(t("The documents appear here one by one as they are read."), icon=":material/hourglass:")
    else:
        st.info(
            t("This collection holds no documents yet. Open “Add documents” above and drop some files there."),
            icon=":material/upload_file:",
        )


def _search(documents: Sequence[Document]) -> list[Document]:
    if len(documents) <= _SEARCHED_FROM:
        return list(documents)
    words = st.text_input(
        t("Search"),
        placeholder=t("Search by name or title"),
        label_visibility="collapsed",
        icon=":material/search:",
        key="document-search",
    )
    found = matching(documents, words)
    if not found:
        st.info(t("No document has this in its name or title."))
    return found


def matching(documents: Iterable[Document], words: str) -> list[Document]:
    """Those with all the words in name or title."""
    wanted = words.casefold().split()
    return [each for each in documents if all(word in f"{each.name}\n{each.title}".casefold() for word in wanted)]


def _chosen(here: Collection) -> set[str]:
    """Ids of the documents that are ticked, on whichever screen."""
    by_store: dict[Any, set[str]] = st.session_state.setdefault("ticked-documents", {})
    return by_store.setdefault(here.store, set())


def _bar(here: Collection, found: Sequence[Document], chosen: Sequence[Document]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="shelf-bar"):
        if not chosen:
            st.caption(t("Select a card to read it page by page; tick several to remove them or have them read again."))
            return
        st.markdown(f"**{t('{count} ticked', count=len(chosen))}**")
        if len(chosen) < len(found) and st.button(t("Tick all {count}", count=len(found)), type="tertiary"):
            _chosen(here).update(each.id for each in found)
            st.rerun(scope="fragment")
        if st.button(t("Tick none"), type="tertiary"):
            _chosen(here).clear()
            st.rerun(scope="fragment")
        actions(here, chosen, key="ticked")


def _shelf(here: Collection, held: Index, documents: Sequence[Document]) -> None:
    def tick() -> None:
        _chosen(here).symmetric_difference_update([st.session_state["shelf"].tick])

    cards = [card(each, _picture(held, each), ticked=each.id in _chosen(here)) for each in documents]
    words = {"tick": t("Tick"), "open": t("Open")}
    wanted = shelf_component(
        data={"cards": cards, "words": words}, key="shelf", on_tick_change=tick, on_open_change=lambda: None
    ).open
    if wanted:
        open_document(here, wanted)
        st.rerun()


def card(document: Document, image: str, *, ticked: bool) -> dict[str, Any]:
    """What the component shows."""
    pages = t("{pages} pages", pages=document.page_count) if document.page_count != 1 else t("1 page")
    return {
        "id": document.id,
        "name": document.name,
        "title": document.title,
        "facts": f"{pages} · {size_told(document.size)}",
        "image": image,
        "ticked": ticked,
    }


def _picture(held: Index, document: Document) -> str:
    """Of page 1; empty where the store's copy has gone or is damaged."""
    try:
        return thumbnail(held.source(document), 1)
    except (MmragError, OSError, RuntimeError):  # the last is what MuPDF raises
        return ""


def size_told(size: float) -> str:
    units = ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.1f} {units[0]}" if size < 10 and units[0] != "B" else f"{size:.0f} {units[0]}"
