"""What several pages show: text from outside, an answer with its citations, a page with its regions.

Everything that documents, file names and models say goes through `plain` into Markdown, or as data into the
components, whose scripts put it on the page as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from apps.overlay import data_url
from apps.ui.words import t
from mmrag.render import render_page
from mmrag.types import BBox, Page, RegionKind

_HERE = Path(__file__).parent
PAGE_DPI, SHARP_DPI = 105, 220
"""At first, and when somebody looks closer: half a page's width is then as sharp as the screen."""
THUMBNAIL_DPI = 26


# Where an address begins that the browser would make a link of, escaped or not: a sign of no width is put in there.
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)


def plain(text: str) -> str:
    """Text from outside as Markdown that shows nothing else: no image, link, markup, formula or icon comes of it."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = _ADDRESS.sub("\N{WORD JOINER}", text)
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def component(name: str) -> Any:
    """Scripts of components cannot import each other: what they share is put before each."""
    made, script, style = (
        (_HERE / file).read_text(encoding="utf-8") for file in ("made.js", f"{name}.js", f"{name}.css")
    )
    return st.components.v2.component(f"mmrag_{name}", js=made + script, css=style)


answer_component = component("answer")
page_component = component("page")


# -- pages -----------------------------------------------------------------------------------------------------------


@st.cache_data(show_spinner=False, max_entries=64)
def page_picture(source: Path, number: int, dpi: int = PAGE_DPI) -> str:
    """The page as a data URL."""
    return data_url(render_page(source, number, dpi=dpi))


@st.cache_data(show_spinner=False, max_entries=4096)
def thumbnail(source: Path, number: int) -> str:
    return data_url(render_page(source, number, dpi=THUMBNAIL_DPI))


def show_page(
    source: Path,
    page: Page,
    *,
    name: str,
    active: str | None = None,
    lines: Sequence[BBox] = (),
    support: str = "",
    key: str,
    on_select: Callable[[], None] = lambda: None,
) -> str | None:
    """A page that can be zoomed, its regions outlined, `active` (a region's id) most of all and its `lines` marked.

    Returns the id of a region that was just selected; `on_select` runs before anything is drawn anew.
    """
    this = (source, page.number)

    def sharpen() -> None:
        st.session_state[f"{key}-sharp"] = this

    is_sharp = st.session_state.get(f"{key}-sharp") == this
    data = {
        "image": page_picture(source, page.number, SHARP_DPI if is_sharp else PAGE_DPI),
        "sharp": is_sharp,
        "alt": t("{document}, page {page}", document=name, page=page.number),
        "ratio": page.height / page.width if page.width else 1.4,
        "regions": [
            {"id": region.id, "box": list(region.box), "kind": kind_name(region.kind), "text": region.text[:300]}
            for region in page.regions
        ],
        "active": active,
        "lines": [list(line) for line in lines],
        "support": support,
        "words": {name: t(text) for name, text in _PAGE_WORDS.items()},
    }
    region: str | None = page_component(
        data=data, key=key, on_region_change=on_select, on_sharpen_change=sharpen
    ).region
    return region


_PAGE_WORDS = {"in": "Zoom in", "out": "Zoom out", "fit": "Whole page"}


def kind_name(kind: RegionKind) -> str:
    return t(str(kind).replace("_", " "))
