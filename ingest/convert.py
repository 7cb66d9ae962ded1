"""Lays out what has no pages of its own, once, as a PDF: e-books, text, Markdown, HTML, drawings, comics.

The PDF is what is read, shown and cited from then on, so a page can never come out differently from the day on which it
was cited. Runs in a worker process. Nothing that a document names is fetched: MuPDF gets bytes, never a path, and so
has no folder to look in. Office files are handed to `ingest.office`; what is read on the pages is not known here.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ingest import office
from ingest.decode import decoded
from ingest.limits import Limits
from ingest.pdf import look_at_image, open_pdf
from mmrag.errors import EncryptedFile, UnreadableFile
from mmrag.mupdf import pymupdf
from mmrag.render import IMAGE_DPI, is_image, to_rgb
from mmrag.types import LAID_OUT

UNPACKED_BYTES = 500_000_000
"""A file that is a ZIP archive inside (EPUB, CBZ, Office) must not unpack to more."""
MARKUP_BYTES = 10_000_000
"""Text, Markdown and HTML: some 2,000 pages, and about a minute; the time grows with the square."""

_A4 = {"width": 595, "height": 842}
# Wide enough at the sides that a line of 80 characters of typewriter text fits, and for a label beside a region. Rules
# around cells are what tables are read along; long lines of code would run off the page.
_STYLE = """
@page { margin: 45pt 50pt }
table { border-collapse: collapse }
td, th { border: 0.5pt solid #999; padding: 2pt 4pt }
pre { white-space: pre-wrap }
"""
_COLUMNS = 80
# Typewriter text without a gap, which MuPDF would let run off the page. Chinese and Japanese wrap by themselves.
_LONG_WORD = re.compile(rf"([^\s\u2e80-\uffff]{{{_COLUMNS}}})(?=[^\s\u2e80-\uffff])")
_WIDEST_PAGE = 14400  # points: more is not valid in a PDF
_MARGIN = 50
_DAMAGED = "The file is damaged or not of the kind that its name says: open it in a viewer and save it anew."
_TEXT_MARKS = ("fill-text", "stroke-text", "ignore-text")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_MARKUP = {"text/plain": "txt", "text/markdown": "md", "text/html": "html"}
_BOOKS = {
    "application/epub+zip": "epub",
    "application/x-mobipocket-ebook": "mobi",
    "application/x-fictionbook+xml": "fb2",
    "application/vnd.ms-xpsdocument": "xps",
    "image/svg+xml": "svg",
}


class FileFacts(NamedTuple):
    """What a first look at a file tells."""

    page_count: int
    title: str


def prepare(path: Path, target: Path, limits: Limits, passwords: Sequence[str] = ()) -> FileFacts:
    """Count a file's pages; where it has none, or only behind a password, a PDF of them is written to `target`.

    Raises UnreadableFile or EncryptedFile with a sentence for the report.
    """
    if is_image(path):
        return FileFacts(look_at_image(path, limits), "")
    if path.suffix.lower() in LAID_OUT:
        convert(path, target, limits)
        path = target
    with open_pdf(path, passwords, unlocked=target) as document:
        if document.page_count > limits.pages:
            raise UnreadableFile(
                f"The file has {document.page_count:,} pages, more than {limits.pages:,}: allow more with --max-pages, "
                "or split it."
            )
        title = (document.metadata or {}).get("title") or ""
        return FileFacts(document.page_count, " ".join(title.split())[:200])


def convert(path: Path, target: Path, limits: Limits = Limits()) -> None:  # noqa: B008  # immutable
    """Write the file's pages into the PDF `target`; raises DocumentError with a sentence for the report."""
    kind = LAID_OUT[path.suffix.lower()]
    if path.stat().st_size == 0:
        raise UnreadableFile("The file is empty.")
    if zipfile.is_zipfile(path):
        _check_unpacked(path)
    if kind in _MARKUP:
        _write(_laid_out(_markup(path, kind), _MARKUP[kind]), target)
    elif kind in _BOOKS:
        _write(_laid_out(path.read_bytes(), _BOOKS[kind]), target)
    elif kind == "application/vnd.comicbook+zip":
        _write(_comic(path), target)
    else:
        office.convert(path, target, limits.memory)


def _check_unpacked(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UnreadableFile(_DAMAGED) from error
    if size > UNPACKED_BYTES:
        raise UnreadableFile(f"The file unpacks to more than {UNPACKED_BYTES // 10**6} MB: split it.")


# -- text, Markdown, HTML, e-books, drawings -------------------------------------------------------------------------


def _markup(path: Path, kind: str) -> bytes:
    if path.stat().st_size > MARKUP_BYTES:
        raise UnreadableFile(f"The file has more than {MARKUP_BYTES // 10**6} MB of text: split it.")
    text = decoded(path.read_bytes(), is_markup=kind == "text/html")
    if kind == "text/plain":
        lines = (line.expandtabs(8) for line in text.split("\n"))
        text = "\n".join(_LONG_WORD.sub(r"\1\n", line) for line in lines)
    return text.encode()


def _laid_out(content: bytes, kind: str) -> Any:
    """As an open PDF; anything wider than A4, such as a table or a long word, makes its page wider."""
    # Typewriter text is wider than print: ten points let 80 characters stand in a line.
    size = 10 if kind == "txt" else 11
    pymupdf.mupdf.fz_set_user_css(_STYLE)
    with _errors(), pymupdf.open(stream=content, filetype=kind, fontsize=size, **_A4) as document:
        if document.needs_pass:
            raise EncryptedFile("The file is encrypted: save a copy without its password and ingest that.")
        title = (document.metadata or {}).get("title") or ""
        pdf = pymupdf.open("pdf", document.convert_to_pdf())
    pdf.set_metadata({"title": title})
    for page in pdf.pages():
        _widen(page)
    return pdf


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (pymupdf.FileDataError, pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        if "DRM" in str(error):
            raise EncryptedFile("The book is locked to a reader (DRM): ingest a copy without that.") from error
        raise UnreadableFile(_DAMAGED) from error


def _widen(page: Any) -> None:
    right = max((box[2] for kind, box in page.get_bboxlog() if kind in _TEXT_MARKS), default=0.0)
    if right > page.rect.width:
        page.set_mediabox(pymupdf.Rect(0, 0, min(_WIDEST_PAGE, right + _MARGIN), page.rect.height))


def _write(pdf: Any, target: Path) -> None:
    with _errors(), pdf:
        if not any(_shows_something(page) for page in pdf.pages()):
            raise UnreadableFile("There is no text and no picture in the file.")
        pdf.subset_fonts()  # or a page of Chinese would bring the whole font along
        pdf.save(target, garbage=3, deflate=True)


def _shows_something(page: Any) -> bool:
    return bool(page.get_text().strip()) or any(kind not in _TEXT_MARKS for kind, _ in page.get_bboxlog())


# -- comics ----------------------------------------------------------------------------------------------------------


def _comic(path: Path) -> Any:
    """The pictures of an archive, each a page, in the order of their names; whatever else is in it is passed over."""
    if not zipfile.is_zipfile(path):
        raise UnreadableFile(_DAMAGED)
    pdf = pymupdf.open()
    with zipfile.ZipFile(path) as archive:
        names = [entry.filename for entry in archive.infolist() if _is_picture(entry.filename)]
        for number, name in enumerate(sorted(names, key=_by_number), start=1):
            try:
                _add_picture(pdf, archive.read(name))
            # Both zipfile and PIL report damage in many ways, such as zlib.error and RuntimeError.
            except Exception as error:
                reason = f"Picture {number} of the comic is damaged, locked or too large: pack it anew."
                raise UnreadableFile(reason) from error
    if not pdf.page_count:
        raise UnreadableFile("There is no picture in the comic.")
    return pdf


def _is_picture(name: str) -> bool:
    return name.lower().endswith(_PICTURES) and not name.startswith("__MACOSX/")


def _by_number(name: str) -> list[tuple[int, str]]:
    """So that page 10 comes after page 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


def _add_picture(pdf: Any, content: bytes) -> None:
    with Image.open(BytesIO(content), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")) as image:
        upright = to_rgb(image)
        if image.format != "JPEG" or upright.size != image.size:
            packed = BytesIO()
            upright.save(packed, "JPEG", quality=92)
            content = packed.getvalue()
    page = pdf.new_page(width=upright.width * 72 / IMAGE_DPI, height=upright.height * 72 / IMAGE_DPI)
    page.insert_image(page.rect, stream=content)
