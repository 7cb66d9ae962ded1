"""Confidence and abstention: what each signal measures, what the confidence makes of them, and the wish for risk."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from build import RELAXED, evidence, region
from hypothesis import given
from hypothesis import strategies as st

import mmrag
from apps.demo_documents import QUESTIONS
from mmrag.abstain import (
    RISK,
    Passage,
    check_risk,
    confidence,
    coverage,
    least_confidence,
    named,
    page_confidence,
    rarity,
    signals,
)
from mmrag.errors import UsageError
from mmrag.settings import Settings
from mmrag.types import Evidence

SHARE, LEAD, CROWD = st.floats(0, 1), st.floats(-3, 3), st.floats(0, math.log(96))
SIGNALS = st.fixed_dictionaries({"lead": LEAD, "coverage": SHARE, "crowd": CROWD, "named": SHARE})


def found(text: str, *, page: int = 1, score: float = 0.0) -> Evidence:
    return replace(evidence(region(text, id=f"r{page}")), page=page, score=score)


def read(item: Evidence, relevance: float = 0.0) -> Passage:
    return Passage(item, item.region.text, relevance)


# -- signals ---------------------------------------------------------------------------------------------------------


def test_the_lead_is_over_the_mean_of_the_next_three_pages() -> None:
    pages = [found("a", page=n, score=score) for n, score in enumerate((9.0, 4.0, 2.0, 3.0, -50.0), 1)]
    of = signals("What?", read(pages[0]), [read(pages[0])], [*pages, pages[0]])  # a page counts once
    assert of["lead"] == pytest.approx(math.log(1 + 9 - 3))
    behind = signals("What?", read(pages[3]), [read(pages[3])], pages)
    assert behind["lead"] == pytest.approx(-math.log(1 + (9 + 4 + 2) / 3 - 3))


def test_pages_that_were_not_found_have_a_score_of_0() -> None:
    alone = found("a", score=3.0)
    assert signals("What?", read(alone), [read(alone)], [alone])["lead"] == pytest.approx(math.log(4))


def test_the_crowd_is_what_is_about_as_relevant() -> None:
    item = found("a")
    passages = [read(item, relevance) for relevance in (5.0, 4.0, 3.0, 2.9, -10.0)]
    assert signals("What?", passages[1], passages, [item])["crowd"] == pytest.approx(math.log(3))


def test_rare_words_of_the_question_count_more() -> None:
    weights = rarity("red lamp", ["red door", "red wall", "red lamp"])
    assert weights == {"red": math.log(1 + 3 / 4), "lamp": math.log(1 + 3 / 2)}
    assert coverage("a red one", weights) == pytest.approx(0.379, abs=1e-3)  # 0.560 of 1.476
    assert coverage("RED LAMPS, a lamp", weights) == 1
    assert coverage("", weights) == coverage("red", {}) == 0


def test_titles_and_captions_count_as_part_of_the_region() -> None:
    item = found("It is red.")
    under = replace(item, chunk=replace(item.chunk, context="The lamp"))
    of = [signals("Which colour is the lamp?", read(i), [read(i)], [i])["coverage"] for i in (item, under)]
    assert of[0] == 0 < of[1]


@pytest.mark.parametrize(
    ("question", "text", "share"),
    [
        ("what is the profit?", "anything", 1),  # nothing is named
        ("What was the profit of Norrvik in 2024?", "Norrvik earned 5 in 2024", 1),
        ("What was the profit of Norrvik in 2024?", "Norrvik earned 5 in 2023", 0.5),
        ("What was the profit of Apple Inc. in 1987?", "Norrvik earned 5 in 2023", 0),
        ("2019年的净利润是多少？", "2020年的净利润是5万元", 0),
        ("2020年的净利润是多少？", "2020年的净利润是5万元", 1),
        ("By how much did sales of TIDAL-4 blades rise?", "TIDAL-4 sold well", 1),
    ],
)
def test_names_and_figures_of_a_question(question: str, text: str, share: float) -> None:
    assert named(question, text) == share


# -- confidence ------------------------------------------------------------------------------------------------------


@RELAXED
@given(SIGNALS)
def test_confidence_is_a_probability(of: dict[str, float]) -> None:
    assert 0 < confidence(of) < 1


@RELAXED
@given(SIGNALS, st.sampled_from(["lead", "coverage", "named", "crowd"]), st.floats(0.01, 1))
def test_confidence_rises_with_what_speaks_for_a_quote_and_falls_with_the_crowd(
    of: dict[str, float], name: str, more: float
) -> None:
    other = confidence({**of, name: of[name] + more})
    assert other < confidence(of) if name == "crowd" else other > confidence(of)


def test_without_words_there_is_no_confidence() -> None:
    assert confidence({}) == 0


@RELAXED
@given(SHARE, SHARE)
def test_a_page_is_surer_the_more_its_legs_agree(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 < page_confidence(low) <= page_confidence(high) < 1
    assert page_confidence(0.0) < page_confidence(1.0)


# -- risk ------------------------------------------------------------------------------------------------------------


@RELAXED
@given(SHARE, SHARE)
def test_who_accepts_less_risk_is_given_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert least_confidence(low) >= least_confidence(high)


def test_no_risk_and_every_risk() -> None:
    assert (least_confidence(0.0), least_confidence(1.0)) == (1.0, 0.0)
    assert least_confidence(RISK) == 0.5 == Settings().risk


@pytest.mark.parametrize("risk", [-0.1, 1.1, math.nan, math.inf])
def test_a_risk_is_a_share(risk: float) -> None:
    with pytest.raises(UsageError, match="has no meaning: give a share from 0 to 1"):
        check_risk(risk)


@pytest.mark.slow
def test_the_wish_for_risk_decides_what_is_answered(demo_store: Path) -> None:
    question, unanswerable = QUESTIONS[0].text, QUESTIONS[-1].text
    with mmrag.open(demo_store) as rag:
        usual, careful, careless = (rag.ask(question, risk=risk) for risk in (None, 0.0, 1.0))
        assert [answer.abstained for answer in (usual, careful, careless)] == [False, True, False]
        assert usual.confidence == careful.confidence == careless.confidence  # the wish changes what is said of it
        assert usual.signals == careful.signals
        assert confidence(usual.signals) == usual.confidence
        assert (careful.claims, careful.text) == ((), "The documents do not answer this.")
        assert careful.evidence == usual.evidence
        *pieces, streamed = rag.ask_stream(question, risk=0.0)
        assert not isinstance(streamed, str)
        assert (streamed.abstained, "".join(map(str, pieces))) == (True, "")
        assert not rag.ask(unanswerable, risk=1.0).abstained
        with pytest.raises(UsageError, match="has no meaning"):
            rag.ask(question, risk=2)
    with mmrag.open(demo_store, risk=0.0) as rag:
        assert rag.ask(question).abstained
        assert not rag.ask(question, risk=0.9).abstained


def test_a_store_is_not_opened_with_a_risk_that_is_none(demo_store: Path) -> None:
    with pytest.raises(UsageError, match="has no meaning"):
        mmrag.open(demo_store, risk=7.0)
