"""The extractive generator quotes what the page says, and only what answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from build import ASPECT, RELAXED, evidence, printed_rows, region
from hypothesis import given
from hypothesis import strategies as st

from ingest.layout import LayoutBox, build_regions
from mmrag.bundled import BundledCrossEncoder
from mmrag.generate.extractive import KEEP_WITHIN, MAX_CANDIDATES, MAX_QUOTES, ExtractiveGenerator
from mmrag.types import BBox, Region, RegionKind


class Script:
    """Scores each passage by the first phrase of the script that it holds."""

    def __init__(self, scores: Mapping[str, float]) -> None:
        self._scores = scores
        self.read: list[str] = []

    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        self.read.extend(passages)
        return [next((s for phrase, s in self._scores.items() if phrase in p), -10.0) for p in passages]


def text(*sentences: str, id: str = "r1") -> Region:
    return region(" ".join(sentences), id=id)


def sales() -> Region:
    rows = [{0.1: "Region", 0.4: "2023", 0.6: "2024"}, {0.1: "North", 0.4: "12", 0.6: "15"}, {0.1: "South", 0.6: "9"}]
    box = LayoutBox(BBox(0.05, 0.25, 0.95, 0.9), RegionKind.TABLE)
    (found,) = build_regions("d-p1", printed_rows(rows), [box], aspect=ASPECT)
    return found


def test_quotes_are_the_words_of_the_page() -> None:
    of = text("The door is blue.", "The lamp is red.", "Nobody knows why.")
    (quote,) = ExtractiveGenerator(Script({"lamp": 5.0})).quote("Which colour is the lamp?", [evidence(of)])
    assert quote.text == "The lamp is red."
    assert of.text[quote.span.start : quote.span.end] == quote.text
    assert (quote.evidence.region, quote.relevance) == (of, 5.0)


@RELAXED
@given(
    st.lists(
        st.lists(st.sampled_from(["Red.", "A lamp?", "灯是红的。", "3.5% of it!", "e.g. this."]), max_size=4),
        max_size=5,
    )
)
def test_every_quote_is_verbatim_and_quoted_once(regions: list[list[str]]) -> None:
    items = [evidence(text(*sentences, id=f"r{i}")) for i, sentences in enumerate(regions)]
    found = ExtractiveGenerator(Script({"lamp": 1.0, "Red": 0.5})).quote("Which lamp?", [*items, *items])
    assert all(q.text == q.evidence.region.text[q.span.start : q.span.end] for q in found)
    assert len({(q.evidence.region.id, q.span) for q in found}) == len(found) <= MAX_QUOTES
    assert bool(found) == any(regions)


def test_a_table_row_reads_by_itself_and_quotes_the_row() -> None:
    of = sales()
    (quote,) = ExtractiveGenerator(Script({"South": 5.0})).quote("Sales of the south?", [evidence(of)])
    assert quote.text == "South — 2024: 9"
    assert of.text[quote.span.start : quote.span.end] == "South\t9"


def test_header_rows_and_titles_are_not_quoted() -> None:
    title = region("Sales of the north.", RegionKind.SECTION_HEADER, id="title")
    scorer = Script({})
    found = ExtractiveGenerator(scorer).quote("Sales of the north?", [evidence(title), evidence(sales())])
    assert sorted(scorer.read) == ["North — 2023: 12; 2024: 15", "South — 2024: 9"]
    assert {quote.text for quote in found} == set(scorer.read)


@pytest.mark.parametrize(
    ("scores", "quoted"),
    [
        ([5.0, 5.0, 5.0, 5.0, 5.0], MAX_QUOTES),
        ([5.0, 5.0 - KEEP_WITHIN, 5.0 - KEEP_WITHIN - 0.01, 0.0, 0.0], 2),
        ([5.0, 3.9, -3.0, -3.0, -3.0], 1),
        ([-8.0, -8.5, -11.0, -11.0, -11.0], 2),  # the verifier decides whether even the best will do
    ],
)
def test_how_many_quotes(scores: list[float], quoted: int) -> None:
    sentences = [f"Lamp {letter} is red." for letter in "ABCDE"]
    scorer = Script({f"Lamp {letter}": score for letter, score in zip("ABCDE", scores, strict=True)})
    found = ExtractiveGenerator(scorer).quote("Which lamp?", [evidence(text(*sentences))])
    assert [quote.text for quote in found] == sentences[:quoted]


def test_relevance_and_the_score_of_the_page_weigh_the_same() -> None:
    items = [
        evidence(text("The lamp is red.", id="r1"), score=0.5),
        evidence(text("The lamp is blue.", id="r2"), score=3.0),
        evidence(text("The lamp is green.", id="r3"), score=0.0),
    ]
    found = ExtractiveGenerator(Script({"red": 4.0, "blue": 2.0, "green": 3.5})).quote("Which lamp?", items)
    assert [(quote.text, quote.rank) for quote in found] == [("The lamp is blue.", 5.0), ("The lamp is red.", 4.5)]


def test_the_scorer_reads_a_sentence_under_its_title_but_the_title_is_not_quoted() -> None:
    scorer = Script({})
    (quote,) = ExtractiveGenerator(scorer).quote("Why?", [evidence(text("It is red."), context="The lamp")])
    assert scorer.read == ["The lamp. It is red."]
    assert quote.text == "It is red."


def test_only_so_many_sentences_are_read_and_those_with_the_questions_words_first() -> None:
    sentences = [f"Door {i} is blue." for i in range(2 * MAX_CANDIDATES)]
    scorer = Script({"lamp": 5.0})
    found = ExtractiveGenerator(scorer).quote("Where is the lamp?", [evidence(text(*sentences, "It is a lamp."))])
    assert len(scorer.read) == MAX_CANDIDATES
    assert [quote.text for quote in found] == ["It is a lamp."]


class Unread:
    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        raise AssertionError("the scorer was asked")


def test_a_chinese_question_is_answered_by_its_rare_words() -> None:
    of = region("门是蓝色的。窗是蓝色的。灯是红色的。")
    found = ExtractiveGenerator(Unread()).quote("什么是红色的？", [evidence(of)])
    assert [quote.text for quote in found] == ["灯是红色的。"]


def test_a_chinese_question_on_an_english_page_has_little_to_say() -> None:
    found = ExtractiveGenerator(Unread()).quote("灯是什么颜色？", [evidence(text("The lamp is red."))])
    assert all(quote.relevance < -5 for quote in found)


@pytest.mark.parametrize("question", ["Which lamp?", "什么灯？"])
def test_evidence_without_words_gives_nothing(question: str) -> None:
    picture = evidence(region("", RegionKind.PICTURE))
    generator = ExtractiveGenerator(BundledCrossEncoder())
    assert generator.quote(question, [picture]) == []
    assert generator.quote(question, []) == []


def test_the_bundled_scorer_finds_the_answer() -> None:
    of = text("The door was painted in 1990.", "Its lamp is red.", "Visitors come on Sundays.")
    found = ExtractiveGenerator(BundledCrossEncoder()).quote("What colour is the lamp?", [evidence(of)])
    assert found[0].text == "Its lamp is red."
