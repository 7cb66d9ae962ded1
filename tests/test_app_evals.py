"""Runs as the app shows them: files of any kind, items worst first, the pages that they cite."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")

import streamlit as st
from streamlit.testing.v1 import AppTest

from apps.demo_documents import QUESTIONS
from apps.ui import evals, runs
from apps.ui.runs import File, Spot
from apps.ui.words import CHINESE
from eval.answers import ask_answers
from eval.metrics import Score, mean_score
from eval.pope import score_predictions
from eval.retrieval import RetrievalReport
from eval.runs import Row, Run, load_run, save_run
from mmrag.engine import open_rag
from mmrag.errors import MissingExtra, UsageError
from mmrag.index import Index
from mmrag.settings import Settings
from tests.streamlit_app import components, markdown, select

EVIL = "![x](http://evil.example/a.png) <b>bold</b> [link](http://evil.example)"


@pytest.fixture(scope="module")
def answered(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real run on the demo: two of its questions."""
    folder = tmp_path_factory.mktemp("answers")
    asked = [question for question in QUESTIONS if question.answer][:2]
    rows = [
        {
            "id": f"q{i}",
            "doc": question.document,
            "question": question.text,
            "answer": question.answer,
            "answerable": True,
            "gold_pages": [question.page - 1],
        }
        for i, question in enumerate(asked)
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with open_rag(Settings(store=demo_store)) as rag:
        save_run(*ask_answers(rag, folder, folder / "runs"))
    return folder / "runs"


def pope(folder: Path, name: str, *answers: str) -> Path:
    """A real run of POPE on predictions: is a thing there, three times; yes is right, then no, then yes."""
    labels = ("yes", "no", "yes")
    data, said = folder / "coco_pope_random.json", folder / f"{name}.jsonl"
    asked = [
        {"question_id": i, "image": f"{i}.jpg", "text": f"Is there a dog in {i}?", "label": label}
        for i, label in enumerate(labels)
    ]
    data.write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    rows = [{"question_id": i, "answer": answer} for i, answer in enumerate(answers)]
    said.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run, path = score_predictions([data], [said], folder / "runs")
    save_run(run, path)
    return path


def file(path: Path) -> File:
    return File(path, path.stat().st_mtime_ns, path.stat().st_size)


# -- files -----------------------------------------------------------------------------------------------------------


def test_only_json_files_of_the_folder_itself_are_read(tmp_path: Path) -> None:
    folder, outside = tmp_path / "runs", tmp_path / "outside.json"
    (folder / "below").mkdir(parents=True)
    outside.write_text("{}", encoding="utf-8")
    for name in ("a.json", "b.txt", "below/c.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "link.json").symlink_to(outside)
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")  # opening it would wait for ever
    assert [each.path.name for each in runs.run_files(folder)] == ["a.json"]
    assert runs.run_files(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"name": "x"',
        "[1, 2]",
        "[" * 100_000,
        '{"name": "thing", "dependencies": {}}',
        '{"name": "x", "made_by": {}, "scores": {"all": {"m": {"mean": "<b>"}}}, "rows": [], "notes": []}',
        '{"name": "x", "made_by": {}, "scores": {}, "rows": [{"id": 1, "values": {"m": "high"}}], "notes": []}',
        '{"name": "x", "made_by": 3, "scores": {}, "rows": [], "notes": []}',
        '{"scopes": {"all": 1}, "groups": {}, "ablation": {}}',
    ],
)
def test_what_is_no_run_is_refused_with_a_reason(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="is no run"):
        runs.read_run(file(path))


def test_a_file_too_large_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="301 MB: too large"):
        runs.read_run(File(tmp_path / "not-there.json", 0, 301_000_000))


def test_a_run_is_listed_by_its_model_its_main_score_and_when_it_was_made(answered: Path, tmp_path: Path) -> None:
    (found,) = (runs.listed(each, runs.read_run(each)) for each in runs.run_files(answered))
    assert (found.name, found.made_with, found.items, found.metric) == ("answers", "extractive", 2, "region")
    assert str(found.score) == "1.000 [1.000, 1.000]"
    path = pope(tmp_path, "model-a", "yes", "no", "no")
    listed = runs.listed(file(path), runs.read_run(file(path)))
    assert (listed.made_with, listed.items, listed.metric) == ("model-a.jsonl", 3, "accuracy")
    assert abs(listed.finished.timestamp() - path.stat().st_mtime) < 60


