"""Documents without pages of their own: laid out once, read, cited on their pages; nothing they name is fetched."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import kinds
import pymupdf
import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st
from test_jobs import is_running
from test_pipeline import ENCODERS, outcomes

from ingest import confine, office
from ingest import convert as converting
from ingest.convert import convert
from ingest.decode import decoded
from ingest.pipeline import Report, ingest_files
from ingest.sheets import make_readable
from mmrag.engine import open_rag
from mmrag.errors import DocumentError, EncryptedFile, UnreadableFile
from mmrag.index import Index
from mmrag.render import render_page
from mmrag.settings import Settings
from mmrag.types import LAID_OUT, MEDIA_TYPES, BBox

pytestmark = pytest.mark.slow

needs_office = pytest.mark.skipif(office.find_program() is None, reason="there is no LibreOffice")


def laid_out(path: Path) -> pymupdf.Document:
    target = path.with_name(f"{path.name}.pdf")
    convert(path, target)
    return pymupdf.open(target)


def text_of(path: Path) -> str:
    with laid_out(path) as document:
        return "\n".join(page.get_text() for page in document.pages())


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        convert(path, path.with_name("out.pdf"))
    return str(caught.value)


# -- every kind, from the file to the cited region -------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A store with one document of every kind that needs no other program, and the report of its ingest."""
    folder = tmp_path_factory.mktemp("library")
    return _ingested(folder, kinds.PLAIN)


@pytest.fixture(scope="module")
def office_library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    return _ingested(tmp_path_factory.mktemp("office"), kinds.OFFICE)


def _ingested(folder: Path, of: tuple[str, ...]) -> tuple[Path, Report]:
    (folder / "files").mkdir()
    paths = [kinds.build(kind, folder / "files") for kind in of]
    with Index.open(folder / "store", create=True) as index:
        report = ingest_files(index, paths, ENCODERS)
    return folder, report


def assert_cited_where_it_stands(folder: Path, kind: str) -> None:
    """The answer holds the fact, and its region the place of the words on the page, as MuPDF finds them there."""
    with Index.open(folder / "store") as index:
        (document,) = [d for d in index.documents() if d.name.endswith(f".{kind}")]
        assert document.media_type == MEDIA_TYPES[f".{kind}"]
        original = folder / "files" / document.name
        assert index.original(document).read_bytes() == original.read_bytes()
        assert index.source(document).suffix == ".pdf"
        found = [
            (page, region) for page, region in _regions(index, document.id) if kinds.NAMES[kind] in _plain(region.text)
        ]
        ((number, region),) = found
        assert f"{kinds.HEIGHTS[kind]} metres" in region.text
        printed = _printed(index.source(document), number, f"{kinds.HEIGHTS[kind]} metres")
        if printed:  # the pages of a comic are pictures
            assert region.box.intersection(printed) > 0.9 * printed.area
        crop = render_page(index.source(document), number, clip=region.box).convert("L")
        dark = sum(crop.histogram()[:100])
        assert dark > 100  # there is print where the region says


def _plain(text: str) -> str:
    return text.replace("ﬂ", "fl")


def _regions(index: Index, document_id: str) -> Iterator[tuple[int, object]]:
    document = index.document(document_id)
    assert document
    for number in range(1, document.page_count + 1):
        page = index.page(document_id, number)
        assert page
        yield from ((number, region) for region in page.regions)


def _printed(source: Path, number: int, words: str) -> BBox | None:
    with pymupdf.open(source) as document:
        page = document[number - 1]
        boxes = [BBox.from_size(rect, page.rect.width, page.rect.height) for rect in page.search_for(words)]
    return BBox.union(boxes) if boxes else None


@pytest.mark.parametrize("kind", kinds.PLAIN)
def test_a_fact_is_found_where_it_stands(library: tuple[Path, Report], kind: str) -> None:
    folder, report = library
    assert set(outcomes(report).values()) == {"ingested"}
    assert_cited_where_it_stands(folder, kind)


@pytest.mark.slow
@needs_office
@pytest.mark.parametrize("kind", kinds.OFFICE)
def test_a_fact_of_an_office_file_is_found_where_it_stands(office_library: tuple[Path, Report], kind: str) -> None:
    folder, report = office_library
    assert [result.reason for result in report.results] == [""] * len(kinds.OFFICE)
    assert_cited_where_it_stands(folder, kind)


