"""Why a page was found: legs and hits as tables, and the page of the app that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")

import streamlit as st
from streamlit.testing.v1 import AppTest

from apps.ui.evidence import thumbnail_of
from apps.ui.legs import _UNNAMED, _UNREAD, COLOURS, LEGS, bars, first, silent, votes
from apps.ui.words import CHINESE
from mmrag.engine import Rag, open_rag
from mmrag.retrieve import Leg, Retriever, Weights, fuse
from mmrag.settings import Settings
from tests.streamlit_app import components, markdown, select

A, B, C = ("a", 1), ("b", 2), ("c", 3)
WORDS = Leg({A: 4.0, B: 2.0}, {})
DENSE = Leg({B: 0.9, C: 0.1, A: 0.5}, {})
TWICE = {"page_words": 2.0, "dense": 1.0}


@pytest.fixture(scope="module")
def rag(demo_store: Path) -> Iterator[Rag]:
    with open_rag(Settings(store=demo_store)) as rag:
        yield rag


# -- tables ----------------------------------------------------------------------------------------------------------


def test_every_leg_that_has_a_weight_has_a_name_and_a_colour_of_its_own() -> None:
    assert set(LEGS) == set(COLOURS) == set(Weights.__slots__)
    assert len(set(COLOURS.values())) == len(COLOURS)
    said = [*_UNNAMED.values(), *_UNREAD.values(), *(text for kind in LEGS.values() for text in kind)]
    assert [text for text in said if text not in CHINESE] == []


def test_the_votes_of_a_page_add_up_to_its_score() -> None:
    legs = {"page_words": WORDS, "dense": DENSE}
    hits = fuse(legs, TWICE)
    assert [hit.key for hit in hits] == [A, B, C]
    for hit in hits:
        assert sum(vote.share for vote in votes(hit, legs)) == pytest.approx(hit.score)
    words, dense = votes(hits[0], legs)
    assert (words.rank, words.raw, words.share) == (1, 4.0, pytest.approx(4.0))  # 2 deviations above the worst, twice
    assert (dense.rank, dense.raw) == (2, 0.5)
    absent, _ = votes(hits[2], legs)
    assert (absent.rank, absent.raw, absent.share) == (None, None, 0.0)


def test_bars_have_a_part_for_each_leg_that_found_the_page() -> None:
    hits = fuse({"dense": DENSE, "page_words": WORDS}, TWICE)
    parts = bars(hits, {A: "a.pdf, page 1", B: "b.pdf, page 2", C: "c.pdf, page 3"})
    assert [(part["place"], part["page"], part["leg"]) for part in parts] == [
        (1, "1 · a.pdf, page 1", "page_words"),
        (1, "1 · a.pdf, page 1", "dense"),
        (2, "2 · b.pdf, page 2", "page_words"),
        (2, "2 · b.pdf, page 2", "dense"),
        (3, "3 · c.pdf, page 3", "dense"),
    ]


def test_a_leg_is_shown_by_its_own_scores() -> None:
    assert first(DENSE, 2) == [(B, 0.9), (A, 0.5)]


def test_legs_of_the_demo_that_could_not_vote_are_named_with_the_reason(rag: Rag) -> None:
    def said(question: str) -> dict[str, str]:
        return silent(rag.retriever.legs(question), question, has_reranker=False, weights=rag.retriever.weights)

    english = said("How much electricity did the wind farm generate?")
    assert list(english) == ["image", "page_number", "label", "rerank"]
    assert english["rerank"] == "No reranker is chosen in the settings."
    chinese = said("一期工程的装机容量是多少？")
    assert chinese["dense"] == "The text encoder reads no Chinese."
    assert "captions" in chinese["visual"]
    named = said("What does Figure 1 on page 3 show?")
    assert not {"page_number", "label"} & set(named)
    assert said("What is on page 900?")["page_number"] == "It found nothing."


def test_a_leg_without_weight_and_a_picture_without_words() -> None:
    said = silent(
        {"image": Leg({A: 1.0}, {})}, "", has_reranker=True, weights=dict.fromkeys(LEGS, 1.0) | {"label": 0.0}
    )
    assert set(said) == set(LEGS) - {"image"}
    assert said["label"] == "It counts nothing: its weight is 0."
    assert said["dense"] == said["rerank"] == "The question has no words to go by."


def test_the_best_region_of_a_ranked_page_is_that_of_a_search(rag: Rag) -> None:
    question = "How much electricity did the wind farm generate in 2025?"
    searched = rag.retriever.search(question, top_k=2)
    hits = rag.retriever.rank_pages(question)[:2]
    assert [e.region.id for e in rag.retriever.evidence(question, hits)] == [e.region.id for e in searched]
    gone = fuse({"dense": Leg({("removed", 1): 1.0}, {})}, rag.retriever.weights)
    assert rag.retriever.evidence(question, gone) == []


# -- the page --------------------------------------------------------------------------------------------------------


def shown(question: str, language: str) -> None:
    import streamlit as st

    from apps.ui.answering import Turn
    from apps.ui.evidence import evidence_page
    from apps.ui.state import collection, conversation

    st.session_state["language"] = language
    here = collection()
    if here and question:
        conversation().turns[here.store] = [Turn(question)]
    evidence_page()


def open_page(
    monkeypatch: pytest.MonkeyPatch, folder: Path, store: Path, question: str = "", language: str = "en"
) -> AppTest:
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("MMRAG_STORE", str(store))
    st.cache_resource.clear()
    at = AppTest.from_function(shown, default_timeout=60, args=(question, language)).run()
    assert not at.exception
    return at


def tables(at: AppTest) -> list[Any]:
    return [frame.value for frame in at.dataframe]


QUESTION = "How much electricity did the wind farm generate in 2025?"


def test_the_last_question_is_there_and_its_legs_are_asked_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_store: Path
) -> None:
    asked: list[str] = []
    legs = Retriever.legs

    def counting(self: Retriever, query: str = "", **more: Any) -> dict[str, Leg]:
        asked.append(query)
        return legs(self, query, **more)

    monkeypatch.setattr(Retriever, "legs", counting)
    at = open_page(monkeypatch, tmp_path, own_store, QUESTION)
    assert at.text_input[0].value == QUESTION
    ranking = tables(at)[0]
    assert ranking["Document"][0] == "harbour-energy-annual-report-2025.pdf"
    assert ranking["Place"].tolist() == list(range(1, len(ranking) + 1))
    assert ranking[""][0].startswith("data:image/jpeg;base64,")
    (page,) = components(at, "page")
    assert page["active"] in {region["id"] for region in page["regions"]}
    at.run()
    select(at, "evidence-fused", 1)
    assert asked == [QUESTION]
    at.text_input[0].set_value("Who signed the certificate?").run()
    assert asked == [QUESTION, "Who signed the certificate?"]


def test_a_selected_page_is_shown_from_any_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_store: Path
) -> None:
    at = open_page(monkeypatch, tmp_path, own_store, QUESTION)
    before = components(at, "page")[0]["alt"]
    select(at, "evidence-fused", 2)
    after = components(at, "page")[0]["alt"]
    row = tables(at)[0].iloc[2]
    assert after == f"{row['Document']}, page {row['Page']}" != before
    select(at, "evidence-leg-dense", 0)
    assert components(at, "page")[0]["alt"] != after
    why = tables(at)[-1]
    assert why["Leg"][0] == "Words on the page"
    assert "Counts as" in why


def test_a_chinese_question_in_chinese(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_store: Path) -> None:
    at = open_page(monkeypatch, tmp_path, own_store, "一期工程的装机容量是多少？", "zh")
    assert "- 语义: 文本编码器不识中文。" in markdown(at)
    assert tables(at)[0]["文档"][0] == "沿海风电项目简报.pdf"


def test_only_in_some_documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_store: Path) -> None:
    at = open_page(monkeypatch, tmp_path, own_store, QUESTION)
    at.multiselect[0].select("tidal-turbine-blades-paper.pdf").run()
    assert set(tables(at)[0]["Document"]) == {"tidal-turbine-blades-paper.pdf"}


def test_without_a_question_nothing_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_store: Path
) -> None:
    at = open_page(monkeypatch, tmp_path, own_store)
    assert [info.value for info in at.info] == ["Type a question to see which pages each leg finds for it."]
    assert thumbnail_of(None, {}, A) is None  # type: ignore[arg-type]  # of a document that has gone