def test_a_run_without_a_date_has_that_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(Run("x", {"finished": "long ago"}, {}, ()).to_json()), encoding="utf-8")
    found = runs.listed(file(path), runs.read_run(file(path)))
    assert found.finished.timestamp() == pytest.approx(path.stat().st_mtime)
    assert (found.score, found.metric, found.items) == (None, "", 0)


def test_a_report_of_retrieval_is_shown_too(tmp_path: Path) -> None:
    score = mean_score([1.0, 0.0])
    report = RetrievalReport(
        2,
        {"whole collection": {"hit_at_1": score, "ndcg_at_5": score}},
        {"English": {"ndcg_at_5": score}},
        {},
        score,
        {"p50": 0.1},
    )
    path = tmp_path / "retrieval.json"
    path.write_text(
        json.dumps({"made_by": {"text": "bge"}, "profile": "offline", **report.to_json()}), encoding="utf-8"
    )
    run = runs.read_run(file(path))
    assert runs.main_score(run) == ("ndcg_at_5", score)
    assert list(run.scores) == ["whole collection", "English", "best region of the right page"]
    assert (runs.made_with(run), run.rows, run.notes) == ("bge", (), ("2 questions; latency p50 0.100 s.",))


def test_half_of_a_pair_of_surrogates_does_not_break_what_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(r'{"name": "a\ud800b", "made_by": {}, "scores": {}, "rows": [], "notes": ["\ud83d\ude00"]}')
    run = load_run(path)
    assert (run.name, run.notes) == ("a?b", ("😀",))


# -- tables ----------------------------------------------------------------------------------------------------------


def test_groups_with_metrics_in_common_share_a_table() -> None:
    one = Score(0.5, 0.4, 0.6, 7)
    run = Run("x", {}, {"all": {"a": one, "b": one}, "confidence": {"c": one}, "some": {"b": one}}, ())
    tables = runs.score_tables(run)
    assert [[row[""] for row in table] for table in tables] == [["all", "some"], ["confidence"]]
    assert tables[0][1] == {"": "some", "n": 7, "b": "0.500 [0.400, 0.600]"}


def row(name: str, value: float, **more: Any) -> Row:
    return {"id": name, "values": {"m": value, "unparseable": value}, **more}


def test_the_worst_items_come_first_whatever_is_better() -> None:
    run = Run("x", {}, {}, (row("a", 1.0), row("b", 0.0), row("c", math.nan), row("d", 0.5), row("e", 0.0)))
    assert [each["id"] for each in runs.cases(run, "m")] == ["c", "b", "e", "d", "a"]
    assert [each["id"] for each in runs.cases(run, "unparseable")] == ["c", "a", "d", "b", "e"]
    labelled = (row("low", 0.1, supported=True), row("fine", 0.9, supported=True), row("high", 0.95, supported=False))
    assert [each["id"] for each in runs.cases(Run("x", {}, {}, labelled), "m")] == ["high", "low", "fine"]


def test_items_of_a_group() -> None:
    of = Run("x", {}, {}, (row("a", 0.0, groups=["table", "English"]), row("b", 0.0, dataset="WiCE"), row("c", 0.0)))
    assert runs.all_groups(of) == ["table", "English", "WiCE"]
    assert [each["id"] for each in runs.cases(of, "m", "WiCE")] == ["b"]
    assert runs.cases(of, "other") == []


def test_the_items_that_differ_most_come_first() -> None:
    first = Run("x", {}, {}, (row("a", 0.5), row("b", 0.0), row("c", 1.0), row("only here", 0.0)))
    second = Run("x", {}, {}, (row("a", 0.5), row("b", 0.2), row("c", 0.0)))
    found = runs.changes(first, second, "m")
    assert [(change.first["id"], change.difference) for change in found] == [("c", -1.0), ("b", 0.2)]


