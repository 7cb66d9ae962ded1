"""Figures are found again however they are written, and not when they are others."""

from __future__ import annotations

import pytest
from build import RELAXED
from hypothesis import assume, given
from hypothesis import strategies as st

from mmrag.facts import figures, missing_figures, same


@pytest.mark.parametrize(
    ("claim", "source"),
    [
        ("5.2 million", "5,213,400"),
        ("EUR 62.1 million", "Operating profit by segment, in EUR million.\nTotal 50.8 62.1"),
        ("$1.65 billion", "$1,650 million"),
        ("$2.3m", "2,310 (in thousands)"),
        ("5 May 2026", "2026-05-05"),
        ("March 2025", "Q1 2025 (March)"),
        ("a loss of 1,200", "(1,200)"),
        ("32%", "32.4 percent"),
        ("in 1820", "1,820"),
        ("three offices", "3 offices"),
        ("the third quarter", "Q3"),
        ("净利润520万元", "净利润为5,200,000元"),
        ("3 亿元", "300,000,000"),
        ("增长2倍，三家公司", "增长两倍，3家公司"),
        ("no figures at all", ""),
    ],
)
def test_the_same_figures_in_other_words(claim: str, source: str) -> None:
    assert missing_figures(claim, source) == []


@pytest.mark.parametrize(
    ("claim", "source", "missing"),
    [
        ("five stores", "11 stores", ["five"]),
        ("$950 million", "$940 million", ["950 million"]),
        ("in 2020", "in 2021", ["2020"]),
        ("62.1", "62.2", ["62.1"]),
        ("5.2 million", "5.2", ["5.2 million"]),
        ("5 to 7 percent", "5 percent", ["7"]),
        ("净利润520万元", "净利润530万元", ["520万"]),
    ],
)
def test_other_figures(claim: str, source: str, missing: list[str]) -> None:
    assert missing_figures(claim, source) == missing


NUMBERS = st.integers(0, 10**9)


@RELAXED
@given(NUMBERS)
def test_thousands_separators_change_nothing(number: int) -> None:
    assert missing_figures(str(number), f"{number:,}") == missing_figures(f"{number:,}", str(number)) == []


@RELAXED
@given(NUMBERS, NUMBERS)
def test_two_numbers_written_to_the_last_digit_are_the_same_only_if_they_are(a: int, b: int) -> None:
    assert (missing_figures(str(a), str(b)) == []) == (a == b)


@RELAXED
@given(st.integers(100, 10**7), st.integers(0, 3))
def test_a_rounding_is_the_same_figure(number: int, digits: int) -> None:
    rounded = f"{number / 1000:.{digits}f}"
    assert missing_figures(f"{rounded} thousand", str(number)) == []


@RELAXED
@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_sameness_is_mutual(a: float, b: float) -> None:
    one, other = figures(f"{a:.2f}")[0], figures(f"{b:.3f}")[0]
    assert same(one, other) == same(other, one)


@RELAXED
@given(st.text(max_size=100), st.text(max_size=100))
def test_whatever_is_missing_was_claimed(claim: str, source: str) -> None:
    assume(claim.isprintable())
    assert len(missing_figures(claim, source)) <= len(figures(claim))
    assert missing_figures(claim, claim) == []
