"""When a cited region holds what was asked for: every way by itself, and what must not count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ir_measures")

from eval.gold import Gold, Place, held, is_page_only, load_gold, on_gold_page
from eval.retrieval import GoldRegion
from mmrag.errors import UsageError
from mmrag.types import BBox

BOX = BBox(0.1, 0.1, 0.4, 0.2)
EVIDENCE = "The heat pump was replaced in March because its fan had become too loud for the neighbours."
ROW = {
    "id": "q1",
    "doc": "a.pdf",
    "question": "What was replaced?",
    "answer": "the heat pump",
    "answerable": True,
    "gold_pages": [2],
    "regions": [{"page": 2, "page_size": [200, 100], "bbox": [20, 10, 80, 20]}],
    "evidence_type": ["text"],
}


def asked(question: str = "What was replaced?", *answers: str, **fields: Any) -> Gold:
    return Gold("q1", question, "a.pdf", True, answers or ("the heat pump",), (3,), **fields)


def place(text: str = "", *, page: int = 3, document: str = "a.pdf", box: BBox = BOX) -> Place:
    return Place(document, page, box, text)


def test_questions_are_read_with_pages_from_1_and_boxes_in_fractions(tmp_path: Path) -> None:
    unanswerable = {**ROW, "id": "q2", "answer": "Not answerable", "answerable": False, "gold_pages": [], "regions": []}
    whole_page = {**ROW, "id": "q3", "regions": [{"page": 2, "page_size": [200, 100], "bbox": [0, 0, 200, 95]}]}
    rows = [{**ROW, "answers": ["heat pump", "the heat pump"], "evidence_text": EVIDENCE}, unanswerable, whole_page]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second, third = load_gold(tmp_path)
    assert first.answers == ("the heat pump", "heat pump")
    assert (first.pages, first.boxes, first.evidence) == ((3,), (GoldRegion(3, BOX),), (EVIDENCE,))
    assert (first.groups, third.boxes) == (("text", "English"), ())
    assert (second.answerable, second.answers) == (False, ())


@pytest.mark.parametrize("wrong", [{"gold_pages": "x"}, {"regions": [{"page": 1}]}, {"gold_pages": None}])
def test_a_row_that_is_not_as_documented_is_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (tmp_path / "questions.jsonl").write_text(json.dumps({**ROW, **wrong}))
    with pytest.raises(UsageError, match=r"questions.jsonl: a row is not as documented"):
        load_gold(tmp_path)


def test_a_file_without_questions_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="has no questions"):
        load_gold(tmp_path)


def test_a_published_box_is_held_on_its_page_alone() -> None:
    gold = asked(boxes=(GoldRegion(3, BOX),))
    assert held(gold, place("nothing")) == ["box"]
    assert held(gold, place("nothing", page=2)) == held(gold, place("nothing", document="b.pdf")) == []
    assert held(gold, place("nothing", box=BBox(0.6, 0.6, 0.9, 0.9))) == []


def test_published_evidence_is_held_by_half_or_as_a_part() -> None:
    gold = asked(evidence=(EVIDENCE,))
    half = "In March the heat pump was replaced because of its fan."
    assert held(gold, place(half)) == ["evidence", "answer"]
    assert held(gold, place("In March it was replaced.")) == []
    assert held(gold, place(half, page=9)) == []  # nor do two words of an answer, on another page
    long = asked(evidence=(" ".join(f"word{i}" for i in range(100)),))
    part = " ".join(f"word{i}" for i in range(20))
    assert held(long, place(part)) == ["evidence"]
    assert held(long, place(" ".join(f"word{i}" for i in range(19)))) == []  # too short to be told from chance
    assert held(long, place(part + " and another thing that stands nowhere else")) == []


@pytest.mark.parametrize(
    ("answer", "text", "on_page", "elsewhere"),
    [
        ("$40,684", "Checks of $35,000 and $40,684.", True, True),
        ("['$35,000', '$40,684']", "Checks of $35,000 and $40,684.", True, True),
        ("['$35,000', '$40,685']", "Checks of $35,000 and $40,684.", False, False),
        ("29%", "Some 29 % agree.", True, False),  # two digits stand on many pages
        ("2013", "Founded in 2013.", True, False),  # and so do years
        ("2", "There are 2 of 3.", False, False),
        ("two", "There are two of three.", False, False),
        ("Yes", "Yes, it was.", False, False),
        ("是", "是的", False, False),
        ("Berlin School of Experimental Psychology", "The Berlin school for experimental psychology began", True, True),
        ("eMarketer", "Source: eMarketer", True, False),
        ("a heat pump and a fan", "The heat pump is new.", False, False),  # two of three telling words
        ("30 days", "for 30 working days", True, False),
        ("30 weeks of leave", "30 days", False, False),  # the figure without half of the words
        ("净利润增长百分之十二", "净利润增长百分之十二", True, True),
    ],
)
def test_an_answer_is_held_by_its_figures_or_telling_words(
    answer: str, text: str, on_page: bool, elsewhere: bool
) -> None:
    gold = asked("What was it?", answer)
    assert ("answer" in held(gold, place(text))) is on_page
    assert ("answer" in held(gold, place(text, page=7))) is elsewhere
    assert held(gold, place(text, document="b.pdf")) == []


def test_what_the_question_gives_away_tells_nothing() -> None:
    gold = asked("How much did sales grow in 2024?", "Sales grew by 12.5 % in 2024")
    assert held(gold, place("Sales in 2024")) == []
    assert held(gold, place("By 12.5 % they grew")) == ["answer"]


def test_where_only_the_page_is_published_a_region_must_speak_of_the_question() -> None:
    gold = asked("What is the sum of rent and interest?", "19")
    elsewhere = [place("Rent of the houses: 12"), place("Interest: 7")]
    assert is_page_only(gold, elsewhere)
    assert not is_page_only(gold, [*elsewhere, place("Sum: 19")])  # it is printed: that region must be cited
    assert not is_page_only(asked(evidence=(EVIDENCE,)), elsewhere)
    assert not is_page_only(asked(boxes=(GoldRegion(3, BOX),)), elsewhere)
    assert held(gold, place("Rent and interest by year"), page_only=True) == ["page"]
    assert held(gold, place("Rent by year"), page_only=True) == []  # one of three telling words
    assert held(gold, place("Rent and interest by year", page=4), page_only=True) == []


def test_nothing_holds_what_has_no_answer() -> None:
    gold = Gold("q1", "What was replaced?", "a.pdf", False, (), ())
    assert held(gold, place("The heat pump was replaced."), page_only=True) == []
    assert not on_gold_page(gold, place())
    assert not is_page_only(gold, [])
