"""One document page by page: the page with its regions, the pages around it, and what was read on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import streamlit as st

from apps.ui.documents import actions, close_document, page_key, size_told
from apps.ui.library import Collection
from apps.ui.parts import component, kind_name, page_picture, plain, show_page, thumbnail
from apps.ui.state import index, problems
from apps.ui.words import t
from mmrag.index import Index
from mmrag.types import Document, Page

_STRIP = 9
"""Pages around the shown one."""
_MOST_TEXT = 4000

strip_component = component("strip")
regions_component = component("regions")


def show_document(here: Collection, document: Document) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="document-bar"):
        label = t("All documents")
        if st.button(label, icon=":material/arrow_back:", type="tertiary", key="close-document"):
            close_document()
            st.rerun()
        actions(here, [document], key="opened")
    st.subheader(plain(document.name), anchor=False)
    facts = [document.title, t("{pages} pages", pages=document.page_count), size_told(document.size)]
    st.caption(plain(" · ".join(filter(None, facts))))
    _pages(here, document)


@st.fragment
def _pages(here: Collection, document: Document) -> None:
    """A fragment: to turn a page runs nothing else."""
    with problems():
        held = index(here)
        number = _number(document)
        page = held.page(document.id, number)
        if page is None:
            st.info(t("The document has been removed since."))
            return
        strip = st.container()
        left, right = st.columns([3, 2], gap="medium")
        with left:
            _page(held, document, page)
        with right:
            _regions(page)
        with strip:  # last: what was asked for is the page
            _strip(held, document, number)
        _ahead(held, document, number)


def _number(document: Document) -> int:
    """The page that is shown, and what turns to another."""
    key = page_key(document.id)
    number = min(max(1, int(st.session_state.get(key, 1))), document.page_count)
    st.session_state[key] = number
    with st.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center", key="turn-page"):
        for words, icon, step, shortcut in (
            ("Previous page", "chevron_left", -1, "Left"),
            ("Next page", "chevron_right", 1, "Right"),
        ):
            if step > 0:
                st.number_input(
                    t("Page"), 1, document.page_count, step=1, key=key, label_visibility="collapsed", width=130
                )
                st.caption(t("of {count}", count=document.page_count), width="content")
            st.button(
                t(words),
                icon=f":material/{icon}:",
                type="tertiary",
                shortcut=shortcut,
                key=words,
                disabled=not 1 <= number + step <= document.page_count,
                on_click=_turn,
                args=(key, number + step),
            )
    return number


def _turn(key: str, number: int) -> None:
    st.session_state[key] = number


def _page(held: Index, document: Document, page: Page) -> None:
    def select() -> None:
        st.session_state["open-region"] = st.session_state["opened-page"].region

    try:
        show_page(
            held.source(document),
            page,
            name=document.name,
            active=st.session_state.get("open-region"),
            key="opened-page",
            on_select=select,
        )
    except (OSError, RuntimeError):  # the last is what MuPDF raises
        st.warning(t("The collection's copy of this document is missing or damaged: have it read again."))


def _regions(page: Page) -> None:
    def select() -> None:
        st.session_state["open-region"] = st.session_state["read-regions"].region

    if not page.regions:
        st.info(t("Nothing was found on this page."))
        return
    regions_component(
        data={"regions": region_rows(page), "active": st.session_state.get("open-region"), "page": page.number},
        key="read-regions",
        on_region_change=select,
    )


def region_rows(page: Page) -> list[dict[str, Any]]:
    """What was read on a page in reading order; what a model wrote is called that."""
    return [
        {
            "id": region.id,
            "kind": kind_name(region.kind),
            "text": region.text[:_MOST_TEXT] + ("…" if len(region.text) > _MOST_TEXT else ""),
            "generated": [
                *([t("Description by a model: {said}", said=region.description)] if region.description else []),
                *([t("Tags by a model: {tags}", tags=", ".join(region.tags))] if region.tags else []),
            ],
        }
        for region in page.regions
    ]


def _strip(held: Index, document: Document, number: int) -> None:
    key = page_key(document.id)

    def turn() -> None:
        _turn(key, int(st.session_state["page-strip"].page))

    source = held.source(document)
    pages = [
        {"number": each, "image": _picture(source, each), "title": t("Page {page}", page=each)}
        for each in around(number, document.page_count)
    ]
    if len(pages) > 1:
        strip_component(data={"pages": pages, "shown": number}, key="page-strip", on_page_change=turn)


def _ahead(held: Index, document: Document, number: int) -> None:
    """The page that is most likely asked for next waits in the cache."""
    if number < document.page_count:
        with suppress(OSError, RuntimeError):
            page_picture(held.source(document), number + 1)


def around(number: int, count: int) -> Sequence[int]:
    """As many pages as the strip shows, `number` in their middle where there are enough on both sides."""
    first = max(1, min(number - _STRIP // 2, count - _STRIP + 1))
    return range(first, min(count, first + _STRIP - 1) + 1)


def _picture(source: Any, number: int) -> str:
    try:
        return thumbnail(source, number)
    except (OSError, RuntimeError):
        return ""
