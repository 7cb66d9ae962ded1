"""The page where a collection is asked, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from apps.demo_documents import BRIEF, PAPER, QUESTIONS, REPORT
from apps.ui.words import CHINESE
from tests.chat_server import fails, serving, streams
from tests.streamlit_app import ask, components, markdown, open_app, visit

HOSTILE = "![x](https://evil.example/p.png) <script>alert(1)</script> [click](https://evil.example) $x^2$ :smile: **b**"


def test_who_has_nothing_is_offered_the_demo_and_a_way_to_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at = open_app(monkeypatch, tmp_path)
    assert [button.key for button in at.button] == ["demo", "own"]
    assert not at.chat_input


def test_an_answer_has_chips_and_its_page_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path
) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    said = ask(at, QUESTIONS[1].text)
    assert not said["abstained"]
    (sentence,) = said["sentences"]
    assert "13.5 percent" in sentence["text"]
    assert sentence["support"] == "supported"
    assert sentence["places"] == [{"index": 0, "label": "1", "title": f"Source 1: {PAPER}, page 2"}]
    assert f"**{PAPER}**".replace("-", r"\-") in said["markdown"].replace("-", r"\-")
    (page,) = components(at, "page")
    assert page["alt"] == f"{PAPER}, page 2"
    assert page["image"].startswith("data:image/jpeg;base64,")
    active = [region for region in page["regions"] if region["id"] == page["active"]]
    assert "13.5 percent" in active[0]["text"]
    assert len(page["regions"]) > 5
    assert page["lines"]


def test_an_abstention_shows_the_nearest_places(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path
) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    said = ask(at, QUESTIONS[4].text)
    assert said["abstained"]
    assert said["sentences"] == []
    assert said["said"] == "The documents do not answer this."
    assert 1 <= len(said["nearest"]) <= 3
    assert said["nearest"][0]["label"].startswith(REPORT)
    assert len(components(at, "page")) == 1


def test_the_interface_speaks_chinese(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    at.session_state["language"] = "zh"
    at.run()
    said = ask(at, QUESTIONS[3].text)
    assert said["sentences"][0]["places"][0]["title"] == f"出处 1：{BRIEF}，第 1 页"
    assert said["words"]["copy"] == CHINESE["Copy"]


def test_a_conversation_is_found_again_by_its_address_and_by_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path
) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    ask(at, QUESTIONS[1].text)
    address = str(at.query_params["chat"])
    assert len(components(visit(chat=address), "answer")) == 1
    assert components(visit(), "answer") == []
    guessed = visit(chat="guessed")
    assert components(guessed, "answer") == []
    assert guessed.query_params["chat"] != "guessed"


def test_documents_can_be_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    choice = at.sidebar.multiselect[0]
    report = next(option for option in choice.options if option == REPORT)
    choice.select(report).run()
    said = ask(at, QUESTIONS[1].text)
    assert all(place["label"].startswith(REPORT) for place in said["nearest"])


def test_what_a_model_writes_is_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path) -> None:
    pytest.importorskip("llama_index.llms.openai_like")
    with serving(streams(f"Battery storage earned 23.8 {HOSTILE} [1].")) as chat:
        at = open_app(monkeypatch, tmp_path, demo_store)
        at.session_state["choices"] = {"generator": "openai", "base_url": chat.url, "model": "tiny-vl"}
        said = ask(at, f"{QUESTIONS[0].text} {HOSTILE}")
    assert "<script>" in str(said["sentences"])  # given to the component, which puts it on the page as text
    for text in markdown(at):
        assert "](" not in text.replace(r"\]\(", "")
        assert "<script" not in text.replace(r"\<script", "")


def test_a_server_that_fails_is_named_and_can_be_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path
) -> None:
    pytest.importorskip("llama_index.llms.openai_like")
    with serving(fails(400, "no such model"), streams("It earned 23.8 [1].")) as chat:
        at = open_app(monkeypatch, tmp_path, demo_store)
        at.session_state["choices"] = {"generator": "openai", "base_url": chat.url, "model": "tiny-vl"}
        at.chat_input[0].set_value(QUESTIONS[0].text).run()
        assert "no such model" in at.error[0].value
        next(button for button in at.button if button.label == "Ask again").click().run()
        assert not at.error
        assert len(components(at, "answer")) == 1
