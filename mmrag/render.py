"""Pages as pictures: renders a page of a stored file and draws regions on it. Knows no index and no answer."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps, ImageSequence, ImageStat, UnidentifiedImageError

from mmrag.errors import UnreadableFile, UsageError, brief
from mmrag.types import PAGED, WHOLE_PAGE, BBox

IMAGE_DPI = 150
"""Image files have no trustworthy size on paper: their pixels are taken as a scan at this resolution."""
MAX_PIXELS = 24_000_000
"""A poster is rendered smaller rather than at full size: A3 at 300 dpi is 17 million pixels."""

# Chosen to stay apart from each other for readers with red-green colour blindness (Okabe and Ito, 2008).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_HIGHLIGHT = "#FFF0A0"

ImageInput = str | Path | bytes | BytesIO | Image.Image
"""What an image may be given as: LlamaIndex's `ImageType` (path or BytesIO) and more, but never a URL."""


class Picture(NamedTuple):
    """An image that a question comes with, and the words on it where somebody read them."""

    image: Image.Image
    words: str = ""


_URL = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)  # two letters or more: C:// is a drive
# Not all that PIL knows: for PostScript it would start another program.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP")

_MUPDF = Lock()  # MuPDF is not for two threads at once

_Pixels = tuple[int, int, int, int]

Mark = tuple[BBox, Sequence[BBox]]
"""A region and the printed lines inside it to highlight."""


def render_page(source: Path, number: int, *, dpi: int = IMAGE_DPI, clip: BBox = WHOLE_PAGE) -> Image.Image:
    """Page `number` (1-based) of a stored file as an RGB image, or the part of it inside `clip`."""
    if is_image(source):
        page = image_frame(source, number)
        scale = min(dpi / IMAGE_DPI, (MAX_PIXELS / (page.width * page.height)) ** 0.5)
        page = page.resize((max(1, round(page.width * scale)), max(1, round(page.height * scale))))
        return page if clip == WHOLE_PAGE else page.crop(clip.to_pixels(*page.size))
    return _render_pdf(source, number, dpi, clip)


def _render_pdf(source: Path, number: int, dpi: int, clip: BBox) -> Image.Image:
    with _MUPDF:
        document = _open_pdf(source, source.stat().st_mtime_ns)
        if not 1 <= number <= document.page_count:
            raise UnreadableFile(f"{source.name} has {document.page_count} pages; there is no page {number}.")
        return pdf_page_image(document[number - 1], dpi=dpi, clip=clip)


@lru_cache(maxsize=4)
def _open_pdf(source: Path, written: int) -> Any:
    """Kept open, since to read the fonts of a long report anew takes longer than to draw its page."""
    from mmrag.mupdf import pymupdf

    return pymupdf.open(source)


def close_kept() -> None:
    """Lets go of the files that were rendered from, before they are deleted."""
    with _MUPDF:
        _open_pdf.cache_clear()


def pdf_page_image(page: Any, *, dpi: float, clip: BBox = WHOLE_PAGE) -> Image.Image:
    """The part of an open PyMuPDF page that lies inside `clip`."""
    from mmrag.mupdf import pymupdf

    x0, y0, x1, y1 = page.rect
    width, height = x1 - x0, y1 - y0
    area = pymupdf.Rect(x0 + clip.x0 * width, y0 + clip.y0 * height, x0 + clip.x1 * width, y0 + clip.y1 * height)
    scale = min(dpi / 72, (MAX_PIXELS / max(1.0, area.width * area.height)) ** 0.5)
    pixels = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), clip=area, alpha=False, colorspace=pymupdf.csRGB)
    return Image.frombytes("RGB", (pixels.width, pixels.height), pixels.samples)


def is_image(source: Path) -> bool:
    return PAGED.get(source.suffix.lower(), "").startswith("image/")


def image_frame(source: Path, number: int) -> Image.Image:
    """Frame `number` (1-based) of an image file, upright and RGB."""
    with Image.open(source) as image:
        for index, frame in enumerate(ImageSequence.Iterator(image), start=1):
            if index == number:
                return to_rgb(frame)
    raise UnreadableFile(f"{source.name} has no page {number}.")


