"""Files through real worker processes into a real store: batches, failures, changes, and where boxes come to lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pymupdf
import pytest
from PIL import Image, ImageDraw, ImageFont

from apps.demo_documents import BRIEF, DIAGRAM, PAPER, REPORT, SCAN
from ingest import pipeline
from ingest.pipeline import FileResult, Outcome, Progress, Report, find_files, ingest_files, ingest_into
from mmrag.errors import StoreBusy
from mmrag.index import Index
from mmrag.models import Encoders, load_encoders
from mmrag.settings import Settings
from mmrag.testing import HashEncoder
from mmrag.types import MEDIA_TYPES, BBox, Page, RegionKind

ENCODERS = Encoders(HashEncoder())


def paragraph(subject: str) -> str:
    return (
        f"The {subject} was rebuilt after the storm of the year before. Nobody had expected the {subject} to last. " * 3
    )


def pdf(path: Path, *subjects: str, save: dict[str, object] | None = None) -> Path:
    """A PDF with one page of running text for each subject."""
    with pymupdf.open() as document:
        for subject in subjects:
            page = document.new_page()
            page.insert_text((72, 100), subject.capitalize(), fontsize=18)
            page.insert_textbox((72, 130, 520, 400), paragraph(subject))
        document.save(path, **(save or {}))
    return path


def outcomes(report: Report) -> dict[str, str]:
    return {result.path.name: str(result.outcome) for result in report.results}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "store", create=True) as index:
        yield index


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that starts worker processes."""
    monkeypatch.setattr(pipeline, "Pool", lambda *_: pytest.fail("worker processes were started"))


# -- the demo collection ---------------------------------------------------------------------------------------------


def test_the_demo_collection_is_ingested(demo_store: Path) -> None:
    with Index.open(demo_store) as index:
        documents = {document.name: document for document in index.documents()}
        assert {name: d.page_count for name, d in documents.items()} == {
            REPORT: 4,
            PAPER: 2,
            SCAN: 1,
            BRIEF: 1,
            DIAGRAM: 1,
        }
        assert documents[REPORT].title == "Annual Report 2025"
        assert documents[DIAGRAM].media_type == "image/png"
        sources = {name: index.page(d.id, 1).text_source for name, d in documents.items()}  # type: ignore[union-attr]
        assert sources == {REPORT: "native", PAPER: "native", BRIEF: "native", SCAN: "ocr", DIAGRAM: "ocr"}
        for document in documents.values():
            assert index.source(document).read_bytes() == Path(document.path).read_bytes()


def test_every_region_lies_on_its_page_and_every_quote_in_its_region(demo_store: Path) -> None:
    with Index.open(demo_store) as index:
        for document in index.documents():
            for number in range(1, document.page_count + 1):
                page = index.page(document.id, number)
                assert page is not None
                for region in page.regions:
                    assert region.id.startswith(f"{document.id}-p{number}-r")
                    assert 0 <= region.box.x0 < region.box.x1 <= 1
                    assert 0 <= region.box.y0 < region.box.y1 <= 1
                    for word in region.words:
                        assert region.text[word.start : word.end] == word.text
                        assert region.box.contains(word.box.center)
                for chunk in index.chunks_of([(document.id, number)]):
                    regions = {region.id: region for region in page.regions}
                    for span in chunk.spans:
                        length = span.end - span.start
                        held = regions[span.region_id].text[span.region_start : span.region_start + length]
                        assert chunk.text[span.start : span.end] == held


def test_a_second_ingest_starts_no_workers(own_store: Path, demo_documents: Path, no_workers: None) -> None:
    with Index.open(own_store) as index:
        before = index.counts()
        report = ingest_files(index, [demo_documents], load_encoders(Settings()))
        assert report.count(Outcome.UNCHANGED) == len(report.results) == 5
        assert report.pages_read == 0
        assert index.counts() == before


