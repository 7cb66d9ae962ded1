"""HallusionBench: the published grouping once more by hand on a small table, and on the published sample."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ImageBlock
from PIL import Image
from typer.testing import CliRunner

from apps.cli import app
from eval.hallusionbench import ask_hallusionbench, load_hallusionbench, score_predictions
from mmrag.errors import UsageError
from mmrag.testing import ScriptedLLM
from mmrag.yes_no import read_yes_no

KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")
#         place                      visual gt  said
TABLE = [
    (("VD", "illusion", "1", "0", "0"), "1", "1", "Yes."),  # right
    (("VD", "illusion", "1", "0", "1"), "1", "0", "No."),  # right
    (("VD", "illusion", "1", "1", "0"), "2", "0", "Yes."),  # wrong
    (("VD", "illusion", "1", "1", "1"), "2", "1", "Yes."),  # right
    (("VD", "ocr", "1", "0", "0"), "1", "1", "Hard to say."),  # unclear: wrong
    (("VS", "chart", "1", "0", "0"), "0", "1", "I do not know."),  # unclear, but without a figure: right
    (("VS", "chart", "1", "0", "1"), "0", "1", "No."),  # wrong
    (("VS", "chart", "1", "1", "0"), "1", "1", "Yes."),  # right
    (("VS", "chart", "1", "1", "1"), "1", "0", "Unclear."),  # unclear: wrong
    (("VS", "chart", "1", "2", "0"), "2", "0", "No."),  # right
]
# aAcc 6 of 10. Figures: VD 1/0 yes, 1/1 no, ocr no, VS 1/1 no, 1/2 yes; without VS figure 0: 2 of 5.
# Questions over figures: illusion 0 no, 1 yes; ocr no; chart 0 yes, 1 no: 2 of 5.
# Easy (figure 0): illusion yes, yes; ocr no; chart yes, no: 3 of 5. Hard: illusion no, yes; chart yes, no: 2 of 4.
BY_HAND = {"aAcc": 0.6, "fAcc": 0.4, "qAcc": 0.4, "easy": 0.6, "hard": 0.5, "says yes": 0.4, "unparseable": 0.3}


def rows(table: Sequence[tuple[tuple[str, ...], str, str, str]] = TABLE) -> list[dict[str, Any]]:
    return [
        dict(zip(KEYS, place, strict=True))
        | {"visual_input": visual, "gt_answer": gt, "model_prediction": said}
        | {"question": f"Is it so, {place[4]}?", "gt_answer_details": f"figure {place[3]}", "filename": None}
        for place, visual, gt, said in table
    ]


def write(path: Path, content: Sequence[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(list(content)), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "HallusionBench.json", [{**row, "model_prediction": None} for row in rows()])


def means(run: Any, group: str = "all") -> dict[str, float]:
    return {name: score.mean for name, score in run.scores[group].items()}


# -- answers that are there ------------------------------------------------------------------------------------------


def test_a_small_table_by_hand(data: Path, tmp_path: Path) -> None:
    run, _ = score_predictions(data, write(tmp_path / "answers.json", rows()), tmp_path)
    assert means(run) == pytest.approx(BY_HAND)
    assert {name: score.count for name, score in run.scores["all"].items()} == {
        **{"aAcc": 10, "fAcc": 5, "qAcc": 5, "easy": 5, "hard": 4, "says yes": 10, "unparseable": 10}
    }
    assert means(run, "VS")["aAcc"] == pytest.approx(3 / 5)
    assert means(run, "VD")["fAcc"] == pytest.approx(1 / 3)
    strict = means(run, "all, not to know is wrong")
    assert (strict["aAcc"], strict["qAcc"], strict["easy"]) == pytest.approx((0.5, 0.2, 0.4))
    assert [row["correctness"] for row in run.rows] == [1, 1, 0, 1, 2, 2, 0, 1, 2, 1]


def test_a_judges_finding_counts_instead_of_ours(data: Path, tmp_path: Path) -> None:
    judged = [{**row, "gpt4v_output_gpt_check": "1"} for row in rows()]
    judged[0]["gpt4v_output_gpt_check"] = "2"
    run, _ = score_predictions(data, write(tmp_path / "answers.json", judged), tmp_path)
    assert means(run)["aAcc"] == 0.9
    assert run.made_by["judge"] is True
    judged[0]["gpt4v_output_gpt_check"] = "5"
    with pytest.raises(UsageError, match="must be 0, 1 or 2"):
        score_predictions(data, write(tmp_path / "answers.json", judged), tmp_path)


def test_a_figure_that_has_moved_keeps_its_own_label(data: Path, tmp_path: Path) -> None:
    """The answer is to the altered figure, which was number 1 when it was given and is number 2 in the data."""
    answers = [row for row in rows() if row["category"] == "VS" and row["figure_id"] != "1"]
    for row in answers:
        row["figure_id"] = {"0": "0", "2": "1"}[row["figure_id"]]
    run, _ = score_predictions(data, write(tmp_path / "answers.json", answers), tmp_path)
    (row,) = (row for row in run.rows if row["place"][3] == "1")
    assert (row["id"], row["label"], row["correctness"]) == ("VS/chart/1/1/0", "no", 1)
    assert "1 answers are to figures that the data numbers otherwise: labelled by question and details." in run.notes
    assert "3 of 10 questions are answered: the scores are of those alone." in run.notes


def test_what_does_not_fit_is_a_usage_error(data: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([], "no answers"),
        (rows()[:1] * 2, "VD/illusion/1/0/0 twice"),
        ([{**rows()[0], "question_id": "9"}], "VD/illusion/1/0/9, which is not in the data"),
        ([{**rows()[0], "gt_answer_details": "something else"}], "which is not in the data"),
        ([{**rows()[0], "model_prediction": None}], "no answer"),
    ]
    for content, says in cases:
        with pytest.raises(UsageError, match=says):
            score_predictions(data, write(answers, content), tmp_path)
    with pytest.raises(UsageError, match="must be 0 or 1"):
        load_hallusionbench(write(tmp_path / "x.json", [{**rows()[0], "gt_answer": "2"}]))
    with pytest.raises(UsageError, match="twice"):
        load_hallusionbench(write(tmp_path / "x.json", rows()[:1] * 2))


def test_the_published_sample_by_a_second_calculation(shared_data: Path, tmp_path: Path) -> None:
    """Grouped by the published rules in a few lines of their own; labels by question and details."""
    folder = shared_data / "hallucination" / "hallusionbench"
    run, _ = score_predictions(folder / "HallusionBench.jsonl", folder / "result_sample.jsonl", tmp_path)
    published, sample = (
        [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        for name in ("HallusionBench.jsonl", "result_sample.jsonl")
    )

    def words(row: dict[str, Any]) -> tuple[str, ...]:
        return (*(row[key] for key in KEYS[:3]), row["question"].strip(), row["gt_answer_details"].strip())

    labels = {words(row): {"1": "yes", "0": "no"}[row["gt_answer"]] for row in published}
    figures, questions = defaultdict(list), defaultdict(list)
    for row in sample:
        said = read_yes_no(row["model_prediction"], row["question"])
        no_figure = row["category"] == "VS" and row["figure_id"] == "0"
        right = said == labels[words(row)] or (said is None and no_figure)
        questions[(*(row[key] for key in KEYS[:3]), row["question_id"])].append(right)
        if not no_figure:
            figures[tuple(row[key] for key in KEYS[:4])].append(right)
    found = {
        "aAcc": (sum(map(sum, questions.values())), 74),
        "fAcc": (sum(map(all, figures.values())), len(figures)),
        "qAcc": (sum(map(all, questions.values())), len(questions)),
    }
    assert found == {"aAcc": (39, 74), "fAcc": (6, 24), "qAcc": (6, 35)}
    for name, (right, of) in found.items():
        assert run.scores["all"][name].mean == pytest.approx(right / of)
        assert run.scores["all"][name].count == of
    # Read by hand: these five say neither yes nor no of what was asked.
    unread = [row["id"] for row in run.rows if row["read"] is None]
    assert unread == [
        "VD/illusion/5/0/1",
        "VD/illusion/5/1/1",
        "VD/ocr/1/1/1",
        "VD/video/5/0/3",
        "VS/table/0/1/0",
    ]


# -- a model that is asked -------------------------------------------------------------------------------------------


def test_without_images_only_questions_that_need_none_are_asked(data: Path, tmp_path: Path) -> None:
    llm = ScriptedLLM("Yes.")
    run, _ = ask_hallusionbench(lambda: llm, data, tmp_path / "runs")
    assert [row["place"][3] for row in run.rows] == ["0", "0"]
    assert means(run) == {"aAcc": 1.0, "qAcc": 1.0, "easy": 1.0, "says yes": 1.0, "unparseable": 0.0}
    assert "8 questions about images were left out: name the folder of the images by --images." in run.notes
    assert llm.asked[0][0][0].content == "Is it so, 0? Please answer yes or no."


def test_images_are_found_in_the_published_layout(data: Path, tmp_path: Path) -> None:
    for row in rows():
        if row["visual_input"] != "0":
            path = (
                tmp_path / "images" / row["category"] / row["subcategory"] / f"{row['set_id']}_{row['figure_id']}.png"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 30)).save(path)
    llm = ScriptedLLM("No.")
    run, _ = ask_hallusionbench(lambda: llm, data, tmp_path / "runs", images=tmp_path / "images", workers=2)
    assert len(run.rows) == 10
    with_image = [any(isinstance(block, ImageBlock) for block in asked[0].blocks) for asked, _ in llm.asked]
    assert sum(with_image) == 8
    path.unlink()
    with pytest.raises(UsageError, match=r"1 of 5 images are not in .*, such as VS/chart/1_2\.png"):
        ask_hallusionbench(lambda: llm, data, tmp_path / "runs", images=tmp_path / "images")


def test_the_command(data: Path, tmp_path: Path) -> None:
    answers = write(tmp_path / "answers.json", rows())
    arguments = ["eval", "hallusionbench", "--data", data, "--predictions", answers, "-o", tmp_path / "runs"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "all, not to know is wrong" in result.stdout
    assert "0.600 [" in result.stdout
