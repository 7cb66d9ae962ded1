"""Reads one file page by page: words, layout boxes, OCR where there is no text layer. Runs in a worker process.

Knows PyMuPDF and image files; every coordinate dialect ends here, in fractions of the visible page.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ingest.layout import LayoutBox, PlacedWord, build_regions, page_labels
from ingest.layout_model import let_go, tuned
from ingest.limits import Limits
from ingest.ocr import read_lines
from ingest.rules import ruled_grids
from ingest.scan import joined_paragraphs, readable_copy
from ingest.tables import Grid, holds_words
from ingest.timing import stage
from ingest.unread import is_garbage, is_old_ocr, unread_areas, without_doubles
from ingest.words import text_layer
from ingest.worker import give_back
from mmrag.errors import EncryptedFile, UnreadableFile, brief
from mmrag.mupdf import pymupdf
from mmrag.render import IMAGE_DPI, image_frame, is_image, pdf_page_image
from mmrag.types import WHOLE_PAGE, BBox, Page, RegionKind

log = logging.getLogger(__name__)

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
# Unread areas of this share of the page make it a scan: the layout model, which reads no pixels, saw nothing there.
_SCAN_AREA = 0.5
# Share of a picture that its own words may cover.
_PROSE = 0.3
# Longest side, in pixels, of what is given to OCR: A4 at 150 dpi. Small pages and pictures have small print.
_OCR_PIXELS = 1800
_OCR_DPI = 300
# Enough for a hairline to leave a trace.
_BLANK_DPI = 50
_SOURCES = {(True, True): "mixed", (True, False): "native", (False, True): "ocr", (False, False): "none"}
# An image file with more printed lines than this is a scanned page; with fewer it is a picture with words in it.
_SCAN_LINES = 12


def read_page(path: Path, document_id: str, number: int, *, ocr: bool = True) -> Page:
    """Page `number` (1-based), with regions whose ids start with `document_id`.

    Without `ocr` a page has the words of its text layer alone.

    A page that cannot be read comes without regions and says why; raises UnreadableFile or EncryptedFile where it is
    the whole file.
    """
    page = _read_any(path, document_id, number, ocr)
    if page.text_source in ("ocr", "mixed"):
        give_back()
    return page


def _read_any(path: Path, document_id: str, number: int, ocr: bool) -> Page:
    if is_image(path):
        with _image_errors(path):
            return _read_image(path, document_id, number, ocr)
    document = _kept_open(path, path.stat().st_mtime_ns)
    pymupdf.TOOLS.mupdf_warnings()  # forget those of what was read before
    try:
        page = _read_page(document, document_id, number, ocr)
    except MemoryError:
        raise
    except Exception as error:  # MuPDF's own errors, and whatever a damaged page leads to in ours
        log.debug("page %d of %s cannot be read", number, path, exc_info=True)
        return unread(number, f"it is damaged: {brief(error)}")
    if not page.regions and (complaints := pymupdf.TOOLS.mupdf_warnings()):
        return replace(page, problem=f"it shows nothing, and is damaged: {complaints.splitlines()[-1][:160]}")
    return page


def unread(number: int, problem: str) -> Page:
    """In the place of a page that cannot be read: its size is A4's."""
    return Page(number, 595.0, 842.0, (), "none", problem=problem)


@lru_cache(maxsize=1)
def _kept_open(path: Path, written: int) -> Any:
    """The file whose pages this process is reading: to open a long one anew for each page takes longer than to read it.

    Dropped, a document closes by itself.
    """
    return open_pdf(path)


def open_pdf(path: Path, passwords: Sequence[str] = (), unlocked: Path | None = None) -> Any:
    """A PyMuPDF document with pages; where a password opens it, a copy without one is written to `unlocked`."""
    try:
        document = pymupdf.open(path, filetype="pdf")
    except pymupdf.EmptyFileError as error:
        raise UnreadableFile("The file is empty.") from error
    except (*_ERRORS, ValueError) as error:
        raise UnreadableFile(_DAMAGED) from error
    # Asked once, before anything else: reading it again after authenticating would blank the document.
    if document.needs_pass:
        _unlock(document, passwords)
        if unlocked:
            document.save(unlocked, encryption=pymupdf.mupdf.PDF_ENCRYPT_NONE)
    try:
        if document.page_count == 0:
            raise UnreadableFile("The file has no pages.")
    except _ERRORS as error:
        raise UnreadableFile(_DAMAGED) from error
    return document


