"""The page that shows why: what each retrieval leg found for a question, and how fusion ranked it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import altair
import streamlit as st

from apps.ui.answering import Turn
from apps.ui.legs import COLOURS, LEGS, bars, first, silent, votes
from apps.ui.library import Collection
from apps.ui.parts import kind_name, plain, show_page, thumbnail
from apps.ui.state import collection, conversation, index, problems, rag, settings
from apps.ui.welcome import welcome
from apps.ui.words import t
from mmrag.retrieve import Leg, PageHit, PageKey, fuse
from mmrag.settings import Settings
from mmrag.types import Document

COUNTS = (5, 10, 20)
_ROW, _BAR = 56, 42
"""Heights in pixels: of a row with a thumbnail, of a bar with its name."""


class Asked(NamedTuple):
    """All that a ranking depends on."""

    question: str
    picture: bytes | None
    documents: tuple[str, ...]
    settings: Settings
    known: tuple[str, ...]
    """Ids of the documents that are there."""


class Found(NamedTuple):
    asked: Asked
    legs: dict[str, Leg]
    hits: list[PageHit]
    silent: dict[str, str]


def evidence_page() -> None:
    here = collection()
    if here is None:
        welcome()
        return
    with problems():
        documents = {document.id: document for document in index(here).documents()}
        if not documents:
            st.info(t("This collection holds no documents yet."))
            return
        asked, count = _asked(here, documents)
        if asked.question.strip() or asked.picture:
            _results(here, _found(here, asked), documents, count)
        else:
            st.info(t("Type a question to see which pages each leg finds for it."))


def explain(here: Collection, question: str) -> None:
    """What the page asks when it is opened next."""
    st.session_state[_question_key(here)] = question


def _question_key(here: Collection) -> str:
    return f"evidence-question-{here.name}"


# -- the question ----------------------------------------------------------------------------------------------------


def _asked(here: Collection, documents: Mapping[str, Document]) -> tuple[Asked, int]:
    """What is to be looked for, at first what was asked last; and how many pages are to be shown."""
    last = _last(here)
    st.session_state.setdefault(_question_key(here), last.asked or last.question)
    question = st.text_input(t("Question"), max_chars=2000, key=_question_key(here))
    scope, shown = st.columns([5, 2], vertical_alignment="bottom")
    chosen = scope.multiselect(
        t("Only in these documents"),
        list(documents),
        [id for id in last.documents if id in documents],
        format_func=lambda id: documents[id].name,
        placeholder=t("All documents"),
        key=f"evidence-documents-{here.name}",
    )
    count = shown.segmented_control(t("Pages"), COUNTS, default=COUNTS[1], required=True, key="evidence-count")
    picture = _picture(last)
    return Asked(question, picture, tuple(chosen), settings(here.store), tuple(documents)), int(count or COUNTS[1])


def _last(here: Collection) -> Turn:
    turns = conversation().turns.get(here.store)
    return turns[-1] if turns else Turn("")


def _picture(last: Turn) -> bytes | None:
    if last.picture is None or not st.checkbox(
        t("With the picture of the last question"), True, key="evidence-picture"
    ):
        return None
    st.image(last.picture, width=120)
    return last.picture


def _found(here: Collection, asked: Asked) -> Found:
    """Looked for once for each question, and kept in this tab."""
    kept = st.session_state.get("evidence")
    if isinstance(kept, Found) and kept.asked == asked:
        return kept
    with st.spinner(t("Looking …")):
        retriever = rag(here).retriever
        legs = retriever.legs(asked.question, image=asked.picture, documents=asked.documents or None)
        said = silent(legs, asked.question, has_reranker=retriever.reranker is not None, weights=retriever.weights)
        found = Found(asked, legs, fuse(legs, retriever.weights), said)
    st.session_state["evidence"] = found
    st.session_state["evidence-page"] = found.hits[0].key if found.hits else None
    return found


# -- what was found --------------------------------------------------------------------------------------------------


@st.fragment
def _results(here: Collection, found: Found, documents: Mapping[str, Document], count: int) -> None:
    """A fragment: to select a page runs nothing else again."""
    if not found.hits:
        st.info(t("No leg found a page."))
        return
    tables, beside = st.columns([3, 2.2], gap="large")
    with beside, problems():  # before the tables, which a selection leaves as they are
        _selected(here, found, documents)
    with tables:
        _fused(here, found, documents, count)
        _by_leg(here, found, documents)


def _fused(here: Collection, found: Found, documents: Mapping[str, Document], count: int) -> None:
    hits = found.hits[:count]
    st.subheader(t("The ranking, and what each leg gave"), anchor=False)
    st.caption(
        t(
            "A leg's score counts by how many standard deviations it lies above the worst page of that leg, times the "
            "leg's weight; a page's score is the sum."
        )
    )
    labels = {hit.key: _name(documents, hit.key) for hit in hits}
    chart = _chart(bars(hits, labels), [name for name in LEGS if name in found.legs])
    st.altair_chart(
        chart,
        height=_BAR * len(hits) + 130,
        on_select=_selects_bar([hit.key for hit in hits]),
        selection_mode="bar",
        key="evidence-chart",
    )
    rows = [
        {
            "": thumbnail_of(here, documents, hit.key),
            t("Place"): place,
            t("Document"): _document(documents, hit.key),
            t("Page"): hit.key[1],
            t("Score"): round(hit.score, 2),
            **{t(LEGS[vote.leg].title): vote.rank for vote in votes(hit, found.legs)},
        }
        for place, hit in enumerate(hits, start=1)
    ]
    _table(
        rows, [hit.key for hit in hits], "evidence-fused", help={t(LEGS[n].title): t("Rank in this leg") for n in LEGS}
    )


def _chart(rows: Sequence[Mapping[str, Any]], legs: Sequence[str]) -> altair.LayerChart:
    """For each page its name and below it a bar, a part for each leg: without a margin, so that narrow windows do."""
    titles = [t(LEGS[name].title) for name in legs]
    named = [{**row, "leg": t(LEGS[row["leg"]].title), "order": legs.index(row["leg"])} for row in rows]
    chart = altair.Chart(altair.InlineData(values=named)).encode(y=altair.Y("page:N", sort=None, axis=None))
    colours = altair.Scale(domain=titles, range=[COLOURS[name] for name in legs])
    parts = (
        chart.mark_bar(height=14, yOffset=9, stroke="#80808066", strokeWidth=0.5, cursor="pointer")
        .encode(
            x=altair.X("share:Q", title=t("Score"), axis=altair.Axis(tickCount=6)),
            color=altair.Color("leg:N", title=None, scale=colours, legend=altair.Legend(orient="top", columns=2)),
            order=altair.Order("order:O"),
            tooltip=[
                altair.Tooltip("page:N", title=t("Page")),
                altair.Tooltip("leg:N", title=t("Leg")),
                altair.Tooltip("share:Q", title=t("Counts as"), format=".2f"),
                altair.Tooltip("rank:Q", title=t("Rank in this leg")),
            ],
        )
        .add_params(altair.selection_point("bar", fields=["place"], empty=False))
    )
    names = chart.mark_text(align="left", dy=-9, fontSize=12, color=_text_colour()).encode(
        x=altair.value(0), text="page:N"
    )
    bars_and_names: altair.LayerChart = parts + names.transform_aggregate(groupby=["page"])
    return bars_and_names


def _text_colour() -> str:
    """Streamlit's theme leaves text that is drawn as a mark black."""
    return "#E4E8ED" if st.context.theme.type == "dark" else "#1C2430"


