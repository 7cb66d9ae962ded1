"""Tokens for search, and where sentences stand."""

from __future__ import annotations

import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st

from mmrag.text import is_mostly_cjk, query_phrases, query_tokens, sentence_spans, split_sentences, tokens

# Hypothesis seldom builds sentences by itself: half of the texts are made of what ends them and what does not.
PIECES = st.sampled_from(
    [
        *("A lamp", "fig", "Fig", "e.g", "No", "3", "4.5", "é", "-", "灯是红的", "王", "カメラ", "한국"),
        *(".", "!", "?", "...", "。", "！", "？」", "；", '"', ")", "“", "”"),
        *(" ", "  ", "\n", "\n\n", "\t", "\u3000", "\xa0", "\u2028"),
    ]
)
TEXTS = st.text(max_size=200) | st.lists(PIECES, max_size=30).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Lamp's COLOUR", ["the", "lamp", "s", "colour"]),
        ("1,234,567 units", ["1234567", "units"]),
        ("1,234.5 and 0.25", ["1234.5", "and", "0.25"]),
        ("in 1,2 and 12,34", ["in", "1,2", "and", "12,34"]),  # lists and decimal commas are no thousands
        ("in 2024.", ["in", "2024"]),
        ("45% of GPT-4o", ["45", "of", "gpt", "4o"]),
        ("snake_case", ["snake", "case"]),
        ("eﬃcient oﬀice", ["efficient", "office"]),  # ligatures, as PDFs print them
        ("ＡＢＣ１２３", ["abc123"]),  # full width
        ("m²", ["m2"]),
        ("naïve Übung", ["naïve", "übung"]),
        ("", []),
        (" .,;!—", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("人工智能", ["人工", "工智", "智能"]),
        ("猫", ["猫"]),
        ("猫。狗", ["猫", "狗"]),
        ("カメラ", ["カメ", "メラ"]),
        ("ｶﾒﾗ", ["カメ", "メラ"]),  # half width
        ("한국어", ["한국", "국어"]),
        ("2024年度", ["2024", "年度"]),
        ("使用GPT模型", ["使用", "gpt", "模型"]),
        ("人々の", ["人々", "々の"]),  # the mark that repeats a character is a character
    ],
)
def test_tokens_without_spaces_are_pairs(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_a_number_is_found_however_it_is_written() -> None:
    assert tokens("1,234,567") == tokens("1234567") == tokens("１，２３４，５６７")


@RELAXED
@given(TEXTS)
def test_tokens_of_a_token_are_itself(text: str) -> None:
    found = tokens(text)
    assert all(found)
    assert [tokens(token) for token in found] == [[token] for token in found]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the revenue of the company?", ["revenue", "company"]),
        ("lamp, lamp and LAMP", ["lamp"]),
        ("What is it?", ["what", "is", "it"]),  # nothing else is left
        ("什么是人工", ["人工"]),
        ("是什么？", ["是什", "什么"]),  # nothing else is left
        ("?", []),
    ],
)
def test_query_tokens(question: str, expected: list[str]) -> None:
    assert query_tokens(question) == expected


def sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentence_spans(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["The lamp is red.", "The door is blue!", "Is it?"],
        ["As Fig. 3 and Tab. 2 show, lamps are red.", "Doors are not."],
        ["Lamps (e.g. red ones) burn, i.e. they glow.", "So it is."],
        ["Miller et al. 2020 agree.", "Others, cf. Smith, do not."],
        ["It cost 3.5 million in No. 7, approx. half.", "Then it fell."],
        ["The answer is no.", "We left."],
        ["Dr. Smith came to the U.S. in May.", "She stayed."],
        ["灯是红的。", "门是蓝的！", "是吗？"],
        ["他说：“灯是红的。”", "门是蓝的；", "完了"],
        ["增长3.5%。", "GDP上升。"],
        ["Only one without an end"],
    ],
)
def test_sentences(expected: list[str]) -> None:
    between = "" if any(c in "。！？" for c in expected[0]) else " "
    assert sentences(between.join(expected)) == expected


def test_one_chinese_name_does_not_glue_an_english_paragraph() -> None:
    assert sentences("It was found by 王伟 in 2020. It works well. Nobody knows why.") == [
        "It was found by 王伟 in 2020.",
        "It works well.",
        "Nobody knows why.",
    ]


def test_korean_sentences_end_with_a_full_stop() -> None:
    assert sentences("램프는 빨간색이다. 문은 파란색이다.") == ["램프는 빨간색이다.", "문은 파란색이다."]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\u3000"])
def test_no_sentence_without_words(text: str) -> None:
    assert sentence_spans(text) == []


@RELAXED
@given(TEXTS)
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(split_sentences(text)) == text


@RELAXED
@given(TEXTS)
def test_sentence_spans_are_ordered_disjoint_and_stripped(text: str) -> None:
    spans = sentence_spans(text)
    ends = [0, *(edge for span in spans for edge in span)]
    assert ends == sorted(ends)
    assert all(sentence and sentence == sentence.strip() for sentence in sentences(text))
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())  # nothing but white space is left out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("灯是红的", True),
        ("カメラ", True),
        ("램프", True),
        ("GPT是什么模型", True),
        ("ab猫", True),  # a third
        ("abc猫", False),
        ("The name 王伟 in an English question", False),
        ("Which lamp?", False),
        ("2024", False),
        ("", False),
    ],
)
def test_is_mostly_cjk(text: str, expected: bool) -> None:
    assert is_mostly_cjk(text) is expected


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("净利润", [("净利", "利润")]),
        ("现金流量", [("现金", "金流"), ("金流", "流量")]),
        ("利润是多少", []),
        ("net profit of 2024", []),
        ("净利润 profit 净利润", [("净利", "利润")]),
    ],
)
def test_phrases_are_three_chinese_characters_in_a_row(text: str, phrases: list[tuple[str, str]]) -> None:
    assert query_phrases(text) == phrases
    assert {token for phrase in phrases for token in phrase} <= set(query_tokens(text))
