"""A small invented collection for `mmrag demo`: how its documents are drawn, and what can be asked of them.

It knows nothing of the index or of any model; what the documents say is in `demo_texts`. A few drawing primitives, then
one function for each document. Sizes and places are in points (1/72 inch), origin top left.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFilter

from apps.demo_texts import (
    ARROWS,
    BRIEF_TEXT,
    CERTIFICATE,
    CERTIFICATE_TEXT,
    CHARTS,
    COVER,
    COVER_CONTENTS,
    KEY_FIGURES,
    PAPER_AUTHORS,
    PAPER_PAGES,
    PAPER_TITLE,
    REPORT_PAGES,
    STEPS,
    Chart,
)
from mmrag.mupdf import pymupdf

REPORT = "harbour-energy-annual-report-2025.pdf"
PAPER = "tidal-turbine-blades-paper.pdf"
SCAN = "inspection-certificate-scan.pdf"
BRIEF = "沿海风电项目简报.pdf"
DIAGRAM = "control-room.png"


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    text: str
    document: str | None
    """The file that answers; None when nothing does."""
    page: int | None
    """1-based."""
    answer: str
    """Words that must appear in the quoted evidence."""


QUESTIONS: tuple[DemoQuestion, ...] = (
    DemoQuestion("How much revenue did battery storage earn in 2024?", REPORT, 2, "23.8"),
    DemoQuestion("By how much did barnacles reduce the peak power coefficient?", PAPER, 2, "13.5 percent"),
    DemoQuestion("When is the next inspection of the vessel Sea Lavender due?", SCAN, 1, "11 March 2027"),
    DemoQuestion("澜屿海上风电项目的总投资是多少？", BRIEF, 1, "86.6亿元"),
    DemoQuestion("What dividend per share does Norrvik Harbour Energy pay for 2025?", None, None, ""),
)


def build_demo_documents(folder: Path) -> list[Path]:
    """Draw the collection into `folder`; the same bytes on every run."""
    folder.mkdir(parents=True, exist_ok=True)
    builders = {REPORT: _report, PAPER: _paper, SCAN: _scan, BRIEF: _brief, DIAGRAM: _diagram}
    for name, build in builders.items():
        build(folder / name)
    return [folder / name for name in builders]


# ---------------------------------------------------------------- drawing primitives

Color = tuple[float, float, float]
INK, GREY, PALE, WHITE = (0.13, 0.15, 0.18), (0.42, 0.46, 0.50), (0.80, 0.84, 0.87), (1.0, 1.0, 1.0)
NAVY, TEAL, AMBER, MIST = (0.07, 0.20, 0.36), (0.08, 0.50, 0.53), (0.85, 0.48, 0.10), (0.92, 0.95, 0.97)
WIDTH, HEIGHT = 595, 842  # A4
MARGIN = 64


class Face(NamedTuple):
    """Built-in fonts, which no machine lacks, and how running text is set in them."""

    regular: str
    bold: str
    size: float
    leading: float
    justified: bool = True


SANS = Face("helv", "hebo", 10.5, leading=1.5, justified=False)
SERIF = Face("tiro", "tibo", 10.8, leading=1.35)
CHINESE = Face("china-s", "china-s bold", 12, leading=1.8)
FORM = Face("tiro", "tibo", 12, leading=1.4, justified=False)


@dataclass
class Column:
    """A column that fills from the top; `y` is where the next block begins."""

    shape: pymupdf.Shape
    face: Face
    x0: float
    x1: float
    y: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0


def _runs(text: str, font: str) -> list[tuple[str, str]]:
    """The built-in Chinese font sets Latin letters and digits full width: those runs go to Helvetica."""
    if not font.startswith("china-s"):
        return [(text, font)]
    latin = "hebo" if font.endswith("bold") else "helv"
    return [(run, latin if run.isascii() else font) for run in re.findall(r"[ -~]+|[^ -~]+", text)]


def _width(text: str, font: str, size: float) -> float:
    return float(sum(pymupdf.get_text_length(run, name.split()[0], size) for run, name in _runs(text, font)))


def _write(
    shape: pymupdf.Shape, x: float, y: float, text: str, font: str, size: float, color: Color = INK, anchor: float = 0
) -> None:
    """One line with its baseline at `y`; `anchor` 0, 0.5 or 1 sets it to the right of `x`, around it or to its left."""
    x -= anchor * _width(text, font, size)
    for run, name in _runs(text, font):
        heavy = 2 if name == "china-s bold" else 0  # no bold Chinese is built in: fill and stroke
        shape.insert_text(
            (x, y), run, fontname=name.split()[0], fontsize=size, color=color, fill=color, render_mode=heavy
        )
        x += _width(run, name, size)


def _rule(shape: pymupdf.Shape, x0: float, x1: float, y: float, color: Color, width: float = 0.7) -> None:
    shape.draw_line((x0, y), (x1, y))
    shape.finish(color=color, width=width)


def _fill(shape: pymupdf.Shape, box: tuple[float, float, float, float], color: Color) -> None:
    shape.draw_rect(box)
    shape.finish(fill=color, color=None, width=0)


def _break_lines(text: str, font: str, size: float, width: float) -> list[list[str]]:
    """Lines of tokens: Latin breaks at spaces, Chinese anywhere but after an opening or before a closing mark."""
    lines: list[list[str]] = [[]]
    for token in re.findall(r"[（《]?(?:[!-~]+|[^ -~])[，。、；：）》]* ?", text):
        if _width("".join([*lines[-1], token]).rstrip(), font, size) > width:
            lines.append([])
        lines[-1].append(token)
    return lines


def _paragraph(column: Column, text: str, *, size: float = 0, color: Color = INK, indent: float = 0) -> None:
    face, size = column.face, size or column.face.size
    lines = _break_lines(text, face.regular, size, column.width - indent)
    for tokens in lines:
        column.y += size * face.leading
        x, line = column.x0 + indent, "".join(tokens).rstrip()
        if not face.justified or tokens is lines[-1]:
            _write(column.shape, x, column.y, line, face.regular, size, color)
            continue
        gap = (column.width - indent - _width(line, face.regular, size)) / max(1, len(tokens) - 1)
        for token in tokens:
            _write(column.shape, x, column.y, token, face.regular, size, color)
            x += _width(token, face.regular, size) + gap
    column.y += size * 0.6


def _heading(column: Column, text: str, scale: float) -> None:
    size = column.face.size * scale
    column.y += size * 1.6
    _write(column.shape, column.x0, column.y, text, column.face.bold, size, NAVY)
    column.y += size * 0.3


def _bullets(column: Column, items: Sequence[str]) -> None:
    size = column.face.size
    for item in items:
        # 0x95 is the bullet in the encoding of the built-in Latin fonts.
        _write(column.shape, column.x0 + 4, column.y + size * column.face.leading, "\x95", "helv", size, TEAL)
        _paragraph(column, item, indent=16)
        column.y -= size * 0.2
    column.y += size * 0.5


def _caption(column: Column, text: str) -> None:
    _paragraph(column, text, size=column.face.size * 0.9, color=GREY)


def _table(column: Column, caption: str, rows: Sequence[Sequence[str]]) -> None:
    """A caption, then ruled rows; the first column stands left, the others right. A last row "Total" is set off."""
    column.y += 4
    _caption(column, caption)
    shape, face, size = column.shape, column.face, column.face.size * 0.92
    height, top, last = size * 2.1, column.y, len(rows) - 1
    total, shaded = rows[last][0] in ("Total", "合计"), face is not SERIF
    widths = [max(_width(cell, face.bold, size) for cell in cells) for cells in zip(*rows, strict=True)]
    spare = (column.width - 10 - sum(widths)) / (len(widths) - 1)
    if shaded:
        _fill(shape, (column.x0, top, column.x1, top + height), NAVY)
    _rule(shape, column.x0, column.x1, top, NAVY)
    for number, row in enumerate(rows):
        base, x = top + height * number + size * 1.4, column.x0 + 5 + widths[0]
        font = face.bold if number == 0 or (total and number == last) else face.regular
        color = WHITE if shaded and number == 0 else INK
        _write(shape, column.x0 + 5, base, row[0], font, size, color)
        for cell, width in zip(row[1:], widths[1:], strict=True):
            x += width + spare
            _write(shape, x, base, cell, font, size, color, anchor=1)
        heavy = number in (0, last) or (total and number == last - 1)
        _rule(shape, column.x0, column.x1, top + height * (number + 1), NAVY if heavy else PALE)
    column.y = top + height * len(rows) + size * 0.8


def _chart(column: Column, caption: str, chart: Chart) -> None:
    column.y += 6
    plot, place = _axes(column, chart)
    (_bars if len(chart.series) == 1 else _lines)(column, chart, plot, place)
    column.y += chart.height
    _caption(column, caption)


def _axes(column: Column, chart: Chart) -> tuple[pymupdf.Rect, Callable[[float], float]]:
    """Draws grid, ticks and axis labels; gives the plot's box and the height at which a value stands in it."""
    shape, font, size = column.shape, column.face.regular, column.face.size * 0.88
    plot = pymupdf.Rect(column.x0 + 46, column.y + 8, column.x1 - 8, column.y + chart.height - 34)
    low, high = chart.ticks[0], chart.ticks[-1]

    def place(value: float) -> float:
        return float(plot.y1 - plot.height * (value - low) / (high - low))

    for tick in chart.ticks:
        _rule(shape, plot.x0, plot.x1, place(tick), INK if tick == low else PALE)
        _write(shape, plot.x0 - 6, place(tick) + size * 0.35, f"{tick:g}", font, size, anchor=1)
    across, upward = chart.labels
    _write(shape, (plot.x0 + plot.x1) / 2, column.y + chart.height - 6, across, font, size, anchor=0.5)
    middle = (plot.y0 + plot.y1 + _width(upward, font, size)) / 2
    shape.insert_text((column.x0 + 14, middle), upward, fontname=font, fontsize=size, color=INK, rotate=90)
    return plot, place


