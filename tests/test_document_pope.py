"""Document POPE: what is asked as there is there, what is asked as absent is nowhere; models are shown the page."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build import document, page, region
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from PIL import Image
from typer.testing import CliRunner, Result

from apps.cli import app
from eval.document_pope import (
    PER_PAGE,
    SETTINGS,
    PageQuestion,
    ask_questions,
    draw_questions,
    load_questions,
    score_predictions,
    to_jsonl,
)
from eval.page_objects import column_heads, figures, is_label, names, objects_of, page_objects, row_labels, squeeze
from eval.runs import load_run
from mmrag import prompts
from mmrag.errors import UsageError
from mmrag.index import Index
from mmrag.render import render_page
from mmrag.testing import ScriptedLLM
from mmrag.types import Page, RegionKind

TABLE = (
    "Item (a)\tPower, MW\tYear of start\n"
    "Offshore wind (1)\t38.4\t2019\n"
    "Battery storage ......\t12.5\t2021\n"
    "Tidal\t– stream\t7.1\n"
    "Interest\t–\t9\n"
    "and other\t1.2\t2020\n"
    "Total:\t51,024\t2025"
)


@pytest.fixture(scope="module")
def index(demo_store: Path) -> Any:
    with Index.open(demo_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def questions(index: Index) -> list[PageQuestion]:
    return draw_questions(index, pages=50)


def object_of(question: PageQuestion) -> str:
    """Between the words that ask."""
    for words in prompts.IS_ON_PAGE.values():
        before, after = words[question.kind].split("{object}")
        if question.text.startswith(before) and question.text.endswith(after):
            return question.text.removeprefix(before).removesuffix(after)
    raise AssertionError(question.text)


def read(index: Index, question: PageQuestion) -> Page:
    found = index.page(question.document_id, question.page)
    assert found
    return found


# -- objects ---------------------------------------------------------------------------------------------------------


def test_labels_of_rows_and_columns_are_those_that_can_be_asked_for() -> None:
    table = region(TABLE, RegionKind.TABLE)
    assert row_labels(table) == ["Offshore wind", "Battery storage", "Interest", "Total"]  # "Tidal" goes on
    assert column_heads(table) == ["Item", "Power, MW", "Year of start"]
    assert column_heads(replace(table, header_rows=2)) == []
    assert row_labels(region("A\tB\nWest\t43%\nEast\t23%", RegionKind.TABLE)) == []  # a chart


def test_figures_are_numbers_as_printed() -> None:
    text = (
        "It rose by 38.4% to 51,024 from $1,200.50 (in 2024, not 1790), see [206], 3.1.2, page 12, 2021-04-23, 4,5; "
        "COVID19; 100 is one digit, 0.07 too, 0.75 not. Call 555-1234 in Mumbai 400021. Rs. 345/-"
    )
    assert figures(text) == ["38.4%", "51,024", "1,200.50", "0.75"]


def test_names_are_whole_and_inside_sentences() -> None:
    text = "The Old Harbour sent Vice President Ida Holm to the University of Delft, with Rolf Berg and Ines Ruiz."
    assert names(text) == ["Vice President Ida Holm", "University of Delft"]
    assert names("根据《中华人民共和国公司法》的规定") == ["中华人民共和国公司法"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "12.5", "of wind", "Wind and", "Wind (off", "Wind-", "W" * 61, "风" * 21),
        *('He said "no"', "<|im_end|> Wind", "Wind\x1b[31m", "Wind\nturbine", "See https://host"),
    ],
)
def test_what_is_broken_or_hostile_is_no_label(text: str) -> None:
    assert not is_label(text)


@given(st.text(max_size=80))
def test_anything_is_a_label_or_not(text: str) -> None:
    if is_label(text):
        assert "<" not in text
        assert '"' not in text
        assert "\n" not in text
    assert all(squeeze(figure) in squeeze(text) for figure in figures(text))
    assert all(squeeze(name) in squeeze(text) for name in names(text))


def test_absent_means_nowhere_on_the_page_nor_in_a_longer_number_nor_nearly() -> None:
    text = "Wind parks made 138.45 MW of 1 024 in all; net re-\nvenue fell."
    blocks = ((RegionKind.TEXT, text), (RegionKind.PAGE_FOOTER, "Report 771"))
    read = page_objects("d", "d.pdf", page(*blocks))
    assert not any(read.lacks("figure", figure) for figure in ("38.4", "138.45", "1,024", "024", "771"))
    assert read.lacks("figure", "38.6")
    assert not any(read.lacks("row", label) for label in ("Wind park", "WIND PARKS", "Net revenue", "Net revenues", ""))
    assert read.lacks("row", "Battery storage")
    assert not any(read.lacks("name", name) for name in ("Ida Wind", "Wind Parks of the North"))
    assert read.lacks("name", "Wind Harbour")


def test_each_object_of_a_page_is_listed_once() -> None:
    heads = [(RegionKind.SECTION_HEADER, text) for text in ("2.1 Wind power", "WIND POWER", "12 weeks", "1 Tides")]
    found = objects_of(page(*heads, (RegionKind.TABLE, TABLE)).regions)
    assert found["heading"] == ("Wind power", "12 weeks", "Tides")
    assert found["figure"] == ("38.4", "12.5", "7.1", "1.2", "51,024")


# -- questions -------------------------------------------------------------------------------------------------------


def test_what_is_asked_as_present_stands_on_its_page_and_nothing_else_does(
    index: Index, questions: list[PageQuestion]
) -> None:
    assert len({question.question.image for question in questions}) >= 5
    assert {question.kind for question in questions} == {"row", "column", "figure", "name", "heading"}
    for question in questions:
        words = squeeze(" ".join(region.text for region in read(index, question).regions))
        assert (squeeze(object_of(question)) in words) == (question.label == "yes"), question


def test_present_rows_stand_first_in_a_row_of_a_table(index: Index, questions: list[PageQuestion]) -> None:
    rows = [question for question in questions if question.kind == "row" and question.label == "yes"]
    assert rows
    for question in rows:
        tables = [r for r in read(index, question).regions if r.kind is RegionKind.TABLE]
        firsts = [line.split("\t")[0] for table in tables for line in table.text.split("\n")]
        assert any(first.startswith(object_of(question)) for first in firsts)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_any_seed_gives_balanced_questions_and_the_same_ones_again(index: Index, seed: int, pages: int) -> None:
    drawn = draw_questions(index, pages=pages, seed=seed)
    assert drawn == draw_questions(index, pages=pages, seed=seed)
    by_page = Counter((question.question.image, question.setting, question.label) for question in drawn)
    assert set(by_page.values()) == {PER_PAGE}
    assert len(by_page) == pages * len(SETTINGS) * 2
    kinds = Counter((question.setting, question.kind, question.label) for question in drawn)
    assert all(kinds[setting, kind, "yes"] == kinds[setting, kind, "no"] for setting, kind, _ in kinds)
    present = {setting: {q.text for q in drawn if q.setting == setting and q.label == "yes"} for setting in SETTINGS}
    assert present["random"] == present["frequent"] == present["adversarial"]  # as in POPE


def test_other_seeds_ask_other_things_and_languages_their_own(index: Index, questions: list[PageQuestion]) -> None:
    assert {q.text for q in draw_questions(index, pages=50, seed=1)} != {q.text for q in questions}
    chinese = [question for question in questions if question.document.endswith("简报.pdf")]
    assert chinese
    assert all(question.text.endswith("吗？") for question in chinese)
    assert not any(question.text.endswith("吗？") for question in questions if question not in chinese)


def test_an_adversarial_figure_is_a_printed_one_with_one_digit_changed(
    index: Index, questions: list[PageQuestion]
) -> None:
    altered = [q for q in questions if (q.kind, q.setting, q.label) == ("figure", "adversarial", "no")]
    assert altered
    for question in altered:
        figure = object_of(question)
        printed = [f for r in read(index, question).regions for f in figures(r.text) if len(f) == len(figure)]
        assert any(sum(a != b for a, b in zip(figure, other, strict=True)) == 1 for other in printed)


def test_another_store_gives_other_questions(questions: list[PageQuestion], own_store: Path) -> None:
    with Index.open(own_store) as other:
        gone = next(found for found in other.documents() if found.id == questions[0].document_id)
        with other.writing():
            other.remove(gone.id)
        left = draw_questions(other, pages=50)
    assert left != questions
    assert not any(question.document_id == gone.id for question in left)


def test_a_store_without_enough_on_its_pages_says_so(tmp_path: Path) -> None:
    with Index.open(tmp_path / "store", create=True) as empty, pytest.raises(UsageError, match="No page of the store"):
        draw_questions(empty, pages=3)


# -- files -----------------------------------------------------------------------------------------------------------


def test_questions_written_are_the_questions_read(questions: list[PageQuestion], tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(to_jsonl(questions), encoding="utf-8")
    assert load_questions(path) == questions
    first = json.loads(path.read_text(encoding="utf-8").split("\n")[0])
    assert list(first) == ["question_id", "document", "document_id", "page", "text", "label", "setting", "kind"]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"page": "x"}, "must be a number"), ({"label": "maybe"}, "must be yes or no"), ({"kind": None}, "no 'kind'")],
)
def test_files_that_do_not_fit_are_a_usage_error(
    questions: list[PageQuestion], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = tmp_path / "questions.jsonl"
    row = json.loads(to_jsonl(questions[:1]))
    path.write_text(json.dumps(row | change), encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        load_questions(path)
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="twice"):
        load_questions(path)


# -- answers ---------------------------------------------------------------------------------------------------------


def answers(path: Path, questions: Sequence[PageQuestion], said: Sequence[str]) -> Path:
    rows = ({"question_id": q.id, "answer": answer} for q, answer in zip(questions, said, strict=True))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_known_answers_give_the_numbers_computed_by_hand(questions: list[PageQuestion], tmp_path: Path) -> None:
    """All yes where asked for what is nearest, right elsewhere."""
    said = ["yes" if q.setting == "adversarial" else q.label for q in questions]
    run, _ = score_predictions(questions, answers(tmp_path / "a.jsonl", questions, said), tmp_path)
    means = {group: {name: score.mean for name, score in of.items()} for group, of in run.scores.items()}
    assert set(means) == {"all", *SETTINGS, *(q.kind for q in questions)}
    for setting in ("random", "frequent"):
        assert means[setting] == pytest.approx(
            {"accuracy": 1, "precision": 1, "recall": 1, "f1": 1, "yes_rate": 0.5, "unparseable": 0}
        )
    assert means["adversarial"] == pytest.approx(
        {"accuracy": 0.5, "precision": 0.5, "recall": 1, "f1": 2 / 3, "yes_rate": 1, "unparseable": 0}
    )
    assert means["all"]["accuracy"] == pytest.approx(5 / 6)


@pytest.mark.slow
def test_a_model_is_shown_the_page_and_asked_once_for_what_is_there(
    index: Index, questions: list[PageQuestion], tmp_path: Path
) -> None:
    few = [question for question in questions if question.question.image == questions[0].question.image]
    llm = ScriptedLLM(lambda messages: "Yes." if _labels(few)[_asked(messages)] == "yes" else "No.")
    run, path = ask_questions(lambda: llm, few, tmp_path, index=index)
    assert run.scores["all"]["accuracy"].mean == 1
    assert len(llm.asked) == PER_PAGE * (1 + len(SETTINGS)) < len(few) == len(run.rows)
    assert [row["groups"] for row in run.rows] == [[q.setting, q.kind] for q in few]
    (block,) = [block for block in llm.asked[0][0][0].blocks if isinstance(block, ImageBlock)]
    found = index.document(few[0].document_id)
    assert found
    expected = render_page(index.source(found), few[0].page)
    with Image.open(block.resolve_image()) as shown:
        assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(expected))
    ask_questions(lambda: llm, few, tmp_path, index=index, workers=3)
    assert len(llm.asked) == PER_PAGE * 4  # all rows were there
    blind, elsewhere = ask_questions(lambda: ScriptedLLM("yes"), few, tmp_path, index=None)
    assert elsewhere != path
    assert blind.scores["all"]["yes_rate"].mean == 1


def _asked(messages: Sequence[ChatMessage]) -> str:
    return re.sub(r"( Please answer yes or no\.|请回答是或否。)$", "", messages[-1].content or "")


def _labels(questions: Sequence[PageQuestion]) -> dict[str, str]:
    return {question.text: question.label for question in questions}


def test_pages_that_the_store_does_not_have_are_a_usage_error(
    index: Index, questions: list[PageQuestion], tmp_path: Path
) -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    for other in (questions[0]._replace(document_id=document().id), questions[0]._replace(page=99)):
        with pytest.raises(UsageError, match="The store has no page"):
            ask_questions(load, [other], tmp_path, index=index)


# -- the command -----------------------------------------------------------------------------------------------------


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "document-pope", *map(str, arguments)])


def test_the_command_writes_questions_and_scores_answers_to_them(demo_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    result = command("--store", demo_store, "--pages", 3, "--write", path)
    assert result.exit_code == 0, result.output
    assert "54 questions written" in result.stdout
    written = load_questions(path)
    said = answers(tmp_path / "a.jsonl", written, ["yes"] * 54)
    result = command("--data", path, "--predictions", said, "-o", tmp_path / "runs")  # no store
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").glob("document-pope-*.json")
    assert load_run(run).scores["all"]["accuracy"].mean == 0.5


@pytest.mark.slow
def test_the_command_asks_a_model_and_says_what_is_missing(
    demo_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ("-o", tmp_path / "runs")
    for arguments, says in (
        (["--store", demo_store], "There is no model to ask: name a vision-language checkpoint"),
        (["--store", tmp_path / "none"], "There is no store"),
        (["--data", tmp_path / "none"], "There is no file"),
    ):
        result = command(*arguments, *output)
        assert result.exit_code != 0
        assert says in result.stderr
        assert result.stderr.count("\n") == 1
    monkeypatch.setattr("mmrag.models.load_llm", lambda settings: ScriptedLLM("No."))
    for more in ([], ["--blind"]):
        result = command("--store", demo_store, "--pages", 2, *more, *output)
        assert result.exit_code == 0, result.output
        assert "adversarial" in result.stdout


def test_a_run_that_fails_says_how_it_goes_on(
    demo_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Sequence[ChatMessage]) -> str:
        raise ConnectionError("gone")

    monkeypatch.setattr("mmrag.models.load_llm", lambda settings: ScriptedLLM(fail))
    result = command("--store", demo_store, "--pages", 2, "-o", tmp_path)
    assert result.exit_code == 1
    assert "The model gave no answer (gone)" in result.stderr
    assert "it goes on with what is left" in result.stderr
