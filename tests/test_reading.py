"""What a reply says and cites, in whatever way a model writes it."""

from __future__ import annotations

import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st

from mmrag.generate.reading import Sentence, read_reply, says_no_answer

BOX = (12.0, 30.0, 400.0, 500.0)


def cited(reply: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(sentence.text, sentence.marks) for sentence in read_reply(reply)]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("It rose to 5.2 million [1]. It fell. [2][3]", [("It rose to 5.2 million.", (1,)), ("It fell.", (2, 3))]),
        ("7 [2].", [("7.", (2,))]),
        ("3. [2]", [("3.", (2,))]),
        ("Both rose [1, 3].", [("Both rose.", (1, 3))]),
        ("All rose [2-4].", [("All rose.", (2, 3, 4))]),
        ("All rose [4-2].", [("All rose.", (4, 2))]),
        ("It rose [mark 2] by 3% [Region #4].", [("It rose by 3%.", (2, 4))]),
        ("It rose [^2].", [("It rose.", (2,))]),
        ("It rose [1 and 2].", [("It rose.", (1, 2))]),
        ("利润为五百万元[1]。收入增长【2】。", [("利润为五百万元。", (1,)), ("收入增长。", (2,))]),
        ("收入增长［2、3］。", [("收入增长。", (2, 3))]),
        ("[1] The lamp is red. [2] It is old.", [("The lamp is red.", (1,)), ("It is old.", (2,))]),
        ("- **Profit**: 5 [1]\n- Loss: 7 [2]", [("Profit: 5", (1,)), ("Loss: 7", (2,))]),
        ("1. Profit [1]\n2) Loss [2]", [("Profit", (1,)), ("Loss", (2,))]),
        ("The lamp is red.\n[3]", [("The lamp is red.", (3,))]),
        ("[3]\nThe lamp is red.", [("The lamp is red.", (3,))]),
        ("```text\nThe lamp is red [1]\n```", [("The lamp is red", (1,))]),
        ("It was so in [2024] and later [1].", [("It was so in [2024] and later.", (1,))]),
        ("The loss was (1,200), (3,400) [1].", [("The loss was (1,200), (3,400).", (1,))]),
        ("Nobody knows.", [("Nobody knows.", ())]),
        ("<|im_end|>Red<|endoftext|>.", [("Red.", ())]),
        ("[1][2]", []),
        ("…", []),
        ("", []),
    ],
)  # fmt: skip
def test_sentences_and_their_marks(reply: str, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    assert cited(reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "The lamp <|box_start|>(12,30),(400,500)<|box_end|> is red.",
        "The <|object_ref_start|>lamp<|object_ref_end|><|box_start|>( 400, 30 ), (12, 500)<|box_end|> is red.",
        "The lamp(12,30),(400,500) is red.",
        'The lamp is red. {"bbox_2d": [12, 30, 400, 500], "label": "lamp"}',
        '```json\n{"bbox_2d": [12, 30, 400, 500]}\n```\nThe lamp is red.',
    ],
)
def test_boxes_in_the_ways_of_qwen(reply: str) -> None:
    assert read_reply(reply) == [Sentence("The lamp is red.", (), (BOX,))]


@pytest.mark.parametrize("reply", ["NO ANSWER", "no answer.", "**NO ANSWER** [1]", " NO ANSWER\n", "No_answer!"])
def test_a_model_that_finds_nothing_says_so(reply: str) -> None:
    assert says_no_answer(reply)


@pytest.mark.parametrize("reply", ["There is no answer to war.", "NO", "", "Answer: no"])
def test_other_words_are_an_answer(reply: str) -> None:
    assert not says_no_answer(reply)


WORDS = st.sampled_from(["Profit", "rose", "3.5%", "红色", "(1,200)", "e.g.", "Fig. 2"])
CLAIMS = st.lists(
    st.tuples(st.lists(WORDS, min_size=1, max_size=4), st.lists(st.integers(1, 99), max_size=3)), max_size=4
)


@RELAXED
@given(CLAIMS)
def test_no_citation_is_lost_and_none_invented(claims: list[tuple[list[str], list[int]]]) -> None:
    lines = [" ".join(words) + " " + "".join(f"[{mark}]" for mark in marks) + "." for words, marks in claims]
    found = read_reply("\n".join(lines))
    assert {mark for sentence in found for mark in sentence.marks} == {mark for _, marks in claims for mark in marks}
    said = " ".join(sentence.text for sentence in found)
    for words, _ in claims:
        assert words[0] in said


@RELAXED
@given(st.text(max_size=300))
def test_any_reply_is_read(reply: str) -> None:
    for sentence in read_reply(reply):
        assert sentence.text.strip()