def _bars(column: Column, chart: Chart, plot: pymupdf.Rect, place: Callable[[float], float]) -> None:
    shape, face = column.shape, column.face
    step = plot.width / len(chart.names)
    for number, (name, value) in enumerate(zip(chart.names, chart.series[0][1], strict=True)):
        middle = plot.x0 + step * (number + 0.5)
        newest = number == len(chart.names) - 1
        _fill(shape, (middle - step * 0.27, place(value), middle + step * 0.27, plot.y1), NAVY if newest else TEAL)
        _write(shape, middle, place(value) - 5, f"{value:g}", face.bold, face.size, anchor=0.5)
        _write(shape, middle, plot.y1 + 14, name, face.regular, face.size * 0.95, anchor=0.5)


def _lines(column: Column, chart: Chart, plot: pymupdf.Rect, place: Callable[[float], float]) -> None:
    shape, font, size = column.shape, column.face.regular, column.face.size * 0.88
    step = plot.width / (len(chart.names) - 1)
    for number, name in enumerate(chart.names):
        _write(shape, plot.x0 + step * number, plot.y1 + 12, name, font, size, anchor=0.5)
    for number, ((name, values), color) in enumerate(zip(chart.series, (NAVY, TEAL, AMBER), strict=True)):
        points = [(plot.x0 + step * along, place(value)) for along, value in enumerate(values)]
        shape.draw_polyline(points)
        shape.finish(color=color, width=1.4, closePath=False)
        for point in points:
            shape.draw_circle(point, 1.9)
        shape.finish(color=color, fill=color, width=0.5)
        legend = plot.y1 - 29 + 11 * number
        _rule(shape, plot.x0 + 60, plot.x0 + 78, legend - 3, color, width=1.4)
        _write(shape, plot.x0 + 83, legend, name, font, size)


