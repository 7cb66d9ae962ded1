"""AMBER: objects found in descriptions, their scores by hand, and questions whose positive answer is no."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from apps.cli import app
from eval.amber import (
    Description,
    ask_amber,
    described,
    load_amber,
    named_objects,
    published_reading,
    score_predictions,
)
from mmrag.errors import UsageError
from mmrag.testing import ScriptedLLM

DESCRIBED = [
    {"id": 1, "image": "a.jpg", "truth": ["sky", "grass", "person"], "hallu": ["dog", "cloud"]},
    {"id": 2, "image": "b.jpg", "truth": ["horse", "woman"], "hallu": ["man", "fence"]},
]
ASKED = [
    (3, "a.jpg", "Is the sky sunny in this image?", "discriminative-attribute-state", "yes"),
    (4, "a.jpg", "Is the sky gloomy in this image?", "discriminative-attribute-state", "no"),
    (5, "a.jpg", "Is there a cloud in this image?", "discriminative-hallucination", "no"),
    (6, "b.jpg", "Is there a fence in this image?", "discriminative-hallucination", "no"),
    (7, "b.jpg", "Is there direct contact between the woman and horse?", "discriminative-relation", "yes"),
    (8, "b.jpg", "Is there direct contact between the woman and fence?", "relation", "no"),
]
QUERIES = [{**row, "query": "Describe this image.", "type": "generative"} for row in DESCRIBED] + [
    dict(zip(("id", "image", "query", "type", "truth"), row, strict=True)) for row in ASKED
]
ANSWERS = {
    1: "Two women stand on the lawn. A dog and three clouds are there; the dog barks.",  # 2 there, 4 not
    2: "A horse.",
    3: "Yes",
    4: "No",
    5: "No, there is none.",
    6: "Yes",
    7: "I cannot tell.",
    8: "no",
}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "amber.jsonl", QUERIES)


def answers(path: Path, ids: Sequence[int] = tuple(ANSWERS)) -> Path:
    return write(path, [{"id": i, "response": ANSWERS[i]} for i in ids])


def means(run: Any, group: str) -> dict[str, float]:
    return {name: score.mean for name, score in run.scores[group].items()}


def test_descriptions_by_hand(data: Path, tmp_path: Path) -> None:
    run, _ = score_predictions(data, answers(tmp_path / "a.jsonl"), tmp_path)
    first, second = run.rows[:2]
    assert first["named"] == ["woman", "lawn", "dog", "cloud", "dog"]
    assert first["not there"] == ["dog", "cloud", "dog"]
    assert first["missed"] == ["sky"]
    assert second["missed"] == ["woman"]
    # 3 of 6 mentions are not there; 3 of 5 objects are named; 1 of 2 descriptions; 2 of 4 expected ones are made up.
    assert means(run, "descriptions") == {"chair": 0.5, "cover": 0.6, "hal": 0.5, "cog": 0.5}


def test_questions_by_hand(data: Path, tmp_path: Path) -> None:
    run, _ = score_predictions(data, answers(tmp_path / "a.jsonl"), tmp_path)
    # No is positive. Right: 3, 4, 5, 8; wrong: 6 (missed), 7 (neither). Said no: 4, 5, 8, all rightly; 4 labels are no.
    assert means(run, "questions") == pytest.approx(
        {
            "accuracy": 4 / 6,
            "precision": 1.0,
            "recall": 3 / 4,
            "f1": 2 * 3 / (3 + 4),
            "yes_rate": 2 / 6,
            "unparseable": 1 / 6,
        }
    )
    # The published script takes "Yes" and "No" to the letter: 3, 4 right.
    assert means(run, "questions, read as published")["accuracy"] == pytest.approx(2 / 6)
    assert means(run, "questions, read as published")["recall"] == pytest.approx(1 / 4)
    assert means(run, "existence")["recall"] == 0.5
    assert means(run, "attribute")["accuracy"] == means(run, "attribute: state")["accuracy"] == 1.0
    assert means(run, "relation")["accuracy"] == 0.5
    assert run.notes[-1] == f"AMBER score, the mean of 1 - CHAIR and the questions' F1: {(0.5 + 6 / 7) / 2:.3f}."
    assert [published_reading(text) for text in ("Yes", "No", "no", "Yes.", "")] == ["yes", "no", None, None, None]


def test_what_people_and_things_are_called() -> None:
    labels = frozenset("person woman man knife bench box leave sheep sofa traffic-light bus".split())
    text = "People, two women, a lady; knives, benches, boxes, a leaf, sheep, couches, buses, a traffic-light, cats."
    assert named_objects(text, labels) == (
        "people woman lady knife bench box leaf sheep couch bus traffic-light".split()
    )


def test_a_kind_stands_for_its_class_but_not_for_another_kind() -> None:
    labels = frozenset(["man", "woman", "person", "horse"])
    woman = Description("1", "", "a.jpg", ("woman",), ("man",))
    assert described(woman, "A lady.", labels)["not there"] == []
    assert described(woman, "A person.", labels)["not there"] == []
    assert described(woman, "A man.", labels)["not there"] == ["man"]
    assert described(woman, "A man.", labels)["values"] == {"chair": 1.0, "cover": 0.0, "hal": 1.0, "cog": 1.0}
    person = Description("1", "", "a.jpg", ("person",), ())
    assert described(person, "Two men ride.", labels)["values"]["cover"] == 1.0
    assert described(person, "", labels)["values"] == {"chair": 0.0, "cover": 0.0, "hal": 0.0, "cog": 0.0}


def test_words_that_are_mostly_something_else_are_no_hallucination() -> None:
    labels = frozenset(["light", "line", "dog"])
    dog = Description("1", "", "a.jpg", ("dog",), ("light",))
    assert described(dog, "A dog in a line, in light colours.", labels)["named"] == ["dog"]


def test_answers_to_one_kind_alone_are_a_whole(data: Path, tmp_path: Path) -> None:
    run, _ = score_predictions(data, answers(tmp_path / "a.jsonl", [1]), tmp_path)
    assert list(run.scores) == ["descriptions"]
    assert run.scores["descriptions"]["cover"].mean == 0.4
    assert run.notes == ("1 of 2 images have no description: they count as covering nothing.",)
    run, _ = score_predictions(data, answers(tmp_path / "a.jsonl", [3, 4]), tmp_path)
    assert run.scores["questions"]["accuracy"].mean == pytest.approx(2 / 6)
    assert "4 of 6 questions have no answer: they count as wrong." in run.notes


def test_a_model_is_asked(data: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    llm = ScriptedLLM(lambda messages: "A dog." if "Describe" in str(messages[-1].content) else "No")
    with pytest.raises(UsageError, match="8 queries are about 2 images"):
        ask_amber(lambda: llm, data, tmp_path / "runs", images=None)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (30, 30)).save(images / name)
    run, _ = ask_amber(lambda: llm, data, tmp_path / "runs", images=images)
    assert run.scores["descriptions"]["chair"].mean == 1.0
    assert run.scores["questions"]["recall"].mean == 1.0
    assert [asked[0].content for asked, _ in llm.asked[1:3]] == [
        "Describe this image.",
        "Is the sky sunny in this image? Please answer yes or no.",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type": "poem"}, "of the type 'poem'"),
        ({"truth": "sky"}, "lists of words"),
        ({"hallu": None}, "lists of words"),
        ({"id": 3}, "an id twice"),
    ],
)
def test_data_that_do_not_fit_are_a_usage_error(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_amber(write(tmp_path / "x.jsonl", [{**QUERIES[0], **change}, *QUERIES[1:]]))


def test_the_published_labels_as_answers(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "hallucination" / "amber" / "queries_with_labels.jsonl"
    queries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def run_of(describe: Any, verdict: Any) -> Any:
        rows = [
            {"id": q["id"], "response": describe(q) if q["type"] == "generative" else verdict(q["truth"])}
            for q in queries
        ]
        return score_predictions(path, write(tmp_path / "a.jsonl", rows), tmp_path)[0]

    right = run_of(lambda q: ", ".join(q["truth"]), str.capitalize)
    assert means(right, "descriptions") == {"chair": 0.0, "cover": 1.0, "hal": 0.0, "cog": 0.0}
    assert right.scores["questions"]["f1"].mean == 1.0
    assert {name: right.scores[name]["accuracy"].count for name in ("existence", "attribute", "relation")} == {
        "existence": 860,
        "attribute": 1288,
        "relation": 289,
    }
    wrong = run_of(lambda q: ", ".join(q["hallu"]), {"yes": "No", "no": "Yes"}.get)
    assert wrong.scores["questions"]["accuracy"].mean == 0.0
    print(means(wrong, "descriptions"))
    assert wrong.scores["descriptions"]["chair"].mean > 0.9


def test_the_command(data: Path, tmp_path: Path) -> None:
    arguments = ["--data", data, "--predictions", answers(tmp_path / "a.jsonl"), "-o", tmp_path / "runs"]
    result = CliRunner().invoke(app, ["eval", "amber", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "descriptions" in result.stdout
    assert "attribute: state" in result.stdout
    assert "AMBER score" in result.stdout
