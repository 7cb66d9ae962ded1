"""Yes or no in any wording, never a guess; and the odds of yes over all its spellings, against sums made one by one."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrag import testing
from mmrag.asking import Odds, about_image, yes_or_no_odds
from mmrag.yes_no import read_yes_no

DOG = "Is there a dog in the image?"
SAYS_YES = """\
Yes
yes.
 Yes, there is a dog.
YES!!!
Yes, but it is small and far away.
**Yes**
- Yes
1. Yes
> *Yes*
"Yes"
Yeah, right there.
True
Correct.
Answer: Yes
Final answer: **yes**
The answer is yes.
The answer to the question is: Yes.
\\boxed{yes}
{"answer": "Yes"}
{"reasoning": "No cat is here.", "answer": true}
["yes"]
Yes/No: Yes
Based on the image, yes, there is one.
Let me look at the sofa first. So, yes.
I'm not sure about the cat, but yes.
There is a dog lying on the sofa.
There's a dog.
I can see two dogs.
The image shows a dog, not a cat.
There is a dog but no cat.
No doubt, there is a dog.
I think so.
That is correct.
It is a yes from me.
Oh yes!
<answer>Yes</answer>
{'answer': 'yes', 'why': None}
yes<|im_end|>
Is there a dog in the image? Yes, there is.
The dog is sitting on the couch.
There is.
是
是的，图中有一只狗。
有
有。
没错，有一只狗
图片中有一只狗。
毫无疑问，有狗
答案：是
Ja.
Ja, da ist ein Hund.
Es gibt einen Hund.
Oui, il y a un chien.
Sí, hay un perro.
Sì.
はい、います。
네
Да.""".splitlines()
SAYS_NO = """\
No
no.
 No, there is not.
NO
**No**
- No
'No'
Nope.
False
Answer: No
The answer is **no**.
{"answer": "No"}
{"answer": false}
There is no dog in the picture.
There are no dogs.
There isn't a dog in this photo.
The image does not contain a dog.
The image doesn’t show any dog.
I can't see any.
I don't see a dog anywhere.
A dog is not visible.
Dogs are absent.
It isn't.
No, I cannot see one.
There is a cat, but no dog.
There is a cat, not a dog.
Not really.
That is not true.
The statement is false.
Unfortunately, no.
The image features a man, with no dog in sight.
There does not appear to be a dog.
Definitely not.
I don't think so.
None.
Yes or no? No.
<think>Yes? There might be one.</think>No
Let me think. A dog is often found there. So, no.
不是
没有。
没
否
无
不，图中没有狗。
图中没有狗
图片里看不到狗。
答案是：否
Nein, es gibt keinen Hund.
Es gibt keinen Hund.
Non, il n'y a pas de chien.
Il n'y a pas de chien.
No, no hay ningún perro.
No hay ningún perro.
Não, não há.
いいえ
いいえ、いません。
犬はいません。
아니요
Нет.""".splitlines()
SAYS_NEITHER = """\