def test_an_answer_cites_the_page_that_was_laid_out(tmp_path: Path) -> None:
    path = kinds.build("epub", tmp_path)
    settings = Settings(store=tmp_path / "store")
    from mmrag.models import load_encoders

    with Index.open(settings.store, create=True) as index:
        ingest_files(index, [path], load_encoders(settings), workers=1)
    with open_rag(settings) as rag:
        answer = rag.ask("How tall is the lighthouse of Arkona?")
        (citation, *_) = answer.citations
        assert (citation.document, citation.page) == (path.name, 2)
        assert "41 metres" in citation.quote
        assert citation.image().width > 500


def test_every_kind_that_is_laid_out_is_tested() -> None:
    same = {".oxps": ".xps", ".htm": ".html", ".xhtml": ".html", ".markdown": ".md", ".text": ".txt"}
    assert {same.get(suffix, suffix)[1:] for suffix in LAID_OUT} == set(kinds.HEIGHTS)
    assert all(LAID_OUT[suffix] == LAID_OUT[other] for suffix, other in same.items())


# -- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(library: tuple[Path, Report], tmp_path: Path) -> Iterator[tuple[Path, Index]]:
    folder = tmp_path / "own"
    shutil.copytree(library[0], folder)
    with Index.open(folder / "store") as index:
        yield folder, index


def test_again_lays_a_document_out_anew_and_from_the_own_copy_where_it_is_gone(
    own: tuple[Path, Index], library
) -> None:
    folder, index = own
    path = library[0] / "files" / "hook.md"  # as the store knows it
    document = index.at_path(str(path))
    assert document
    index.source(document).write_bytes(b"damaged")
    there = folder / "files" / "hook.md"
    report = ingest_files(index, [there], ENCODERS, workers=1, again=True)
    assert outcomes(report) == {"hook.md": "replaced"}
    assert_cited_where_it_stands(folder, "md")

    there.unlink()
    index.source(document).write_bytes(b"damaged")
    report = ingest_files(index, [there], ENCODERS, workers=1, again=True)
    assert outcomes(report) == {"hook.md": "replaced"}
    with pymupdf.open(index.source(document)) as pages:
        assert kinds.fact("md") in pages[0].get_text()

    index.original(document).write_bytes(b"damaged")
    (row,) = ingest_files(index, [there], ENCODERS, workers=1, again=True).results
    assert "store's own copy is damaged" in row.reason


def test_nothing_of_a_document_stays_when_it_is_removed(own: tuple[Path, Index]) -> None:
    _, index = own
    (document,) = [d for d in index.documents() if d.name.endswith(".epub")]
    files = {index.original(document), index.source(document)}
    assert len(files) == 2
    assert all(file.is_file() for file in files)
    with index.writing():
        index.remove(document.id)
    assert not any(file.exists() for file in files)
    assert not list((index.path / "files").glob(f"{document.id}*"))


def test_pages_of_another_version_are_never_shown(own: tuple[Path, Index], tmp_path: Path, monkeypatch) -> None:
    _, index = own
    (document,) = [d for d in index.documents() if d.name.endswith(".txt")]
    before = index.source(document).read_bytes()
    monkeypatch.setattr(Index, "_write_vectors", lambda *args: (_ for _ in ()).throw(OSError("disk")))
    fresh = written(tmp_path / "fresh.pdf", b"other pages")
    with index.writing(), pytest.raises(OSError, match="disk"):
        index.add(document, [], [], source=index.original(document), laid_out=fresh, text_vectors={}, image_vectors={})
    assert index.source(document).read_bytes() == before


