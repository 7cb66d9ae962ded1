"""The app as people have it: `mmrag app` in a process of its own, and Debian's Chromium that opens it.

    with App(folder, "--store", store) as app, app.tab(chromium) as tab:
        tab.ask("Who inspected the Sea Lavender?")
        tab.chip(1)
        assert "page 2" in tab.text()

Nothing here sleeps: `settle` waits for the end of Streamlit's run of the script. A tab fails its test for every request
that leaves the app's own address and for every error that the page reports.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
START_SECONDS = 90
SETTLE_SECONDS = 60
QUIET_MILLISECONDS = 120
"""For how long Streamlit must have nothing to run: one run may ask for the next."""

_SETTLED = """quiet => new Promise(settled => {
  const idle = () => !document.querySelector('[data-testid="stSkeleton"]') && document.querySelector(
    '[data-testid="stApp"][data-test-script-state="notRunning"][data-test-connection-state="CONNECTED"]')
  let timer
  const look = () => {
    clearTimeout(timer)
    if (idle()) timer = setTimeout(() => { watcher.disconnect(); settled(true) }, quiet)
  }
  const watcher = new MutationObserver(look)
  watcher.observe(document, {subtree: true, childList: true, attributes: true,
    attributeFilter: ['data-test-script-state', 'data-test-connection-state']})
  look()
})"""


class App:
    """The command with a data folder of its own below `folder`, on a port that is free. Ended by leaving it."""

    def __init__(self, folder: Path, *options: object, **environment: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.address = f"http://localhost:{self.port}"
        self.log = folder / "app.log"
        command = [sys.executable, "-m", "mmrag", "app", "--no-browser", "--port", self.port, *options]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MMRAG_", "STREAMLIT_"))}
        self._command = list(map(str, command))
        self._environment = clean | {
            "HOME": str(folder),
            "XDG_DATA_HOME": str(self.data),
            "PYTHONPATH": str(ROOT),
            **environment,
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._environment, stdout=log, stderr=log
            )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                raise AssertionError(f"the app did not start:\n{self.said()}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.address}/_stcore/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def __exit__(self, *exc: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.wait()

    def said(self) -> str:
        """Both of its streams."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def tab(
        self, chromium: Any, *, page: str = "", width: int = 1400, dark: bool = False, locale: str = "en-GB"
    ) -> Iterator[Tab]:
        """A tab in a browser profile of its own, opened. What goes wrong in it leaves a screenshot."""
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            locale=locale,
            accept_downloads=True,
        )
        context.set_default_timeout(SETTLE_SECONDS * 1000)
        tab = Tab(context.new_page(), self.address)
        try:
            tab.goto(page)
            yield tab
            tab.check()
        except BaseException:
            shot = self.folder / f"failed-{len([*self.folder.glob('failed-*.png')]) + 1}.png"
            tab.page.screenshot(path=shot)
            print(f"Screenshot: {shot}\nThe app said:\n{self.said()}")
            raise
        finally:
            context.close()


class Tab:
    """One open page. `page` is Playwright's, for what has no word here."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.strangers: list[str] = []
        """Requests that left the app's address."""
        self.errors: list[str] = []
        page.on("request", lambda request: self._requested(request.url))
        page.on("websocket", lambda socket: self._requested(socket.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)

    def _requested(self, url: str) -> None:
        parts = urlsplit(url)
        own = parts.netloc == urlsplit(self.address).netloc
        if not own and parts.scheme not in ("data", "blob", "about"):
            self.strangers.append(url)

    def _heard(self, message: Any) -> None:
        # Streamlit looks for its server below the page's address first, which it finds one level up.
        probes = re.search(r"/\w+/_stcore/(health|host-config)$", message.location.get("url", ""))
        if message.type == "error" and not probes:
            self.errors.append(message.text)

    def check(self) -> None:
        assert not self.strangers, f"requests that left the app: {self.strangers}"
        assert not self.errors, f"errors of the page: {self.errors}"

    # -- going about -------------------------------------------------------------------------------------------------

    def goto(self, page: str = "", **query: str) -> None:
        """A page by the end of its address, loaded anew: "", "settings" …"""
        self.page.goto(f"{self.address}/{page}" + (f"?{urlencode(query)}" if query else ""))
        self.settle()

    def reload(self) -> None:
        self.page.reload()
        self.settle()

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Until the script has run to its end and its elements are there, whose code the page loads as it needs it."""
        self.page.wait_for_function(_SETTLED, arg=QUIET_MILLISECONDS, timeout=seconds * 1000)

    def open(self, title: str) -> None:
        """A page by its title in the navigation, which a narrow window hides behind a button."""
        if not self.shows_navigation():
            self.page.get_by_test_id("stExpandSidebarButton").click()
        self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
        self.settle()

    def shows_navigation(self) -> bool:
        shown, button = '[data-testid="stSidebar"][aria-expanded="true"]', '[data-testid="stExpandSidebarButton"]'
        self.page.locator(f"{shown}, {button}").first.wait_for()
        return bool(self.page.locator(shown).count())

    def press(self, name: str) -> None:
        """A button by what stands on it."""
        self.page.get_by_role("button", name=name).first.click()
        self.settle()

    def widget(self, key: str) -> Any:
        """The element of a widget or container by its key in the code."""
        return self.page.locator(f".st-key-{key}")

    def speak(self, language: str) -> None:
        """As it is called on its button: English, 中文."""
        self.widget("language-picked").get_by_text(language).click()
        self.settle()

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, question: str, seconds: float = SETTLE_SECONDS) -> None:
        """Types it and waits until it has been answered."""
        before = self.answers().count()
        box = self.page.get_by_test_id("stChatInputTextArea")
        box.fill(question)
        box.press("Enter")
        self.answers().nth(before).wait_for(timeout=seconds * 1000)
        self.settle(seconds)

    def answers(self) -> Any:
        return self.page.locator(".answer")

    def chip(self, number: int) -> None:
        """Selects the citation of this number in the last answer."""
        self.answers().last.get_by_role("button", name=re.compile(rf"^Source {number}:|^出处 {number}：")).click()
        self.settle()

    def cited_page(self) -> Any:
        """The picture of the page beside the answer; its `alt` names document and page."""
        return self.page.locator(".viewer img")

    # -- what is seen ------------------------------------------------------------------------------------------------

    def see(self, text: str) -> None:
        """Waits until it is there."""
        self.page.get_by_text(text).first.wait_for()

    def text(self) -> str:
        """All that is there now."""
        return str(self.page.get_by_test_id("stApp").inner_text())

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def background(self) -> tuple[int, ...]:
        """Red, green, blue of the page."""
        colour = self.page.get_by_test_id("stApp").evaluate("element => getComputedStyle(element).backgroundColor")
        return tuple(map(int, re.findall(r"\d+", colour)[:3]))

    def screenshot(self, path: Path) -> None:
        self.page.screenshot(path=path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