?
Maybe.
I'm not sure.
I don't know whether there is a dog.
I cannot determine whether there is a dog.
It is unclear if there is a dog.
There might be a dog.
No idea.
No information is given.
No sé.
Yes and no.
There is a cat.
A man without a hat walks the dog.
The sofa is red.
Sorry, I can't help with that.
{"answer": "maybe"}
{"a": "yes", "b": "no"}
[]
[[["yes"]]]
{
42
不确定
无法判断
不过
是否
也许有狗
わかりません""".splitlines()


@pytest.mark.parametrize("answer", SAYS_YES)
def test_yes(answer: str) -> None:
    assert read_yes_no(answer, DOG) == "yes"


@pytest.mark.parametrize("answer", SAYS_NO)
def test_no(answer: str) -> None:
    assert read_yes_no(answer, DOG) == "no"


@pytest.mark.parametrize("answer", SAYS_NEITHER)
def test_neither(answer: str) -> None:
    assert read_yes_no(answer, DOG) is None


@pytest.mark.parametrize("answer", ["- Yes\n- No", "1. Yes\n2. No", "Yes.\nNo."])
def test_a_list_that_says_both_says_neither(answer: str) -> None:
    assert read_yes_no(answer, DOG) is None


def test_a_statement_answers_only_what_was_asked() -> None:
    longer = "Is the top line longer than the bottom line?"
    assert read_yes_no("The top line is longer than the bottom line.", longer) == "yes"
    assert read_yes_no("The top line is not longer than the bottom line.", longer) == "no"
    assert read_yes_no("Both lines have the same length.", longer) is None
    assert read_yes_no("The value of x is 5, not smaller than 5.", "Is the value of x smaller than 5?") == "no"
    assert read_yes_no("图中有一只猫。", "图中有狗吗？") is None
    assert read_yes_no("图中有一只狗。", "图中有狗吗？") == "yes"


def test_without_a_question_to_take_up_statements_are_not_read() -> None:
    assert read_yes_no("The price did not fall.", None) is None
    assert read_yes_no("There is a dog.", None) is None
    assert read_yes_no("No, it did not fall.", None) == "no"


WRAPPINGS = st.sampled_from(
    """{};**{}**;*{}*.;`{}`;- {};# {};"{}";“{}”;({});{}.;{}!;1) {};Answer: {};Final answer: {}.;the answer is {};
    ```\n{}\n```;<think>hm</think>{};So, {}.;Well, {};> {};• {};[{}];_{}_;~{}~""".split(";")
)
WORDS = st.sampled_from([("yes", "yes"), ("no", "no"), ("nein", "no"), ("oui", "yes"), ("是的", "yes"), ("没有", "no")])
CASES = st.sampled_from([str.lower, str.upper, str.capitalize])


@given(WORDS, WRAPPINGS, CASES)
def test_no_wrapping_hides_the_word(word: tuple[str, str], wrapping: str, case: object) -> None:
    assert callable(case)
    assert read_yes_no(wrapping.format(case(word[0])), DOG) == word[1]


@given(WORDS, st.sampled_from(["answer", "Answer", "response", "verdict"]), st.booleans())
def test_json_is_read(word: tuple[str, str], key: str, fenced: bool) -> None:
    text = json.dumps({"why": "There is no cat. Yes.", key: word[0]})
    assert read_yes_no(f"```json\n{text}\n```" if fenced else text, DOG) == word[1]


@given(st.text(max_size=300), st.text(max_size=80))
def test_anything_is_read_as_yes_no_or_neither_and_white_space_changes_nothing(answer: str, question: str) -> None:
    verdict = read_yes_no(answer, question)
    assert verdict in ("yes", "no", None)
    assert read_yes_no(f"\n {answer} \n", question) == verdict


NOUNS = st.sampled_from("dog car umbrella bus knife person surfboard sheep bottle bench tie".split())


@given(NOUNS, NOUNS)
def test_what_is_there_and_what_is_not(noun: str, other: str) -> None:
    question = f"Is there a {noun} in the image?"
    assert read_yes_no(f"There is a {noun} near the wall.", question) == "yes"
    assert read_yes_no(f"There is no {noun} near the wall.", question) == "no"
    assert read_yes_no(f"The picture does not show a {noun}.", question) == "no"
    if noun != other:
        assert read_yes_no(f"There is a {other} near the wall.", question) is None
        assert read_yes_no(f"There is a {other}, but no {noun}.", question) == "no"
        assert read_yes_no(f"There is a {noun}, but no {other}.", question) == "yes"


@pytest.mark.parametrize("answer", ["no " * 50_000, "answer " * 30_000, "," * 100_000, "{" * 50_000, "in " * 40_000])
def test_a_model_in_a_loop_is_read_in_time(answer: str) -> None:
    read_yes_no(answer, DOG)


# -- odds ------------------------------------------------------------------------------------------------------------


class Scores:
    """A model of given probabilities; `token_ids` by a table, else by characters."""

    def __init__(self, probabilities: dict[str, float], tokens: dict[str, tuple[int, ...]] | None = None) -> None:
        self.probabilities, self.asked = probabilities, list[str]()
        if tokens is not None:
            self.token_ids = lambda text: tokens.get(text, tuple(1000 + ord(c) for c in text))

    def score(self, messages: object, continuations: list[str]) -> list[float]:
        self.asked = list(continuations)
        return [math.log(self.probabilities.get(text, 1e-30)) for text in continuations]


def test_all_spellings_are_summed() -> None:
    probabilities = {"Yes": 0.2, " yes": 0.1, "是": 0.05, "No": 0.25, "NO": 0.05}
    odds = yes_or_no_odds(Scores(probabilities), about_image("?", None))
    assert odds.yes == pytest.approx(0.35)
    assert odds.no == pytest.approx(0.30)
    assert odds.verdict == "yes"  # by Yes against No alone it would be no
    assert odds.probability == pytest.approx(0.35 / 0.65)
    assert Odds(0.0, 0.0).probability == 0.5


def test_spellings_of_the_same_tokens_are_counted_once() -> None:
    same = {"Yes": (5,), " Yes": (5,), "No": (6,), " No": (7,)}
    model = Scores({"Yes": 0.3, " Yes": 0.3, "No": 0.2, " No": 0.2}, same)
    odds = yes_or_no_odds(model, about_image("?", None))
    assert odds.yes == pytest.approx(0.3)
    assert odds.no == pytest.approx(0.4)


def test_a_spelling_whose_tokens_begin_with_anothers_is_in_it_already() -> None:
    begun = {"yes": (5,), "YES": (5, 9)}
    model = Scores({"yes": 0.3, "YES": 0.1, "no": 0.35}, begun)
    odds = yes_or_no_odds(model, about_image("?", None))
    assert odds.yes == pytest.approx(0.3)
    assert "YES" not in model.asked


def test_a_token_for_what_is_unknown_says_neither() -> None:
    unknown = {"是": (0,), "有": (0,), "否": (0,), "没": (0,)}
    model = Scores({"是": 0.5, "Yes": 0.1, "No": 0.2}, unknown)
    odds = yes_or_no_odds(model, about_image("?", None))
    assert (odds.yes, odds.no) == (pytest.approx(0.1), pytest.approx(0.2))
    assert not {"是", "有", "否", "没"} & set(model.asked)


def test_no_spelling_begins_another() -> None:
    model = Scores({})
    yes_or_no_odds(model, about_image("?", None))
    assert {"Yes", " yes", "NO", " No", "是"} <= set(model.asked)
    assert not [(a, b) for a in model.asked for b in model.asked if a != b and b.startswith(a)]


@pytest.mark.slow
def test_odds_of_a_real_model_are_those_of_its_spellings(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("torch")
    from mmrag.generate.qwen2_vl import Qwen2VL

    llm = Qwen2VL(testing.tiny_qwen2_vl(tmp_path), device="cpu", dtype="float32")
    messages = about_image("Is there a dog? Please answer yes or no.", None)
    odds = yes_or_no_odds(llm, messages)
    by_hand = {
        side: math.fsum(
            math.exp(llm.score(messages, [space + spelling])[0]) for spelling in spellings for space in ("", " ")
        )
        for side, spellings in {"yes": ["yes", "Yes", "YES", "是", "有"], "no": ["no", "No", "NO", "否", "没"]}.items()
    }
    assert odds.yes == pytest.approx(by_hand["yes"], rel=1e-4)
    assert odds.no == pytest.approx(by_hand["no"], rel=1e-4)
    assert 0 < odds.yes + odds.no < 1