@pytest.mark.slow
def test_remove_and_ingest_again_gives_the_same_counts(own_store: Path, demo_documents: Path) -> None:
    with Index.open(own_store) as index:
        before = index.counts()
        (paper,) = [document for document in index.documents() if document.name == PAPER]
        chunks = index.chunks_of([(paper.id, 1), (paper.id, 2)])
        with index.writing():
            index.remove(paper.id)
        assert index.counts()["documents"] == 4
    report = ingest_into(own_store, [demo_documents / PAPER])
    assert [result.outcome for result in report.results] == [Outcome.INGESTED]
    with Index.open(own_store) as index:
        assert index.counts() == before
        assert index.chunks_of([(paper.id, 1), (paper.id, 2)]) == chunks


# -- changes, copies, moves ------------------------------------------------------------------------------------------


class Shelf(NamedTuple):
    folder: Path
    report: Report
    progress: list[Progress]


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A folder with a store inside, two documents (one in a subfolder), copies of them, and a note."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "deep" / "er").mkdir(parents=True)
    pdf(folder / "harbour.pdf", "harbour")
    pdf(folder / "deep" / "er" / "islands.pdf", *(f"island number {n}" for n in range(1, 7)))
    shutil.copy(folder / "harbour.pdf", folder / "deep" / "copy of harbour.pdf")
    written("GANGWAY", (600, 300), (40, 40)).save(folder / "photo.png")
    shutil.copy(folder / "photo.png", folder / "wrongly named.jpg")
    with pymupdf.open() as document:
        document.new_page(width=300, height=200).insert_text((50, 60), "A single line")
        document.save(folder / "line.pdf")
    (folder / "notes.bin").write_text("passed over")
    progress: list[Progress] = []
    with Index.open(folder / "store", create=True) as index:
        report = ingest_files(index, [folder], ENCODERS, workers=2, on_progress=progress.append)
    return Shelf(folder, report, progress)


@pytest.fixture
def shelf(stocked: Shelf, tmp_path: Path) -> Iterator[tuple[Path, Index]]:
    """A copy of the folder that `stocked` made; its store knows the files by their new place."""
    folder = tmp_path / "shelf"
    shutil.copytree(stocked.folder, folder)
    with Index.open(folder / "store") as index:
        yield folder, index


def test_a_folder_is_searched_below(stocked: Shelf) -> None:
    assert outcomes(stocked.report) == {
        "harbour.pdf": "ingested",
        "copy of harbour.pdf": "unchanged",
        "islands.pdf": "ingested",
        "line.pdf": "ingested",
        "photo.png": "ingested",
        "wrongly named.jpg": "unchanged",
    }


@pytest.mark.parametrize(
    ("first", "copy"), [("harbour.pdf", "deep/copy of harbour.pdf"), ("photo.png", "wrongly named.jpg")]
)
def test_copies_are_linked_to_one_document(stocked: Shelf, first: str, copy: str) -> None:
    with Index.open(stocked.folder / "store") as index:
        document = index.at_path(str(stocked.folder / first))
        assert document is not None
        assert (document.name, index.at_path(str(stocked.folder / copy))) == (first, document)
        assert len(index.documents()) == 4
    (row,) = [result for result in stocked.report.results if result.path == stocked.folder / copy]
    assert (row.outcome, row.reason) == (Outcome.UNCHANGED, f"Same content as {first}.")


def test_progress_runs_from_nothing_to_all_pages(stocked: Shelf) -> None:
    done = [step.pages_done for step in stocked.progress]
    assert done == sorted(done)
    assert done[0] == 0
    assert {step.pages_total for step in stocked.progress} == {done[-1]}


def test_pages_of_several_batches_stay_in_order(stocked: Shelf) -> None:
    with Index.open(stocked.folder / "store") as index:
        document = index.at_path(str(stocked.folder / "deep" / "er" / "islands.pdf"))
        assert document is not None
        for number in range(1, 7):
            page = index.page(document.id, number)
            assert page is not None
            assert page.regions[0].text == f"Island number {number}"


def test_the_only_line_of_a_page_can_be_found(stocked: Shelf) -> None:
    with Index.open(stocked.folder / "store") as index:
        ((chunk_id, _),) = index.match_chunks("a single line", top_k=3)
        assert index.chunks([chunk_id])[chunk_id].text == "A single line"