def _draw(column: Column, text: str) -> None:
    """Set blocks of text one below the other."""
    for block in text.strip().split("\n\n"):
        first, *rest = block.split("\n")
        if first.startswith("#"):
            mark, words = first.split(" ", 1)
            _heading(column, words, {"#": 1.65, "##": 1.2}[mark])
        elif first.startswith("- "):
            _bullets(column, [item.removeprefix("- ") for item in (first, *rest)])
        elif first.strip("[]") in CHARTS:
            _chart(column, rest[0], CHARTS[first.strip("[]")])
        elif rest and " | " in rest[0]:
            _table(column, first, [row.split(" | ") for row in rest])
        else:
            _paragraph(column, ("" if column.face is CHINESE else " ").join((first, *rest)))


def _new_shape(pdf: pymupdf.Document, width: float = WIDTH, height: float = HEIGHT) -> pymupdf.Shape:
    return pymupdf.Shape(pdf.new_page(width=width, height=height))


def _furniture(shape: pymupdf.Shape, font: str, left: str, right: str, number: int, margin: float = MARGIN) -> None:
    """Running head, and the page number as foot."""
    _write(shape, margin, 44, left, font, 8.5, GREY)
    _write(shape, WIDTH - margin, 44, right, font, 8.5, GREY, anchor=1)
    _rule(shape, margin, WIDTH - margin, 51, PALE)
    _write(shape, WIDTH / 2, HEIGHT - 34, str(number), font, 8.5, GREY, anchor=0.5)


