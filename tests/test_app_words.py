"""The interface's two languages, and text from outside as Markdown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

import streamlit as st
from hypothesis import given
from hypothesis import strategies as strategies
from markdown_it import MarkdownIt

from apps.ui.ask import _WORDS
from apps.ui.parts import _PAGE_WORDS, plain
from apps.ui.words import CHINESE, SENTENCES, told
from mmrag.generate.look import Look, judge
from mmrag.types import RegionKind, Support
from mmrag.verify import check
from tests.build import RELAXED
from tests.conftest import ROOT

SOURCES = [ROOT / "apps" / "chat.py", *sorted((ROOT / "apps" / "ui").glob("*.py"))]


def _literals() -> Iterator[tuple[Path, str]]:
    """Every text that is given to t() as it stands, or as one of two."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "t" and node.args:
                first = node.args[0]
                for part in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
                    if isinstance(part, ast.Constant):
                        yield path, str(part.value)


def test_every_text_of_the_interface_has_a_chinese_one() -> None:
    missing = sorted({f"{path.name}: {text}" for path, text in _literals() if text not in CHINESE})
    assert missing == []


def test_so_have_the_words_that_stand_in_tables() -> None:
    words = [
        *_PAGE_WORDS.values(),
        *_WORDS.values(),
        *map(str, Support),
        *(kind.replace("_", " ") for kind in RegionKind),
    ]
    assert [word for word in words if word not in CHINESE] == []


@pytest.mark.parametrize("english", [*CHINESE, *SENTENCES])
def test_a_translation_has_the_same_places_to_fill(english: str) -> None:
    chinese = {**CHINESE, **SENTENCES}[english]
    assert set(re.findall(r"\{(\w+)\}", english)) == set(re.findall(r"\{(\w+)\}", chinese))


@pytest.mark.parametrize(
    "reason",
    [
        check("Profit was 7.", ["Profit was 5 million in 2024."], lambda claim, texts: [("profit", 0.9)]).reason,
        check("It rained.", [], lambda claim, texts: []).reason,
        check("Profit was 5 million in 2024.", ["Profit was 5 million in 2024."], lambda claim, texts: []).reason,
        *(judge(look).reason for look in (Look(None, None), Look(0.1, None), Look(0.9, 0.9), Look(0.9, 0.1))),
    ],
)
def test_what_the_library_says_of_a_claim_is_told_in_chinese(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.ui.words.language", lambda: "zh")
    assert re.search(r"[\u4e00-\u9fff]", told(reason)), reason
    monkeypatch.setattr("apps.ui.words.language", lambda: "en")
    assert told(reason) == reason


@RELAXED
@given(strategies.text())
def test_text_from_outside_is_no_markdown(text: str) -> None:
    html = MarkdownIt("commonmark").enable("table").render(plain(text))
    tags = set(re.findall(r"<(/?\w+)", html))
    assert tags <= {"p", "/p"}


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/p.png)",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "https://evil.example",
        "$x^2$ :red[b] :material/home: `c` | d | ~~e~~",
        "# heading\n- list\n\n    code",
    ],
)
def test_nothing_of_streamlits_own_markup_is_left(text: str) -> None:
    shown = plain(text)
    assert not re.search(r"(?<!\\)[!-/:-@\[\]^_`{-~]", shown.replace("\\\\", ""))
    (inner,) = re.findall(r"<p>(.*)</p>", MarkdownIt().render(shown))
    assert "<" not in inner
    assert not st.session_state