# -- nothing is fetched ----------------------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and what has been asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(kinds.picture("FETCHED"))

        do_HEAD = do_OPTIONS = do_PROPFIND = do_GET  # noqa: N815  # the library's names

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture beside the documents that none of them may show."""
    (tmp_path / "docs").mkdir()
    written(tmp_path / "docs" / "style.css", "p { display: none }")
    return written(tmp_path / "docs" / "secret.png", kinds.picture("SECRET"))


SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="300" height="99">'


def assert_nothing_fetched(path: Path, asked: list[str]) -> None:
    with laid_out(path) as document:
        assert "harbour" in document[0].get_text()
        assert [page.get_images() for page in document.pages()] == [[]] * document.page_count
    assert asked == []


@pytest.mark.parametrize("name", ["a.html", "a.xhtml", "a.md", "a.svg", "a.epub", "a.fb2"])
def test_nothing_that_a_document_names_is_fetched(
    secret: Path, web: tuple[str, list[str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(secret.parent)  # where a relative name would lead
    base, asked = web
    places = ("secret.png", "./secret.png", "../docs/secret.png", str(secret), secret.as_uri(), f"{base}/a.png")
    links = f'<link rel="stylesheet" href="style.css"/><link rel="stylesheet" href="{base}/a.css"/>'
    links += f"<style>@import url('{base}/b.css'); @import 'style.css'; @font-face {{ src: url({base}/f.ttf) }} "
    links += f"p {{ background-image: url({base}/c.png); list-style-image: url({secret}) }}</style>"
    images = "".join(f'<img src="{place}"/><object data="{place}"/><iframe src="{place}"/>' for place in places)
    page = f"<html><head>{links}</head><body><p>the harbour</p>{images}</body></html>"
    drawn = "".join(
        f'<image href="{p}" width="9" height="9"/><image xlink:href="{p}" width="9" height="9"/>' for p in places
    )
    contents: dict[str, bytes] = {
        "a.md": ("the harbour\n\n" + "\n".join(f"![x]({place}) [y][{place}]" for place in places) + images).encode(),
        "a.svg": (
            f'{SVG}<style>@import url("{base}/b.css");</style><text x="9" y="30">the harbour</text>{drawn}</svg>'
        ).encode(),
        "a.epub": kinds.epub(f"the harbour {images}"),
        "a.fb2": kinds.fb2("the harbour" + "".join(f'<image href="{place}"/>' for place in places)),
    }
    path = written(secret.parent / name, contents.get(name, page.encode()))
    if name == "a.epub":
        with laid_out(path) as document:
            assert "harbour" in document[1].get_text()
            assert not document[0].get_images()
            assert not document[1].get_images()
        assert asked == []
    else:
        assert_nothing_fetched(path, asked)


@pytest.mark.slow
@needs_office
@pytest.mark.parametrize("name", ["a.docx", "a.odt", "a.ods", "a.rtf"])
def test_nothing_that_an_office_file_names_is_fetched(secret: Path, web: tuple[str, list[str]], name: str) -> None:
    base, asked = web
    places = (f"{base}/a.png", secret.as_uri(), str(secret))
    field = rb'{\field{\*\fldinst INCLUDEPICTURE "%s" \\d}{\fldrslt x}}'
    contents = {
        "a.docx": kinds.linked_docx("the harbour", *places),
        "a.odt": kinds.odt("the harbour", *places, "../secret.png"),
        "a.ods": kinds.ods("the harbour", f"COM.MICROSOFT.WEBSERVICE(&quot;{base}/w&quot;)", f"'{base}/x.ods'#$S.A1"),
        "a.rtf": rb"{\rtf1 the harbour " + b"".join(field % place.encode() for place in places) + b"}",
    }
    assert_nothing_fetched(written(secret.parent / name, contents[name]), asked)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.svg",
            SVG + '<text x="9" y="30">the harbour {}</text></svg>',
        ),
        ("a.fb2", "<FictionBook><body><section><p>the harbour {}</p></section></body></FictionBook>"),
        ("a.xhtml", "<html><body><p>the harbour {}</p></body></html>"),
    ],
)
def test_entities_are_not_resolved(tmp_path: Path, name: str, content: str) -> None:
    told = written(tmp_path / "told.txt", "SECRET")
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
    head = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "{told.as_uri()}"><!ENTITY e0 "bomb">{bomb}]>'
    text = text_of(written(tmp_path / name, head + content.format("&f; &e8;")))
    assert "the harbour" in text
    assert "SECRET" not in text
    assert "bombbomb" not in text


# -- text ------------------------------------------------------------------------------------------------------------

CHINESE = "港口在去年的风暴之后重建。\n"
WESTERN = "Für die Städte, façade, Übergänge über den Fluß: 5 £\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"])
@pytest.mark.parametrize("text", [CHINESE, "The harbour.\n" + CHINESE, "The harbour.\n"])
def test_text_is_decoded(text: str, encoding: str) -> None:
    assert decoded(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_western_text_is_not_taken_for_chinese(encoding: str) -> None:
    assert decoded(WESTERN.encode(encoding)) == WESTERN


@pytest.mark.parametrize("declared", ["gb2312", "GBK", "big5", "shift_jis", "iso-2022-jp", "koi8-r", "iso-8859-2"])
def test_html_is_decoded_as_it_says(declared: str) -> None:
    others = {
        "koi8-r": "Гавань",
        "iso-8859-2": "přístav",
        "shift_jis": "かもめ",
        "iso-2022-jp": "かもめ",
        "big5": "燈塔",
    }
    words = others.get(declared, "灯塔")
    for head in (f'<meta charset="{declared}">', f"<meta http-equiv='x' content='text/html; charset={declared}'>"):
        assert decoded((head + words).encode(declared), is_markup=True) == head + words
    assert words in decoded(f'<meta charset="{declared}">{words}'.encode(), is_markup=True)  # it says so, but is UTF-8


@pytest.mark.parametrize("declared", ["unheard-of", "utf-7", "unicode_escape", "base64", "zlib", "rot13", "idna"])
def test_a_charset_that_is_none_is_not_used(declared: str) -> None:
    text = f'<meta charset="{declared}">\\x41 caf\u00e9'
    assert decoded(text.encode(), is_markup=True) == text


@RELAXED
@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn"])), st.sampled_from(["utf-8", "utf-16"]))
def test_any_text_is_decoded(text: str, encoding: str) -> None:
    assert decoded(text.encode(encoding)) == text.removeprefix("\ufeff")


@RELAXED
@given(st.binary())
def test_any_bytes_are_text_or_refused(content: bytes) -> None:
    try:
        text = decoded(content)
    except UnreadableFile:
        return
    assert not any(ord(c) < 32 and c not in "\t\n" for c in text)


def test_lines_stay_and_long_ones_wrap(tmp_path: Path) -> None:
    eighty = "x" * 39 + " " + "y" * 40
    lines = [eighty, "\tone\ttwo", "a" * 1000, "word " * 200, "港口" * 300, "end"]
    with laid_out(written(tmp_path / "a.txt", "\n".join(lines))) as document:
        page = document[0]
        assert page.rect.width == 595
        printed = page.get_text().split("\n")
        words = page.get_text("words")
    assert printed[0].strip() == eighty
    assert max(word[2] for word in words) <= 595 - 40
    joined = "".join("".join(printed).split())
    assert joined == "".join("".join(lines).split())


@pytest.mark.parametrize("kind", ["html", "md"])
def test_what_is_too_wide_makes_its_page_wider(tmp_path: Path, kind: str) -> None:
    long = "".join(f"{n:04d}" for n in range(100))
    row = "| " + " | ".join(f"column-{n}" for n in range(30)) + " |\n"
    text = f"{long}\n\n{row}{'|---' * 30}|\n{row}\n```\n{'code ' * 100}\n```\n"
    markup = f"<p>{long}</p><table><tr>{''.join(f'<td>column-{n}</td>' for n in range(30))}</tr></table>"
    path = written(tmp_path / f"a.{kind}", text if kind == "md" else markup)
    with laid_out(path) as document:
        (page,) = document.pages()
        words = [word[4] for word in page.get_text("words")]
        assert page.rect.height == 842
        assert page.rect.width > 1000
    assert long in words
    assert "column-29" in words


def test_markdown_is_laid_out(tmp_path: Path) -> None:
    with laid_out(written(tmp_path / "a.md", kinds.markdown("the harbour"))) as document:
        spans = [s for b in document[0].get_text("dict")["blocks"] for li in b["lines"] for s in li["spans"]]
    sizes = {span["text"].strip(): span["size"] for span in spans}
    fonts = {span["text"].strip(): span["font"] for span in spans}
    assert sizes["Towers"] > 1.5 * sizes["the harbour"]
    assert "Mono" in fonts["code = 1"]
    assert not any("|" in text or "#" in text for text in sizes)


def test_no_script_runs(tmp_path: Path) -> None:
    text = text_of(written(tmp_path / "a.html", kinds.html("the harbour")))
    assert "the harbour" in text
    assert "script" not in text


# -- what is refused -------------------------------------------------------------------------------------------------

DAMAGED = "The file is damaged or not of the kind that its name says"


@pytest.mark.parametrize("suffix", sorted(LAID_OUT))
def test_an_empty_file_is_empty(tmp_path: Path, suffix: str) -> None:
    assert refusal(written(tmp_path / f"a{suffix}", b"")) == "The file is empty."


@pytest.mark.parametrize("content", [b"\0" * 100, bytes(range(256)) * 20, b"PK\x03\x04" + b"\x01\x02\x00" * 300])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".html"])
def test_what_is_no_text_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    assert refusal(written(tmp_path / f"a{suffix}", content)).startswith("The file holds no text")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".txt", " \n\n\t"),
        (".md", "\n"),
        (".html", "<script>document.write('only this')</script>"),
        (".fb2", "garbage"),
        (".svg", '<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ],
)
def test_what_shows_nothing_is_refused(tmp_path: Path, suffix: str, content: str) -> None:
    assert refusal(written(tmp_path / f"a{suffix}", content)) == "There is no text and no picture in the file."


@pytest.mark.parametrize("suffix", [".epub", ".mobi", ".xps", ".svg", ".cbz"])
def test_garbage_is_damaged(tmp_path: Path, suffix: str) -> None:
    for content in (b"garbage", b"PK\x03\x04garbage", bytes(range(256)) * 20):
        assert refusal(written(tmp_path / f"a{suffix}", content)).startswith(DAMAGED)


@pytest.mark.parametrize("kind", ["epub", "xps", "cbz"])
def test_a_file_that_was_cut_is_damaged(tmp_path: Path, kind: str) -> None:
    whole = kinds.build(kind, tmp_path).read_bytes()
    assert refusal(written(tmp_path / f"a.{kind}", whole[: len(whole) // 2])).startswith(DAMAGED)


@pytest.mark.parametrize("suffix", [".epub", ".cbz", ".xps", ".docx", ".ods"])
def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "UNPACKED_BYTES", 3_000_000)
    with zipfile.ZipFile(tmp_path / f"bomb{suffix}", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.xml", bytes(2_000_000))
        archive.writestr("b.xml", bytes(2_000_000))
    assert refusal(tmp_path / f"bomb{suffix}") == "The file unpacks to more than 3 MB: split it."


def test_too_much_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "MARKUP_BYTES", 2_000_000)
    path = written(tmp_path / "a.txt", "word " * 500_000)
    assert refusal(path) == "The file has more than 2 MB of text: split it."


def test_only_pictures_of_a_comic_become_pages(tmp_path: Path) -> None:
    with laid_out(kinds.build("cbz", tmp_path)) as document:
        assert [len(page.get_images()) for page in document.pages()] == [1, 1]
        assert [page.get_images()[0][2] for page in document.pages()] == [1240, 1240]
    none = written(tmp_path / "none.cbz", kinds.packed({"a.txt": "x", "a.html": "<p>x"}))
    assert refusal(none) == "There is no picture in the comic."
    broken = kinds.packed({"1.png": kinds.picture("ok"), "2.png": kinds.picture("cut")[:300]})
    assert refusal(written(tmp_path / "broken.cbz", broken)).startswith("Picture 2 of the comic is damaged")
    named = kinds.packed({"1.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>"})
    assert refusal(written(tmp_path / "named.cbz", named)).startswith("Picture 1 of the comic is damaged")


@pytest.mark.slow
def test_what_would_take_all_memory_costs_only_its_own_process(tmp_path: Path) -> None:
    deep = written(tmp_path / "deep.html", "<div>" * 100_000 + "x")
    nested = written(tmp_path / "nested.md", "> " * 5000 + "x")
    good = written(tmp_path / "good.md", "# the harbour")
    with Index.open(tmp_path / "store", create=True) as index:
        report = ingest_files(index, [deep, nested, good], ENCODERS, workers=1)
    assert outcomes(report) == {"deep.html": "failed", "nested.md": "failed", "good.md": "ingested"}
    assert report.results[1].reason.startswith(DAMAGED)


# -- Office ----------------------------------------------------------------------------------------------------------


def test_without_libreoffice_an_office_file_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office, "_PROGRAMS", ("no-such-program",))
    reason = refusal(written(tmp_path / "a.docx", kinds.docx("x")))
    assert reason.startswith("DOCX files need LibreOffice: install it")
    assert "save the file as PDF" in reason


@pytest.fixture
def no_office(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that fails when it is run."""
    monkeypatch.setattr(office, "_PROGRAMS", ("false",))


