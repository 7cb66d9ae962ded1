"""The `mmrag` command: what it prints to people and to machines, its exit codes, and what it does not load."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import mmrag
from apps.cli import app
from apps.demo_documents import BRIEF, DIAGRAM, PAPER, QUESTIONS, REPORT, SCAN
from mmrag.index import FORMAT, Index
from mmrag.render import PALETTE

Python = Callable[..., "subprocess.CompletedProcess[str]"]

ANSWER = ["question", "answer", "abstained", "confidence", "claims", "citations", "notes", "timings"]
CITATION = ["document", "page", "region", "bbox", "quote", "claim"]
EVIDENCE = ["document", "page", "region", "kind", "bbox", "score", "text"]


def run(*args: object, stdin: str = "") -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)


def as_json(*args: object, code: int = 0) -> object:
    """What a command prints on standard output with --json, and nothing but that."""
    result = run(*args, "--json")
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def assert_one_line(stderr: str, *parts: str) -> None:
    assert stderr.startswith("mmrag: ")
    assert stderr.count("\n") == 1
    for part in parts:
        assert part in stderr


# -- ask and search --------------------------------------------------------------------------------------------------


def test_ask_prints_the_answer_with_its_place(demo_store: Path, python: Python) -> None:
    done = python("-m", "mmrag", "ask", QUESTIONS[2].text, "--store", demo_store)
    assert (done.returncode, done.stderr) == (0, "")
    question, answer, *_ = done.stdout.splitlines()
    assert question == QUESTIONS[2].text
    assert answer.startswith("  ")
    assert answer.endswith("[1]")
    assert f"  [1] {SCAN}, page 1  (" in done.stdout
    assert "confidence" in done.stdout


def test_ask_says_when_there_is_no_answer(demo_store: Path, python: Python) -> None:
    done = python("-m", "mmrag", "ask", QUESTIONS[-1].text, "--store", demo_store)
    assert done.returncode == 0
    assert "  The documents do not answer this.\n  Nearest: " in done.stdout
    assert "[1]" not in done.stdout


def test_ask_as_json(demo_store: Path) -> None:
    answer = as_json("ask", QUESTIONS[0].text, "-s", demo_store)
    assert isinstance(answer, dict)
    assert list(answer) == ANSWER
    assert list(answer["citations"][0]) == CITATION
    assert (answer["citations"][0]["document"], answer["citations"][0]["page"]) == (REPORT, 2)


def test_ask_in_one_document(demo_store: Path) -> None:
    found = as_json("search", "turbine", "-s", demo_store, "-d", PAPER, "--document", BRIEF)
    assert isinstance(found, list)
    assert {evidence["document"] for evidence in found} <= {PAPER, BRIEF}


def test_search_as_json(demo_store: Path) -> None:
    found = as_json("search", "海上风电", "-s", demo_store, "-k", "2")
    assert isinstance(found, list)
    assert 1 <= len(found) <= 2
    assert [list(evidence) for evidence in found] == [EVIDENCE] * len(found)
    assert found[0]["document"] == BRIEF
    assert all(0 <= side <= 1 for side in found[0]["bbox"])


def test_search_prints_whole_region_ids_and_names_into_a_pipe(demo_store: Path, python: Python) -> None:
    done = python("-m", "mmrag", "search", "barnacles", "--store", demo_store, "--top-k", "3", COLUMNS="80")
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["#", "score", "document", "page", "kind", "region", "text"]
    assert len(rows) == 3
    rank, _, name, page, _, region, *_ = rows[0].split()
    assert (rank, name) == ("1", PAPER)
    with Index.open(demo_store) as index:
        assert region in index.regions([region])
    assert f"-p{page}-r" in region


def test_search_finds_nothing(demo_store: Path, tmp_path: Path, python: Python) -> None:
    assert as_json("ingest", "--store", tmp_path / "empty", tmp_path / "none.pdf", code=1)
    done = python("-m", "mmrag", "search", "anything", "--store", tmp_path / "empty")
    assert (done.returncode, done.stdout) == (0, "Nothing in the store matches.\n")
    assert as_json("search", "anything", "--store", tmp_path / "empty") == []


def test_questions_from_standard_input(demo_store: Path) -> None:
    questions = [question.text for question in QUESTIONS[:2]]
    result = run("ask", "-", "-s", demo_store, stdin="".join(f"{question}\n" for question in questions))
    assert (result.exit_code, result.stderr) == (0, "")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["question"] for answer in answers] == questions
    assert [list(answer) for answer in answers] == [ANSWER] * 2


@pytest.mark.parametrize("streams", ["utf-8:surrogateescape", "utf-8:strict"])
def test_a_bad_line_costs_only_itself(demo_store: Path, python: Python, streams: str) -> None:
    lines = b"barnacles\n\n\xff\xfe half a character\n\xe6\xb5\xb7\xe4\xb8\x8a\xe9\xa3\x8e\xe7\x94\xb5"
    done = python("-m", "mmrag", "search", "-", "--store", demo_store, stdin=lines, PYTHONIOENCODING=streams)
    assert (done.returncode, done.stderr) == (1, "")
    first, empty, half, last = map(json.loads, done.stdout.splitlines())
    assert first[0]["document"] == PAPER
    assert empty == {"question": "", "error": "The question is empty: type a few words."}
    assert list(half) == ["question", "error"]
    assert "UTF-8" in half["error"]
    assert last[0]["document"] == BRIEF


def test_no_lines_are_no_questions(demo_store: Path) -> None:
    result = run("ask", "-", "-s", demo_store, stdin="")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_ask_writes_one_html_file(demo_store: Path, tmp_path: Path) -> None:
    target = tmp_path / "answer.html"
    result = run("ask", QUESTIONS[3].text, "-s", demo_store, "--html", target)
    assert (result.exit_code, result.stderr) == (0, f"Wrote {target}\n")
    page = target.read_text(encoding="utf-8")
    assert QUESTIONS[3].text in page
    assert BRIEF in page
    assert 'src="data:image/jpeg;base64,' in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupt_is_one_sentence(demo_store: Path) -> None:
    command = [sys.executable, "-m", "mmrag", "search", "-", "--store", str(demo_store)]
    root = Path(mmrag.__file__).parents[1]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("barnacles\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert_one_line(process.stderr.read(), "Interrupted.")
    assert process.returncode == 130


def test_a_reader_that_has_seen_enough_is_no_error(demo_store: Path) -> None:
    command = [sys.executable, "-m", "mmrag", "search", "-", "--store", str(demo_store)]
    root = Path(mmrag.__file__).parents[1]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("barnacles\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        process.stdin.write("turbine\n" * 3)
        process.stdin.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


# -- list, show, remove ----------------------------------------------------------------------------------------------


def test_list_as_json(demo_store: Path) -> None:
    documents = as_json("list", "--store", demo_store)
    assert isinstance(documents, list)
    assert [document["name"] for document in documents] == sorted([REPORT, PAPER, SCAN, BRIEF, DIAGRAM])
    keys = ["id", "name", "path", "media_type", "title", "page_count", "size", "sha256", "described_by"]
    assert [list(document) for document in documents] == [keys] * 5


def test_list_prints_a_table(demo_store: Path, python: Python) -> None:
    done = python("-m", "mmrag", "list", "--store", demo_store, COLUMNS="40")
    header, *rows, last = done.stdout.splitlines()
    assert header.split() == ["document", "pages", "size", "id"]
    assert [row.split()[0] for row in rows] == sorted([REPORT, PAPER, SCAN, BRIEF, DIAGRAM])
    assert last == "5 documents, 9 pages"


def test_the_store_comes_from_the_environment(demo_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRAG_STORE", str(demo_store))
    assert len(as_json("list")) == 5  # type: ignore[arg-type]
    assert run("list", "--store", "/nonexistent").exit_code == 1  # an option counts more


def test_show_draws_a_region(demo_store: Path, tmp_path: Path) -> None:
    (evidence, *_) = as_json("search", "barnacles", "-s", demo_store)  # type: ignore[misc]
    target = tmp_path / "page.png"
    result = run("show", evidence["region"], "-s", demo_store, "-o", target)
    assert result.exit_code == 0
    assert result.stdout == f"{target}  {PAPER}, page {evidence['page']}, 1 regions\n"
    with Image.open(target) as image:
        assert image.format == "PNG"
        assert image.size == (1240, 1755)  # A4 at 150 dpi
        blue = Image.new("RGB", (1, 1), PALETTE[0])
        assert blue.getpixel((0, 0)) in {colour for _, colour in image.getcolors(1 << 20)}


def test_show_draws_all_regions_of_a_page(demo_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("show", REPORT, "--page", "3", "-s", demo_store)
    stem = REPORT.removesuffix(".pdf")
    with Index.open(demo_store) as index:
        (report,) = [document for document in index.documents() if document.name == REPORT]
        count = len(index.page(report.id, 3).regions)  # type: ignore[union-attr]
    assert result.stdout == f"{stem}-p3.png  {REPORT}, page 3, {count} regions\n"
    assert [path.name for path in tmp_path.glob("*.png")] == [f"{stem}-p3.png"]


def test_remove(own_store: Path) -> None:
    with Index.open(own_store) as index:
        (brief,) = [document for document in index.documents() if document.name == BRIEF]
    assert as_json("remove", BRIEF, BRIEF, "-s", own_store) == [{"id": brief.id, "name": BRIEF}]
    result = run("remove", SCAN, PAPER, "-s", own_store)
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(result.stdout.splitlines()) == [f"Removed {SCAN} (1 pages)", f"Removed {PAPER} (2 pages)"]
    assert len(as_json("list", "-s", own_store)) == 2  # type: ignore[arg-type]
    assert Path(brief.path).exists()


def test_remove_with_one_unknown_name_removes_nothing(own_store: Path) -> None:
    result = run("remove", BRIEF, "nope.pdf", "-s", own_store)
    assert result.exit_code == 2
    assert_one_line(result.stderr, "'nope.pdf'")
    assert len(as_json("list", "-s", own_store)) == 5  # type: ignore[arg-type]


# -- ingest ----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "[red]alarm[bold].pdf",
    "\x1b[31mescape\x1b[0m.pdf",
    "line\nbreak.pdf",
    "年度报告 é.pdf",
    "..\\..\\etc [b]x.pdf",
    "twin.pdf",
]


def pdf(path: Path, text: str) -> Path:
    with pymupdf.open() as document:
        document.new_page(width=300, height=200).insert_text((40, 60), text)
        document.save(path.with_name("plain.pdf"))  # MuPDF takes a backslash for a separator
    return path.with_name("plain.pdf").rename(path)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder of files with names that no terminal should obey, and what its ingest into `store` printed."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "other").mkdir()
    for number, name in enumerate([*HOSTILE, "other/twin.pdf"]):
        pdf(folder / name, f"harbour number {number}")
    return folder, run("ingest", folder, "-s", folder / "store", "--workers", "1", "--json")


def test_ingest_as_json(hostile: tuple[Path, Result]) -> None:
    folder, result = hostile
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert list(report) == ["files", "pages_read", "seconds"]
    assert report["pages_read"] == 7
    assert {file["path"] for file in report["files"]} == {str(folder / name) for name in [*HOSTILE, "other/twin.pdf"]}
    expected = {"outcome": "ingested", "pages": 1, "chunks": 1, "reason": "", "unread_pages": 0}
    assert [{key: file[key] for key in file if key != "path"} for file in report["files"]] == [expected] * 7


def test_ingest_prints_a_table(hostile: tuple[Path, Result], python: Python) -> None:
    folder, _ = hostile
    done = python("-m", "mmrag", "ingest", folder, folder / "none.pdf", "--store", folder / "store")
    assert (done.returncode, done.stderr) == (1, "")
    header, *rows, last = done.stdout.splitlines()
    assert header.split() == ["file", "pages", "chunks", "why"]
    assert sum("unchanged" in row for row in rows) == 7
    (failed,) = [row for row in rows if "failed" in row]
    assert failed.split() == "none.pdf failed There is no such file or folder.".split()
    assert last.startswith("1 failed, 7 unchanged in ") or last.startswith("7 unchanged, 1 failed in ")


def test_names_are_printed_harmlessly(hostile: tuple[Path, Result], python: Python) -> None:
    folder, _ = hostile
    listed = python("-m", "mmrag", "list", "--store", folder / "store").stdout
    found = python("-m", "mmrag", "search", "harbour", "--store", folder / "store").stdout
    refused = python("-m", "mmrag", "remove", "\x1b[1m", "--store", folder / "store").stderr
    for text in (listed, found, refused):
        assert "\x1b" not in text
        assert "[red]alarm[bold].pdf" in text
        assert "�[31mescape�[0m.pdf" in text
    assert "line�break.pdf" in listed
    assert "年度报告 é.pdf" in listed
    assert len(listed.splitlines()) == 1 + 7 + 1
    assert_one_line(refused)


@pytest.mark.parametrize("name", HOSTILE[:-1], ids=ascii)
def test_show_writes_into_the_folder_it_is_called_in(
    hostile: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("show", name, "-s", hostile[0] / "store")
    assert (result.exit_code, result.stderr) == (0, "")
    (png,) = tmp_path.iterdir()
    assert png.name.endswith("-p1.png")
    assert set(png.stem) <= {*"-_.", *filter(str.isalnum, name), "p", "1"}
    assert not png.name.startswith(".")


def test_show_writes_a_file_for_each_of_two_documents_with_one_name(
    hostile: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("show", "twin.pdf", "-s", hostile[0] / "store")
    assert result.exit_code == 0
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() != second.read_bytes()
    assert {line.split("  ")[0] for line in result.stdout.splitlines()} == {first.name, second.name}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_that_cannot_hold_every_character(hostile: tuple[Path, Result], python: Python, encoding: str) -> None:
    store = hostile[0] / "store"
    done = python("-m", "mmrag", "list", "--json", "--store", store, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert {document["name"] for document in json.loads(done.stdout)} == set(HOSTILE)
    done = python("-m", "mmrag", "list", "--store", store, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_file_name_that_is_no_text_is_reported(tmp_path: Path, python: Python, option: tuple[str, ...]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "caf\udce9.pdf").write_bytes(b"anything")
    done = python("-m", "mmrag", "ingest", tmp_path / "docs", "--store", tmp_path / "store", *option)
    assert (done.returncode, done.stderr) == (1, "")
    assert "The file's name is not valid UTF-8: rename the file." in done.stdout
    if option:
        assert json.loads(done.stdout)["files"][0]["outcome"] == "failed"


def test_ingest_reads_with_a_pattern_and_a_profile(tmp_path: Path) -> None:
    pdf(tmp_path / "a.pdf", "harbour")
    (tmp_path / "note.bin").write_text("passed over")
    report = as_json("ingest", tmp_path / "*", "-s", tmp_path / "store", "-p", "offline", "--workers", "1")
    assert [Path(file["path"]).name for file in report["files"]] == ["a.pdf"]  # type: ignore[index]


# -- doctor and demo -------------------------------------------------------------------------------------------------


def test_doctor_as_json(demo_store: Path) -> None:
    findings = as_json("doctor", "--store", demo_store)
    assert isinstance(findings, list)
    assert {tuple(finding) for finding in findings} == {("ok", "what", "found", "advice")}
    by_name = {finding["what"]: finding for finding in findings}
    assert by_name["text encoder (offline)"]["ok"]
    assert by_name["reranker (offline)"]["ok"]
    assert f"{demo_store}: 5 documents, 9 pages" in by_name["store"]["found"]
    assert {"mmrag", "chromadb", "pymupdf", "extra full", "processors", "GPU"} <= set(by_name)


def test_doctor_says_what_to_do(tmp_path: Path, python: Python) -> None:
    done = python("-m", "mmrag", "doctor", "--store", tmp_path / "none")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.splitlines() if line.split()[1] == "store"]
    assert row.rstrip().endswith("mmrag ingest FOLDER")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_demo_from_nothing(tmp_path: Path) -> None:
    assert_demo(as_json("demo", "--folder", tmp_path / "demo"), tmp_path / "demo")


@pytest.mark.slow
def test_demo_a_second_time(demo_documents: Path, demo_store: Path, tmp_path: Path) -> None:
    """Its documents are in the store already: nothing is read again."""
    folder = tmp_path / "demo"
    shutil.copytree(demo_documents, folder / "documents")
    store = folder / f"store-{FORMAT}"
    shutil.copytree(demo_store, store)
    assert_demo(as_json("demo", "--folder", folder), folder)

    shown = run("demo", "--folder", folder)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.count("  [1] ") == 4
    assert f"open {folder / 'answers.html'}" in shown.stdout
    assert f"mmrag ask --store '{store}'" in shown.stdout


def assert_demo(result: object, folder: Path) -> None:
    assert isinstance(result, dict)
    assert list(result) == ["answers", "html"]
    assert [answer["abstained"] for answer in result["answers"]] == [False] * 4 + [True]
    assert result["html"] == str(folder / "answers.html")
    assert (folder / "answers.html").read_text(encoding="utf-8").count("<figure>") >= 4


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["ask", "why?", "-s", "nowhere"], 1, "There is no store at"),
        (["search", "why?", "-s", "nowhere"], 1, "run  mmrag ingest FILE…  first"),
        (["list", "-s", "nowhere"], 1, "There is no store at"),
        (["remove", "a.pdf", "-s", "nowhere"], 1, "There is no store at"),
        (["show", "a.pdf", "-s", "nowhere"], 1, "There is no store at"),
        (["ingest", "a.pdf", "-s", "a file"], 1, "a file"),
        (["ask", "why?", "-p", "online"], 2, "There is no profile 'online': choose offline or full."),
        (["ingest", "a.pdf", "-p", "online"], 2, "There is no profile 'online'"),
        (["doctor", "-p", "online"], 2, "There is no profile 'online'"),
        (["ask", "  "], 2, "The question is empty: type a few words."),
        (["search", ""], 2, "The question is empty"),
        (["ask", "why \udcff?"], 2, "UTF-8"),
        (["ask", "why?", "-d", "nope.pdf"], 2, "The store has no document 'nope.pdf'; it has control-room.png"),
        (["search", "why?", "-d", REPORT, "-d", "nope.pdf"], 2, "no document 'nope.pdf'"),
        (["remove", "nope.pdf"], 2, "no document 'nope.pdf'"),
        (["show", "nope.pdf"], 2, "no document 'nope.pdf'"),
        (["show", "0123456789abcdef-p1-r1"], 2, "0123456789abcdef-p1-r1"),
        (["show", REPORT, "--page", "5"], 2, f"{REPORT} has pages 1 to 4; there is no page 5."),
        (["show", REPORT, PAPER, "-o", "x.png"], 2, "leave --output out"),
        (["ask", "why?", "--image-encoder", "/nonexistent/folder"], 1, "/nonexistent/folder"),
        (["ingest", "a.pdf", "--image-encoder", "/nonexistent/folder"], 1, "/nonexistent/folder"),
        (["ask", "why?", "--html", "/nonexistent/answer.html"], 1, "No such file or directory: /nonexistent/answer"),
        (["show", REPORT, "-o", "/nonexistent/page.png"], 1, "No such file or directory: /nonexistent/page.png"),
        (["demo", "--folder", "a file"], 1, "a file"),
        (["ask", "why?", "--generator", "openai"], 2, "--generator openai needs --base-url"),
        (["ask", "why?", "--generator", "openai", "--base-url", "http://localhost:1/v1"], 2, "needs --model"),
        (["ask", "why?", "--base-url", "http://localhost:1/v1"], 2, "add --generator openai"),
        (["ask", "why?", "--model", "qwen"], 2, "add --generator openai"),
        (["ask", "why?", "--contrast", "1"], 2, "--contrast is for a checkpoint"),
        (["ask", "why?", "--samples", "0"], 2, "--samples 0 asks nothing"),
        (["doctor", "--generator", "openai", "--base-url", "localhost"], 2, "--base-url must be an address"),
    ],
    ids=lambda value: ascii(" ".join(value)) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_and_an_exit_code(
    demo_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], code: int, says: str
) -> None:
    if "/nonexistent/folder" in command:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("MMRAG_STORE", str(demo_store))
    result = run(*command)
    assert result.exit_code == code
    assert_one_line(result.stderr, says)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_show_knows_no_region_of_that_number(demo_store: Path) -> None:
    (evidence, *_) = as_json("search", "barnacles", "-s", demo_store)  # type: ignore[misc]
    result = run("show", f"{evidence['region']}999", "-s", demo_store)
    assert result.exit_code == 2
    assert_one_line(result.stderr, "There is no region", "region ids are printed by ask and search")


@pytest.mark.parametrize("suffix", ["txt", "", "pdf.exe"])
def test_show_writes_a_png_or_says_why_not(demo_store: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"page.{suffix}"
    result = run("show", REPORT, "-s", demo_store, "-o", target)
    if result.exit_code == 0:
        with Image.open(target) as image:
            assert image.format == "PNG"
    else:
        assert result.exit_code == 2
        assert_one_line(result.stderr, "png")


@pytest.mark.parametrize("damaged", ["ledger.sqlite3", "chroma/chroma.sqlite3"])
def test_a_damaged_store_is_one_line(own_store: Path, damaged: str) -> None:
    (own_store / damaged).write_bytes(b"garbage" * 1000)
    result = run("ask", "why?", "-s", own_store)
    assert result.exit_code == 1
    assert_one_line(result.stderr, "check --repair" if damaged.startswith("chroma") else "ingest again")


@pytest.mark.parametrize(
    "command",
    [
        ["ingest", "a.pdf", "--workers", "0"],
        ["ask", "why?", "--top-k", "0"],
        ["ask"],
        ["ingest"],
        ["remove"],
        ["show", "a.pdf", "--page", "0"],
        ["list", "--nonsense"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_command_that_makes_no_sense_has_exit_code_2(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path, python: Python) -> None:
    plain = python("-m", "mmrag", "list", "--store", tmp_path / "none")
    debug = python("-m", "mmrag", "list", "--store", tmp_path / "none", "--debug")
    assert (plain.returncode, debug.returncode) == (1, 1)
    assert_one_line(plain.stderr)
    assert "Traceback (most recent call last)" in debug.stderr
    assert "mmrag.errors.StoreNotFound: There is no store" in debug.stderr


# -- help, imports, names --------------------------------------------------------------------------------------------

OPTIONS = {
    "ingest": "--store --profile --image-encoder --workers --again --password --password-file --no-ocr --max-seconds "
    "--max-memory --max-pages --max-pixels --max-file-size --wait --timings --describe-pictures --watch --ray --chroma "
    "--generator --base-url --model --load-in-4bit --json --debug",
    "ask": "--image --store --chroma --profile --image-encoder --reranker --generator --base-url --model --samples "
    "--contrast --max-visual-tokens --risk --load-in-4bit --check --nli --unsupported --document --top-k --html --json "
    "--debug",
    "search": "--image --store --chroma --profile --image-encoder --reranker --document --top-k --json --debug",
    "list": "--store --json --debug",
    "remove": "--store --chroma --json --debug",
    "show": "--store --page --output --debug",
    "doctor": "--store --chroma --profile --generator --base-url --model --max-visual-tokens --load-in-4bit --json "
    "--debug",
    "demo": "--folder --json --debug",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    named = {word.strip(",") for word in result.stdout.split() if word.startswith("--")}
    assert named == {*OPTIONS[command].split(), "--help"}
    assert run(command, "-h").stdout == result.stdout


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_every_command(arguments: list[str]) -> None:
    result = run(*arguments)
    words = set((result.stdout + result.stderr).split())
    assert {*OPTIONS, "mmrag"} <= words


HEAVY = {"torch", "transformers", "sentence_transformers", "chromadb", "llama_index", "streamlit", "onnxruntime"}


@pytest.mark.parametrize(
    "start",
    [
        "import mmrag",
        "import mmrag; mmrag.Answer, mmrag.StoreNotFound",
        "import sys; sys.argv = ['mmrag', '--help']; from mmrag.__main__ import main; main()",
        "import sys; sys.argv = ['mmrag', 'ask', '--help']; from mmrag.__main__ import main; main()",
    ],
)
def test_nothing_heavy_is_loaded(python: Python, start: str) -> None:
    code = f"try:\n    {start}\nexcept SystemExit as end:\n    assert not end.code\nimport sys\nprint(*sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "mmrag" in loaded
    assert loaded & HEAVY == set()


def test_the_public_names() -> None:
    assert mmrag.__all__ == [
        "Answer",
        "BBox",
        "Chunk",
        "Citation",
        "Claim",
        "ClusterError",
        "Document",
        "DocumentError",
        "EncryptedFile",
        "Evidence",
        "GenerationError",
        "MissingExtra",
        "MmragError",
        "ModelNotFound",
        "OutOfMemory",
        "Page",
        "Region",
        "RegionKind",
        "StoreBusy",
        "StoreError",
        "StoreMismatch",
        "StoreNotFound",
        "StoreUnreachable",
        "UnreadableFile",
        "UsageError",
        "Word",
        "open",
    ]
    assert all(hasattr(mmrag, name) for name in mmrag.__all__)


def test_the_installed_command_is_this_one() -> None:
    command = shutil.which("mmrag", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("mmrag is run from a checkout that is not installed")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: mmrag")
