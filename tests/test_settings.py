"""What a person chooses, where it comes from, and what does not go together."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mmrag.errors import UsageError
from mmrag.models import load_llm
from mmrag.settings import Settings, is_base_url, load_settings

SERVER = {"generator": "openai", "base_url": "http://localhost:8000/v1", "model": "qwen"}


def test_profiles() -> None:
    assert load_settings() == Settings()
    assert load_settings().generator == "extractive"
    assert load_settings("full").generator == "Qwen/Qwen2-VL-2B-Instruct"
    assert load_settings("full", generator="extractive").generator == "extractive"
    assert load_settings("full", generator=None, samples=None).samples == 1


def test_a_server_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRAG_GENERATOR", "openai")
    monkeypatch.setenv("MMRAG_BASE_URL", "http://gpu:8000/v1")
    monkeypatch.setenv("MMRAG_MODEL", "qwen")
    settings = load_settings()
    assert (settings.generator, settings.base_url, settings.model) == ("openai", "http://gpu:8000/v1", "qwen")
    assert load_settings(model="other").model == "other"
    other = load_settings(generator="extractive")
    assert (other.generator, other.base_url, other.model) == ("extractive", None, None)
    assert load_settings("full", generator="some/checkpoint").base_url is None


def test_half_of_a_server_in_the_environment_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMRAG_GENERATOR", "openai")
    monkeypatch.setenv("MMRAG_STORE", str(tmp_path))
    settings = load_settings()
    assert settings.store == tmp_path
    with pytest.raises(UsageError, match="--generator openai needs --base-url"):
        load_llm(settings)


@pytest.mark.parametrize(
    ("environment", "base_url", "key"),
    [
        ({"MMRAG_API_KEY": "ours"}, "http://localhost:8000/v1", "ours"),
        ({"MMRAG_API_KEY": "ours", "OPENAI_API_KEY": "theirs"}, "https://api.openai.com/v1", "ours"),
        ({"OPENAI_API_KEY": "theirs"}, "https://api.openai.com/v1", "theirs"),
        ({"OPENAI_API_KEY": "theirs"}, "https://API.openai.com:443/v1", "theirs"),
        ({"OPENAI_API_KEY": "theirs"}, "http://api.openai.com/v1", None),
        ({"OPENAI_API_KEY": "theirs"}, "https://api.openai.com:8443/v1", None),
        ({"OPENAI_API_KEY": "theirs"}, "https://api.openai.com.evil.example/v1", None),
        ({"OPENAI_API_KEY": "theirs"}, "http://localhost:8000/v1", None),
        ({"MMRAG_API_KEY": "ours", "MMRAG_BASE_URL": "https://gpu/v1"}, "https://gpu:443/other", "ours"),
        ({"MMRAG_API_KEY": "ours", "MMRAG_BASE_URL": "https://gpu/v1"}, "https://elsewhere/v1", None),
        ({"MMRAG_API_KEY": "ours", "MMRAG_BASE_URL": "https://gpu/v1"}, "http://gpu/v1", None),
        ({"MMRAG_API_KEY": ""}, "http://localhost:8000/v1", None),
    ],
)
def test_a_key_goes_to_the_server_that_it_was_given_for(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], base_url: str, key: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(generator="openai", base_url=base_url, model="qwen")
    assert settings.api_key == key
    assert load_settings().api_key is None
    assert load_settings(generator="openai", base_url=base_url, api_key="given").api_key == "given"


def test_the_key_is_not_printed() -> None:
    settings = load_settings(**SERVER, api_key="sk-secret")
    assert asdict(settings)["api_key"] == "sk-secret"
    assert "sk-secret" not in repr(settings) + f"{settings}"


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"generator": "openai"}, "--generator openai needs --base-url, the server's address"),
        ({"base_url": "http://localhost/v1"}, "--base-url is for a server: add --generator openai."),
        ({"model": "qwen"}, "--model is for a server: add --generator openai and --base-url."),
        ({"generator": "some/checkpoint", "model": "qwen"}, "--model is for a server"),
        (SERVER | {"base_url": "localhost:8000"}, "--base-url must be an address such as http://localhost:8000/v1"),
        (SERVER | {"base_url": "http://me:hunter2@host/v1"}, "a key goes into MMRAG_API_KEY"),
        (SERVER | {"contrast": 1.0}, "--contrast needs a checkpoint in this process, no server"),
        (SERVER | {"load_in_4bit": True}, "--load-in-4bit is for a checkpoint"),
        ({"contrast": 1.0}, "--contrast is for a checkpoint in this process: name one with --generator"),
        ({"generator": "some/checkpoint", "contrast": -1.0}, "--contrast -1.0 has no meaning: give 0 or more."),
        ({"generator": "some/checkpoint", "contrast": float("nan")}, "--contrast nan has no meaning"),
        ({"samples": 3}, "--samples is for a model that writes"),
        (SERVER | {"samples": 0}, "--samples 0 asks nothing: give 1 or more."),
        ({"max_visual_tokens": 100}, "--max-visual-tokens is for a model that reads images"),
        (SERVER | {"max_visual_tokens": 0}, "--max-visual-tokens 0 shows nothing"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_what_does_not_go_together_is_said(choices: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_settings(**choices)
    assert says in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_server_needs_the_name_of_a_model_to_be_asked() -> None:
    settings = load_settings(generator="openai", base_url="http://localhost:8000/v1")  # enough for doctor
    with pytest.raises(UsageError, match="needs --model") as raised:
        load_llm(settings)
    assert "mmrag doctor --generator openai --base-url http://localhost:8000/v1  lists" in str(raised.value)


@pytest.mark.parametrize("address", ["http://h", "https://h:1/v1/", "http://[::1]:8000/v1", "http://10.0.0.1/a/b"])
def test_addresses(address: str) -> None:
    assert is_base_url(address)


@pytest.mark.parametrize(
    "address",
    [
        *("", "h", "h:80", "file:///x", "ftp://h", "http://", "http://u@h", "http://u:p@h", "http://@h"),
        *(
            "http://h?key=1",
            "http://h#x",
            "http://h:99999",
            "http://h:0",
            "http://h/\n",
            "http://h/\x1b[1m",
            "http://[h",
        ),
    ],
)
def test_what_is_no_address(address: str) -> None:
    assert not is_base_url(address)