def test_nothing_of_the_store_inside_the_folder_is_ingested(shelf: tuple[Path, Index], no_workers: None) -> None:
    folder, index = shelf
    assert any((folder / "store" / "files").glob("*.pdf"))
    report = ingest_files(index, [folder], ENCODERS)
    assert len(report.results) == report.count(Outcome.UNCHANGED) == 6


@pytest.mark.slow
def test_a_changed_file_replaces_its_old_version_and_takes_its_name_along(tmp_path: Path, index: Index) -> None:
    path, other = pdf(tmp_path / "a.pdf", "lighthouse", "breakwater"), pdf(tmp_path / "b.pdf", "ferry")
    first = ingest_files(index, [path, other], ENCODERS, workers=1)
    assert outcomes(first) == {"a.pdf": "ingested", "b.pdf": "ingested"}
    old, before = index.at_path(str(path)), index.counts()
    assert old is not None

    pdf(path, "lighthouse", "pilot boat")
    second = ingest_files(index, [path, other], ENCODERS, workers=1)
    assert [(r.path.name, r.outcome, r.pages) for r in second.results] == [
        ("a.pdf", Outcome.REPLACED, 2),
        ("b.pdf", Outcome.UNCHANGED, 1),
    ]
    assert index.document(old.id) is None
    assert not index.source(old).exists()
    assert index.counts() == before
    assert index.match_pages("breakwater", top_k=3) == []
    assert len(index.match_pages("pilot boat", top_k=3)) == 1

    moved = path.rename(tmp_path / "灯塔.pdf")
    third = ingest_files(index, [tmp_path], ENCODERS)
    assert outcomes(third) == {"灯塔.pdf": "unchanged", "b.pdf": "unchanged"}
    assert index.at_path(str(path)) is None
    assert [(d.name, d.path) for d in index.documents()] == [("b.pdf", str(other)), ("灯塔.pdf", str(moved))]


# -- what is named ---------------------------------------------------------------------------------------------------


@pytest.fixture
def cabinet(tmp_path: Path) -> Path:
    folder = tmp_path / "cabinet"
    for name in ("b.pdf", "a.PDF", "note.bin", "in/c.png", "in/deep/d.tiff", "in/deep/e.exe", "[1] f*.pdf"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", ["[1] f*.pdf", "a.PDF", "b.pdf", "in/c.png", "in/deep/d.tiff"]),
        ("in", ["in/c.png", "in/deep/d.tiff"]),
        ("*.pdf", ["[1] f*.pdf", "b.pdf"]),
        ("[1] f*.pdf", ["[1] f*.pdf"]),
        ("*", ["[1] f*.pdf", "a.PDF", "b.pdf", "in/c.png", "in/deep/d.tiff"]),
        ("**/*.*", ["[1] f*.pdf", "a.PDF", "b.pdf", "in/c.png", "in/deep/d.tiff"]),
        ("in/../b.pdf", ["b.pdf"]),
        ("note.bin", ["note.bin"]),  # named: it is looked at, and refused by its kind
    ],
)
def test_files_folders_and_patterns(cabinet: Path, source: str, found: list[str]) -> None:
    files, problems = find_files([cabinet / source])
    assert sorted(str(path.relative_to(cabinet)) for path in files) == found
    assert problems == []


def test_a_file_named_twice_is_found_once(cabinet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cabinet)
    files, _ = find_files(["b.pdf", cabinet / "b.pdf", cabinet, "b*"])
    assert files.count(cabinet / "b.pdf") == 1
    assert len(files) == 5


