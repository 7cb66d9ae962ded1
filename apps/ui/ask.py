"""The page where a collection is asked: the conversation, and beside it the page that a citation names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from apps.overlay import answers_html, nearest
from apps.ui.answering import Turn
from apps.ui.export import answer_markdown, conversation_markdown
from apps.ui.library import Collection, demo_collection
from apps.ui.parts import answer_component, plain, show_page
from apps.ui.progress import active_jobs, progress_line
from apps.ui.state import collection, conversation, evidence_pages, index, page, problems, rag
from apps.ui.welcome import welcome
from apps.ui.words import t, told
from mmrag.index import Index
from mmrag.types import Answer, BBox, Citation, Claim, Document, Evidence, Support, Verdict

PICTURES = ["png", "jpg", "jpeg", "webp"]


def ask_page() -> None:
    here = collection()
    if here is None:
        welcome()
        return
    with problems():
        documents = index(here).documents()
        progress_line(here, is_empty=not documents)
        turns = conversation().turns.setdefault(here.store, [])
        chosen = _sidebar(here, turns, documents)
        if not documents:
            _nothing(here)
        elif not turns and not active_jobs(here):  # half a collection answers from the wrong half
            _suggestions(here, turns)
        _input(turns, chosen, disabled=not documents)
        # A fragment, so that to select a citation runs nothing else again; but in one, nothing could stop an answer.
        is_waiting = bool(turns) and not _is_settled(turns[-1])
        (_conversation if is_waiting else st.fragment(_conversation))(here, turns)


def _nothing(here: Collection) -> None:
    if active_jobs(here):
        st.info(t("You can ask as soon as the first document is read."), icon=":material/hourglass:")
        return
    st.info(t("This collection holds no documents yet."))
    if st.button(t("Add documents"), icon=":material/upload_file:", type="primary", key="add"):
        st.switch_page(page("collections"))


def _is_settled(turn: Turn) -> bool:
    return bool(turn.answer or turn.error)


# -- the question ----------------------------------------------------------------------------------------------------


def _sidebar(here: Collection, turns: list[Turn], documents: Sequence[Document]) -> tuple[str, ...]:
    """Which documents are to be searched; none for all."""
    names = {document.id: document.name for document in documents}
    with st.sidebar:
        chosen = st.multiselect(
            t("Only in these documents"), names, format_func=names.__getitem__, placeholder=t("All documents")
        )
        if turns:
            answers = [turn.answer for turn in turns if turn.answer]
            if st.button(t("New conversation"), icon=":material/add_comment:", width="stretch"):
                turns.clear()
                st.session_state.pop("shown", None)
                st.rerun()
            _export(here, answers)
    return tuple(chosen)


def _export(here: Collection, answers: list[Answer]) -> None:
    with st.popover(t("Export"), icon=":material/download:", width="stretch", disabled=not answers):
        st.download_button(
            t("As Markdown"),
            lambda: conversation_markdown(answers),
            "answers.md",
            "text/markdown",
            width="stretch",
            on_click="ignore",
        )
        st.download_button(
            t("As a page with pictures (HTML)"),
            lambda: answers_html(answers, title=here.name),
            "answers.html",
            "text/html",
            width="stretch",
            on_click="ignore",
        )


def _suggestions(here: Collection, turns: list[Turn]) -> None:
    if here.store != demo_collection().store:
        return
    from apps.demo_documents import QUESTIONS  # not before: it draws documents too

    st.caption(t("You could ask:"))
    for number, question in enumerate(QUESTIONS):
        if st.button(plain(question.text), key=f"suggestion-{number}", icon=":material/chat_bubble:"):
            turns.append(Turn(question.text))
            st.rerun()


def _input(turns: list[Turn], documents: tuple[str, ...], *, disabled: bool) -> None:
    said = st.chat_input(
        t("Ask this collection"),
        accept_file=True,
        file_type=PICTURES,
        max_upload_size=20,
        max_chars=2000,
        disabled=disabled,
        key="question",
    )
    if said and (said.text.strip() or said.files):
        picture = said.files[0].getvalue() if said.files else None
        turns.append(Turn(said.text.strip(), picture=picture, documents=documents))
        st.rerun()


# -- the answer ------------------------------------------------------------------------------------------------------


def _answer(here: Collection, turns: list[Turn]) -> None:
    """Shows the last question's answer while it is written."""
    turn = turns[-1]
    turn.begin(rag(here), [before.answer for before in turns[:-1] if before.answer], top_k=evidence_pages())
    place = st.empty()
    st.button(t("Stop"), on_click=turn.stop, type="tertiary", icon=":material/stop_circle:", key="stop")
    while not turn.done.wait(0.05):
        # A reply that has not been read yet: as text, never as Markdown. Without a call, no click would be noticed.
        place.text(turn.said or t("Looking …"))
    st.session_state.pop("shown", None)  # its own first place, from now on
    st.rerun()