def _save(pdf: pymupdf.Document, path: Path, title: str, author: str) -> None:
    # Fixed dates and no random file id: the same bytes on every run.
    stamp = "D:20260302090000Z"
    pdf.set_metadata({"title": title, "author": author, "creationDate": stamp, "modDate": stamp})
    pdf.save(path, garbage=3, deflate=True, no_new_id=True)
    pdf.close()


# ---------------------------------------------------------------- the documents


def _report(path: Path) -> None:
    pdf = pymupdf.open()
    _report_cover(_new_shape(pdf))
    for number, text in enumerate(REPORT_PAGES, start=2):
        shape = _new_shape(pdf)
        _furniture(shape, SANS.regular, "Norrvik Harbour Energy", "Annual Report 2025", number)
        _draw(Column(shape, SANS, MARGIN, WIDTH - MARGIN, 58), text)
        shape.commit()
    _save(pdf, path, "Annual Report 2025", "Norrvik Harbour Energy")


def _report_cover(shape: pymupdf.Shape) -> None:
    for bottom, color in ((290, AMBER), (284, TEAL), (272, NAVY)):
        _fill(shape, (0, 0, WIDTH + 1, bottom), color)
    _write(shape, MARGIN, 96, "Norrvik Harbour Energy", "helv", 16, WHITE)
    _write(shape, MARGIN, 165, "Annual Report 2025", "hebo", 40, WHITE)
    _write(shape, MARGIN, 198, "Power for the port, heat for the town", "helv", 14, WHITE)
    column = Column(shape, SANS._replace(size=12), MARGIN, WIDTH - MARGIN, 318)
    _draw(column, COVER)
    column.y += 16
    gap = 36
    width = (column.width - gap * (len(KEY_FIGURES) - 1)) / len(KEY_FIGURES)
    for number, (figure, meaning) in enumerate(KEY_FIGURES):
        left = column.x0 + (width + gap) * number
        _fill(shape, (left, column.y, left + width, column.y + 68), MIST)
        _fill(shape, (left, column.y, left + 3, column.y + 68), TEAL)
        _write(shape, left + 14, column.y + 34, figure, "hebo", 18, TEAL)
        _write(shape, left + 14, column.y + 50, meaning, "helv", 10)
    column.y += 84
    _draw(column, COVER_CONTENTS)
    _write(shape, MARGIN, HEIGHT - 34, "Norrvik Harbour Energy, Quay Street 1, Norrvik", "helv", 8.5, GREY)
    shape.commit()


def _paper(path: Path) -> None:
    pdf = pymupdf.open()
    margin, gutter = 48, 20
    width = (WIDTH - 2 * margin - gutter) / 2
    for number, columns in enumerate(PAPER_PAGES, start=1):
        shape = _new_shape(pdf)
        _furniture(shape, SERIF.regular, "Stranda Workshop on Marine Energy", "2025", number, margin)
        for left, text in zip((margin, margin + width + gutter), columns, strict=True):
            _draw(Column(shape, SERIF, left, left + width, 168 if number == 1 else 58), text)
        if number == 1:
            for y, line in zip((92, 115), PAPER_TITLE, strict=True):
                _write(shape, WIDTH / 2, y, line, SERIF.bold, 19, anchor=0.5)
            for y, line in zip((145, 161), PAPER_AUTHORS, strict=True):
                _write(shape, WIDTH / 2, y, line, SERIF.regular, 11.5, anchor=0.5)
        shape.commit()
    _save(pdf, path, " ".join(PAPER_TITLE), PAPER_AUTHORS[0])


def _scan(path: Path) -> None:
    """A sheet as an office scanner leaves it: askew, grainy, a little soft, and without a text layer."""
    sheet = pymupdf.open()
    _certificate(_new_shape(sheet))
    pixels = sheet[0].get_pixmap(dpi=150, colorspace=pymupdf.csGRAY)
    sheet.close()
    image = Image.frombytes("L", (pixels.width, pixels.height), pixels.samples)
    image = image.rotate(0.7, Image.Resampling.BICUBIC, fillcolor=235).filter(ImageFilter.GaussianBlur(0.7))
    grain = hashlib.shake_128(b"paper").digest(image.width * image.height)  # the same noise on every machine
    image = Image.blend(image, Image.frombytes("L", image.size, grain), 0.09)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=70, dpi=(150, 150))
    pdf = pymupdf.open()
    page = pdf.new_page(width=WIDTH, height=HEIGHT)
    page.insert_image(page.rect, stream=jpeg.getvalue())
    _save(pdf, path, "Scan 0417", "Norrvik Maritime Survey")


