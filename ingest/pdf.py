"""Reads one file page by page: words, layout boxes, OCR where there is no text layer. Runs in a worker process.

Knows PyMuPDF and image files; every coordinate dialect ends here, in fractions of the visible page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pymupdf
from PIL import Image, UnidentifiedImageError

from ingest import ocr
from ingest.layout import LayoutBox, PlacedWord, build_regions
from mmrag.errors import EncryptedFile, UnreadableFile
from mmrag.render import IMAGE_DPI, image_frame, is_image, render_page
from mmrag.types import WHOLE_PAGE, BBox, Page, RegionKind

pymupdf.TOOLS.mupdf_display_errors(False)  # repairs of damaged files are MuPDF's own affair
pymupdf.TOOLS.mupdf_display_warnings(False)

_KINDS = {
    "section-header": RegionKind.SECTION_HEADER,
    "title": RegionKind.SECTION_HEADER,
    "list-item": RegionKind.LIST_ITEM,
    "table": RegionKind.TABLE,
    "picture": RegionKind.PICTURE,
    "caption": RegionKind.CAPTION,
    "formula": RegionKind.FORMULA,
    "page-header": RegionKind.PAGE_HEADER,
    "page-footer": RegionKind.PAGE_FOOTER,
}
# An image file with more printed lines than this is a scanned page; with fewer it is a picture with words in it.
_SCAN_LINES = 12
_WORD_FLAGS = pymupdf.TEXTFLAGS_WORDS & ~pymupdf.TEXT_PRESERVE_LIGATURES


class FileFacts(NamedTuple):
    """What a first look at a file tells."""

    page_count: int
    title: str


def inspect_file(path: Path) -> FileFacts:
    """Count pages and read the title; raises UnreadableFile or EncryptedFile with a sentence for the report."""
    if is_image(path):
        with _image_errors(path), Image.open(path) as image:
            return FileFacts(getattr(image, "n_frames", 1), "")
    with _open(path) as document:
        title = (document.metadata or {}).get("title") or ""
        return FileFacts(document.page_count, " ".join(title.split())[:200])


def read_pages(path: Path, document_id: str, numbers: Sequence[int]) -> list[Page]:
    """The pages with these numbers (1-based), with regions whose ids start with `document_id`."""
    if is_image(path):
        with _image_errors(path):
            return [_read_image(path, document_id, number) for number in numbers]
    with _open(path) as document:
        return [_read_page(path, document, document_id, number) for number in numbers]


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        document = pymupdf.open(path, filetype="pdf")
    except pymupdf.EmptyFileError as error:
        raise UnreadableFile("The file is empty.") from error
    except (pymupdf.FileDataError, RuntimeError, ValueError) as error:
        raise UnreadableFile("The file is damaged or not a PDF: open it in a viewer and save it anew.") from error
    with document:
        # Asked once, before anything else: reading it again after authenticating would blank the document.
        if document.needs_pass:
            raise EncryptedFile("The file is encrypted: save a copy without its password and ingest that.")
        if document.page_count == 0:
            raise UnreadableFile("The file has no pages.")
        yield document


@contextmanager
def _image_errors(path: Path) -> Iterator[None]:
    if path.stat().st_size == 0:
        raise UnreadableFile("The file is empty.")
    try:
        yield
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadableFile("The file is damaged or not an image of the kind that its name says.") from error
    except Image.DecompressionBombError as error:
        raise UnreadableFile("The image has too many pixels to be opened safely: scale it down first.") from error


def _read_page(path: Path, document: Any, document_id: str, number: int) -> Page:
    page = document[number - 1]
    width, height = page.rect.width, page.rect.height

    def visible(box: Sequence[float]) -> BBox:
        """From PyMuPDF's unrotated, crop-relative points."""
        return BBox.from_size(pymupdf.Rect(box[:4]) * page.rotation_matrix, width, height)

    words = [
        PlacedWord(text, visible(box), block)
        for *box, text, block, _, _ in page.get_text("words", flags=_WORD_FLAGS)
        if text.strip()
    ]
    boxes = _layout(page, visible)
    source = "native"
    if not words:
        words, boxes = ocr.read_lines(render_page(path, number))
        source = "ocr" if words else "none"
    regions = build_regions(f"{document_id}-p{number}", words, boxes, aspect=height / width if width else 1.0)
    return Page(number, width, height, regions, source)


def _layout(page: Any, visible: Any) -> list[LayoutBox]:
    page.get_layout()
    return [
        LayoutBox(visible(item), _KINDS.get(str(item[4]), RegionKind.TEXT)) for item in page.layout_information or ()
    ]


def _read_image(path: Path, document_id: str, number: int) -> Page:
    image = image_frame(path, number)
    words, boxes = ocr.read_lines(image)
    if len(words) <= _SCAN_LINES:
        boxes = [LayoutBox(WHOLE_PAGE, RegionKind.PICTURE)]
    regions = build_regions(f"{document_id}-p{number}", words, boxes, aspect=image.height / image.width)
    points = 72 / IMAGE_DPI
    return Page(number, image.width * points, image.height * points, regions, "ocr" if words else "none")
