"""Page numbers, figures and tables that a question names, in English and Chinese."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrag.questions import labels, leading_label, page_reference


@pytest.mark.parametrize(
    ("question", "numbers", "rest"),
    [
        ("What is on page 5?", (5,), "What is on ?"),
        ("the sum on the page 15 and page 16", (15, 16), "the sum on the"),
        ("pages 3-5 of the report", (3, 4, 5), "of the report"),
        ("pages 3, 7 and 9", (3, 7, 9), "pages 3, 7 and 9"),
        ("across the top of page two", (2,), "across the top of"),
        ("the third slide", (3,), "the"),
        ("the first page of the document", (1,), "the of the document"),
        ("How many people are on the cover?", (1,), "How many people are on the ?"),
        ("the last page", (-1,), "the"),
        ("the second last page", (-2,), "the"),
        ("第3页的标题", (3,), "的标题"),
        ("第十页", (10,), "第十页"),
        ("封面上有什么", (1,), "上有什么"),
        ("How many pages are there?", (), "How many pages are there?"),
        ("revenue in 2024", (), "revenue in 2024"),
    ],
)
def test_page_references(question: str, numbers: tuple[int, ...], rest: str) -> None:
    found = page_reference(question)
    assert found.numbers == numbers
    assert found.rest == rest


@given(st.text())
def test_any_text_keeps_a_question(text: str) -> None:
    found = page_reference(text)
    assert 0 not in found.numbers
    assert found.rest or not text.strip()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What does Figure 5 show?", ["figure 5"]),
        ("the examples in Figure 5 and Figure 6", ["figure 5", "figure 6"]),
        ("Figs. 2 and 3a", ["figure 2", "figure 3"]),
        ("see Table IV", ["table IV"]),
        ("Table 2.1 and Appendix C.2", ["table 2.1", "appendix C.2"]),
        ("Exhibits 10, 12", ["exhibit 10", "exhibit 12"]),
        ("如图3-2所示", ["figure 3-2"]),
        ("表 4 和附录B", ["table 4", "appendix B"]),
        ("a table in a room", []),
        ("suitable 5 stables 4", []),
        ("all titles of the charts", []),
        ("Figure 5, 2019", ["figure 5"]),
    ],
)
def test_labels_that_a_question_names(text: str, found: list[str]) -> None:
    assert labels(text) == found


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Figure 5. Sales by region", "figure 5"),
        ("Fig. 5: Sales", "figure 5"),
        ("TABLE II – COSTS", "table II"),
        ("图5 销售额", "figure 5"),
        ("Appendix C", "appendix C"),
        ("As Figure 5 shows", None),
        ("", None),
    ],
)
def test_the_label_that_a_caption_begins_with(text: str, label: str | None) -> None:
    assert leading_label(text) == label
    assert label is None or label in labels(text)