def _certificate(shape: pymupdf.Shape) -> None:
    shape.draw_rect((48, 48, WIDTH - 48, HEIGHT - 48))
    shape.finish(color=INK, width=1.6)
    _write(shape, WIDTH / 2, 105, "NORRVIK MARITIME SURVEY", FORM.bold, 20, anchor=0.5)
    _write(shape, WIDTH / 2, 126, "Office for the inspection of small commercial vessels", FORM.regular, 12, anchor=0.5)
    _rule(shape, 90, WIDTH - 90, 142, INK)
    _write(shape, WIDTH / 2, 182, "CERTIFICATE OF INSPECTION", FORM.bold, 17, anchor=0.5)
    column = Column(shape, FORM, 90, WIDTH - 90, 210)
    for label, value in CERTIFICATE:
        column.y += 31
        _write(shape, column.x0, column.y, label, FORM.bold, FORM.size)
        _write(shape, column.x0 + 122, column.y, value, "cour", FORM.size)
        _rule(shape, column.x0 + 118, column.x1, column.y + 5, GREY, width=0.5)
    column.y += 24
    _draw(column, CERTIFICATE_TEXT)
    _stamp(shape, pymupdf.Point(425, 668))
    # The inspector's hand: two strokes of a pen.
    shape.draw_bezier((100, 696), (130, 636), (140, 746), (170, 674))
    shape.draw_bezier((150, 694), (190, 656), (200, 712), (262, 678))
    shape.finish(color=INK, width=1.3, closePath=False)
    _rule(shape, 90, 280, 710, INK, width=0.6)
    _write(shape, 90, 726, "Signature of the inspector", FORM.regular, 10)
    shape.commit()


def _stamp(shape: pymupdf.Shape, center: pymupdf.Point) -> None:
    """A round rubber stamp, turned by 14 degrees."""
    tone = (0.35, 0.35, 0.35)
    for radius, width in ((62, 2.2), (56, 0.8)):
        shape.draw_circle(center, radius)
        shape.finish(color=tone, width=width)
    turn = (center, pymupdf.Matrix(14))
    for text, size, drop in (("NORRVIK", 11, -22), ("PASSED", 19, 4), ("12 MAR 2026", 11, 24)):
        start = (center.x - _width(text, "hebo", size) / 2, center.y + drop)
        shape.insert_text(start, text, fontname="hebo", fontsize=size, color=tone, fill=tone, morph=turn)


def _brief(path: Path) -> None:
    pdf = pymupdf.open()
    shape = _new_shape(pdf)
    _furniture(shape, CHINESE.regular, "澜屿新能源有限公司", "2026年3月", 1)
    _write(shape, WIDTH / 2, 98, "沿海风电项目简报", CHINESE.bold, 23, NAVY, anchor=0.5)
    _draw(Column(shape, CHINESE, MARGIN, WIDTH - MARGIN, 112), BRIEF_TEXT)
    shape.commit()
    _save(pdf, path, "沿海风电项目简报", "澜屿新能源有限公司")


def _diagram(path: Path) -> None:
    pdf = pymupdf.open()
    shape = _new_shape(pdf, 660, 290)
    _write(shape, 330, 42, "Control room: what happens after a turbine alarm", "hebo", 17, NAVY, anchor=0.5)
    for column, row, title, detail in STEPS:
        x, y = 30 + 210 * column, 75 + 110 * row
        shape.draw_rect((x, y, x + 180, y + 70), radius=0.12)
        shape.finish(color=TEAL, fill=MIST, width=1.2)
        _write(shape, x + 90, y + 31, title, "hebo", 12.5, NAVY, anchor=0.5)
        _write(shape, x + 90, y + 50, detail, "helv", 11, anchor=0.5)
    for path_of_arrow in ARROWS:
        _arrow(shape, [pymupdf.Point(point) for point in path_of_arrow])
    _write(shape, 578, 169, "no success", "heit", 10.5, GREY)
    _write(shape, 330, 160, "success", "heit", 10.5, GREY, anchor=0.5)
    shape.commit()
    pdf[0].get_pixmap(dpi=144).save(path)
    pdf.close()


def _arrow(shape: pymupdf.Shape, points: list[pymupdf.Point]) -> None:
    tip = points[-1]
    along = (tip - points[-2]).unit
    across = pymupdf.Point(-along.y, along.x)
    shape.draw_polyline([*points[:-1], tip - along * 7])
    shape.finish(color=NAVY, width=1.5, closePath=False)
    shape.draw_polyline([tip, tip - along * 9 + across * 4, tip - along * 9 - across * 4])
    shape.finish(color=NAVY, fill=NAVY, width=0.5)