# -- places ----------------------------------------------------------------------------------------------------------


def test_cited_places_are_read_as_they_were_written(answered: Path) -> None:
    (run,) = (load_run(path) for path in answered.glob("*.json"))
    cited, *_, gold = runs.spots(run.rows[0])
    assert cited.document == gold.document == QUESTIONS[0].document
    assert (cited.page, cited.is_gold, gold.page, gold.is_gold) == (QUESTIONS[0].page, False, QUESTIONS[0].page, True)


def test_names_with_spaces_and_what_is_no_place() -> None:
    found = runs.spots(
        {"cited": ["my p2 file.pdf p3 abc-3-4", "no place", 7], "document": "a.pdf", "pages": [1, 1, "x", -2]}
    )
    assert found == [Spot("my p2 file.pdf", 3, "abc-3-4"), Spot("a.pdf", 1, is_gold=True)]
    assert runs.spots({"cited": "x p1 r", "document": 3, "pages": 4}) == []


def test_a_place_is_found_in_a_collection_by_name_and_region(answered: Path, demo_store: Path) -> None:
    (run,) = (load_run(path) for path in answered.glob("*.json"))
    spot = runs.spots(run.rows[0])[0]
    with Index.open(demo_store) as index:
        documents = index.documents()
        found = runs.held(index, documents, spot)
        assert found
        assert spot.region in {region.id for region in found[1].regions}
        assert runs.held(index, documents, spot._replace(document="other.pdf")) is None
        assert runs.held(index, documents, spot._replace(page=900)) is None


# -- the page --------------------------------------------------------------------------------------------------------


def shown() -> None:
    from apps.ui.evals import evals_page

    evals_page()


Opens = Callable[..., AppTest]


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Opens]:
    def open_page(folder: Path, store: Path | None = None, **state: Any) -> AppTest:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.setenv("MMRAG_STORE", str(store or tmp_path / "no-store"))
        monkeypatch.setenv("MMRAG_RUNS", str(folder))
        st.cache_resource.clear()
        st.cache_data.clear()
        at = AppTest.from_function(shown, default_timeout=60)
        for name, value in state.items():
            at.session_state[name] = value
        at.run()
        assert not at.exception
        return at

    yield open_page
    st.cache_resource.clear()


def test_an_empty_folder_says_how_a_run_is_made(opens: Opens, tmp_path: Path) -> None:
    at = opens(tmp_path / "nowhere")
    assert "There are no runs in" in at.info[0].value
    assert "mmrag eval" in at.code[0].value


def test_a_failing_item_is_shown_with_the_page_that_it_cites(opens: Opens, answered: Path, own_store: Path) -> None:
    at = opens(answered, own_store)
    (page,) = components(at, "page")
    (run,) = (load_run(path) for path in answered.glob("*.json"))
    worst = runs.cases(run, "region")[0]
    assert page["active"] == runs.spots(worst)[0].region
    assert worst["question"] in [text.value for text in at.text]
    (key,) = (frame.key for frame in at.dataframe if str(frame.key).startswith("evals-cases-"))
    select(at, key, 1)
    assert not at.exception
    other = runs.cases(run, "region")[1]
    assert components(at, "page")[0]["active"] == runs.spots(other)[0].region
    assert other["question"] in [text.value for text in at.text]


def test_a_collection_that_lacks_the_document_says_so(opens: Opens, answered: Path) -> None:
    at = opens(answered)
    assert components(at, "page") == []
    assert any("does not hold" in info.value for info in at.info)