class Place(NamedTuple):
    """What a chip leads to."""

    document: str
    document_id: str
    page: int
    region: str
    source: Path
    quote: str = ""
    lines: tuple[BBox, ...] = ()
    verdict: Verdict | None = None
    claim: str = ""


def places(answer: Answer) -> list[Place]:
    """Every citation in order; of an abstention the nearest evidence."""
    if answer.abstained:
        return [_near(item) for item in nearest(answer)]
    return [_cited(claim, citation) for claim in answer.claims for citation in claim.citations]


def _near(item: Evidence) -> Place:
    return Place(item.document.name, item.document.id, item.page, item.region.id, item.source)


def _cited(claim: Claim, c: Citation) -> Place:
    return Place(c.document, c.document_id, c.page, c.region, c.source, c.quote, c.lines, claim.verdict, claim.text)


def answer_data(answer: Answer, selected: int | None, *, is_rewritten: bool = False) -> dict[str, Any]:
    """What the component shows; `is_rewritten` where it may be asked once more as it was typed."""
    found = list(enumerate(places(answer)))
    numbered = iter(found)
    sure = _CALIBRATED if answer.signals else _PAGE_ONLY
    return {
        "abstained": answer.abstained,
        "said": t(answer.text) if answer.abstained else "",
        "sentences": [
            {
                "text": claim.text,
                "support": _support(claim.verdict),
                "remark": _remark(claim),
                "reason": told(claim.verdict.reason) if claim.verdict else "",
                "places": [_chip(*next(numbered)) for _ in claim.citations],
            }
            for claim in ([] if answer.abstained else answer.claims)
        ],
        "notes": [told(note) for note in answer.notes],
        "nearest": [_named(number, place) for number, place in found] if answer.abstained else [],
        "selected": selected,
        "sure": "" if answer.abstained else t("{share} sure", share=f"{answer.confidence:.0%}"),
        "markdown": answer_markdown(answer),
        "rewritten": is_rewritten,
        "words": {"sure": t(sure), **{name: t(text) for name, text in _WORDS.items()}},
    }


_CALIBRATED = "How likely the cited region holds what was asked for"
_PAGE_ONLY = "How likely the cited page answers"
_WORDS = {
    "nearest": "Nearest places",
    "copy": "Copy",
    "copied": "Copied",
    "why": "Why these pages?",
    "typed": "Ask it as typed",
}


def _support(verdict: Verdict | None) -> str:
    return str(verdict.support if verdict else Support.UNCHECKED)


def _remark(claim: Claim) -> str:
    if not claim.citations:
        return t("no source")
    if claim.verdict is None or claim.verdict.support is Support.SUPPORTED:
        return ""
    return t(str(claim.verdict.support))


def _chip(number: int, place: Place) -> dict[str, Any]:
    title = t("Source {number}: {document}, page {page}", number=number + 1, document=place.document, page=place.page)
    return {"index": number, "label": str(number + 1), "title": title}


def _named(number: int, place: Place) -> dict[str, Any]:
    name = t("{document}, page {page}", document=place.document, page=place.page)
    return {"index": number, "label": name, "title": name}


# -- what is shown ---------------------------------------------------------------------------------------------------


def _conversation(here: Collection, turns: list[Turn]) -> None:
    if not turns:
        return
    talk, beside = st.columns(2, gap="large")
    shown = _shown(turns)
    with beside, problems():  # before the conversation, of which little is new
        if shown:
            _beside(index(here), places_of(turns[shown.turn]), shown)
    with talk:
        for number, turn in enumerate(turns):
            _turn(here, number, turn, turns, shown)


class Shown(NamedTuple):
    """Which place of which turn stands beside the conversation."""

    turn: int
    place: int
    is_chosen: bool = True
    """By the reader: what nobody chose leaves a narrow window to the answer."""


