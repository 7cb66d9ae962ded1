"""What is wrong with a page or a file costs only itself: crashes, hangs, greed, damage, passwords, limits."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pymupdf
import pytest
from PIL import Image
from test_pipeline import ENCODERS, pdf
from typer.testing import CliRunner

from apps.cli import app
from ingest import pipeline
from ingest.limits import MB, Limits
from ingest.pdf import read_page
from ingest.pipeline import Outcome, ingest_files
from ingest.worker import Pool, TooCostly
from mmrag.check import check
from mmrag.errors import UsageError
from mmrag.index import Index
from mmrag.render import render_page
from mmrag.types import Page

pytestmark = pytest.mark.slow

SHORT = Limits(page_seconds=1.0, memory=500 * MB)
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux alone keeps to")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "store", create=True) as index:
        yield index


# -- the pool --------------------------------------------------------------------------------------------------------


def die(_: object) -> None:
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def hang(_: object) -> None:
    """As MuPDF does, without ever letting another thread of the process have a turn."""
    ctypes.PyDLL(None).sleep(600)


def spin(_: object) -> None:
    while True:
        pass


def hog(size: int) -> None:
    kept = [bytearray(b"x" * 20 * MB) for _ in range(size // (20 * MB))]
    raise AssertionError(len(kept))


def reserve(size: int) -> None:
    bytearray(size)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with closing(Pool(1, SHORT)) as pool:
        yield pool


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (die, 0, "reading it ended the process (SIGKILL)"),
        (os._exit, 3, "reading it ended the process (exit code 3)"),
        pytest.param(hang, 0, "it took too long; --max-seconds allows more than 1 s a page", marks=ON_LINUX),
        (spin, 0, "it took too long; --max-seconds allows more than 1 s a page"),
        pytest.param(hog, 1100 * MB, "it took too much memory; --max-memory allows more than 500 MB", marks=ON_LINUX),
        pytest.param(reserve, 50_000 * MB, "it took too much memory", marks=ON_LINUX),
    ],
    ids=["is killed", "exits", "hangs", "spins", "grows", "asks for too much"],
)
def test_what_becomes_of_a_worker_is_a_reason(pool: Pool, function: object, argument: int, reason: str) -> None:
    with pytest.raises(TooCostly) as caught:
        pool.result(pool.submit(function, argument))  # type: ignore[arg-type]
    assert str(caught.value).startswith(reason)
    assert pool.result(pool.submit(abs, -7)) == 7  # the pool goes on


def test_what_a_worker_raises_is_raised(pool: Pool) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        pool.result(pool.submit(int, "no number"))


def test_processor_time_counts_and_not_the_clock(pool: Pool) -> None:
    """As on a machine that is busy elsewhere; the limit is 1 s, and twice that by the clock."""
    assert pool.result(pool.submit(time.sleep, 1.4)) is None


def test_a_worker_imports_only_what_it_needs(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Each start of a worker costs what it imports, on every core."""
    heavy = ("chromadb", "llama_index.core", "pymupdf.layout", "torch")
    modules = "ingest.convert, ingest.encode, ingest.pdf, mmrag.bundled"
    done = python("-c", f"import sys, {modules}\nprint([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", ["page_seconds", "memory", "pages", "pixels", "file_bytes"])
def test_a_limit_that_lets_nothing_through_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="lets nothing through"):
        Limits(**{name: 0})  # type: ignore[arg-type]


# -- pages -----------------------------------------------------------------------------------------------------------


def fragile(path: Path, document_id: str, number: int, *, ocr: bool) -> Page:
    """Reads pages, but for those that the file's name says: the second and maybe the fourth crash."""
    if str(number) in path.stem.rpartition("-")[2]:
        os._exit(1)
    return read_page(path, document_id, number, ocr=ocr)


def test_a_page_that_crashes_costs_only_itself(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "read_page", fragile)
    subjects = ("harbour", "ferry", "quay", "crane", "tram")
    paths = [pdf(tmp_path / f"report-{pages}.pdf", *subjects, pages) for pages in ("2", "24", "0")]
    one, two, none = ingest_files(index, paths, ENCODERS, workers=2).results
    reason = "could not be read: reading it ended the process (exit code 1)."
    assert (one.outcome, one.unread_pages, one.reason) == (Outcome.INGESTED, 1, f"Page 2 {reason}")
    assert (two.outcome, two.reason) == (Outcome.FAILED, f"Pages 2 and 4 {reason}")  # given up
    assert (none.outcome, none.unread_pages, none.reason) == (Outcome.INGESTED, 0, "")
    assert check(index) == []
    (document,) = [d for d in index.documents() if d.name == "report-2.pdf"]
    assert index.unread_pages(document.id) == {2: "reading it ended the process (exit code 1)"}
    pages = [index.page(document.id, number) for number in range(1, 7)]
    assert [bool(page and page.regions) for page in pages] == [True, False, True, True, True, True]
    # It is named again, and tried again only when asked for.
    (again,) = ingest_files(index, paths[:1], ENCODERS).results
    assert (again.outcome, again.reason) == (
        Outcome.UNCHANGED,
        "Page 2 could not be read then: --again tries once more.",
    )
    monkeypatch.setattr(pipeline, "read_page", read_page)
    (mended,) = ingest_files(index, paths[:1], ENCODERS, workers=1, again=True).results
    assert (mended.outcome, mended.unread_pages) == (Outcome.REPLACED, 0)
    assert index.unread_pages(document.id) == {}