def test_the_newest_run_is_read_and_two_are_compared(opens: Opens, tmp_path: Path) -> None:
    paths = [pope(tmp_path, "a", "yes", "no", "no"), pope(tmp_path, "b", "yes", "no", "yes")]
    for path, when in zip(paths, ("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"), strict=True):
        content = json.loads(path.read_text(encoding="utf-8"))
        content["made_by"]["finished"] = when
        path.write_text(json.dumps(content), encoding="utf-8")
    at = opens(tmp_path / "runs")
    listing = at.dataframe[0]
    assert listing.value["Made with"].tolist() == ["b.jsonl", "a.jsonl"]
    assert at.subheader[0].value == r"pope b\.jsonl"
    select(at, listing.key, 0, 1)
    assert not at.exception
    table = next(f.value for f in at.dataframe if "Second higher" in f.value)
    accuracy = table[table["Metric"] == "accuracy"].iloc[0]
    assert (accuracy["First"], accuracy["Second"]) == ("0.667", "1.000")
    assert any("differ in predictions" in text.value for text in at.text)
    changed = next(f.value for f in at.dataframe if str(f.key).startswith("evals-changes"))
    assert changed["id"].tolist() == ["coco_pope_random/2"]


def test_runs_of_different_measurements_are_not_compared(opens: Opens, answered: Path, tmp_path: Path) -> None:
    path = pope(tmp_path, "a", "yes", "no", "no")
    (other,) = answered.glob("*.json")
    (path.parent / other.name).write_bytes(other.read_bytes())
    at = opens(path.parent, **{"evals-runs": [path.stem, other.stem]})
    assert "compare runs of one measurement" in at.error[0].value


def test_foreign_and_damaged_files_are_named_and_break_nothing(opens: Opens, tmp_path: Path) -> None:
    path = pope(tmp_path, "a", "yes", "no", "no")
    (path.parent / "broken.json").write_text("{", encoding="utf-8")
    (path.parent / "package.json").write_text("{}", encoding="utf-8")
    path.with_suffix(".png").write_bytes(b"no picture")
    at = opens(path.parent)
    refused = next(f.value for f in at.dataframe if "Reason" in f.value)
    assert refused["File"].tolist() == ["broken.json", "package.json"]
    assert all("is no run" in reason for reason in refused["Reason"])
    assert any("cannot be read as an image" in caption.value.replace("\\", "") for caption in at.caption)


def test_text_of_a_run_is_shown_as_text(opens: Opens, tmp_path: Path) -> None:
    path = pope(tmp_path, "a", EVIL, EVIL, EVIL)
    content = json.loads(path.read_text(encoding="utf-8"))
    content |= {"name": EVIL, "notes": [EVIL], "made_by": {"generator": {"model": EVIL}}}
    content["scores"] = {EVIL: {EVIL: {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 3}}}
    for each in content["rows"]:
        each |= {"question": EVIL, "groups": [EVIL], "cited": [f"{EVIL} p1 r"], "label": EVIL}
    path.write_text(json.dumps(content), encoding="utf-8")
    at = opens(path.parent)
    assert EVIL in [text.value for text in at.text]
    assert [text for text in markdown(at) if "](http" in text or "<b>" in text] == []


def test_without_matplotlib_one_sentence_stands_where_the_plot_would(
    opens: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, *, extra: str) -> None:
        raise MissingExtra(f"{module} is not installed: run  pip install 'mmrag[{extra}]'")

    path = pope(tmp_path, "a", "yes", "no", "no")
    monkeypatch.setattr("eval.plots.require", missing)
    at = opens(path.parent)
    said = [caption.value.replace("\\", "") for caption in at.caption]
    assert any("none can be drawn: matplotlib is not installed" in text for text in said)


def test_thousands_of_items_are_one_table(opens: Opens, tmp_path: Path) -> None:
    many = tuple(row(f"i{i}", i / 5000, question=f"Question {i}?") for i in range(5000))
    run = Run("many", {}, {"all": {"m": mean_score([each["values"]["m"] for each in many])}}, many)
    save_run(run, tmp_path / "runs" / "many.json")
    at = opens(tmp_path / "runs")
    table = next(f.value for f in at.dataframe if str(f.key).startswith("evals-cases"))
    assert (len(table), table["id"][0]) == (5000, "i0")
    assert len(at.selectbox) == 2


def test_the_titles_of_its_tables_have_chinese_ones() -> None:
    assert [title for title in (*evals._CASE.values(), *evals._CHANGE.values()) if title not in CHINESE] == []