def _by_leg(here: Collection, found: Found, documents: Mapping[str, Document]) -> None:
    st.subheader(t("What each leg found"), anchor=False)
    having = [name for name in LEGS if name in found.legs and found.legs[name].pages]
    places = {hit.key: place for place, hit in enumerate(found.hits, start=1)}
    for name, tab in zip(having, st.tabs([t(LEGS[name].title) for name in having]), strict=True):
        with tab:
            st.caption(t(LEGS[name].explanation))
            best = first(found.legs[name])
            rows = [
                {
                    "": thumbnail_of(here, documents, key),
                    t("Rank"): rank,
                    t("Document"): _document(documents, key),
                    t("Page"): key[1],
                    t("Its own score"): round(score, 3),
                    t("Place in the ranking"): places.get(key),
                }
                for rank, (key, score) in enumerate(best, start=1)
            ]
            _table(rows, [key for key, _ in best], f"evidence-leg-{name}")
    if found.silent:
        st.markdown(f"**{t('Without a say')}**")
        for name, reason in found.silent.items():
            st.markdown(f"- {t(LEGS[name].title)}: {t(reason)}")


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[PageKey], key: str, help: Mapping[str, str] = {}) -> None:
    st.dataframe(
        list(rows),
        hide_index=True,
        row_height=_ROW,
        height=min(len(rows), 10) * _ROW + 38,
        placeholder="–",
        column_config={
            "": st.column_config.ImageColumn(width=52),
            t("Document"): st.column_config.TextColumn(width=180),
            **{name: st.column_config.NumberColumn(width=60) for name in map(t, ("Place", "Page", "Rank"))},
            **{name: st.column_config.NumberColumn(help=text, width=90) for name, text in help.items()},
        },
        on_select=_selects_row(keys, key),
        selection_mode="single-row",
        key=key,
    )