def shrunk(image: Image.Image, most_pixels: int) -> Image.Image:
    scale = (most_pixels / (image.width * image.height)) ** 0.5
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def open_image(source: ImageInput) -> Image.Image:
    """An image from outside, as a person would see it; the first frame where there are several."""
    name = source if isinstance(source, str | Path) else "An image in memory"
    if isinstance(source, str) and _URL.match(source):
        raise UsageError(f"{source[:80]} is a URL, and none is ever fetched: give a file, bytes or a PIL image.")
    try:
        if isinstance(source, str | Path) and not Path(source).is_file():  # a pipe would be waited for
            raise UnreadableFile(f"There is no file {name}: check the path.")
        if isinstance(source, Image.Image):
            return to_rgb(source)
        with _opened(source) as image:
            return to_rgb(image)
    except UnreadableFile:
        raise
    except UnidentifiedImageError as error:
        kinds = "a PNG, JPEG, TIFF, WebP, GIF or BMP file"
        raise UnreadableFile(f"{name} cannot be read as an image: give {kinds}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableFile(f"{name} has too many pixels to be opened safely: scale it down first.") from error
    # PIL reports damage in many ways: OSError, SyntaxError (PNG), ValueError, struct.error.
    except Exception as error:
        raise UnreadableFile(f"{name} cannot be read as an image ({brief(error)}): check the file.") from error


def _opened(source: str | Path | bytes | BytesIO) -> Image.Image:
    with warnings.catch_warnings():
        # From 89 million pixels on, half of what PIL refuses by itself.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright, on white paper, three channels: as a person would see it."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # PIL would clip 16 bits to 8, not scale them: a grey scan would come out white
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:  # hidden pixels are mostly black: a line drawing would vanish
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def draw_regions(page: Image.Image, marks: Sequence[Mark], *, labels: Sequence[str] = ()) -> Image.Image:
    """A copy of `page` with every region outlined in its own colour, its lines highlighted, its label beside it."""
    marker = Image.new("RGB", page.size, "white")
    pen = ImageDraw.Draw(marker)
    for _, lines in marks:
        for line in lines:
            pen.rectangle(_padded(line, page.size, 1), fill=_HIGHLIGHT)
    image = ImageChops.multiply(page.convert("RGB"), marker)  # as a marker does: the print stays black
    draw = ImageDraw.Draw(image)
    stroke = max(2, image.width // 400)
    outlines = [_padded(box, image.size, 2 * stroke) for box, _ in marks]
    for index, outline in enumerate(outlines):
        draw.rounded_rectangle(outline, radius=2 * stroke, outline=_colour(index), width=stroke)
    _draw_labels(draw, page.convert("L"), outlines[: len(labels)], labels)
    return image


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _padded(box: BBox, size: tuple[int, int], margin: int) -> _Pixels:
    x0, y0, x1, y1 = box.to_pixels(*size)
    return max(0, x0 - margin), max(0, y0 - margin), min(size[0] - 1, x1 + margin), min(size[1] - 1, y1 + margin)


def _draw_labels(
    draw: ImageDraw.ImageDraw, page: Image.Image, outlines: Sequence[_Pixels], labels: Sequence[str]
) -> None:
    """A filled chip at a corner of each outline: where it hides least print and no other chip."""
    size = max(14, page.width // 55)
    font, height = _label_font(size), round(1.5 * size)
    chips: list[_Pixels] = []
    for index, (outline, text) in enumerate(zip(outlines, labels, strict=True)):
        width = round(draw.textlength(text, font=font)) + size
        places = _chip_places(outline, width, height, page.size)
        chip = min(places, key=lambda place: (any(_meet(place, other) for other in chips), _print_in(page, place)))
        chips.append(chip)
        draw.rounded_rectangle(chip, radius=size // 3, fill=_colour(index))
        middle = (chip[0] + chip[2]) / 2, (chip[1] + chip[3]) / 2
        draw.text(middle, text, font=font, fill="white", anchor="mm")


def _chip_places(outline: _Pixels, width: int, height: int, page: tuple[int, int]) -> list[_Pixels]:
    """Left of the outline's top, above its left end, at its right end, inside its corners; the best-looking first."""
    x0, y0, x1, y1 = outline
    corners = [
        *((x0 - width, y0), (x0, y0 - height), (x1, y0), (x1 - width, y0 - height), (x0, y0), (x1 - width, y0)),
        *((x0, y1), (x0 - width, y1 - height), (x1 - width, y1 - height)),
    ]
    inside = [(max(0, min(page[0] - width, x)), max(0, min(page[1] - height, y))) for x, y in corners]
    return [(x, y, x + width, y + height) for x, y in inside]


def _meet(a: _Pixels, b: _Pixels) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _print_in(page: Image.Image, place: _Pixels) -> float:
    """How much of a part of a grey page differs from its paper: spread of its brightness, 0 where it is blank."""
    return round(ImageStat.Stat(page.crop(place)).stddev[0])


@lru_cache(maxsize=8)
def _label_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
