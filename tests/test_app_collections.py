"""The page of the collections: made, filled, deleted; ingests and documents shown; one document page by page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

import apps.ui.browser
import apps.ui.documents
from apps.ui.browser import around, region_rows
from apps.ui.documents import CARDS, matching, size_told
from apps.ui.ingests import file_rows
from ingest.jobs import Job, JobFile
from mmrag.index import Index
from mmrag.types import BBox, Document, Page, Region, RegionKind
from tests.streamlit_app import components, markdown, open_app, turn_to, visit

HOSTILE = "<b>![x](https://evil.example/p.png)</b> www.evil.example.pdf"


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be ingested."""
    calls: list[dict[str, Any]] = []

    def start(store: Path, sources: list[Path | str], **how: Any) -> str:
        calls.append({"store": store, "sources": [str(source) for source in sources], **how})
        return "id"

    for module in ("collections", "documents", "welcome"):
        monkeypatch.setattr(f"apps.ui.{module}.start", start)
    return calls


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that there are."""
    jobs: list[Job] = []
    for module in ("ingests", "progress"):
        monkeypatch.setattr(f"apps.ui.{module}.jobs", lambda store: list(jobs))
    return jobs


@pytest.fixture
def selects(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets a component say what somebody has just selected in it: AppTest cannot."""

    def select(module: Any, name: str, **value: str) -> None:
        real = getattr(module, name)

        def component(**given: Any) -> Any:
            real(**given)
            monkeypatch.setattr(module, name, real)
            return SimpleNamespace(**value)

        monkeypatch.setattr(module, name, component)

    return select


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    def open_page(store: Path | None = None, **address: str) -> AppTest:
        monkeypatch.setenv("MMRAG_COLLECTIONS", str(tmp_path / "collections"))
        return turn_to(open_app(monkeypatch, tmp_path, store, **address), "collections")

    return open_page


def button(at: AppTest, key: str) -> Any:
    return next(each for each in at.button if each.key == key)


def job(state: str, *outcomes: str, error: str = "", reason: str = "Damaged.", name: str = "report") -> Job:
    files = tuple(
        JobFile(f"{name}-{n}.pdf", f"/{n}", outcome, 3, 10, reason if outcome == "failed" else "")
        for n, outcome in enumerate(outcomes)
    )
    return Job(f"job-{state}", state, 1.0e9, None, (), files, 30, 120, 2.5, error)


# -- collections -----------------------------------------------------------------------------------------------------


