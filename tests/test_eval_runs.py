"""Runs: rows that outlive a crash, files that say what made them, and two runs compared by hand-made numbers."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

from apps.cli import app
from eval.compare import compare
from eval.metrics import mean_score, ratio_score
from eval.plots import plot_comparison, plot_run
from eval.runs import Row, Run, collect, load_run, made_by, run_path, save_run
from mmrag.errors import GenerationError, UsageError
from mmrag.testing import ScriptedLLM

ITEMS = {name: name for name in ("a", "b", "c", "d")}


def right(item: str) -> Row:
    return {"values": {"accuracy": float(item in "ab")}, "answer": item}


def run_of(**values: float) -> Run:
    rows = tuple({"id": name, "values": {"accuracy": value}} for name, value in values.items())
    scores = {"all": {"accuracy": mean_score(list(values.values()))}}
    return Run("pope", made_by(), scores, rows, ("A note.",))


# -- rows ------------------------------------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_items_and_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rows = collect(tmp_path / "run.json", ITEMS, right, on_progress=lambda done, total: told.append((done, total)))
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    assert rows[0] == {"id": "a", "values": {"accuracy": 1.0}, "answer": "a"}
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_run_that_failed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    asked = []

    def failing(item: str) -> Row:
        asked.append(item)
        if item == "c" and asked.count("c") == 1:
            raise GenerationError("The server is away.")
        return right(item)

    with pytest.raises(GenerationError):
        collect(tmp_path / "run.json", ITEMS, failing)
    rows = collect(tmp_path / "run.json", ITEMS, failing)
    assert asked == ["a", "b", "c", "c", "d"]
    assert [row["id"] for row in rows] == list(ITEMS)


@pytest.mark.parametrize(
    "torn",
    [
        '{"id": "c", "values": {"accu',
        '{"id": "c", "values": {"accu\n',
        '{"id": "c"}\n',
        "\x00\x00\n",
        '["c"]\n',
        '{"id": ["c"], "values": {}}\n',
    ],
)
def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path, torn: str) -> None:
    collect(tmp_path / "run.json", {"a": "a", "b": "b"}, right)
    with (tmp_path / "run.jsonl").open("a", encoding="utf-8") as file:
        file.write(torn)
    asked = []
    rows = collect(tmp_path / "run.json", ITEMS, lambda item: asked.append(item) or right(item))  # type: ignore[func-returns-value]
    assert asked == ["c", "d"]
    assert [row["id"] for row in rows] == list(ITEMS)
    assert [json.loads(line)["id"] for line in (tmp_path / "run.jsonl").read_text().splitlines()] == list(ITEMS)


def test_fresh_makes_all_rows_again(tmp_path: Path) -> None:
    collect(tmp_path / "run.json", ITEMS, right)
    rows = collect(tmp_path / "run.json", ITEMS, lambda item: {"values": {"accuracy": 0.5}}, fresh=True)
    assert {row["values"]["accuracy"] for row in rows} == {0.5}


def test_several_threads_ask_at_once_and_an_error_keeps_what_was_made(tmp_path: Path) -> None:
    meet = threading.Barrier(2, timeout=20)

    def together(item: str) -> Row:
        meet.wait()
        return right(item)

    rows = collect(tmp_path / "run.json", ITEMS, together, workers=2)
    assert [row["id"] for row in rows] == list(ITEMS)

    made = threading.Event()

    def failing(item: str) -> Row:
        if item == "b":
            made.wait(20)
            raise GenerationError("The server is away.")
        return right(item)

    def on_progress(done: int, total: int) -> None:
        if done:
            made.set()

    with pytest.raises(GenerationError):
        collect(tmp_path / "other.json", ITEMS, failing, workers=2, on_progress=on_progress)
    assert '"id": "a"' in (tmp_path / "other.jsonl").read_text()


def test_two_processes_do_not_make_one_run(tmp_path: Path) -> None:
    with FileLock(tmp_path / "run.lock"), pytest.raises(UsageError, match="Another process"):
        collect(tmp_path / "run.json", ITEMS, right)


# -- what made it ----------------------------------------------------------------------------------------------------


def test_other_settings_other_data_and_other_models_are_other_runs(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("1", encoding="utf-8")
    first = made_by(ScriptedLLM("yes"), data=[data], blind=False)
    assert first["generator"] == {"class": "ScriptedLLM", "model": "scripted"}
    assert run_path(tmp_path, "pope", first) == run_path(
        tmp_path, "pope", made_by(ScriptedLLM("no"), data=[data], blind=False)
    )
    others = [made_by(ScriptedLLM("yes"), data=[data], blind=True), made_by(data=[data], blind=False)]
    data.write_text("2", encoding="utf-8")
    others.append(made_by(ScriptedLLM("yes"), data=[data], blind=False))
    paths = {run_path(tmp_path, "pope", made) for made in (first, *others)}
    assert len(paths) == 4
    assert run_path(tmp_path, "pope", first).name.startswith("pope-scripted-")


def test_a_models_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    made = {"generator": {"model": "qwen2_vl:/models/../../evil name\x1b[31m"}}
    path = run_path(tmp_path, "pope", made)
    assert path.parent == tmp_path
    assert path.name.startswith("pope-evil-name-31m-")


def test_no_key_is_written_down() -> None:
    class WithKey(ScriptedLLM):
        api_key: str = "sk-secret"
        temperature: float = 0.2

    made = made_by(WithKey("yes"))
    assert made["generator"]["temperature"] == 0.2
    assert "secret" not in json.dumps(made)


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    run = run_of(a=1.0, b=0.0)
    save_run(run, tmp_path / "runs" / "run.json")
    back = load_run(tmp_path / "runs" / "run.json")
    assert back.made_by.pop("finished")
    assert back == run


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"name": "x", "made_by": {}, "scores": {}, "rows": [1], "notes": []}']
)
def test_what_is_no_run_is_a_usage_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"x\.json is no run"):
        load_run(tmp_path / "x.json")
    with pytest.raises(UsageError, match="There is no file"):
        load_run(tmp_path / "y.json")


# -- scores and comparison -------------------------------------------------------------------------------------------


def test_a_ratio_is_that_of_the_sums_and_items_of_one_cluster_say_less() -> None:
    parts, wholes = [1.0, 0.0, 3.0] * 20, [2.0, 0.0, 3.0] * 20
    alone = ratio_score(parts, wholes)
    assert (alone.mean, alone.count) == (0.8, 60)
    assert alone.low < 0.8 < alone.high
    together = ratio_score([1.0, 1.0, 0.0, 0.0] * 10, [1.0] * 40, [i // 2 for i in range(40)])
    apart = ratio_score([1.0, 1.0, 0.0, 0.0] * 10, [1.0] * 40)
    assert together.low < apart.low < 0.5 < apart.high < together.high
    assert ratio_score([0.0], [0.0]).mean == 0.0


def test_a_comparison_by_hand() -> None:
    first = run_of(a=1.0, b=0.0, c=0.0, d=0.0, x=1.0)
    second = run_of(a=1.0, b=1.0, c=1.0, d=0.0, y=0.0)
    found = compare(first, second)
    assert (found.common, found.only_first, found.only_second) == (4, 1, 1)
    difference = found.metrics["accuracy"]
    assert (difference.first, difference.second, difference.mean) == (0.25, 0.75, 0.5)
    assert difference.most == (("b", 1.0), ("c", 1.0))
    # Of four draws from two differences of 1 and two of 0, none is 1 with probability 1/16.
    assert difference.low == 0.0
    assert difference.high == 1.0
    assert difference.p == pytest.approx(2 / 16, abs=0.02)
    assert difference.above == pytest.approx(1 - 0.5 / 16, abs=0.01)


def test_no_number_of_samples_shows_a_p_of_nothing() -> None:
    difference = compare(run_of(a=0.0, b=0.0), run_of(a=1.0, b=1.0)).metrics["accuracy"]
    assert (difference.above, difference.low) == (1.0, 1.0)
    assert difference.p == pytest.approx(2 / 2001)


def test_equal_runs_do_not_differ() -> None:
    difference = compare(run_of(a=1.0, b=0.0), run_of(a=1.0, b=0.0)).metrics["accuracy"]
    assert (difference.mean, difference.p, difference.above, difference.most) == (0.0, 1.0, 0.5, ())


def test_questions_about_one_image_are_drawn_together() -> None:
    def of(value: float) -> Run:
        rows = tuple(
            {"id": f"{i}", "cluster": i // 6, "values": {"accuracy": value if i < 36 else 0.5}} for i in range(72)
        )
        return Run("pope", {}, {}, rows)

    apart = [replace(run, rows=tuple({**row, "cluster": row["id"]} for row in run.rows)) for run in (of(0.0), of(1.0))]
    wide, narrow = compare(of(0.0), of(1.0)).metrics["accuracy"], compare(*apart).metrics["accuracy"]
    assert wide.mean == narrow.mean == 0.5
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_what_cannot_be_compared_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="One run is of pope, the other of amber"):
        compare(run_of(a=1.0), replace(run_of(a=1.0), name="amber"))
    with pytest.raises(UsageError, match="no item in common"):
        compare(run_of(a=1.0), run_of(b=1.0))


def test_the_command_compares_two_files(tmp_path: Path) -> None:
    save_run(run_of(a=1.0, b=0.0), tmp_path / "1.json")
    save_run(replace(run_of(a=1.0, b=1.0), made_by={**made_by(), "blind": True}), tmp_path / "2.json")
    arguments = ["eval", "compare", str(tmp_path / "1.json"), str(tmp_path / "2.json")]
    result = CliRunner().invoke(app, [*arguments, "--plot", str(tmp_path / "plot.png")])
    assert result.exit_code == 0, result.output
    assert "accuracy" in result.stdout
    assert "+0.500" in result.stdout
    assert "b (+1.00)" in result.stdout
    assert "The runs differ in blind: None and True." in result.stdout
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.width > 500
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["metrics"]["accuracy"]["mean"] == 0.5
    wrong = CliRunner().invoke(app, [*arguments[:3], str(tmp_path / "none.json")])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("mmrag: There is no file")


def test_plots_show_names_that_look_like_formulae(tmp_path: Path) -> None:
    run = run_of(a=1.0, b=0.0)
    run = replace(run, scores={"all": run.scores["all"], "cost $x_1^ $y": run.scores["all"], "\x1b[31m": {}})
    plot_run(run, tmp_path / "run.png")
    plot_comparison(compare(run, run), tmp_path / "comparison.png")
    for name in ("run", "comparison"):
        with Image.open(tmp_path / f"{name}.png") as plot:
            assert plot.height > 150
