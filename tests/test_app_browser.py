"""The app in a real browser: its frame, whatever page is open in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import App, free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """With the demo collection. Not to be changed: take `new_app` where something is kept."""
    with App(tmp_path_factory.mktemp("app"), "--store", demo_store) as running:
        yield running


@pytest.fixture
def new_app(tmp_path: Path) -> Iterator[App]:
    """Where nobody has been yet."""
    with App(tmp_path / "app") as running:
        yield running


def test_who_comes_first_is_welcomed(new_app: App, chromium: Any) -> None:
    with new_app.tab(chromium) as tab:
        tab.see("Ask your documents, and see the exact place that answers.")
        tab.see("Start the demo")
        tab.open("Settings")
        assert tab.page.url.startswith(f"{new_app.address}/settings")
        tab.see("Who writes the answer")
        tab.reload()
        tab.see("Who writes the answer")


def test_the_language_changes_and_changes_back(app: App, chromium: Any) -> None:
    with app.tab(chromium, page="settings") as tab:
        tab.see("Who writes the answer")
        tab.speak("中文")
        tab.see("由谁撰写答案")
        assert "Who writes the answer" not in tab.text()
        tab.open("提问")
        tab.open("设置")
        tab.speak("English")
        tab.see("Who writes the answer")
        assert "由谁撰写答案" not in tab.text()


def test_a_chinese_browser_is_spoken_to_in_chinese(app: App, chromium: Any) -> None:
    with app.tab(chromium, locale="zh-CN") as tab:
        tab.see("文档集")


@pytest.mark.parametrize("page", ["", "settings"])
def test_a_narrow_window_needs_no_scrolling_sideways(app: App, chromium: Any, page: str) -> None:
    with app.tab(chromium, page=page, width=400) as tab:
        assert tab.overflow() <= 0
        assert not tab.shows_navigation()
        tab.open("Settings" if not page else "Ask")
        assert ("settings" in tab.page.url) == (not page)
        assert tab.overflow() <= 0


def test_light_and_dark_follow_the_browser(app: App, chromium: Any) -> None:
    with app.tab(chromium) as light:
        assert min(light.background()) > 200
    with app.tab(chromium, dark=True) as dark:
        assert max(dark.background()) < 60


def test_a_question_leads_to_its_place(app: App, chromium: Any) -> None:
    with app.tab(chromium) as tab:
        tab.ask("Who inspected the Sea Lavender?")
        tab.chip(1)
        tab.cited_page().wait_for()
        assert "page" in str(tab.cited_page().get_attribute("alt"))


def test_the_harness_notices_a_request_that_leaves_and_an_error(app: App, chromium: Any) -> None:
    with app.tab(chromium) as tab:
        nobody = f"http://127.0.0.1:{free_port()}/x"
        tab.page.evaluate("url => fetch(url).catch(() => console.error('gone'))", nobody)
        with pytest.raises(AssertionError, match="requests that left the app"):
            tab.check()
        assert tab.strangers == [nobody]
        assert "gone" in tab.errors
        tab.strangers.clear()
        tab.errors.clear()
