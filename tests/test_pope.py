"""POPE: known predictions give numbers computed by hand, models are asked as published, images stay in their folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from PIL import Image
from typer.testing import CliRunner, Result

from apps.cli import app
from eval.inputs import image_in, read_predictions, read_records
from eval.pope import ask_pope, load_pope, published_reading, score_predictions
from eval.runs import load_run
from mmrag import testing
from mmrag.errors import UsageError
from mmrag.testing import ScriptedLLM

LABELS = ["yes", "yes", "yes", "yes", "no", "no", "no", "no"]
# Two right yes, one missed, one unparseable; two right no, one false yes, one unparseable.
ANSWERS = ["Yes", "Yes, there is.", "No", "Hard to say", "No.", "There is no cat.", "**Yes**", "Perhaps"]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"question_id": i, "image": f"{i // 4}.png", "text": "Is there a cat in the image?", "label": label}
        for i, label in enumerate(LABELS, start=0)
    ]
    return write(tmp_path / "coco_pope_random.json", rows)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (56, 56), colour).save(folder / f"{number}.png")
    return folder


def predictions(path: Path, answers: Sequence[str] = ANSWERS) -> Path:
    return write(path, [{"question_id": i, "answer": answer} for i, answer in enumerate(answers)])


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "pope", *map(str, arguments)])


# -- known predictions -----------------------------------------------------------------------------------------------


def test_known_predictions_give_the_numbers_computed_by_hand(data: Path, tmp_path: Path) -> None:
    run, _ = score_predictions([data], [predictions(tmp_path / "answers.jsonl")], tmp_path)
    means = {name: score.mean for name, score in run.scores["coco_pope_random"].items()}
    # TP 2, FP 1, yes labels 4, right 4 of 8, said yes 3, unparseable 2.
    assert means == pytest.approx(
        {
            "accuracy": 4 / 8,
            "precision": 2 / 3,
            "recall": 2 / 4,
            "f1": 2 * 2 / (3 + 4),
            "yes_rate": 3 / 8,
            "unparseable": 2 / 8,
        }
    )
    # The published script takes what has no "no" in it as yes: TP 3, FP 2, right 5, said yes 5.
    published = {name: score.mean for name, score in run.scores["coco_pope_random, read as published"].items()}
    assert published == pytest.approx(
        {"accuracy": 5 / 8, "precision": 3 / 5, "recall": 3 / 4, "f1": 6 / 9, "yes_rate": 5 / 8, "unparseable": 0.0}
    )
    assert run.notes == ("2 answers say neither yes nor no, such as: Hard to say",)
    assert [row["read"] for row in run.rows] == ["yes", "yes", "no", None, "no", "no", "yes", None]
    score = run.scores["coco_pope_random"]["accuracy"]
    assert score.low <= 0.5 <= score.high
    assert score.count == 8


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes, it is not small.", "no"),
        ("There is. No doubt.", "yes"),
        ("no, it is", "no"),
        ("NO", "yes"),
        ("Nothing", "yes"),
        ("", "yes"),
        ("there is\nno cat", "yes"),
    ],
)
def test_the_published_reading_has_its_quirks(answer: str, verdict: str) -> None:
    assert published_reading(answer) == verdict


def test_six_questions_about_one_image_say_less_than_about_six(tmp_path: Path) -> None:
    def width(images: int) -> float:
        rows = [
            {"question_id": i, "image": f"{i % images}.png", "text": "Is there a cat?", "label": "yes"}
            for i in range(60)
        ]
        said = ["yes" if i % 10 < 5 else "no" for i in range(60)]  # all right or all wrong about one of ten images
        data = write(tmp_path / "data.jsonl", rows)
        run, _ = score_predictions([data], [predictions(tmp_path / "a.jsonl", said)], tmp_path)
        score = run.scores["data"]["accuracy"]
        assert score.mean == 0.5
        return score.high - score.low

    assert width(images=10) > 2 * width(images=60)


def test_equal_readings_are_printed_once_and_several_files_together(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "coco_pope_popular.json"
    other.write_text(data.read_text(encoding="utf-8"), encoding="utf-8")
    right = predictions(tmp_path / "a.jsonl", LABELS)
    wrong = predictions(tmp_path / "b.jsonl", ["no" if label == "yes" else "yes" for label in LABELS])
    run, _ = score_predictions([data, other], [right, wrong], tmp_path)
    assert {name: score["accuracy"].mean for name, score in run.scores.items()} == {
        "all": 0.5,
        "coco_pope_random": 1.0,
        "coco_pope_popular": 0.0,
    }
    assert run.scores["coco_pope_popular"]["precision"].mean == run.scores["coco_pope_popular"]["f1"].mean == 0.0


def test_a_missing_answer_counts_as_wrong_and_is_said(data: Path, tmp_path: Path) -> None:
    answers = write(tmp_path / "a.jsonl", [{"question_id": 0, "text": "yes"}])
    run, _ = score_predictions([data], [answers], tmp_path)
    assert run.scores["coco_pope_random"]["accuracy"].mean == 1 / 8
    assert run.scores["coco_pope_random"]["unparseable"].mean == 7 / 8
    assert run.notes == ("7 of 8 questions have no answer: they count as wrong.",)


def test_answers_without_ids_are_taken_in_order(data: Path, tmp_path: Path) -> None:
    rows = [{"question": "Is there a cat?", "answer": answer} for answer in ANSWERS]
    run, _ = score_predictions([data], [write(tmp_path / "a.jsonl", rows)], tmp_path)
    assert run.scores["coco_pope_random"]["accuracy"].mean == 0.5
    with pytest.raises(UsageError, match="7 rows without an id for 8 questions"):
        score_predictions([data], [write(tmp_path / "a.jsonl", rows[1:])], tmp_path)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"question_id": 99, "answer": "yes"}], "'99', which is not in the data"),
        ([{"question_id": 1, "answer": "yes"}, {"question_id": 1, "answer": "no"}], "twice"),
        ([{"question_id": 1}], "no answer"),
    ],
)
def test_answers_that_do_not_fit_are_a_usage_error(data: Path, tmp_path: Path, rows: list[Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        score_predictions([data], [write(tmp_path / "a.jsonl", rows)], tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"question_id": 1', "line 1 is no JSON"),
        ('{"question_id": 1}\n[1]\n', "row 2: expected a JSON object"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "row 1: expected a JSON object"),
    ],
)
def test_a_file_that_is_none_is_a_usage_error(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        read_records(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_records(path)


def test_json_lists_marks_of_order_and_odd_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('\ufeff[{"id": 1, "answer": "yes"}]', encoding="utf-8")
    assert read_predictions(path, ["1"]) == {"1": "yes"}
    path.write_text('{"id": 1, "answer": "yes\u2028no"}\r\n\r\n', encoding="utf-8")
    assert read_predictions(path, ["1"]) == {"1": "yes\u2028no"}


@pytest.mark.parametrize(
    ("change", "says"),
    [({"label": "maybe"}, "must be yes or no"), ({"label": None}, "no 'label'"), ({"question_id": 1}, "twice")],
)
def test_data_that_do_not_fit_are_a_usage_error(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    row = {"question_id": 0, "image": "0.png", "text": "?", "label": "yes"}
    rows = [{**row, "question_id": 1}, {**row, **change}]
    with pytest.raises(UsageError, match=says):
        load_pope([write(tmp_path / "x.json", rows)])


def test_the_published_files_score_as_counted(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted((shared_data / "hallucination" / "pope").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        answers = ["Yes" if row["question_id"] % 3 else "No, there is none." for row in rows]
        run, _ = score_predictions([path], [predictions_of(tmp_path / "a.jsonl", rows, answers)], tmp_path)
        said = [row["question_id"] % 3 > 0 for row in rows]
        is_yes = [row["label"] == "yes" for row in rows]
        both = sum(a and b for a, b in zip(said, is_yes, strict=True))
        means = {name: score.mean for name, score in run.scores[path.stem].items()}
        assert means["accuracy"] == pytest.approx(sum(a == b for a, b in zip(said, is_yes, strict=True)) / 1512)
        assert means["precision"] == pytest.approx(both / sum(said))
        assert means["recall"] == pytest.approx(both / 756)
        assert means["yes_rate"] == pytest.approx(sum(said) / 1512)


def predictions_of(path: Path, rows: Sequence[dict[str, Any]], answers: Sequence[str]) -> Path:
    return write(path, [{"question_id": row["question_id"], "answer": a} for row, a in zip(rows, answers, strict=True)])


# -- a model that is asked -------------------------------------------------------------------------------------------


def test_a_model_is_asked_with_the_image_and_the_published_words(data: Path, images: Path, tmp_path: Path) -> None:
    llm = ScriptedLLM(lambda messages: "Yes." if _shows(messages) == (255, 0, 0) else "No.")
    run, path = ask_pope(lambda: llm, [data], tmp_path / "runs", images=images)
    assert run.scores["coco_pope_random"]["accuracy"].mean == 1.0
    assert path.name.startswith("pope-scripted-")
    (message,) = llm.asked[0][0]
    assert [type(block) for block in message.blocks] == [ImageBlock, TextBlock]
    assert message.content == "Is there a cat in the image? Please answer yes or no."
    assert run.made_by["generator"]["class"] == "ScriptedLLM"
    ask_pope(lambda: llm, [data], tmp_path / "runs", images=images)
    assert len(llm.asked) == 8  # the second time all rows were there
    ask_pope(lambda: llm, [data], tmp_path / "runs", images=images, fresh=True, workers=3)
    assert len(llm.asked) == 16


def _shows(messages: Sequence[ChatMessage]) -> tuple[int, ...]:
    block = messages[-1].blocks[0]
    assert isinstance(block, ImageBlock)
    with Image.open(block.resolve_image()) as image:
        colour = image.convert("RGB").getpixel((3, 3))
    assert isinstance(colour, tuple)
    return colour


def test_blind_is_asked_without_images_and_is_another_run(data: Path, images: Path, tmp_path: Path) -> None:
    llm = ScriptedLLM("yes")
    blind, at = ask_pope(lambda: llm, [data], tmp_path, blind=True)
    assert not any(isinstance(block, ImageBlock) for message in llm.asked[0][0] for block in message.blocks)
    assert blind.scores["coco_pope_random"]["yes_rate"].mean == 1.0
    _, sighted = ask_pope(lambda: llm, [data], tmp_path, images=images)
    assert at != sighted


def test_before_a_model_is_loaded_the_images_are_looked_for(data: Path, images: Path, tmp_path: Path) -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    with pytest.raises(UsageError, match=r"8 questions are about 2 images.*--images.*--predictions.*--blind"):
        ask_pope(load, [data], tmp_path)
    (images / "1.png").unlink()
    with pytest.raises(UsageError, match=r"1 of 2 images are not in .*, such as 1\.png"):
        ask_pope(load, [data], tmp_path, images=images)
    with pytest.raises(UsageError, match="There is no folder"):
        ask_pope(load, [data], tmp_path, images=images / "none")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "/etc/passwd",
        "a/../../secret.png",
        "..",
        "",
        "http://host/x.png",
        "c:\\x.png",
        "a\\..\\b",
        "a\0b",
    ],
)
def test_an_image_is_only_ever_a_plain_name_in_its_folder(images: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no plain file name"):
        image_in(images, name)


def test_a_link_out_of_the_folder_is_not_followed(images: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "up").symlink_to(tmp_path)
    for name in ("link.png", "up/secret.png"):
        with pytest.raises(UsageError, match="link out of"):
            image_in(images, name)
    (images / "inside.png").symlink_to(images / "0.png")
    assert image_in(images, "inside.png").is_file()


def test_logits_need_a_model_that_gives_them(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--by logits needs a checkpoint"):
        ask_pope(lambda: ScriptedLLM("yes"), [data], tmp_path, blind=True, by="logits")


@pytest.mark.slow
def test_a_checkpoint_is_asked_for_its_odds_and_for_its_words(data: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mmrag.generate.qwen2_vl import Qwen2VL

    llm = Qwen2VL(testing.tiny_qwen2_vl(tmp_path / "model"), device="cpu", dtype="float32", max_new_tokens=4)
    run, path = ask_pope(lambda: llm, [data], tmp_path / "runs", images=images)
    assert run.made_by["by"] == "logits"
    assert run.made_by["generator"]["max_visual_tokens"] == 5000
    by_image = {row["cluster"]: row["yes_probability"] for row in run.rows}
    assert len(set(by_image.values())) == 2  # the image has a say
    assert all(0 < row["yes_or_no_mass"] < 1 for row in run.rows)
    assert "of the model's probability is on yes or no" in run.notes[0]
    words, elsewhere = ask_pope(lambda: llm, [data], tmp_path / "runs", images=images, by="text")
    assert elsewhere != path
    assert all(isinstance(row["answer"], str) for row in words.rows)
    result = command(
        "--data", data, "--images", images, "-o", tmp_path / "r", "--generator", tmp_path / "model", "--json"
    )
    assert result.exit_code == 0, result.output
    by_command = json.loads(result.stdout)
    assert by_command["made_by"]["by"] == "logits"
    assert {row["cluster"] for row in by_command["rows"]} == set(by_image)


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_scores_predictions_and_writes_a_run_and_a_plot(data: Path, tmp_path: Path) -> None:
    answers = predictions(tmp_path / "answers.jsonl")
    result = command("--data", data, "--predictions", answers, "-o", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    assert "0.500 [" in result.stdout
    assert "2 answers say neither yes nor no" in result.stdout
    (written,) = (tmp_path / "runs").glob("pope-*.json")
    assert load_run(written).scores["coco_pope_random"]["recall"].mean == 0.5
    with Image.open(written.with_suffix(".png")) as plot:
        assert plot.width > 800
    as_json = command("--data", data, "--predictions", answers, "-o", tmp_path / "runs", "--json")
    assert json.loads(as_json.stdout)["scores"]["coco_pope_random"]["accuracy"]["mean"] == 0.5


def test_the_command_asks_a_model(data: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrag.models.load_llm", lambda settings: ScriptedLLM("No."))
    result = command("--data", data, "--images", images, "-o", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    assert "Written to " in result.stdout


def test_the_command_says_what_is_missing(data: Path, images: Path, tmp_path: Path) -> None:
    for arguments, says in (
        (["--data", data], "name their folder by --images"),
        (["--data", data, "--images", images], "There is no model to ask: name a vision-language checkpoint"),
        (["--data", tmp_path / "none"], "There is no file"),
        (["--data", data, "--by", "magic"], "--by magic is not known"),
    ):
        result = command(*arguments, "-o", tmp_path / "runs")
        assert result.exit_code == 2
        assert result.stderr.startswith("mmrag: ")
        assert says in result.stderr
        assert result.stderr.count("\n") == 1
