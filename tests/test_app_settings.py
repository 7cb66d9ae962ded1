"""The settings page: what is applied, refused, kept and never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from apps.fit import Finding
from apps.ui import state
from apps.ui.choosing import made, refuse_strange_folders, told_elsewhere
from mmrag.errors import UsageError
from tests.chat_server import serving, streams
from tests.streamlit_app import _elements, listen_at, open_app, turn_to, visit

KEY = "sk-not-to-be-seen-4711"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path) -> AppTest:
    return turn_to(open_app(monkeypatch, tmp_path, demo_store), "settings")


def press(at: AppTest, key: str) -> AppTest:
    return at.button(key=key).click().run()


def type_in(at: AppTest, key: str, text: str) -> AppTest:
    """What is no option yet; AppTest only knows to select."""
    box = at.selectbox(key=key)
    box.options.append(text)
    return box.set_value(text).run()


def choose_server(at: AppTest, address: str, model: str = "tiny-vl") -> AppTest:
    at.selectbox(key="choice-generator").set_value("openai").run()
    at.text_input(key="choice-base_url").set_value(address).run()
    return type_in(at, "choice-model", model) if model else at


def everything(at: AppTest) -> str:
    """All that the browser is sent."""
    return "\n".join(str(getattr(element, "proto", "")) for element in (*_elements(at.main), *_elements(at.sidebar)))


def in_force(at: AppTest) -> dict[str, Any]:
    found: dict[str, Any] = at.session_state["choices"]
    return found


# -- what counts -----------------------------------------------------------------------------------------------------


def test_a_choice_counts_once_it_is_applied(at: AppTest) -> None:
    at.slider(key="choice-risk").set_value(0.2).run()
    assert "at least 80%" in everything(at)
    assert "risk" not in in_force(at)
    press(at, "apply")
    assert not at.exception
    assert in_force(at)["risk"] == 0.2
    assert in_force(at)["generator"] == "extractive"
    press(at, "reset")
    assert in_force(at) == {}
    assert at.slider(key="choice-risk").value == 0.5


def test_the_profile_brings_its_models(at: AppTest) -> None:
    at.radio(key="choice-profile").set_value("full").run()
    assert at.selectbox(key="choice-generator").value == "Qwen/Qwen2-VL-2B-Instruct"
    at.number_input(key="choice-contrast").set_value(1.0).run()
    press(at, "apply")
    assert {"profile": "full", "contrast": 1.0}.items() <= in_force(at).items()
    # What goes with a checkpoint only is not carried on to the extractive generator, which would refuse it.
    at.selectbox(key="choice-generator").set_value("extractive").run()
    press(at, "apply")
    assert not at.error
    assert "contrast" not in in_force(at)


@pytest.mark.parametrize(
    ("address", "model", "said"),
    [
        ("", "m", "address is missing"),
        ("ftp://example.org", "m", "must be an address such as"),
        ("http://me:secret@example.org/v1", "m", "no name, password"),
        ("http://localhost:9/v1", "", "Name the server's model"),
    ],
)
def test_what_does_not_fit_is_said_and_changes_nothing(at: AppTest, address: str, model: str, said: str) -> None:
    press(choose_server(at, address, model), "apply")
    assert said in at.error[0].value.replace("\\", "")
    assert "secret" not in at.error[0].value
    assert in_force(at) == {}


def test_a_folder_that_the_browser_may_not_name_is_refused(at: AppTest, tmp_path: Path) -> None:
    type_in(at, "choice-generator", "/etc")
    press(at, "apply")
    assert "is not in a folder that the app may read" in at.error[0].value.replace("\\", "")
    assert in_force(at) == {}
    (tmp_path / "checkpoint").mkdir()
    type_in(at, "choice-generator", str(tmp_path / "checkpoint"))
    press(at, "apply")
    assert not at.error


@pytest.mark.parametrize("name", ["/etc", "~/x", "../x", "..", ".", "a/../../etc", "C:\\Windows", "a/b/c", "\x00", "~"])
def test_every_path_elsewhere_is_refused_whether_it_is_there_or_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMRAG_ALLOW", str(tmp_path))
    with pytest.raises(UsageError, match="is not in a folder that the app may read"):
        refuse_strange_folders({"reranker": name}, {})
    refuse_strange_folders({"reranker": name}, {"reranker": name})  # given to the command by its owner


def test_names_on_a_hub_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRAG_ALLOW", str(tmp_path))
    refuse_strange_folders({"nli": "cross-encoder/nli-deberta-v3-base", "reranker": "bundled", "generator": "gpt2"}, {})


def test_fields_without_a_meaning_are_left_out() -> None:
    fields = {"generator": "extractive", "risk": 0.3, "base_url": "http://x/v1", "api_key": "k", "check": "look"}
    assert made(fields) == {"generator": "extractive", "risk": 0.3}
    server = made({**fields, "generator": "openai", "model": " m ", "nli": " "})
    assert server == {
        "generator": "openai",
        "base_url": "http://x/v1",
        "model": "m",
        "api_key": "k",
        "check": "look",
    }


# -- the server and its key ------------------------------------------------------------------------------------------


def test_a_key_is_used_and_never_shown_or_kept(at: AppTest) -> None:
    with serving(streams("unused")) as chat:
        choose_server(at, chat.url)
        at.text_input(key="choice-api_key").set_value(KEY).run()
        assert KEY not in everything(at)
        assert at.text_input(key="choice-api_key").value == ""
        press(at, "list-models")
        assert chat.listed[-1]["authorization"] == f"Bearer {KEY}"
        press(at, "keep")
    assert not at.error
    assert in_force(at)["api_key"] == KEY
    assert KEY not in everything(at.run())
    kept = state._kept_path().read_text(encoding="utf-8")
    assert KEY not in kept
    assert "api_key" not in kept
    assert json.loads(kept)["model"] == "tiny-vl"
    press(at, "forget-key")
    assert "api_key" not in in_force(at)


def test_a_key_does_not_follow_to_another_address(at: AppTest) -> None:
    choose_server(at, "http://localhost:9/v1")
    at.text_input(key="choice-api_key").set_value(KEY).run()
    press(at, "apply")
    at.text_input(key="choice-base_url").set_value("http://localhost:10/v1").run()
    press(at, "apply")
    assert "api_key" not in in_force(at)


def test_the_environments_key_goes_only_where_it_was_given_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMRAG_API_KEY", KEY)
    listen_at("localhost", monkeypatch)
    typed = {"generator": "openai", "base_url": "http://localhost:9/v1", "model": "m"}
    assert state.checked(typed, tmp_path).api_key is None
    monkeypatch.setenv("MMRAG_CHOICES", json.dumps({"base_url": "http://localhost:9/v1"}))
    assert state.checked(typed, tmp_path).api_key == KEY


def test_an_app_that_others_reach_asks_only_the_server_it_was_started_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path
) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    listen_at("0.0.0.0", monkeypatch)
    monkeypatch.setenv("MMRAG_BASE_URL", "http://localhost:9/v1")
    at = turn_to(visit(), "settings")
    at.selectbox(key="choice-generator").set_value("openai").run()
    assert [field.key for field in at.text_input if field.key == "choice-base_url"] == []
    assert at.selectbox(key="choice-base_url").options == ["http://localhost:9/v1"]
    assert at.button(key="keep").disabled
    with pytest.raises(UsageError, match="only the server that it was started with"):
        state.checked({"generator": "openai", "base_url": "http://localhost:10/v1", "model": "m"}, tmp_path)


# -- defaults --------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_read_at_the_next_start(at: AppTest) -> None:
    at.slider(key="choice-top_k").set_value(3).run()
    press(at, "keep")
    assert state._kept_path().is_file()
    other = turn_to(visit(), "settings")
    assert other.slider(key="choice-top_k").value == 3
    assert in_force(other)["top_k"] == 3
    press(other, "forget-kept")
    assert not state._kept_path().exists()


def test_what_the_command_was_given_counts_more(monkeypatch: pytest.MonkeyPatch, at: AppTest) -> None:
    press(choose_server(at, "http://localhost:9/v1"), "keep")
    monkeypatch.setenv("MMRAG_CHOICES", json.dumps({"generator": "extractive", "risk": 0.1}))
    assert "base_url" not in state.defaults()
    other = turn_to(visit(), "settings")
    assert not other.exception
    assert other.slider(key="choice-risk").value == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"risk": "a", "profile": [], "check": "x", "samples": 0, "top_k": true, "contrast": -1, "load_in_4bit": 1}',
        '{"strange": 1, "model": 5}',
    ],
)
def test_a_damaged_file_of_defaults_is_passed_over(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path
) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    state._kept_path().parent.mkdir(parents=True, exist_ok=True)
    state._kept_path().write_text(text, encoding="utf-8")
    at = turn_to(visit(), "settings")
    assert not at.exception
    assert in_force(at) == {}


def test_defaults_that_contradict_each_other_can_be_mended_on_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_store: Path
) -> None:
    at = open_app(monkeypatch, tmp_path, demo_store)
    state._kept_path().parent.mkdir(parents=True, exist_ok=True)
    state._kept_path().write_text('{"generator": "extractive", "samples": 4}', encoding="utf-8")
    at = turn_to(visit(), "settings")
    assert not at.exception
    press(at, "keep")
    assert not at.error
    assert "samples" not in in_force(at)


# -- the machine -----------------------------------------------------------------------------------------------------

FOUND = [
    Finding(True, "store", "/home/ann/papers: 3 documents"),
    Finding(False, "generator", "org/model, not on this disk", "give a folder"),
    Finding(False, "server", "none", "http://10.0.0.1:8000/v1 does not answer"),
    Finding(True, "drive", "C:\\Users\\ann"),
]


def test_what_the_doctor_finds_is_listed(monkeypatch: pytest.MonkeyPatch, at: AppTest) -> None:
    monkeypatch.setattr("apps.doctor.examine", lambda settings: FOUND)
    press(at, "examine")
    said = everything(at).replace("\\", "")
    assert "/home/ann/papers: 3 documents" in said
    assert at.expander[0].label == "2 things are fine"


def test_readers_elsewhere_learn_no_paths() -> None:
    told = told_elsewhere(FOUND)
    assert [finding.ok for finding in told] == [True, False, False, True]
    assert told[1] == FOUND[1]
    assert not any(word in str(told) for word in ("ann", "10.0.0.1"))


def test_the_doctors_own_findings_hold_no_path_for_them(demo_store: Path) -> None:
    from apps.doctor import examine
    from mmrag.settings import Settings

    found = examine(Settings(store=demo_store))
    assert str(demo_store) in str(found)
    assert str(demo_store) not in str(told_elsewhere(found))
    assert str(Path.home()) not in str(told_elsewhere(found))