def _unlock(document: Any, passwords: Sequence[str]) -> None:
    if any(document.authenticate(password) for password in passwords):
        return
    if passwords:
        raise EncryptedFile("The file is encrypted, and no password that was given opens it.")
    raise EncryptedFile("The file is encrypted: give its password with --password or --password-file.")


_ERRORS = (pymupdf.FileDataError, pymupdf.mupdf.FzErrorBase, RuntimeError)
"""As MuPDF raises them."""
_DAMAGED = "The file is damaged or not a PDF: open it in a viewer and save it anew."


def look_at_image(path: Path, limits: Limits) -> int:
    """How many pictures there are in it, each a page."""
    with _image_errors(path), Image.open(path) as image:
        if image.width * image.height > limits.pixels:
            raise UnreadableFile(
                f"The image has {image.width * image.height / 1e6:,.0f} million pixels, more than "
                f"{limits.pixels / 1e6:,.0f}: scale it down, or allow more with --max-pixels."
            )
        return getattr(image, "n_frames", 1)


@contextmanager
def _image_errors(path: Path) -> Iterator[None]:
    if path.stat().st_size == 0:
        raise UnreadableFile("The file is empty.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # pixels have a limit of ours
            yield
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadableFile("The file is damaged or not an image of the kind that its name says.") from error
    except Image.DecompressionBombError as error:
        raise UnreadableFile("The image has too many pixels to be opened safely: scale it down first.") from error


def _read_page(document: Any, document_id: str, number: int, ocr: bool) -> Page:
    with stage("parsing"):
        page = document[number - 1]
        width, height = page.rect.width, page.rect.height

        def visible(box: Sequence[float]) -> BBox:
            """From PyMuPDF's unrotated, crop-relative points."""
            return BBox.from_size(pymupdf.Rect(box[:4]) * page.rotation_matrix, width, height)

        native = text_layer(page, visible)
        layer = [] if is_garbage(native) else without_doubles(native)
        drawn = page.get_bboxlog()
        words = [] if ocr and is_old_ocr(drawn) else layer
        areas = (unread_areas(page, drawn, words, visible) if words else [WHOLE_PAGE]) if ocr else []
    if not layer and _is_blank(page):
        return Page(number, width, height, (), "none")
    boxes = _upright_layout(page) if words else []
    source = "native" if words else "none"
    has_tables = any(box.kind is RegionKind.TABLE for box in boxes)
    rules = _rules(page) if areas or has_tables else []
    if areas:
        words, boxes, source = _with_ocr(page, words, boxes, areas, rules)
    if layer and not words:  # our OCR sees less than the one before it
        words, source = layer, "native"
    aspect = height / width if width else 1.0
    with stage("regions"):
        regions = build_regions(f"{document_id}-p{number}", words, boxes, aspect=aspect, grids=rules)
        return Page(number, width, height, regions, source, page_labels(regions))


def _is_blank(page: Any) -> bool:
    return bool(page.get_pixmap(dpi=_BLANK_DPI).is_unicolor)


def _rules(page: Any) -> list[Grid]:
    with stage("ruled tables"):
        return ruled_grids(pdf_page_image(page, dpi=_dpi(page, WHOLE_PAGE)))


def _upright_layout(page: Any) -> list[LayoutBox]:
    """What the model sees on a page as it is shown: it looks at pages as they are stored, maybe lying on their side."""
    if not page.rotation:
        return _layout(page)
    turn = page.rotation
    with pymupdf.open() as document:
        copy = document.new_page(width=page.rect.width, height=page.rect.height)
        page.set_rotation(0)  # `show_pdf_page` takes the sides of a turned page for those of the stored one
        try:
            copy.show_pdf_page(copy.rect, page.parent, page.number, rotate=-turn)
        finally:
            page.set_rotation(turn)
        return _layout(copy)


def _layout(page: Any) -> list[LayoutBox]:
    with stage("layout"):
        tuned()
        page.get_layout()
    width, height = page.rect.width, page.rect.height
    return [
        LayoutBox(BBox.from_size(item[:4], width, height), _KINDS.get(str(item[4]), RegionKind.TEXT))
        for item in page.layout_information or ()
    ]


def _with_ocr(
    page: Any, words: list[PlacedWord], boxes: list[LayoutBox], unread: Sequence[BBox], rules: Sequence[Grid]
) -> tuple[list[PlacedWord], list[LayoutBox], str]:
    """Add what OCR reads in the unread areas; where those are most of the page, its layout is read from the OCR too."""
    clip = BBox.union(unread)
    is_scan = clip.area > _SCAN_AREA
    clip = WHOLE_PAGE if is_scan else clip
    image = pdf_page_image(page, dpi=_dpi(page, clip), clip=clip)
    lines, forms = _lines(image, clip)
    after = 1 + max((word.block for word in words), default=0)
    fresh = [line._replace(block=line.block + after) for line in lines if not _is_covered(line.box, words)]
    source = _SOURCES[bool(words), bool(fresh)]
    if is_scan:
        return *_read_scan(image, words + fresh, rules, forms, page.rect.width, page.rect.height), source
    pictures = [LayoutBox(a, RegionKind.PICTURE) for a in unread if not any(b.box.iou(a) > 0.5 for b in boxes)]
    return words + fresh, boxes + pictures, source


def _lines(image: Image.Image, clip: BBox = WHOLE_PAGE) -> tuple[list[PlacedWord], list[LayoutBox]]:
    """As `read_lines`, with as much room as there is: it takes more than all the rest."""
    pymupdf.TOOLS.store_shrink(100)  # pictures that MuPDF has decoded, up to 256 MB
    let_go()
    return read_lines(image, clip)


def _dpi(page: Any, clip: BBox) -> float:
    """At which `clip` of a page is read: its longest side as long as OCR and rules want it."""
    longest = max(page.rect.width * clip.width, page.rect.height * clip.height)
    return float(min(_OCR_DPI, 72 * _OCR_PIXELS / longest))


def _read_scan(
    image: Image.Image,
    words: Sequence[PlacedWord],
    rules: Sequence[Grid],
    forms: Sequence[LayoutBox],
    width: float,
    height: float,
) -> tuple[list[PlacedWord], list[LayoutBox]]:
    """The words in paragraphs, and boxes: tables by their rules, what the model sees but for text, forms.

    OCR cuts paragraphs at wide line spacing, the model at every indent: what either keeps together is one.
    """
    seen = [LayoutBox(grid.box, RegionKind.TABLE) for grid in rules if holds_words(grid, words)]
    with readable_copy(image, words, width, height) as page:
        boxes = _layout(page)
    seen += [
        box
        for box in boxes
        if box.kind is not RegionKind.TEXT
        and not (box.kind is RegionKind.PICTURE and _is_prose(box.box, words))
        and not any(table.box.contains(box.box.center) for table in seen)
    ]
    seen += [form for form in forms if not any(box.box.contains(form.box.center) for box in seen)]
    return joined_paragraphs(words, [box.box for box in boxes if box.kind is RegionKind.TEXT]), seen


def _is_prose(box: BBox, words: Sequence[PlacedWord]) -> bool:
    """Whether lines of text fill a box, as they never fill a chart."""
    return sum(box.intersection(word.box) for word in words) > _PROSE * box.area


def _is_covered(line: BBox, words: Sequence[PlacedWord]) -> bool:
    """Whether the text layer already holds what OCR read here."""
    return sum(line.intersection(word.box) for word in words) > 0.3 * line.area


def _read_image(path: Path, document_id: str, number: int, ocr: bool) -> Page:
    image = image_frame(path, number)
    words, forms = _lines(image) if ocr else ([], [])
    rules = ruled_grids(image)
    width, height = image.width * 72 / IMAGE_DPI, image.height * 72 / IMAGE_DPI
    if len(words) <= _SCAN_LINES:
        boxes = [LayoutBox(WHOLE_PAGE, RegionKind.PICTURE)]
    else:
        words, boxes = _read_scan(image, words, rules, forms, width, height)
    aspect = image.height / image.width
    regions = build_regions(f"{document_id}-p{number}", words, boxes, aspect=aspect, grids=rules)
    source = "ocr" if words else "none"
    return Page(number, width, height, regions, source, page_labels(regions))