def test_a_folder_that_cannot_be_read_costs_only_itself(cabinet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir  # permissions would not do: tests may run as root, whom nothing stops

    def scandir(path: str | Path) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    files, problems = find_files([cabinet])
    assert cabinet / "in" / "c.png" in files
    assert problems == [
        FileResult(cabinet / "in" / "deep", Outcome.FAILED, reason="The folder cannot be read: Permission denied.")
    ]


# -- what cannot be read ---------------------------------------------------------------------------------------------

NO_PAGES = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""
LOCKED = {"encryption": pymupdf.PDF_ENCRYPT_AES_256, "user_pw": "open", "owner_pw": "own"}
READABLE_TO_ALL = {"encryption": pymupdf.PDF_ENCRYPT_AES_256, "user_pw": "", "owner_pw": "own"}


@pytest.fixture(scope="module")
def bad_batch(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One ingest of files that are wrong in every way, and of good ones between them."""
    folder = tmp_path_factory.mktemp("bad")
    pdf(folder / "good.pdf", "harbour")
    pdf(folder / "locked.pdf", "secret", save=LOCKED)
    pdf(folder / "owned.pdf", "wharf", save=READABLE_TO_ALL)
    (folder / "empty.pdf").touch()
    (folder / "empty.png").touch()
    (folder / "corrupt.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 20)
    (folder / "corrupt copy.pdf").write_bytes((folder / "corrupt.pdf").read_bytes())
    (folder / "no pages.pdf").write_bytes(NO_PAGES)
    (folder / "words.png").write_text("no picture at all")
    image = folder / "cut.png"
    written("LIGHTHOUSE", (400, 200), (20, 20)).save(image)
    image.write_bytes(image.read_bytes()[:400])
    (folder / "notes.bin").write_text("text")
    (folder / "dangling.pdf").symlink_to(folder / "gone.pdf")
    (folder / os.fsdecode(b"caf\xe9.pdf")).write_bytes((folder / "good.pdf").read_bytes())
    (folder / "box").mkdir()
    (folder / "box" / "passed over.bin").write_text("text")
    pdf(folder / "box" / "last.pdf", "ferry")
    names = ("corrupt.pdf", "missing.pdf", "notes.bin", "good.pdf", "box", "*.png", "*.pdf")
    with Index.open(folder / "store", create=True) as index:
        report = ingest_files(index, [folder / name for name in names], ENCODERS)
        assert {document.name for document in index.documents()} == {"good.pdf", "last.pdf", "owned.pdf"}
        assert index.counts()["pages"] == 3
    return report


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("corrupt.pdf", "The file is damaged or not a PDF: open it in a viewer and save it anew."),
        ("corrupt copy.pdf", "The file is damaged or not a PDF: open it in a viewer and save it anew."),
        ("empty.pdf", "The file is empty."),
        ("empty.png", "The file is empty."),
        ("locked.pdf", "The file is encrypted: give its password with --password or --password-file."),
        ("no pages.pdf", "The file has no pages."),
        ("words.png", "The file is damaged or not an image of the kind that its name says."),
        ("cut.png", "The file is damaged or not an image of the kind that its name says."),
        ("missing.pdf", "There is no such file or folder."),
        ("dangling.pdf", "The file cannot be read: No such file or directory."),
        (
            "notes.bin",
            f"Files of this kind cannot be ingested; known are {', '.join(sorted(s[1:] for s in MEDIA_TYPES))}.",
        ),
        (os.fsdecode(b"caf\xe9.pdf"), "The file's name is not valid UTF-8: rename the file."),
    ],
    ids=ascii,
)
def test_a_file_that_cannot_be_read_says_why(bad_batch: Report, name: str, reason: str) -> None:
    (row,) = [result for result in bad_batch.results if result.path.name == name]
    assert (row.outcome, row.reason, row.pages, row.chunks) == (Outcome.FAILED, reason, 0, 0)


@pytest.mark.parametrize("name", ["good.pdf", "last.pdf", "owned.pdf"])
def test_the_rest_of_the_batch_goes_on(bad_batch: Report, name: str) -> None:
    (row,) = [result for result in bad_batch.results if result.path.name == name]
    assert (row.outcome, row.reason, row.pages) == (Outcome.INGESTED, "", 1)
    assert row.chunks > 0


def test_every_named_file_has_one_row_and_no_other_has(bad_batch: Report) -> None:
    names = [result.path.name for result in bad_batch.results]
    assert len(names) == len(set(names)) == 15
    assert "passed over.bin" not in names


def test_a_full_disk_costs_only_one_file(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [pdf(tmp_path / "a.pdf", "harbour"), pdf(tmp_path / "b.pdf", "ferry")]
    real = Index._copy_source

    def copy(self: Index, document: object, source: Path) -> None:
        if source.name == "a.pdf":
            raise OSError(28, "No space left on device")
        real(self, document, source)  # type: ignore[arg-type]

    monkeypatch.setattr(Index, "_copy_source", copy)
    report = ingest_files(index, paths, ENCODERS, workers=1)
    assert [result.outcome for result in report.results] == [Outcome.FAILED, Outcome.INGESTED]
    assert report.results[0].reason.startswith("No space left on the disk of ")
    assert [document.name for document in index.documents()] == ["b.pdf"]


def test_a_busy_store_is_refused_before_anything_is_read(tmp_path: Path, index: Index, no_workers: None) -> None:
    path = pdf(tmp_path / "a.pdf", "harbour")
    with index.writing(), Index.open(index.path) as second, pytest.raises(StoreBusy):
        ingest_files(second, [path], ENCODERS)


# -- where boxes come to lie -----------------------------------------------------------------------------------------


def written(text: str, size: tuple[int, int], place: tuple[int, int]) -> Image.Image:
    """A white image with `text` in black, its upper left corner at `place`, in pixels."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text(place, text, fill="black", font=ImageFont.load_default(56))
    return image


def ink(image: Image.Image) -> BBox:
    """The box around everything dark."""
    rows, columns = np.nonzero(np.asarray(image.convert("L")) < 128)
    return BBox.from_size((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), image.width, image.height)


def rendered(path: Path) -> Image.Image:
    with pymupdf.open(path) as document:
        pixels = document[0].get_pixmap(dpi=144)
        return Image.frombytes("RGB", (pixels.width, pixels.height), pixels.samples)


def framed(path: Path, frame: dict[str, object], *, alone: bool) -> Path:
    """A4 with LIGHTHOUSE in the upper left quarter, `alone` or above running text, turned and cut as `frame` says."""
    with pymupdf.open() as document:
        page = document.new_page()
        page.insert_text((100, 180), "LIGHTHOUSE", fontsize=20)
        if not alone:
            page.insert_textbox((100, 220, 480, 400), paragraph("breakwater"))
        if "media" in frame:
            page.set_mediabox(pymupdf.Rect(frame["media"]))
        if "crop" in frame:
            page.set_cropbox(pymupdf.Rect(frame["crop"]))
        page.set_rotation(frame.get("turn", 0))
        document.save(path)
    return path


def scanned(path: Path, turn: int) -> Path:
    """A page that is one image, stored so that it stands upright after the page is turned."""
    picture = path.with_suffix(".source.png")
    written("LIGHTHOUSE", (1240, 800), (200, 150)).rotate(turn, expand=True).save(picture)
    with pymupdf.open() as document, Image.open(picture) as image:
        page = document.new_page(width=image.width / 2, height=image.height / 2)
        page.insert_image(page.rect, filename=picture)
        page.set_rotation(turn)
        document.save(path)
    picture.unlink()
    return path


FRAMES: dict[str, dict[str, object]] = {
    "plain": {},
    "turned 90": {"turn": 90},
    "turned 180": {"turn": 180},
    "turned 270": {"turn": 270},
    "cropped": {"crop": (60, 120, 500, 450)},
    "cropped, turned 90": {"crop": (60, 120, 500, 450), "turn": 90},
    "cropped, turned 180": {"crop": (60, 120, 500, 450), "turn": 180},
    "cropped, turned 270": {"crop": (60, 120, 500, 450), "turn": 270},
    "shifted": {"media": (30, 40, 560, 790)},
    "shifted, turned 90": {"media": (30, 40, 560, 790), "turn": 90},
}


class Placed(NamedTuple):
    page: Page
    ink: BBox
    """Around LIGHTHOUSE, in the rendered page."""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Placed]:
    """Pages with the word LIGHTHOUSE in every frame, as PDF, scan and photo, through one ingest."""
    folder, twins = tmp_path_factory.mktemp("gallery"), tmp_path_factory.mktemp("twins")
    inks = {}
    for name, frame in FRAMES.items():
        framed(folder / f"{name}.pdf", frame, alone=False)
        inks[f"{name}.pdf"] = ink(rendered(framed(twins / f"{name}.pdf", frame, alone=True)))
    for turn in (0, 90, 180, 270):
        name = f"scan turned {turn}.pdf"
        inks[name] = ink(rendered(scanned(folder / name, turn)))
    photo = written("LIGHTHOUSE", (900, 500), (300, 60))
    photo.save(folder / "photo.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side, to be turned clockwise when shown
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "sideways.jpg", exif=exif)
    inks |= dict.fromkeys(("photo.png", "sideways.jpg"), ink(photo))
    Image.linear_gradient("L").resize((800, 400)).save(folder / "sky.webp")
    inks["sky.webp"] = BBox(0, 0, 0, 0)
    frames = [written(word, (600, 300), (40, 40)) for word in ("GANGWAY", "BREAKWATER")]
    frames[0].save(folder / "frames.tiff", save_all=True, append_images=frames[1:])
    with Index.open(folder / "store", create=True) as index:
        report = ingest_files(index, [folder], ENCODERS)
        assert [result.reason for result in report.results if result.reason] == []
        documents = {document.name: document for document in index.documents()}
        pages = {name: index.page(documents[name].id, 1) for name in inks}
        pages |= {f"frame {n}": index.page(documents["frames.tiff"].id, n) for n in (1, 2)}
        assert documents["frames.tiff"].page_count == 2
    inks |= {f"frame {n}": ink(frame) for n, frame in enumerate(frames, start=1)}
    return {name: Placed(page, inks[name]) for name, page in pages.items() if page is not None}


def assert_around(box: BBox, printed: BBox, page: Page, *, spare: float) -> None:
    """`box` holds all the ink (to a point) and at most `spare` points more on every side."""
    width, height = page.width, page.height
    gaps = (printed.x0 - box.x0) * width, (box.x1 - printed.x1) * width
    gaps += (printed.y0 - box.y0) * height, (box.y1 - printed.y1) * height
    assert all(-1 <= gap <= spare for gap in gaps), gaps


@pytest.mark.parametrize("name", FRAMES)
def test_boxes_lie_in_the_visible_frame(gallery: dict[str, Placed], name: str) -> None:
    page, printed = gallery[f"{name}.pdf"]
    assert page.text_source == "native"
    (region,) = [region for region in page.regions if "LIGHTHOUSE" in region.text]
    (word,) = [word for word in region.words if word.text == "LIGHTHOUSE"]
    assert_around(word.box, printed, page, spare=12)  # ascenders and descenders of 20 points of type
    assert region.box.contains(word.box.center)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("plain", (595, 842)),
        ("turned 90", (842, 595)),
        ("cropped", (440, 330)),
        ("cropped, turned 270", (330, 440)),
        ("shifted", (530, 750)),
    ],
)
def test_pages_have_the_size_that_is_seen(gallery: dict[str, Placed], name: str, size: tuple[int, int]) -> None:
    page = gallery[f"{name}.pdf"].page
    assert (page.width, page.height) == pytest.approx(size, abs=0.5)