def test_the_first_collection_is_made_and_chosen(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    at = open_page()
    assert "Make the first one" in " ".join(markdown(at))
    at.text_input(key="new-name").set_value("Reports/2024")
    next(each for each in at.button if each.label == "Make the collection").click().run()
    assert not at.exception
    assert (tmp_path / "collections" / "Reports-2024" / "ledger.sqlite3").is_file()
    assert at.sidebar.selectbox(key="picked-collection").value == "Reports-2024"
    assert "This collection holds no documents yet" in at.info[0].value


def test_the_demo_is_offered_until_it_is_there(
    open_page: Callable[..., AppTest], started: list[dict[str, Any]]
) -> None:
    at = open_page()
    button(at, "demo").click().run()
    assert not at.exception
    assert [len(call["sources"]) for call in started] == [5]
    assert at.sidebar.selectbox(key="picked-collection").value == "Demo"


def test_a_name_that_is_none_is_told_and_nothing_made(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    at = open_page()
    at.text_input(key="new-name").set_value("../..")
    next(each for each in at.button if each.label == "Make the collection").click().run()
    assert "needs a name" in at.error[0].value
    assert not (tmp_path / "collections").exists()


def test_choosing_on_the_page_is_choosing_in_the_sidebar(
    open_page: Callable[..., AppTest], own_store: Path, tmp_path: Path
) -> None:
    Index.open(tmp_path / "collections" / "Empty", create=True).close()
    at = open_page(own_store)
    assert len(components(at, "shelf")[0]["cards"]) == 5
    at.pills(key="collection-pill").set_value("Empty").run()
    assert at.sidebar.selectbox(key="picked-collection").value == "Empty"
    assert components(at, "shelf") == []
    at.sidebar.selectbox(key="picked-collection").set_value("own-store").run()
    assert at.pills(key="collection-pill").value == "own-store"
    assert not at.exception


def test_an_own_collection_is_deleted_after_a_question(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    store = tmp_path / "collections" / "Reports"
    Index.open(store, create=True).close()
    at = open_page()
    button(at, "delete-collection").click().run()
    assert store.is_dir()
    button(at, "delete-collection").click()  # AppTest runs the page anew, and so does not keep the dialog open
    button(at, "delete-sure").click().run()
    assert not at.exception
    assert not store.exists()
    # The same name again: nothing of the deleted one is still open.
    Index.open(store, create=True).close()
    assert "0 documents" in " ".join(markdown(turn_to(visit(), "collections")))


def test_a_collection_from_elsewhere_is_not(open_page: Callable[..., AppTest], own_store: Path) -> None:
    assert button(open_page(own_store), "delete-collection").disabled


def test_nor_one_that_is_written_to(open_page: Callable[..., AppTest], tmp_path: Path, held: list[Job]) -> None:
    Index.open(tmp_path / "collections" / "Reports", create=True).close()
    held.append(job("running", "reading"))
    at = open_page()
    button(at, "delete-collection").click().run()
    assert button(at, "delete-sure").disabled
    assert "cancel that first" in at.warning[0].value


def test_a_store_that_cannot_be_read_leaves_the_page_usable(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    store = tmp_path / "collections" / "Damaged"
    store.mkdir(parents=True)
    (store / "ledger.sqlite3").write_bytes(b"no database" * 1000)
    Index.open(tmp_path / "collections" / "Whole", create=True).close()
    at = open_page()
    assert "damaged" in at.error[0].value
    at.pills(key="collection-pill").set_value("Whole").run()
    assert not at.error
    assert not at.exception


# -- adding ----------------------------------------------------------------------------------------------------------


def test_uploads_are_kept_and_ingested_and_the_uploader_emptied(
    open_page: Callable[..., AppTest], own_store: Path, started: list[dict[str, Any]]
) -> None:
    at = open_page(own_store)
    at.file_uploader[0].upload("a.pdf", b"a").upload("b.png", b"b").run()
    assert not at.exception
    (call,) = started
    assert call["sources"] == [str(own_store / "uploads" / name) for name in ("a.pdf", "b.png")]
    assert [Path(path).read_bytes() for path in call["sources"]] == [b"a", b"b"]
    at.run()
    assert len(started) == 1


def test_a_folder_of_this_machine(
    open_page: Callable[..., AppTest], own_store: Path, tmp_path: Path, started: list[dict[str, Any]]
) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(b"a")
    (tmp_path / "papers" / "b.pdf").symlink_to("/etc/passwd")
    at = open_page(own_store)
    at.text_input(key="machine-path").set_value(str(tmp_path / "papers"))
    next(each for each in at.button if each.label == "Add").click().run()
    assert [call["sources"] for call in started] == [[str(tmp_path / "papers" / "a.pdf")]]
    at.text_input(key="machine-path").set_value("/etc")
    next(each for each in at.button if each.label == "Add").click().run()
    assert "mmrag app" in at.error[0].value.replace("\\", "")
    assert len(started) == 1


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_a_running_job_and_its_files(open_page: Callable[..., AppTest], own_store: Path, held: list[Job]) -> None:
    held.append(job("running", "ingested", "reading", "", "failed", reason=HOSTILE, name=HOSTILE))
    at = open_page(own_store)
    assert not at.exception
    table = at.dataframe[0].value
    assert list(table["State"]) == ["✕ failed", "● reading", "○ waiting", "✓ ingested"]
    assert table["What to know"][0] == HOSTILE
    assert list(table["Pages"]) == ["3 / 10", "3 / 10", "3 / 10", "10"]
    assert len(at.error) == 1
    assert "evil" in at.error[0].value
    assert "<b>" not in at.error[0].value
    assert "Cancel-job-running" in {each.key for each in at.button}


def test_many_failed_files_make_one_table(open_page: Callable[..., AppTest], own_store: Path, held: list[Job]) -> None:
    held.append(job("done", *["ingested"] * 3000, *["failed"] * 40))
    at = open_page(own_store)
    assert len(at.error) == 1
    failed, every = (each.value for each in at.dataframe)
    assert len(failed) == 40
    assert set(failed["What to do"]) == {"Damaged."}
    assert len(every) == 500
    assert list(every["State"][:40]) == ["✕ failed"] * 40


@pytest.mark.parametrize(("state", "offered"), [("interrupted", True), ("cancelled", True), ("done", False)])
def test_what_can_be_done_to_a_job_that_has_ended(
    open_page: Callable[..., AppTest],
    own_store: Path,
    held: list[Job],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    offered: bool,
) -> None:
    asked = []
    for act in ("resume", "forget"):
        monkeypatch.setattr(f"apps.ui.ingests.{act}", lambda store, job_id, act=act: asked.append((act, store, job_id)))
    held.append(job(state, "ingested"))
    at = open_page(own_store)
    keys = {each.key for each in at.button}
    assert (f"Resume-job-{state}" in keys) is offered
    assert f"Cancel-job-{state}" not in keys
    button(at, f"Dismiss-job-{state}").click().run()
    if offered:
        button(at, f"Resume-job-{state}").click().run()
    assert asked == [("forget", own_store, f"job-{state}"), ("resume", own_store, f"job-{state}")][: 1 + offered]


def test_what_stopped_a_whole_job_is_told(open_page: Callable[..., AppTest], own_store: Path, held: list[Job]) -> None:
    held.append(job("failed", error="The store was built with another encoder."))
    assert "another encoder" in open_page(own_store).error[0].value


def test_file_rows_know_an_outcome_of_tomorrow() -> None:
    rows = file_rows([JobFile("a", "/a", "postponed", 0, 0, "")])
    assert list(rows.values()) == [["? postponed"], ["a"], [""], [""]]


# -- documents -------------------------------------------------------------------------------------------------------


def documents(count: int) -> list[Document]:
    return [
        Document(f"{n:016x}", f"{n:064x}", f"report-{n}.pdf", f"/r/report-{n}.pdf", "application/pdf", "", 3, 1000)
        for n in range(count)
    ]


def test_a_card_for_each_document(open_page: Callable[..., AppTest], own_store: Path) -> None:
    cards = components(open_page(own_store), "shelf")[0]["cards"]
    assert [card["name"] for card in cards] == sorted(card["name"] for card in cards)
    assert all(card["image"].startswith("data:image/jpeg;base64,") for card in cards)
    assert all("page" in card["facts"] and "B" in card["facts"] for card in cards)


def test_a_document_whose_copy_is_gone_has_a_card_without_picture(
    open_page: Callable[..., AppTest], own_store: Path
) -> None:
    for copy in (own_store / "files").iterdir():
        copy.unlink()
    at = open_page(own_store)
    assert not at.exception
    assert {card["image"] for card in components(at, "shelf")[0]["cards"]} == {""}


def test_two_thousand_documents_are_shown_by_the_screen(
    open_page: Callable[..., AppTest], own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Index, "documents", lambda self: documents(2000))
    at = open_page(own_store)
    assert len(components(at, "shelf")[0]["cards"]) == CARDS
    at.pagination[0].set_value(84).run()
    assert [card["name"] for card in components(at, "shelf")[0]["cards"]][-1] == "report-1999.pdf"
    at.text_input(key="document-search").set_value("REPORT-1234").run()
    assert [card["name"] for card in components(at, "shelf")[0]["cards"]] == ["report-1234.pdf"]
    assert not at.exception


def test_documents_are_ticked_and_removed_or_read_again(
    open_page: Callable[..., AppTest], own_store: Path, started: list[dict[str, Any]]
) -> None:
    at = open_page(own_store)
    cards = components(at, "shelf")[0]["cards"]
    at.session_state["ticked-documents"] = {own_store: {cards[0]["id"], cards[2]["id"]}}
    at.run()
    assert [card["ticked"] for card in components(at, "shelf")[0]["cards"]] == [True, False, True, False, False]
    button(at, "remove-sure-ticked").click().run()
    assert [(call["sources"], call["remove"]) for call in started] == [([], [cards[0]["id"], cards[2]["id"]])]
    assert not any(card["ticked"] for card in components(at, "shelf")[0]["cards"])
    at.session_state["ticked-documents"] = {own_store: {cards[1]["id"]}}
    at.run()
    button(at, "again-ticked").click().run()
    assert started[1]["again"] is True
    assert [Path(path).name for path in started[1]["sources"]] == [cards[1]["name"]]
    assert not at.exception


def test_looking_for_a_document() -> None:
    one, two = documents(2)
    named = [one, replace(two, title="Straße nach Köln")]
    assert matching(named, "köln STRASSE") == [named[1]]
    assert matching(named, "report 0") == [one]
    assert matching(named, "") == named


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (27_500_000, "28 MB"), (1.2e9, "1.2 GB"), (5e12, "5000 GB")],
)
def test_a_size_in_words(size: float, said: str) -> None:
    assert size_told(size) == said


# -- page by page ----------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(
    open_page: Callable[..., AppTest], own_store: Path, selects: Callable[..., None]
) -> tuple[AppTest, Document]:
    """The longest of the demo's documents."""
    with Index.open(own_store) as index:
        document = max(index.documents(), key=lambda each: each.page_count)
    at = open_page(own_store)
    selects(apps.ui.documents, "shelf_component", open=document.id)
    return at.run(), document


def test_a_selected_card_opens_its_document(opened: tuple[AppTest, Document]) -> None:
    at, document = opened
    assert not at.exception
    (page,) = components(at, "page")
    (regions,) = components(at, "regions")
    assert page["alt"] == f"{document.name}, page 1"
    assert [region["id"] for region in page["regions"]] == [region["id"] for region in regions["regions"]]
    button(at, "close-document").click().run()
    assert len(components(at, "shelf")) == 1


def test_pages_are_turned(opened: tuple[AppTest, Document]) -> None:
    at, document = opened
    assert document.page_count >= 2
    assert button(at, "Previous page").disabled
    button(at, "Next page").click().run()
    assert components(at, "page")[0]["alt"].endswith("page 2")
    assert components(at, "strip")[0]["shown"] == 2
    at.number_input[0].set_value(document.page_count).run()
    assert components(at, "page")[0]["alt"].endswith(f"page {document.page_count}")
    assert button(at, "Next page").disabled
    button(at, "Previous page").click().run()
    assert at.number_input[0].value == document.page_count - 1
    assert not at.exception


def test_a_selected_region_is_marked_in_both(opened: tuple[AppTest, Document]) -> None:
    at, _ = opened
    wanted = components(at, "regions")[0]["regions"][1]["id"]
    at.session_state["open-region"] = wanted
    at.run()
    assert components(at, "regions")[0]["active"] == components(at, "page")[0]["active"] == wanted


def test_a_document_that_is_removed_meanwhile_is_closed(opened: tuple[AppTest, Document], own_store: Path) -> None:
    at, document = opened
    with Index.open(own_store) as index, index.writing():
        index.remove(document.id)
    at.run()
    assert not at.exception
    assert document.name not in [card["name"] for card in components(at, "shelf")[0]["cards"]]


def test_a_page_whose_file_is_gone_says_what_to_do(opened: tuple[AppTest, Document], own_store: Path) -> None:
    at, document = opened
    for copy in (own_store / "files").iterdir():
        copy.unlink()
    at.number_input[0].set_value(document.page_count).run()
    assert "read again" in at.warning[0].value
    assert len(components(at, "regions")) == 1
    assert not at.exception


@pytest.mark.parametrize("number", [1, 4, 100, 197, 200])
def test_the_strip_goes_around_the_page(number: int) -> None:
    pages = list(around(number, 200))
    assert len(pages) == 9
    assert number in pages
    assert 1 <= pages[0] <= pages[-1] <= 200
    assert abs(number - (pages[0] + pages[-1]) / 2) <= 4


def test_the_strip_of_a_short_document() -> None:
    assert list(around(1, 1)) == [1]
    assert list(around(3, 4)) == [1, 2, 3, 4]


def test_what_a_model_wrote_is_called_that() -> None:
    box = BBox(0, 0, 1, 1)
    picture = Region("a", RegionKind.PICTURE, box, "", description="A red bus.", tags=("photo", "street"))
    words = Region("b", RegionKind.TEXT, box, "x" * 10_000)
    rows = region_rows(Page(1, 100, 100, (picture, words)))
    assert rows[0]["generated"] == ["Description by a model: A red bus.", "Tags by a model: photo, street"]
    assert rows[0]["text"] == ""
    assert rows[1]["generated"] == []
    assert len(rows[1]["text"]) < 5000