def _shown(turns: Sequence[Turn]) -> Shown | None:
    """What was chosen, else the last answer's first place; None where that was closed, or there is nothing."""
    shown = st.session_state.get("shown", Shown(len(turns) - 1, 0, is_chosen=False))
    if shown is None or shown.turn >= len(turns) or shown.place >= len(places_of(turns[shown.turn])):
        return None
    return Shown(*shown)


def places_of(turn: Turn) -> list[Place]:
    return places(turn.answer) if turn.answer else []


def _turn(here: Collection, number: int, turn: Turn, turns: list[Turn], shown: Shown | None) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        st.text(turn.question)
        if turn.picture:
            st.image(turn.picture, width=160)
    with st.chat_message("assistant", avatar=":material/manage_search:"):
        if not _is_settled(turn):
            if number == len(turns) - 1:
                _answer(here, turns)
            else:
                st.caption(t("Looking …"))
        if turn.asked and turn.asked != turn.question:
            st.caption(t("Asked as: {question}", question=plain(turn.asked)))
        if turn.error:
            st.error(plain(told(turn.error)), icon=":material/error:")
            if number == len(turns) - 1 and st.button(t("Ask again"), key=f"again-{number}"):
                turns[-1] = _anew(turn)
                st.rerun()
            return
        if turn.answer:
            _said(here, number, turns, turn.answer, shown)


def _said(here: Collection, number: int, turns: list[Turn], answer: Answer, shown: Shown | None) -> None:
    turn, key = turns[number], f"answer-{number}"
    selected = shown.place if shown and shown.turn == number else None
    wanted = answer_component(
        data=answer_data(answer, selected, is_rewritten=turn.asked != turn.question),
        key=key,
        on_place_change=_selects(number, key),
        on_why_change=lambda: None,
        on_typed_change=lambda: None,
    )
    if wanted.typed:
        turns.append(_anew(turn, as_typed=True))
        st.rerun()
    if wanted.why:
        from apps.ui.evidence import explain  # draws charts, which takes a second to import

        explain(here, turn.asked)
        st.switch_page(page("evidence"))


def _anew(turn: Turn, *, as_typed: bool = False) -> Turn:
    return Turn(turn.question, turn.picture, turn.documents, as_typed=as_typed or turn.as_typed)


def _selects(number: int, key: str) -> Callable[[], None]:
    def select() -> None:
        if (place := st.session_state[key].place) is not None:
            st.session_state["shown"] = Shown(number, int(place))

    return select


def _beside(held: Index, found: Sequence[Place], shown: Shown) -> None:
    place = found[shown.place]
    of = held.page(place.document_id, place.page)
    with st.container(key="beside" if shown.is_chosen else "beside-unasked"):
        if of is None:
            st.info(t("The document has been removed since."))
            return
        _steps(found, shown)
        _why(place)
        show_page(
            place.source,
            of,
            name=place.document,
            active=place.region,
            lines=place.lines,
            support=_support(place.verdict) if place.claim else "",
            key="cited-page",
        )


def _steps(found: Sequence[Place], shown: Shown) -> None:
    """The page's name, and the way to the other places of the answer."""
    place = found[shown.place]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="steps"):
        st.markdown(f"**{plain(place.document)}** · {t('page {page}', page=place.page)}")
        for icon, words, to in (
            ("chevron_left", "Previous source", shown.place - 1),
            ("chevron_right", "Next source", shown.place + 1),
            ("close", "Close", None),
        ):
            st.button(
                t(words),  # hidden by a rule of style, but there for who cannot see the sign
                icon=f":material/{icon}:",
                key=words,
                type="tertiary",
                disabled=to is not None and not 0 <= to < len(found),
                on_click=_show,
                args=(None if to is None else Shown(shown.turn, to),),
            )


def _show(place: Shown | None) -> None:
    st.session_state["shown"] = place


_TONES = {
    Support.SUPPORTED: ("green", "check_circle"),
    Support.PARTLY: ("orange", "contrast"),
    Support.UNSUPPORTED: ("red", "cancel"),
    Support.CONTRADICTED: ("red", "cancel"),
    Support.UNCHECKED: ("gray", "help"),
}


def _why(place: Place) -> None:
    """The quote, and what checking it against the region has shown."""
    if place.quote:
        st.markdown(f"> {plain(place.quote)}")
    if place.verdict:
        colour, icon = _TONES[place.verdict.support]
        badge = f":{colour}-badge[:material/{icon}: {t(str(place.verdict.support))}]"
        st.markdown(f"{badge} :small[{plain(told(place.verdict.reason))}]")