def damaged(path: Path, *, every_page: bool = False) -> Path:
    """Three pages of text; the content of the second, or of all, is garbage that claims to be compressed."""
    pdf(path, "harbour", "ferry", "quay")
    with pymupdf.open(path) as document:
        for page in document.pages() if every_page else [document[1]]:
            document.update_stream(page.get_contents()[0], b"garbage" * 50, compress=False)
            document.xref_set_key(page.get_contents()[0], "Filter", "/FlateDecode")
        document.save(path.with_suffix(".damaged"))
    return path.with_suffix(".damaged").rename(path)


def test_a_damaged_page_is_named_and_never_taken_for_a_blank_one(tmp_path: Path, index: Index) -> None:
    paths = [damaged(tmp_path / "one.pdf"), damaged(tmp_path / "all.pdf", every_page=True)]
    with pymupdf.open() as document:
        document.new_page()
        document.save(tmp_path / "blank.pdf")
    one, all_three, blank = ingest_files(index, [*paths, tmp_path / "blank.pdf"], ENCODERS, workers=1).results
    assert (one.outcome, one.pages, one.unread_pages) == (Outcome.INGESTED, 3, 1)
    assert one.reason.startswith("Page 2 could not be read: it shows nothing, and is damaged: ")
    assert all_three.outcome is Outcome.FAILED
    assert all_three.reason.startswith("Pages 1, 2 and 3 could not be read: ")
    assert (blank.outcome, blank.unread_pages) == (Outcome.INGESTED, 0)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(pages=2), "The file has 3 pages, more than 2: allow more with --max-pages, or split it."),
        (Limits(file_bytes=1000), "The file has 0 MB, more than 0 MB: allow more with --max-file-size, or split it."),
    ],
    ids=["pages", "bytes"],
)
def test_a_file_beyond_a_limit_says_which(tmp_path: Path, index: Index, limits: Limits, reason: str) -> None:
    path = pdf(tmp_path / "long.pdf", "harbour", "ferry", "quay")
    (result,) = ingest_files(index, [path], ENCODERS, workers=1, limits=limits).results
    assert (result.outcome, result.reason) == (Outcome.FAILED, reason)


def test_a_picture_beyond_the_limit_is_not_opened(tmp_path: Path, index: Index) -> None:
    Image.new("L", (3000, 2000)).save(tmp_path / "large.png")
    limits = Limits(pixels=5_000_000)
    (result,) = ingest_files(index, [tmp_path / "large.png"], ENCODERS, workers=1, limits=limits).results
    assert result.reason == (
        "The image has 6 million pixels, more than 5: scale it down, or allow more with --max-pixels."
    )


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save = {"encryption": pymupdf.mupdf.PDF_ENCRYPT_AES_256, "user_pw": "sesame", "owner_pw": "owner"}
    return pdf(tmp_path_factory.mktemp("locked") / "locked.pdf", "harbour", save=save)


@pytest.mark.parametrize(
    ("passwords", "reason"),
    [
        ((), "The file is encrypted: give its password with --password or --password-file."),
        (("wrong", "also wrong"), "The file is encrypted, and no password that was given opens it."),
    ],
    ids=["none", "wrong"],
)
def test_an_encrypted_file_asks_for_its_password(
    locked: Path, index: Index, passwords: tuple[str, ...], reason: str
) -> None:
    (result,) = ingest_files(index, [locked], ENCODERS, workers=1, passwords=passwords).results
    assert (result.outcome, result.reason) == (Outcome.FAILED, reason)


def test_an_unlocked_file_is_shown_without_its_password(locked: Path, index: Index) -> None:
    (result,) = ingest_files(index, [locked], ENCODERS, workers=1, passwords=["wrong", "sesame"]).results
    assert (result.outcome, result.chunks) == (Outcome.INGESTED, 1)
    (document,) = index.documents()
    assert index.original(document).read_bytes() == locked.read_bytes()
    assert render_page(index.source(document), 1).getcolors(2**24) != [(1, (255, 255, 255))]
    assert check(index) == []
    with index.writing():
        index.remove(document.id)
    assert list((index.path / "files").iterdir()) == []


def test_passwords_come_from_the_command_line_and_from_a_file(locked: Path, tmp_path: Path) -> None:
    (tmp_path / "passwords.txt").write_text("wrong\nsesame\n")
    for number, options in enumerate((["--password", "sesame"], ["--password-file", str(tmp_path / "passwords.txt")])):
        store = str(tmp_path / f"store-{number}")
        done = CliRunner().invoke(app, ["ingest", "--store", store, *options, str(locked)])
        assert done.exit_code == 0, done.output
        assert "sesame" not in done.output
    missing = CliRunner().invoke(app, ["ingest", "--password-file", str(tmp_path / "nowhere"), str(locked)])
    assert missing.exit_code == 2
    assert "give a text file in UTF-8" in missing.output


# -- what is told ----------------------------------------------------------------------------------------------------


def test_a_page_that_cannot_be_read_makes_the_exit_code_1(tmp_path: Path) -> None:
    path = damaged(tmp_path / "report.pdf")
    done = CliRunner().invoke(app, ["ingest", "--store", str(tmp_path / "store"), "--timings", str(path)])
    assert done.exit_code == 1
    assert "Page 2 could not be read" in done.output
    for stage in ("parsing", "layout", "encoding text", "writing", "peak memory"):
        assert stage in done.output


def test_without_ocr_only_text_layers_are_read(tmp_path: Path, index: Index, demo_documents: Path) -> None:
    report = ingest_files(index, [demo_documents], ENCODERS, workers=1, ocr=False)
    sources = {(page := index.page(d.id, 1)) and page.text_source for d in index.documents()}
    assert sources == {"native", "none"}
    assert "OCR" not in report.timings.seconds
    assert report.is_complete