def _selects_row(keys: Sequence[PageKey], key: str) -> Callable[[], None]:
    def select() -> None:
        if rows := st.session_state[key].selection.rows:
            st.session_state["evidence-page"] = keys[rows[0]]

    return select


def _selects_bar(keys: Sequence[PageKey]) -> Callable[[], None]:
    def select() -> None:
        for point in st.session_state["evidence-chart"].selection.bar:
            st.session_state["evidence-page"] = keys[int(point["place"]) - 1]

    return select


# -- one page --------------------------------------------------------------------------------------------------------


def _selected(here: Collection, found: Found, documents: Mapping[str, Document]) -> None:
    """The page with the region that is the best of it, and what each leg says of it."""
    key: PageKey = st.session_state["evidence-page"]
    held, document = index(here), documents.get(key[0])
    page = held.page(*key)
    if document is None or page is None:
        st.info(t("The document has been removed since."))
        return
    hit = next((hit for hit in found.hits if hit.key == key), None)
    best = rag(here).retriever.evidence(found.asked.question, [hit] if hit else [])
    region = best[0].region if best else None
    st.markdown(f"**{plain(document.name)}** · {t('page {page} of the file', page=page.number)}")
    show_page(
        held.source(document), page, name=document.name, active=region.id if region else None, key="evidence-picture-of"
    )
    if region:
        st.caption(t("Its best region: {kind}", kind=kind_name(region.kind)))
    if hit:
        _why(hit, found)


def _why(hit: PageHit, found: Found) -> None:
    rows = [
        {
            t("Leg"): t(LEGS[vote.leg].title),
            t("Rank"): vote.rank,
            t("Its own score"): None if vote.raw is None else round(vote.raw, 3),
            t("Counts as"): round(vote.share, 2),
        }
        for vote in votes(hit, found.legs)
    ]
    st.dataframe(rows, hide_index=True, placeholder="–")


def thumbnail_of(here: Collection, documents: Mapping[str, Document], key: PageKey) -> str | None:
    document = documents.get(key[0])
    return thumbnail(index(here).source(document), key[1]) if document else None


def _document(documents: Mapping[str, Document], key: PageKey) -> str:
    return documents[key[0]].name if key[0] in documents else key[0]


def _name(documents: Mapping[str, Document], key: PageKey) -> str:
    return t("{document}, page {page}", document=_document(documents, key), page=key[1])
