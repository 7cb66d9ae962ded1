"""The demo collection keeps what its questions promise: answers on the pages named, and none to the last question."""

from __future__ import annotations

from pathlib import Path

import pymupdf
import pytest
from PIL import Image

from apps import demo_documents
from apps.demo_documents import BRIEF, DIAGRAM, PAPER, QUESTIONS, REPORT, SCAN, build_demo_documents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "documents"
    build_demo_documents(folder)
    return folder


def words(path: Path, page: int) -> list[str]:
    with pymupdf.open(path) as pdf:
        return [word[4] for word in pdf[page - 1].get_text("words", sort=False)]


def text(path: Path, page: int) -> str:
    return " ".join(words(path, page))


def test_builds_five_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([REPORT, PAPER, SCAN, BRIEF, DIAGRAM])


@pytest.mark.parametrize(("name", "pages"), [(REPORT, 4), (PAPER, 2), (SCAN, 1), (BRIEF, 1)])
def test_page_counts(folder: Path, name: str, pages: int) -> None:
    with pymupdf.open(folder / name) as pdf:
        assert pdf.page_count == pages
        assert pdf.metadata["title"]


def test_the_same_bytes_on_every_run(folder: Path, tmp_path: Path) -> None:
    again = build_demo_documents(tmp_path)
    assert [path.name for path in again] == [REPORT, PAPER, SCAN, BRIEF, DIAGRAM]
    for path in again:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q.document not in (None, SCAN)], ids=lambda q: q.text)
def test_the_answer_stands_on_the_page_named(folder: Path, question: demo_documents.DemoQuestion) -> None:
    assert question.document is not None
    assert question.page is not None
    assert question.answer in text(folder / question.document, question.page)


def test_one_question_for_each_document_and_one_without_answer() -> None:
    assert [question.document for question in QUESTIONS] == [REPORT, PAPER, SCAN, BRIEF, None]
    unanswerable = QUESTIONS[-1]
    assert (unanswerable.page, unanswerable.answer) == (None, "")


def test_nothing_answers_the_last_question(folder: Path) -> None:
    assert "dividend" in QUESTIONS[-1].text
    for path in folder.glob("*.pdf"):
        with pymupdf.open(path) as pdf:
            assert "dividend" not in "".join(page.get_text() for page in pdf).lower()
    # Nor in what is drawn as pixels: the question itself is the only place in the module that has the word.
    assert Path(demo_documents.__file__).read_text(encoding="utf-8").lower().count("dividend") == 1


def test_the_scan_is_one_image_and_no_text(folder: Path) -> None:
    with pymupdf.open(folder / SCAN) as pdf:
        page = pdf[0]
        assert page.get_text().strip() == ""
        (image,) = page.get_images()
        stored = pdf.extract_image(image[0])
        assert stored["ext"] == "jpeg"
        # 150 dpi over the whole page.
        assert stored["width"] / page.rect.width * 72 == pytest.approx(150, abs=1)
    assert QUESTIONS[2].answer == dict(demo_documents.CERTIFICATE)["Next inspection due:"]


@pytest.mark.parametrize(
    ("name", "page", "row"),
    [
        (REPORT, 2, "Battery storage 12.6 23.8 41.5 +74.4%"),
        (REPORT, 2, "Battery storage -1.9 1.2 4.3"),
        (REPORT, 4, "Employees 1,152 1,207 1,284"),
        (PAPER, 1, "Copper epoxy 4.6 41"),
        (BRIEF, 1, "一期工程 12 25 300 36.2 2026年12月"),
    ],
)
def test_table_rows_read_from_left_to_right(folder: Path, name: str, page: int, row: str) -> None:
    assert row in text(folder / name, page)


@pytest.mark.parametrize("caption", ["Table 1. Revenue", "Table 2. Operating profit"])
def test_totals_add_up(caption: str) -> None:
    blocks = demo_documents.REPORT_PAGES[0].strip().split("\n\n")
    (block,) = [block for block in blocks if block.startswith(caption)]
    _, _, *rows = [line.split(" | ")[1:4] for line in block.split("\n")]
    *parts, total = [[float(cell) for cell in row] for row in rows]
    assert [round(sum(column), 1) for column in zip(*parts, strict=True)] == total


@pytest.mark.parametrize(("name", "page", "curves"), [(REPORT, 3, 5), (PAPER, 2, 3)])
def test_figures_are_vector_graphics_with_a_caption(folder: Path, name: str, page: int, curves: int) -> None:
    assert "Figure 1." in text(folder / name, page)
    with pymupdf.open(folder / name) as pdf:
        assert not pdf[page - 1].get_images()
        assert len(pdf[page - 1].get_drawings()) > curves


def test_words_are_plain(folder: Path) -> None:
    """Neither ligatures nor characters that the built-in fonts could not encode (they come out as a middle dot)."""
    for path in folder.glob("*.pdf"):
        with pymupdf.open(path) as pdf:
            found = set("".join(page.get_text() for page in pdf))
        assert not found & set("\ufb00\ufb01\ufb02\ufb03\ufb04\ufffd\xb7\xad")


def test_nothing_leaves_the_page(folder: Path) -> None:
    for path in folder.glob("*.pdf"):
        with pymupdf.open(path) as pdf:
            for page in pdf:
                bottom = page.rect.height - 60
                for x0, y0, x1, y1, word, *_ in page.get_text("words"):
                    assert 40 <= x0 < x1 <= page.rect.width - 40, word
                    assert y1 <= bottom or y0 >= bottom, word
                    assert y1 <= page.rect.height - 20, word


def test_the_diagram_is_a_picture(folder: Path) -> None:
    with Image.open(folder / DIAGRAM) as image:
        assert image.format == "PNG"
        assert image.size == (1320, 580)