@pytest.mark.parametrize("name", [f"scan turned {turn}.pdf" for turn in (0, 90, 180, 270)])
def test_a_scan_gets_words_over_its_ink(gallery: dict[str, Placed], name: str) -> None:
    page, printed = gallery[name]
    assert page.text_source == "ocr"
    (word,) = [word for region in page.regions for word in region.words]
    assert word.text == "LIGHTHOUSE"
    assert_around(word.box, printed, page, spare=8)


@pytest.mark.parametrize("name", ["photo.png", "sideways.jpg", "frame 1", "frame 2"])
def test_an_image_with_few_words_is_a_picture_with_words_in_it(gallery: dict[str, Placed], name: str) -> None:
    page, printed = gallery[name]
    assert page.text_source == "ocr"
    (region,) = page.regions
    assert (region.kind, region.box) == (RegionKind.PICTURE, BBox(0, 0, 1, 1))
    assert region.text == {"frame 1": "GANGWAY", "frame 2": "BREAKWATER"}.get(name, "LIGHTHOUSE")
    assert_around(region.words[0].box, printed, page, spare=8)


def test_a_picture_without_words_is_a_region_all_the_same(gallery: dict[str, Placed]) -> None:
    page = gallery["sky.webp"].page
    assert page.text_source == "none"
    assert [(region.kind, region.box, region.text) for region in page.regions] == [
        (RegionKind.PICTURE, BBox(0, 0, 1, 1), "")
    ]