@pytest.mark.parametrize("content", [b"<html><img src='http://x'></html>", b"garbage", b"%PDF-1.4", b"PK\x05\x06"])
@pytest.mark.parametrize("suffix", [".docx", ".ods", ".doc", ".rtf"])
def test_libreoffice_is_given_only_what_the_name_says(
    tmp_path: Path, no_office: None, suffix: str, content: bytes
) -> None:
    assert refusal(written(tmp_path / f"a{suffix}", content)).startswith(DAMAGED)


def test_an_office_file_with_a_password_says_so(tmp_path: Path, no_office: None) -> None:
    ole = written(tmp_path / "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    manifest = {"META-INF/manifest.xml": "<manifest:encryption-data/>"}
    for path in (ole, written(tmp_path / "a.odt", kinds.packed(manifest))):
        with pytest.raises(EncryptedFile, match="save a copy without its password"):
            convert(path, tmp_path / "out.pdf")


@pytest.mark.parametrize("command", ["cat {secret}", "exec 3<>/dev/tcp/127.0.0.1/{port}", "echo x > {beside}"])
def test_a_confined_program_reads_writes_and_reaches_nothing_else(
    tmp_path: Path, web: tuple[str, list[str]], command: str
) -> None:
    box = tmp_path / "box"
    box.mkdir()
    secret = written(tmp_path / "secret.txt", "SECRET")
    command = command.format(secret=secret, port=web[0].rpartition(":")[2], beside=tmp_path / "new.txt")

    def run(command: str) -> subprocess.CompletedProcess[bytes]:
        confined = [sys.executable, "-I", str(confine.__file__), str(box), str(10**9), "/bin/bash", "-c", command]
        return subprocess.run(confined, capture_output=True)

    assert run(f"echo y > {box}/own.txt && cat {box}/own.txt").stdout == b"y\n"
    is_enforced = confine.landlock() >= (4 if "tcp" in command else 1)
    assert (run(command).returncode != 0) == is_enforced
    assert subprocess.run(["/bin/bash", "-c", command], capture_output=True).returncode == 0


def test_an_office_program_that_makes_nothing_is_told(tmp_path: Path, no_office: None) -> None:
    assert refusal(written(tmp_path / "a.docx", kinds.docx("x"))).startswith("LibreOffice cannot read the file")


def test_an_office_program_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = written(tmp_path / "hangs", f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/pid\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr(office, "_PROGRAMS", (str(program),))
    monkeypatch.setattr(office, "SECONDS", 1.0)
    free = written(tmp_path / "free.py", "import os, sys; os.execv(sys.argv[3], sys.argv[3:])")  # it writes its number
    monkeypatch.setattr(office.confine, "__file__", str(free))
    assert refusal(written(tmp_path / "a.docx", kinds.docx("x"))).startswith("LibreOffice took more than 1 s")
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 30
    while is_running(pid):  # a killed process ends when its turn comes
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@needs_office
@pytest.mark.parametrize("kind", ["docx", "xlsx", "odt", "doc"])
def test_damaged_office_files_are_refused(tmp_path: Path, kind: str) -> None:
    whole = kinds.build(kind, tmp_path).read_bytes()
    cut = written(tmp_path / f"cut.{kind}", whole[: len(whole) // 3])
    with pytest.raises(UnreadableFile):
        convert(cut, tmp_path / "out.pdf")


SHEET = """<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0"><office:automatic-styles>
 <style:style style:name="co" style:family="table-column">
 <style:table-column-properties style:column-width="0.5in"/></style:style>
 <style:page-layout style:name="p">
 <style:page-layout-properties fo:page-width="8in" style:scale-to="80%"/></style:page-layout>
 </office:automatic-styles><office:body><office:spreadsheet><table:table>
 <table:table-column table:style-name="co" table:number-columns-repeated="100"/>
 <table:table-row><table:table-cell table:number-columns-repeated="2"><text:p>a</text:p></table:table-cell>
 <table:table-cell><text:p>1234567890.12</text:p></table:table-cell><table:table-cell><text:p>{}</text:p></table:table-cell>
 </table:table-row></table:table></office:spreadsheet></office:body></office:document>"""


def test_columns_of_a_sheet_are_made_as_wide_as_what_they_hold(tmp_path: Path) -> None:
    sheet = written(tmp_path / "a.fods", SHEET.format("港" * 20))
    make_readable(sheet)
    text = sheet.read_text(encoding="utf-8")
    assert text.count("<table:table-column ") == 5  # four that hold something, and the rest
    assert 'table:number-columns-repeated="96"' in text
    assert [f'style:name="width{width}"' in text for width in (127, 300, 840)] == [True] * 3
    assert 'fo:page-width="29.70cm"' in text
    assert "scale-to=" not in text
    assert "table-header-rows" in text


@pytest.mark.slow
@needs_office
def test_nothing_in_a_sheet_is_cut_off(tmp_path: Path) -> None:
    words = text_of(written(tmp_path / "a.xlsx", kinds.xlsx("A long text, which the cell beside it would cut.")))
    assert "which the cell beside it would cut." in " ".join(words.split())
    assert all(f"in {column}" in words for column in "BCDEFGHIJKLMNOPQRS")
