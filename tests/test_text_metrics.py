"""Metrics of answers: by hand, and what must hold of them for any two texts."""

from __future__ import annotations

import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rapidfuzz")

from eval.text_metrics import (
    anls,
    answer_tokens,
    best,
    exact_match,
    list_items,
    numeric_match,
    token_f1,
    token_recall,
)

TEXTS = st.text(st.sampled_from("aeltho 15.,%$-()年净利润，。['’"), max_size=30)
WORDS = st.lists(st.sampled_from(["net", "profit", "the", "1,234.5", "12%", "净利润", "2024"]), max_size=6).map(
    " ".join
)
SYMMETRIC = {"exact match": exact_match, "F1": token_f1, "ANLS": anls}
ALL = [*SYMMETRIC.values(), token_recall]


def test_tokens_are_squad_s_words_and_single_chinese_characters() -> None:
    assert (
        answer_tokens("The net profit, of $1,234.5 million (a record).")
        == "net profit of 1234.5 million record".split()
    )
    assert answer_tokens("净利润为5.2%。") == ["净", "利", "润", "为", "5.2"]
    assert answer_tokens("pre-2010 U.S. don’t") == ["pre", "2010", "us", "dont"]
    assert answer_tokens("the a an") == []


@pytest.mark.parametrize(
    ("answer", "gold", "em", "f1"),
    [
        ("The Grand Canal.", "grand canal", 1, 1),
        ("in the Grand Canal", "grand canal", 0, 0.8),  # 2 of 3 words and 2 of 2
        ("red red blue", "red", 0, 0.5),  # a word counts as often as it is there: 1 of 3 and 1 of 1
        ("净利润增长", "净利润", 0, 0.75),  # 3 of 5 characters and 3 of 3
        ("", "yes", 0, 0),
        ("yes", "no", 0, 0),
        ("b and a", "['a', 'b']", 1, 2 / 3),  # to F1 "a" is an article: 1 of 2 words and 1 of 1
    ],
)
def test_exact_match_and_f1(answer: str, gold: str, em: float, f1: float) -> None:
    assert (exact_match(answer, gold), token_f1(answer, gold)) == (em, pytest.approx(f1))


def test_recall_does_not_punish_length() -> None:
    assert token_recall("It rose to 5.2 million euros in 2024, as expected.", "5.2 million") == 1
    assert token_recall("It rose to 5.2 billion", "5.2 million") == 0.5


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("Hello World", "hello  world", 1),
        ("kitten", "sitting", 1 - 3 / 7),
        ("abcd", "abxy", 0),  # half of it is wrong
        ("shiny objects; mirror", "['mirror', 'shiny object']", 12 / 13),  # the worse pair, sorted
        ("mirror", "['mirror', 'shiny object']", 0),  # one item is missing
        ("[oops", "[oops", 1),
    ],
)
def test_anls(answer: str, gold: str, value: float) -> None:
    assert anls(answer, gold) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("It was $5.2 million.", "5,200,000", 1),
        ("520万元", "5.2 million", 1),
        ("$302,578,000", "$303.00", 0),
        ("about 60.4 %", "60.9%", 1),  # off by 0.8 %
        ("about 60 %", "60.9%", 0),  # 60.9 rounds to 61
        ("0.609", "60.9%", 1),
        ("a margin of 24.5%", "-24.5%", 0),
        ("(24.5)%", "-24.5%", 1),
        ("a loss of 24.5%", "-24.5%", 1),
        ("2.5-3 cm", "2.5-3cm", 1),
        ("['$35,000', '$40,684']", "$40,684 and $35,000", 1),
        ("$35,000", "['$35,000', '$40,684']", 0),
        ("There were three.", "3", 1),
        ("no figure", "3", 0),
    ],
)
def test_figures_match_however_they_are_written(answer: str, gold: str, value: float) -> None:
    assert numeric_match(answer, gold) == value


def test_figures_that_the_question_gives_away_do_not_count() -> None:
    assert numeric_match("yes", "no") is None
    assert numeric_match("It fell.", "It fell in 2024", "Did sales fall in 2024?") is None
    assert numeric_match("It fell by 7 %", "It fell by 7% in 2024", "How did sales change in 2024?") == 1


def test_a_question_sets_the_scale_of_its_answer() -> None:
    question = "What was the net receivable? Answer in USD millions."
    assert numeric_match("$1,615.9 million", "$1616.00", question) == 1
    assert numeric_match("$1,615,900 (in thousands)", "$1616.00", question) == 1
    assert numeric_match("$1,615.9 million", "$1616.00", "What was it?") == 0


def test_a_list_is_read_as_one_and_nothing_else_is() -> None:
    assert list_items("['a', 'b']") == ["a", "b"]
    assert list_items("[3, 4]") == ["3", "4"]
    assert [list_items(text) for text in ("[oops", "[]", "a, b", "__import__('os')")] == [
        ["[oops"],
        ["[]"],
        ["a, b"],
        ["__import__('os')"],
    ]
    assert list_items("[__import__('os')]") == ["[__import__('os')]"]  # read, never run


def test_the_gold_answer_that_agrees_most_counts() -> None:
    assert best(exact_match, "six", ["five", "six"]) == 1
    assert best(numeric_match, "six", ["five", "none at all"]) == 0
    assert best(numeric_match, "six", ["yes"]) is None


@RELAXED
@given(TEXTS | WORDS, TEXTS | WORDS)
def test_metrics_stay_between_0_and_1_and_exact_is_the_most(one: str, other: str) -> None:
    assert all(0 <= metric(one, other) <= 1 for metric in ALL)
    if exact_match(one, other) and len(list_items(other)) == 1:
        assert token_f1(one, other) == token_recall(one, other) == 1


@RELAXED
@given(TEXTS | WORDS)
def test_every_text_agrees_with_itself(text: str) -> None:
    if len(list_items(text)) == 1:
        assert [metric(text, text) for metric in ALL] == [1, 1, 1, 1]
    assert numeric_match(text, text) in (1, None)


@RELAXED
@given(WORDS, WORDS)
def test_metrics_of_two_texts_are_symmetric(one: str, other: str) -> None:
    for name, metric in SYMMETRIC.items():
        assert metric(one, other) == pytest.approx(metric(other, one)), name
