"""How long the app takes to react, in a real browser: from a click to the change that a person sees.

    python -m tests.app_speed [FOLDER]

Prints p50 and p95 in milliseconds for each kind of click, over a generated collection; a question is answered before,
so that no model's time is in it. Run it alone on the machine. No test: a busy machine is no failure.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymupdf
from playwright.sync_api import sync_playwright

from apps.demo_documents import QUESTIONS, build_demo_documents
from ingest.pipeline import ingest_into
from tests.browser import CHROMIUM, FLAGS, App, Tab

REPEATS = 40

# Clicks what `find` gives and waits until what `see` gives is another; both look into the components' shadow roots.
_TIMED = """([find, see]) => new Promise((done) => {
  const all = (root, selector) => [...root.querySelectorAll(selector),
    ...[...root.querySelectorAll('*')].filter((e) => e.shadowRoot).flatMap((e) => all(e.shadowRoot, selector))];
  const $ = (selector) => all(document, selector);
  const seen = () => String(eval(see));
  const target = eval(find), before = seen(), start = performance.now();
  if (!target) throw new Error('nothing to click: ' + find);
  target.click();
  const look = () => {
    if (seen() !== before) requestAnimationFrame(() => done(performance.now() - start));  // painted
    else if (performance.now() - start > 5000) done(NaN);
    else requestAnimationFrame(look);
  };
  look();
})"""

_WATCHED = """(see) => { window.watched = new Promise((done) => {
  const all = (root, selector) => [...root.querySelectorAll(selector),
    ...[...root.querySelectorAll('*')].filter((e) => e.shadowRoot).flatMap((e) => all(e.shadowRoot, selector))];
  const $ = (selector) => all(document, selector);
  const seen = () => String(eval(see));
  const before = seen();
  let start = Infinity;
  document.addEventListener('pointerdown', () => (start = performance.now()), {once: true, capture: true});
  const look = () => {
    if (seen() !== before) requestAnimationFrame(() => done(performance.now() - start));
    else if (performance.now() - start > 5000) done(NaN);
    else requestAnimationFrame(look);
  };
  look();
}) }"""

_PAGE = """$('.viewer').map((v) => v.dataset.alt + v.dataset.shown
  + (v.querySelector('img').complete ? v.querySelector('img').src.length : '')).join()"""
_BUTTON = "$('button').find((b) => b.innerText.includes({!r}))"


def timed(tab: Tab, find: str, see: str) -> float:
    took = float(tab.page.evaluate(_TIMED, [find, see]))
    tab.settle()
    return took


def timed_cell(tab: Tab, row: int, see: str) -> float:
    """As `timed`, of a row's box in the first table, which is drawn on a canvas and takes real clicks only."""
    shown = tab.page.get_by_test_id("stDataFrame").first
    shown.evaluate("table => table.scrollIntoView({block: 'center'})")
    table = shown.bounding_box()
    tab.page.evaluate(_WATCHED, see)
    tab.page.mouse.click(table["x"] + 16, table["y"] + 35 + 56 * row + 28)
    took = float(tab.page.evaluate("window.watched"))
    tab.settle()
    return took


def report(name: str, took: list[float]) -> None:
    ordered = sorted(each for each in took if not math.isnan(each))  # what changed nothing was there already
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    print(f"{name:<52} n={len(ordered):<3} p50 {statistics.median(ordered):5.0f} ms   p95 {p95:5.0f} ms", flush=True)


def long_document(path: Path, pages: int) -> Path:
    with pymupdf.open() as document:
        for number in range(1, pages + 1):
            words = " ".join(f"Station {number} counted {number * n} gulls on day {n}." for n in range(1, 60))
            document.new_page().insert_textbox((72, 72, 520, 770), words, fontsize=10)
        document.save(path)
    return path


def clicks(tab: Tab) -> Iterator[tuple[str, list[float]]]:
    for question in QUESTIONS:
        tab.ask(question.text)
    chips = tab.page.locator(".chip").count()
    yield (
        "a citation, its page beside the conversation",
        [timed(tab, f"$('.chip')[{n % chips}]", _PAGE) for n in range(REPEATS)],
    )
    yield "a page of the app", [timed(tab, _link(n), "document.title + $('h2,h1,.answer').length") for n in range(10)]
    tab.open("Evidence")
    yield "a page of the ranking on Evidence", [timed_cell(tab, (n + 1) % 4, _PAGE) for n in range(REPEATS)]
    tab.open("Collections")
    for name in ("short.pdf", "long.pdf"):
        opened = f"$('.card .open').find((b) => b.title.startsWith({name!r}))"
        yield f"a document opened: {name}", [timed(tab, opened, "$('.viewer').length")]
        turned = [timed(tab, _BUTTON.format(_way(n, name)), _PAGE) for n in range(REPEATS)]
        yield f"a page turned: {name}", turned
        tab.press("All documents")
    tab.open("Ask")
    yield "the language", [timed(tab, _language(n), "$('[data-testid=stSidebarNav]')[0].innerText") for n in range(10)]


def _way(n: int, name: str) -> str:
    """On and on, to pages that nobody has seen; a short document is turned to and fro."""
    return "Next page" if n // 4 % 2 == 0 or name == "long.pdf" else "Previous page"


def _link(n: int) -> str:
    return f"$('[data-testid=stSidebarNavLink]')[{(1, 0)[n % 2]}]"


def _language(n: int) -> str:
    return f"$('.st-key-language-picked button')[{(1, 0)[n % 2]}]"


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else name).absolute()
        documents = build_demo_documents(folder / "documents")
        documents += [long_document(folder / "short.pdf", 5), long_document(folder / "long.pdf", 200)]
        ingest_into(folder / "store", documents)
        browser: Any = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with App(folder / "app", "--store", folder / "store") as app, app.tab(browser) as tab:
            for kind, took in clicks(tab):
                report(kind, took)
        browser.close()


if __name__ == "__main__":
    main()
