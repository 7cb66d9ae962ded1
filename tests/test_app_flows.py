"""What people do with the app, in a real browser, from the first start on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymupdf
import pytest

from apps.demo_documents import PAPER, QUESTIONS, REPORT
from mmrag.render import render_page
from tests.browser import App, Tab
from tests.chat_server import Handler, Reply, hangs, serving, streams
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

INGEST_SECONDS = 240
"""On a machine with other work: the models are loaded in three processes."""
HOSTILE_NAME = "<img src=x onerror=window.hacked=1>![p](img.png)[a](b) **bold** `code` $x$ :red[r].pdf"
HOSTILE_TEXT = (
    "The <script>window.hacked = 1</script> licence fee of the Gullfaks contract is 4711 euros.",
    '<img src="/x.png" onerror="window.hacked=1"> Its ![picture](/y.png) renewal is due on 9 May 2031.',
)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """Where nobody has been yet."""
    with App(tmp_path / "app") as running:
        yield running


@pytest.fixture(scope="module")
def demo_app(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """With the demo collection. Not to be changed."""
    with App(tmp_path_factory.mktemp("app"), "--store", demo_store) as running:
        yield running


def write_pdf(path: Path, *pages: str) -> Path:
    with pymupdf.open() as document:
        for text in pages:
            document.new_page().insert_textbox((72, 72, 520, 760), text, fontsize=12)
        document.save(path)
    return path


def make_collection(tab: Tab, name: str) -> None:
    tab.open("Collections")
    tab.page.get_by_label("Name").fill(name)
    tab.press("Make the collection")
    tab.page.get_by_role("heading", name=name).wait_for()


def upload(tab: Tab, *files: Path) -> None:
    tab.page.locator("input[type=file]").first.set_input_files(files)


def see_document(tab: Tab, name: str) -> None:
    tab.page.get_by_role("button", name=f"Open: {name}").wait_for(timeout=INGEST_SECONDS * 1000)


def active_region(tab: Tab) -> str:
    return str(tab.page.locator(".viewer .region.active").get_attribute("title"))


def test_from_the_first_start_to_a_highlighted_page_in_three_clicks(app: App, chromium: Any) -> None:
    with app.tab(chromium) as tab:
        tab.press("Start the demo")  # one
        suggestion = tab.page.get_by_role("button", name=QUESTIONS[1].text)
        suggestion.wait_for(timeout=INGEST_SECONDS * 1000)
        tab.page.wait_for_function("!document.querySelector('[data-testid=stProgress]')", timeout=INGEST_SECONDS * 1000)
        tab.settle()
        suggestion.click()  # two
        tab.answers().first.wait_for()
        tab.settle()
        assert QUESTIONS[1].answer in tab.answers().inner_text()
        tab.chip(1)  # three
        assert tab.cited_page().get_attribute("alt") == f"{PAPER}, page 2"
        assert QUESTIONS[1].answer in active_region(tab)
        assert tab.page.locator(".viewer .line").count() >= 2
        tab.see("supported")


def test_a_conversation_is_there_again_after_a_reload(demo_app: App, chromium: Any) -> None:
    with demo_app.tab(chromium) as tab:
        tab.ask(QUESTIONS[0].text)
        tab.ask("And in 2025?")
        tab.see("Asked as: How much revenue did battery storage earn in 2025?")
        tab.reload()
        assert tab.answers().count() == 2
        tab.open("Settings")
        tab.open("Ask")
        assert tab.answers().count() == 2
        tab.press("Ask it as typed")
        tab.answers().nth(2).wait_for()
        tab.page.get_by_role("button", name="Why these pages?").first.click()
        tab.see("The ranking, and what each leg gave")
        assert tab.page.get_by_label("Question").input_value() == QUESTIONS[0].text


def test_an_abstention_looks_different_and_shows_where_it_looked(demo_app: App, chromium: Any) -> None:
    with demo_app.tab(chromium) as tab:
        tab.ask(QUESTIONS[4].text)
        refusal = tab.page.locator(".answer.abstained")
        assert "The documents do not answer this." in refusal.inner_text()
        refusal.locator(".near .chip").first.click()
        tab.settle()
        assert REPORT in str(tab.cited_page().get_attribute("alt"))


def test_a_page_is_zoomed_and_read_closer(demo_app: App, chromium: Any) -> None:
    with demo_app.tab(chromium) as tab:
        tab.ask(QUESTIONS[1].text)
        tab.chip(1)
        width = tab.cited_page().evaluate("image => [image.clientWidth, image.naturalWidth]")
        for _ in range(2):
            tab.page.get_by_role("button", name="Zoom in").click()
        tab.settle()
        tab.page.wait_for_function(
            f"""() => [...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('.viewer img'))
                .some(image => image && image.clientWidth > {2 * width[0]} && image.naturalWidth > {1.5 * width[1]})"""
        )
        tab.page.get_by_role("button", name="Whole page").click()
        assert tab.cited_page().evaluate("image => image.clientWidth") == width[0]


def test_an_answer_is_copied_and_a_conversation_kept(demo_app: App, chromium: Any) -> None:
    with demo_app.tab(chromium) as tab:
        tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        tab.ask(QUESTIONS[1].text)
        tab.page.get_by_role("button", name="Copy", exact=True).click()
        tab.see("Copied")
        copied = tab.page.evaluate("navigator.clipboard.readText()")
        assert QUESTIONS[1].answer in copied
        assert f"**{PAPER}**, page 2" in copied
        tab.press("Export")
        for label, start in (("As Markdown", "## By how much"), ("As a page with pictures", "<!doctype html>")):
            with tab.page.expect_download() as download:
                tab.page.get_by_role("button", name=label).click()
            assert Path(download.value.path()).read_text(encoding="utf-8").startswith(start)


def test_a_picture_is_asked_about(demo_app: App, chromium: Any, demo_documents: Path, tmp_path: Path) -> None:
    page = render_page(demo_documents / PAPER, 2, dpi=120)
    width, height = page.size
    page.crop((0, 0, width // 2, round(0.16 * height))).save(tmp_path / "screenshot.png")
    with demo_app.tab(chromium) as tab:
        tab.page.locator("[data-testid=stChatInput] input[type=file]").set_input_files(tmp_path / "screenshot.png")
        tab.page.get_by_test_id("stChatInputSubmitButton").click()
        tab.answers().first.wait_for()
        tab.settle()
        assert tab.cited_page().get_attribute("alt") == f"{PAPER}, page 2"


def test_a_reply_is_shown_while_it_is_written_and_can_be_stopped(
    chromium: Any, demo_store: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_index.llms.openai_like")
    with serving(stalls("Battery storage earned <b>a lot</b>"), streams("Battery storage earned 23.8 [1].")) as chat:
        server = ("--generator", "openai", "--base-url", chat.url, "--model", "tiny-vl")
        with App(tmp_path / "app", "--store", demo_store, *server) as app, app.tab(chromium) as tab:
            box = tab.page.get_by_test_id("stChatInputTextArea")
            box.fill(QUESTIONS[0].text)
            box.press("Enter")
            tab.see("Battery storage earned <b>a lot</b>")
            tab.page.get_by_role("button", name="Stop").click()
            tab.see("Stopped.")
            tab.press("Ask again")
            tab.answers().first.wait_for()
            assert "Battery storage earned 23.8" in tab.answers().inner_text()
        chat.released.set()


def stalls(*pieces: str) -> Reply:
    """Begins to reply, and waits."""

    def reply(handler: Handler) -> None:
        streams(*pieces, reason=None, broken=True)(handler)
        hangs(handler)

    return reply


def test_uploads_are_ingested_and_a_broken_one_costs_only_itself(app: App, chromium: Any, tmp_path: Path) -> None:
    good = write_pdf(tmp_path / "tariff.pdf", "The night tariff of the Sandvik ferry is 84 kroner.")
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(good.read_bytes()[:200])
    with app.tab(chromium) as tab:
        make_collection(tab, "Ferries")
        upload(tab, good, broken)
        see_document(tab, "tariff.pdf")
        failed = tab.page.get_by_test_id("stAlert").filter(has_text="broken.pdf")
        failed.wait_for(timeout=INGEST_SECONDS * 1000)
        assert "cannot be" in failed.inner_text() or "damaged" in failed.inner_text()
        tab.open("Ask")
        tab.ask("What is the night tariff of the Sandvik ferry?")
        assert "84 kroner" in tab.answers().inner_text()


def test_names_and_texts_that_would_be_markup_are_shown_as_text(app: App, chromium: Any, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    write_pdf(folder / HOSTILE_NAME, "\n\n".join(HOSTILE_TEXT))
    store = tmp_path / "<b>store</b> ![s](img.png)"
    ingested = subprocess.run(
        [sys.executable, "-m", "mmrag", "ingest", folder, "--store", store],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=INGEST_SECONDS,
    )
    assert ingested.returncode == 0, ingested.stderr
    with App(tmp_path / "second", "--store", store) as second, second.tab(chromium) as tab:
        tab.ask("What is the licence fee of the Gullfaks contract?")
        assert "4711" in tab.answers().inner_text()
        tab.chip(1)
        tab.see(HOSTILE_NAME)
        tab.ask(f"When is its renewal due? {HOSTILE_TEXT[1]}")
        for title in ("Evidence", "Collections", "Evals", "Settings", "Ask"):
            tab.open(title)
        tab.open("Collections")
        tab.page.get_by_role("button", name=f"Open: {HOSTILE_NAME}").click()
        tab.settle()
        tab.page.locator(".viewer img").wait_for()
        tab.see(HOSTILE_NAME)
        assert tab.page.evaluate("window.hacked") is None
        assert tab.page.locator("img[src$='.png'], img[src='x'], script:text('hacked')").count() == 0


def test_an_upload_cannot_name_a_place(app: App, chromium: Any) -> None:
    text = b"%PDF-1.4 no document"
    with app.tab(chromium) as tab:
        make_collection(tab, "Names")
        tab.page.locator("input[type=file]").first.set_input_files(
            [{"name": "../../../escaped.pdf", "mimeType": "application/pdf", "buffer": text}]
        )
        tab.page.get_by_test_id("stAlert").filter(has_text="escaped.pdf").wait_for(timeout=INGEST_SECONDS * 1000)
    kept = list(app.folder.rglob("*escaped*"))
    assert {path.parent.name for path in kept} <= {"uploads"}


def test_an_ingest_goes_on_when_its_page_is_reloaded(app: App, chromium: Any, tmp_path: Path) -> None:
    pages = [f"Page {number} of the long log of the lighthouse, with {number * 7} ships seen." for number in range(60)]
    long = write_pdf(tmp_path / "log.pdf", *pages)
    with app.tab(chromium) as tab:
        make_collection(tab, "Lighthouse")
        upload(tab, long)
        bar = tab.page.get_by_test_id("stProgress")
        bar.wait_for(timeout=INGEST_SECONDS * 1000)
        tab.page.reload()  # whose script never rests while it watches: nothing to settle
        bar.first.wait_for()
        see_document(tab, "log.pdf")
        tab.see("60 pages")


def test_what_the_command_line_ingests_is_found_without_a_restart(app: App, chromium: Any, tmp_path: Path) -> None:
    with app.tab(chromium) as first, app.tab(chromium) as second:
        make_collection(first, "Shared")
        upload(first, write_pdf(tmp_path / "one.pdf", "The pilot of the Torvik line is Ingrid Halvorsen."))
        see_document(first, "one.pdf")
        first.open("Ask")
        first.ask("Who is the pilot of the Torvik line?")
        assert "Ingrid Halvorsen" in first.answers().inner_text()
        store = app.data / "mmrag" / "collections" / "Shared"
        added = subprocess.run(
            [
                *(sys.executable, "-m", "mmrag", "ingest", "--store", store),
                write_pdf(tmp_path / "two.pdf", "The cook of the Torvik line is Bjarne Solheim."),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=INGEST_SECONDS,
        )
        assert added.returncode == 0, added.stderr
        first.ask("Who is the cook of the Torvik line?")
        assert "Bjarne Solheim" in first.answers().last.inner_text()
        second.goto("", **{"in": "Shared"})
        assert second.answers().count() == 0  # a conversation is nobody else's
        second.ask("Who is the cook of the Torvik line?")
        assert "Bjarne Solheim" in second.answers().inner_text()


def test_a_page_of_a_document_is_browsed(demo_app: App, chromium: Any) -> None:
    with demo_app.tab(chromium, page="collections") as tab:
        tab.page.get_by_role("button", name=f"Open: {REPORT}").click()
        tab.settle()
        picture = tab.page.locator(".viewer img")
        assert picture.get_attribute("alt") == f"{REPORT}, page 1"
        tab.press("Next page")
        assert picture.get_attribute("alt") == f"{REPORT}, page 2"
        tab.page.locator(".viewer .region").nth(3).click()
        tab.settle()
        assert tab.page.locator(".viewer .region.active").count() == 1


def test_a_narrow_window_shows_the_cited_page_over_the_conversation(demo_app: App, chromium: Any) -> None:
    with demo_app.tab(chromium, width=400) as tab:
        tab.ask(QUESTIONS[1].text)
        tab.chip(1)
        box = tab.page.locator(".viewer").bounding_box()
        assert box
        assert 0 <= box["x"] < 40
        assert box["y"] < 900
        assert tab.overflow() <= 0
        tab.page.get_by_role("button", name="Close", exact=True).click()
        tab.page.locator(".viewer").wait_for(state="detached")
