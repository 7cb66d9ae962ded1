"""A small invented collection for `mmrag demo`: what its documents say, how they are drawn, what can be asked of them.

It knows nothing of the index or of any model. The text and the numbers stand first, as data; below them come a few
drawing primitives and one function for each document. Sizes and places are in points (1/72 inch), origin top left.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pymupdf
from PIL import Image, ImageFilter

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


QUESTIONS = (
    DemoQuestion("How much revenue did battery storage bring in in 2024?", REPORT, 2, "23.8"),
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


# ---------------------------------------------------------------- what the documents say: a page is a row of blocks


class Heading(NamedTuple):
    text: str
    size: float


class Bullets(NamedTuple):
    items: tuple[str, ...]


class Table(NamedTuple):
    caption: str
    rows: tuple[tuple[str, ...], ...]
    first: float
    """Share of the width for the first column; the others divide the rest evenly."""
    total: bool = False
    shaded: bool = True


class Chart(NamedTuple):
    """Bars for one series, lines for several."""

    caption: str
    labels: tuple[str, str]
    """Of the x and the y axis."""
    names: tuple[str, ...]
    series: tuple[tuple[str, tuple[float, ...]], ...]
    ticks: tuple[float, ...]
    height: float


Block = str | Heading | Bullets | Table | Chart  # a string is a paragraph

SUMMARY = (
    "Norrvik Harbour Energy supplies electricity, heat and charging power to the port of Norrvik and to the town around "
    "it. In 2025 revenue rose by 11.3 percent to EUR 581.5 million, and operating profit reached EUR 74.2 million. The "
    "Skarv offshore wind farm had its best year since it opened in 2019, while a mild winter reduced the demand for "
    "district heating. At the end of the year 1,284 people worked for the company, 77 more than a year before."
)
KEY_FIGURES = (
    ("EUR 581.5 m", "revenue, up 11.3 percent"),
    ("664 GWh", "wind power generated"),
    ("1,284", "employees at year end"),
)
CONTENTS = Bullets(
    (
        "The year in numbers: revenue and operating profit by segment, page 2",
        "Skarv offshore wind farm: output, availability and maintenance, page 3",
        "People, emissions and the outlook for 2026, page 4",
    )
)
REPORT_PAGES: tuple[tuple[Block, ...], ...] = (
    (
        Heading("1  The year in numbers", 17),
        "Four of the five segments grew in 2025. Port electricity remains the largest, with 41 percent of revenue; the "
        "two youngest segments, battery storage and ship charging, together passed EUR 60 million for the first time.",
        Table(
            "Table 1. Revenue by segment, in EUR million.",
            (
                ("Segment", "2023", "2024", "2025", "Change"),
                ("Port electricity", "212.4", "224.9", "238.6", "+6.1%"),
                ("Offshore wind", "148.0", "171.3", "196.8", "+14.9%"),
                ("District heating", "87.5", "91.2", "84.7", "-7.1%"),
                ("Battery storage", "12.6", "23.8", "41.5", "+74.4%"),
                ("Ship charging", "6.3", "11.4", "19.9", "+74.6%"),
                ("Total", "466.8", "522.6", "581.5", "+11.3%"),
            ),
            first=0.36,
            total=True,
        ),
        Heading("What moved the revenue", 12),
        Bullets(
            (
                "Port electricity gained from two cold-storage terminals that were connected in March 2025.",
                "Offshore wind sold more power at a lower price: EUR 81 per MWh on average, after EUR 84 in 2024.",
                "District heating delivered less heat because the first quarter was the mildest since 2014.",
                "Battery storage doubled its capacity to 80 MWh when the second hall went into service in June 2025.",
            )
        ),
        Heading("Operating profit", 12),
        "Operating profit rose by EUR 12.1 million. Offshore wind earned more than half of it, and battery storage, "
        "which had still made a loss in 2023, was profitable for the second year in a row.",
        Table(
            "Table 2. Operating profit by segment, in EUR million.",
            (
                ("Segment", "2023", "2024", "2025"),
                ("Port electricity", "21.3", "22.6", "24.9"),
                ("Offshore wind", "25.1", "29.8", "38.4"),
                ("District heating", "7.4", "8.1", "5.2"),
                ("Battery storage", "-1.9", "1.2", "4.3"),
                ("Ship charging", "-1.1", "0.4", "1.4"),
                ("Total", "50.8", "62.1", "74.2"),
            ),
            first=0.46,
            total=True,
        ),
    ),
    (
        Heading("2  Skarv offshore wind farm", 17),
        "The Skarv wind farm stands 24 kilometres off Norrvik in 31 metres of water. Its 32 turbines of 6 MW each "
        "generated 664 GWh in 2025, enough for about 190,000 households. The previous record, 601 GWh, dates from 2023; "
        "in 2024 a fault in the export cable kept the farm off the grid for eleven days.",
        "The turbines were available for 96.1 percent of the year, after 94.3 percent in 2024. Wind speed at hub height "
        "averaged 9.4 metres per second, close to the long-term mean.",
        Chart(
            "Figure 1. Electricity generated by the Skarv offshore wind farm, 2021 to 2025.",
            ("Year", "Electricity generated (GWh)"),
            ("2021", "2022", "2023", "2024", "2025"),
            (("Skarv", (512, 548, 601, 587, 664)),),
            ticks=(0, 100, 200, 300, 400, 500, 600, 700),
            height=250,
        ),
        Heading("Maintenance", 12),
        "Crews made 418 transfers to the turbines in 2025. The crew vessel Sea Lavender replaced the older Sea Thrift in "
        "April and can work in waves of up to 2.0 metres, which added 37 working days to the season.",
        Bullets(
            (
                "Leading edges were repaired on 21 blades, at an average cost of EUR 46,000 a blade.",
                "Two gearboxes were exchanged, on turbines S07 and S19.",
                "The export cable was surveyed along its 29 kilometres; no new damage was found.",
            )
        ),
    ),
    (
        Heading("3  People and safety", 17),
        "The company grew by 77 people, most of them electricians and marine technicians. Sixty-three apprentices are "
        "in training, and 58 of the 61 who finished between 2023 and 2025 have stayed.",
        Table(
            "Table 3. People and safety.",
            (
                ("At year end", "2023", "2024", "2025"),
                ("Employees", "1,152", "1,207", "1,284"),
                ("Apprentices", "49", "55", "63"),
                ("Share of women", "24%", "26%", "29%"),
                ("Injuries per million hours worked", "3.1", "2.4", "1.8"),
            ),
            first=0.5,
        ),
        Heading("4  Emissions", 17),
        "Direct emissions fell to 18,400 tonnes of carbon dioxide equivalent, from 22,900 tonnes in 2024. Nearly all of "
        "them come from the gas boilers of the heating plant at Tollgate Street, which run on cold days only. "
        "Electricity from shore spared visiting ships another 9,700 tonnes.",
        Heading("5  Outlook for 2026", 17),
        "For 2026 the management expects revenue of between EUR 600 million and EUR 620 million and an operating profit "
        "slightly above that of 2025. EUR 95 million will be invested, after EUR 88 million in 2025.",
        Bullets(
            (
                "A sea-water heat pump of 12 MW at the fish quay, for EUR 40 million, replaces the oldest gas boiler.",
                "Six more berths get shore power; the number of connected berths rises from 14 to 20.",
                "A third battery hall is being planned; the decision to build it is expected in autumn 2026.",
                "Results of the first quarter appear on 5 May 2026; the general meeting is held on 16 June 2026.",
            )
        ),
    ),
)

PAPER_TITLE = ("Marine Growth on Tidal Turbine Blades", "and Its Effect on Power: A Two-Year Field Study")
PAPER_AUTHORS = ("Ingrid Halvorsen, Tomas Bellweather and Mei-Lin Okafor", "Institute for Sea Power, Stranda")
# Two pages of two columns each.
PAPER_COLUMNS: tuple[tuple[Block, ...], ...] = (
    (
        Heading("Abstract", 11),
        "Marine growth on the blades of tidal turbines lowers their output, but field data over more than one season are "
        "rare. We exposed coated and uncoated blades of a 1.2 MW turbine in the Stranda Sound for 24 months and measured "
        "growth and power. Slime costs little; barnacles cost about a seventh of the power. A silicone coating delayed "
        "the settlement of barnacles by more than a year.",
        Heading("1  Introduction", 11),
        "A tidal turbine works in water that is bright and rich in larvae, and its blades are cleaned only when the "
        "machine is lifted. Growth thickens the leading edge and roughens the suction side, so that lift falls and drag "
        "rises. Laboratory studies with artificial roughness report losses between 3 and 20 percent [1, 2], a range too "
        "wide for planning.",
        "Few measurements come from the sea. Divers have described the growth on several machines [3], but without a "
        "record of the power that would show its price.",
        "This paper reports two years of measurements on a full-size turbine. It asks which kind of growth matters, how "
        "fast it comes, and whether a coating can hold it off until the planned lift after 24 months.",
        Heading("2  Method", 11),
        "The turbine has three blades of 8.6 m and a rated power of 1.2 MW. It stands in 38 m of water, where the mean "
        "spring peak velocity is 2.7 m/s. Each blade carried one of three surfaces: bare glass fibre, an epoxy coating "
        "with copper, and a silicone coating from which growth is meant to slip off.",
    ),
    (
        "Divers photographed the blades every three months and scraped samples of 10 cm by 10 cm from five stations "
        "along the span. Flow was measured with an acoustic profiler two rotor diameters upstream. Power was averaged "
        "over ten minutes and kept only when the yaw error was below 5 degrees.",
        "For the power measurements the whole rotor was brought to one state at a time: cleaned, with a film of slime, "
        "and with barnacles of a season on all three blades.",
        Heading("3  Growth", 11),
        "Slime appeared on all surfaces within three weeks. The first barnacles settled on bare glass fibre after 4 "
        "months, on copper epoxy after 9 months and on silicone after 17 months. Cover was densest at 30 percent of the "
        "span, where the blade moves slowly enough for larvae to hold on. Table 1 lists the state of the surfaces at the "
        "end of the trial.",
        Table(
            "Table 1. State of the blade surfaces after 24 months.",
            (
                ("Surface", "Thickness (mm)", "Cover (%)"),
                ("Bare glass fibre", "11.8", "87"),
                ("Copper epoxy", "4.6", "41"),
                ("Silicone", "1.3", "12"),
            ),
            first=0.4,
            shaded=False,
        ),
        "Growth on copper epoxy was patchy. Where the leading edge had lost its paint to sand, barnacles stood as densely "
        "as on bare glass fibre, and the patches spread from there at about 4 mm a month.",
    ),
    (
        Heading("4  Power", 11),
        "Figure 1 shows the power coefficient against the tip-speed ratio. The clean turbine reached 0.444 at a tip-speed "
        "ratio of 4.5. A film of slime reduced the peak power coefficient by 4.3 percent, to 0.425. Barnacles reduced the "
        "peak power coefficient by 13.5 percent, to 0.384, and moved the peak to a tip-speed ratio of 4.0.",
        Chart(
            "Figure 1. Power coefficient against tip-speed ratio for a clean rotor, with slime and with barnacles.",
            ("Tip-speed ratio", "Power coefficient"),
            ("2.0", "2.5", "3.0", "3.5", "4.0", "4.5", "5.0", "5.5", "6.0"),
            (
                ("Clean", (0.170, 0.251, 0.325, 0.389, 0.430, 0.444, 0.433, 0.401, 0.347)),
                ("Slime", (0.166, 0.244, 0.315, 0.375, 0.413, 0.425, 0.411, 0.375, 0.317)),
                ("Barnacles", (0.158, 0.230, 0.297, 0.352, 0.384, 0.381, 0.352, 0.301, 0.232)),
            ),
            ticks=(0, 0.1, 0.2, 0.3, 0.4, 0.5),
            height=200,
        ),
        "The loss grew with hardness rather than with thickness: scattered barnacles cost more than a closed, soft mat "
        "three times as thick. Thrust fell by 6.1 percent with barnacles, so that the load on the foundation was never "
        "the limiting case.",
        "With the silicone blade alone in service the loss after 24 months would have been 2.9 percent, estimated from "
        "its cover and the losses measured here.",
    ),
    (
        Heading("5  Discussion", 11),
        "A loss of 13.5 percent at the peak becomes 11.2 percent of the yearly energy, because the turbine spends part of "
        "its time at rated power. At this site that is 410 MWh a year. Cleaning at sea takes two slack tides and costs "
        "about as much as 160 MWh would earn.",
        "The silicone coating lost 0.2 mm to abrasion by sand in 24 months. Whether it survives a second period without "
        "repair is not known, and the trial covers a single site with little sediment.",
        "Copper epoxy is cheaper by half, but it must be renewed at every lift. Over the life of the machine the two "
        "coatings cost about the same, and both cost less than the energy that an unprotected rotor loses in one year.",
        Heading("6  Conclusion", 11),
        "Barnacles, not slime, decide what marine growth costs. A silicone coating kept the blade nearly free of them "
        "until the planned lift and can be recommended for sites with similar water.",
        Heading("References", 11),
        "[1] A. Brightwater and L. Moen. Artificial roughness on a model tidal rotor. Flume Notes 12 (2019), 44-58.",
        "[2] R. Castellane. Drag of overgrown hydrofoils. Annals of Sea Power 7 (2021), 201-219.",
        "[3] I. Halvorsen and T. Bellweather. Diver surveys of turbine blades. Stranda Reports 3 (2023), 9-27.",
    ),
)

CERTIFICATE = (
    ("Certificate no.:", "NMS-2026-0417"),
    ("Vessel:", "Sea Lavender, crew transfer vessel"),
    ("Owner:", "Norrvik Harbour Energy"),
    ("Date of inspection:", "12 March 2026"),
    ("Place of inspection:", "Norrvik, fish quay, berth 4"),
    ("Inspector:", "Karin Aldersund"),
    ("Result:", "Passed, with one remark"),
    ("Next inspection due:", "11 March 2027"),
)
CERTIFICATE_TEXT = (
    "The vessel named above was inspected afloat. Hull, engines, steering, fire protection and life-saving equipment "
    "were found in good order and fit for the carriage of 12 passengers within 40 nautical miles of the coast.",
    "Remark: the release of the life raft on the port side must be serviced before 30 April 2026.",
)

BRIEF_BLOCKS: tuple[Block, ...] = (
    Heading("一、项目概况", 14),
    "澜屿海上风电项目位于澜屿以东约35公里的海域，水深28至36米，年平均风速为每秒8.6米。"
    "项目规划总装机容量780兆瓦，共安装55台风电机组，分两期建设。"
    "全部建成后，预计年上网电量25.7亿千瓦时，每年可节约标准煤约77万吨。",
    Heading("二、投资与分期", 14),
    "澜屿海上风电项目总投资为86.6亿元，其中一期工程36.2亿元，二期工程50.4亿元。"
    "资本金占总投资的百分之二十，其余部分由银行贷款解决。按现行上网电价测算，投资回收期约为12年。",
    Table(
        "表1 项目分期建设计划",
        (
            ("建设阶段", "单机（兆瓦）", "机组（台）", "容量（兆瓦）", "投资（亿元）", "并网时间"),
            ("一期工程", "12", "25", "300", "36.2", "2026年12月"),
            ("二期工程", "16", "30", "480", "50.4", "2028年6月"),
            ("合计", "-", "55", "780", "86.6", "-"),
        ),
        first=0.16,
        total=True,
    ),
    Heading("三、工程进展", 14),
    "截至2026年2月底，一期工程已完成25台风机基础中的19台，220千伏海上升压站上部组块已运抵现场。"
    "海底电缆全长41公里，已敷设27公里。二期工程的环境影响评价报告已于2025年11月通过审查。",
    Heading("四、下一步安排", 14),
    Bullets(
        (
            "2026年5月前完成一期全部风机基础施工。",
            "2026年6月开始吊装首批12兆瓦风电机组。",
            "2026年9月完成海底电缆敷设和升压站调试。",
        )
    ),
)

# Column and row in the grid of the diagram, then a heading and a line.
STEPS = (
    (0, 0, "1. Alarm arrives", "from the turbine controller"),
    (1, 0, "2. Operator acknowledges", "within 5 minutes"),
    (2, 0, "3. Remote restart", "at most 2 attempts"),
    (2, 1, "4. Crew vessel is sent", "if waves are below 2.0 m"),
    (1, 1, "5. Repair on site", "permit signed by shift lead"),
    (0, 1, "6. Alarm is closed", "and entered in the log"),
)

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


SANS = Face("helv", "hebo", 10, leading=1.45, justified=False)
SERIF = Face("tiro", "tibo", 9.4, leading=1.25)
CHINESE = Face("china-s", "china-s bold", 11, leading=1.75)


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


def _heading(column: Column, heading: Heading) -> None:
    column.y += heading.size * 1.6
    _write(column.shape, column.x0, column.y, heading.text, column.face.bold, heading.size, NAVY)
    column.y += heading.size * 0.25


def _bullets(column: Column, bullets: Bullets) -> None:
    size = column.face.size
    for item in bullets.items:
        _write(column.shape, column.x0 + 4, column.y + size * column.face.leading, "\u2022", "helv", size, TEAL)
        _paragraph(column, item, indent=16)
        column.y -= size * 0.2


def _caption(column: Column, text: str) -> None:
    _paragraph(column, text, size=column.face.size * 0.92, color=GREY)


def _table(column: Column, table: Table) -> None:
    """A caption, then ruled rows; numbers stand at the right edge of their column."""
    column.y += 4
    _caption(column, table.caption)
    shape, face, size = column.shape, column.face, column.face.size * 0.95
    height, top, last = size * 2, column.y, len(table.rows) - 1
    share = column.width * (1 - table.first) / (len(table.rows[0]) - 1)
    if table.shaded:
        _fill(shape, (column.x0, top, column.x1, top + height), NAVY)
    else:
        _rule(shape, column.x0, column.x1, top, NAVY)
    for number, row in enumerate(table.rows):
        base = top + height * number + size * 1.35
        strong = number == 0 or (table.total and number == last)
        font, color = (face.bold if strong else face.regular), (WHITE if number == 0 and table.shaded else INK)
        _write(shape, column.x0 + 5, base, row[0], font, size, color)
        for place, cell in enumerate(row[:0:-1]):
            _write(shape, column.x1 - share * place - 5, base, cell, font, size, color, anchor=1)
        heavy = number in (0, last) or (table.total and number == last - 1)
        _rule(shape, column.x0, column.x1, top + height * (number + 1), NAVY if heavy else PALE)
    column.y = top + height * len(table.rows) + size


def _chart(column: Column, chart: Chart) -> None:
    column.y += 6
    plot, place = _axes(column, chart)
    (_bars if len(chart.series) == 1 else _lines)(column, chart, plot, place)
    column.y += chart.height
    _caption(column, chart.caption)


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
        legend = plot.y1 - 34 + 12 * number
        _rule(shape, plot.x0 + 60, plot.x0 + 78, legend - 3, color, width=1.4)
        _write(shape, plot.x0 + 83, legend, name, font, size)


def _draw(column: Column, blocks: Sequence[Block]) -> None:
    for block in blocks:
        match block:
            case str():
                _paragraph(column, block)
            case Heading():
                _heading(column, block)
            case Bullets():
                _bullets(column, block)
            case Table():
                _table(column, block)
            case Chart():
                _chart(column, block)


def _new_shape(pdf: pymupdf.Document, width: float = WIDTH, height: float = HEIGHT) -> pymupdf.Shape:
    return pdf.new_page(width=width, height=height).new_shape()


def _furniture(shape: pymupdf.Shape, font: str, left: str, right: str, number: str) -> None:
    """Running head, and the page number as foot."""
    _write(shape, MARGIN, 44, left, font, 8.5, GREY)
    _write(shape, WIDTH - MARGIN, 44, right, font, 8.5, GREY, anchor=1)
    _rule(shape, MARGIN, WIDTH - MARGIN, 51, PALE)
    _write(shape, WIDTH / 2, HEIGHT - 34, number, font, 8.5, GREY, anchor=0.5)


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
    for number, blocks in enumerate(REPORT_PAGES, start=2):
        shape = _new_shape(pdf)
        _furniture(shape, SANS.regular, "Norrvik Harbour Energy", "Annual Report 2025", str(number))
        _draw(Column(shape, SANS, MARGIN, WIDTH - MARGIN, 58), blocks)
        shape.commit()
    _save(pdf, path, "Annual Report 2025", "Norrvik Harbour Energy")


def _report_cover(shape: pymupdf.Shape) -> None:
    column = Column(shape, SANS, MARGIN, WIDTH - MARGIN, 300)
    for bottom, color in ((270, AMBER), (264, TEAL), (252, NAVY)):
        _fill(shape, (0, 0, WIDTH, bottom), color)
    _write(shape, MARGIN, 96, "Norrvik Harbour Energy", "helv", 16, WHITE)
    _write(shape, MARGIN, 160, "Annual Report 2025", "hebo", 38, WHITE)
    _write(shape, MARGIN, 190, "Power for the port, heat for the town", "helv", 13, WHITE)
    _heading(column, Heading("Summary", 15))
    _paragraph(column, SUMMARY, size=11)
    column.y += 14
    step = (column.width + 14) / len(KEY_FIGURES)
    for number, (figure, meaning) in enumerate(KEY_FIGURES):
        left = column.x0 + step * number
        _fill(shape, (left, column.y, left + step - 14, column.y + 66), MIST)
        _write(shape, left + 12, column.y + 32, figure, "hebo", 18, TEAL)
        _write(shape, left + 12, column.y + 50, meaning, "helv", 9.5)
    column.y += 80
    _draw(column, (Heading("In this report", 15), CONTENTS))
    _write(shape, MARGIN, HEIGHT - 34, "Norrvik Harbour Energy, Quay Street 1, Norrvik", "helv", 8.5, GREY)
    shape.commit()


def _paper(path: Path) -> None:
    pdf = pymupdf.open()
    outer, gutter = 48, 20
    width = (WIDTH - 2 * outer - gutter) / 2
    for number in (1, 2):
        shape, top = _new_shape(pdf), 58.0
        _furniture(shape, SERIF.regular, "Stranda Workshop on Marine Energy", "2025", str(number))
        if number == 1:
            lines = [*((line, "tibo", 18) for line in PAPER_TITLE), *((line, "tiro", 10.5) for line in PAPER_AUTHORS)]
            for place, (line, font, size) in enumerate(lines):
                _write(shape, WIDTH / 2, (88, 110, 136, 151)[place], line, font, size, anchor=0.5)
            top = 160
        for side, blocks in enumerate(PAPER_COLUMNS[2 * number - 2 : 2 * number]):
            left = outer + side * (width + gutter)
            _draw(Column(shape, SERIF, left, left + width, top), blocks)
        shape.commit()
    _save(pdf, path, " ".join(PAPER_TITLE), PAPER_AUTHORS[0])


def _scan(path: Path) -> None:
    """A sheet as an office scanner leaves it: askew, grainy, a little soft, and without a text layer."""
    sheet = pymupdf.open()
    shape = _new_shape(sheet)
    _certificate(shape)
    shape.commit()
    pixels = sheet[0].get_pixmap(dpi=150, colorspace=pymupdf.csGRAY)
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
    column = Column(shape, Face("tiro", "tibo", 12, leading=1.4, justified=False), 90, WIDTH - 80, 210)
    shape.draw_rect((48, 48, WIDTH - 48, HEIGHT - 48))
    shape.finish(color=INK, width=1.6)
    _write(shape, WIDTH / 2, 105, "NORRVIK MARITIME SURVEY", "tibo", 20, anchor=0.5)
    _write(shape, WIDTH / 2, 126, "Office for the inspection of small commercial vessels", "tiro", 12, anchor=0.5)
    _rule(shape, 90, WIDTH - 90, 142, INK)
    _write(shape, WIDTH / 2, 182, "CERTIFICATE OF INSPECTION", "tibo", 17, anchor=0.5)
    for label, value in CERTIFICATE:
        column.y += 30
        _write(shape, column.x0, column.y, label, "tibo", 12)
        _write(shape, column.x0 + 122, column.y, value, "cour", 12)
        _rule(shape, column.x0 + 118, column.x1, column.y + 5, GREY, width=0.5)
    column.y += 24
    for text in CERTIFICATE_TEXT:
        _paragraph(column, text)
    _stamp(shape, (420, 655))
    # A signature: two strokes of a pen.
    shape.draw_bezier((100, 690), (130, 630), (140, 740), (170, 668))
    shape.draw_bezier((150, 688), (190, 650), (200, 706), (262, 672))
    shape.finish(color=INK, width=1.3, closePath=False)
    _rule(shape, 90, 280, 704, INK, width=0.6)
    _write(shape, 90, 720, "Signature of the inspector", "tiro", 10)


def _stamp(shape: pymupdf.Shape, center: tuple[float, float]) -> None:
    """A round rubber stamp, turned by 14 degrees."""
    tone, middle = (0.35, 0.35, 0.35), pymupdf.Point(center)
    for radius, width in ((62, 2.2), (56, 0.8)):
        shape.draw_circle(middle, radius)
        shape.finish(color=tone, width=width)
    for text, size, drop in (("NORRVIK", 11, -22), ("PASSED", 19, 4), ("12 MAR 2026", 11, 24)):
        start = middle + (-_width(text, "hebo", size) / 2, drop)
        shape.insert_text(
            start, text, fontname="hebo", fontsize=size, color=tone, fill=tone, morph=(middle, pymupdf.Matrix(14))
        )


def _brief(path: Path) -> None:
    pdf = pymupdf.open()
    shape = _new_shape(pdf)
    _furniture(shape, CHINESE.regular, "澜屿新能源有限公司", "2026年3月", "1")
    _write(shape, WIDTH / 2, 96, "沿海风电项目简报", CHINESE.bold, 22, NAVY, anchor=0.5)
    _draw(Column(shape, CHINESE, MARGIN, WIDTH - MARGIN, 108), BRIEF_BLOCKS)
    shape.commit()
    _save(pdf, path, "沿海风电项目简报", "澜屿新能源有限公司")


def _diagram(path: Path) -> None:
    pdf = pymupdf.open()
    shape = _new_shape(pdf, 660, 300)
    _write(shape, 330, 40, "Control room: what happens after a turbine alarm", "hebo", 17, NAVY, anchor=0.5)
    boxes = [pymupdf.Rect(30 + 210 * x, 75 + 110 * y, 210 + 210 * x, 145 + 110 * y) for x, y, _, _ in STEPS]
    for box, (_, _, title, detail) in zip(boxes, STEPS, strict=True):
        shape.draw_rect(box, radius=0.12)
        shape.finish(color=TEAL, fill=MIST, width=1.2)
        _write(shape, (box.x0 + box.x1) / 2, box.y0 + 31, title, "hebo", 12.5, NAVY, anchor=0.5)
        _write(shape, (box.x0 + box.x1) / 2, box.y0 + 50, detail, "helv", 11, anchor=0.5)
    arrows = (((210, 110), (240, 110)), ((420, 110), (450, 110)), ((540, 145), (540, 185)))
    for start, end in (*arrows, ((450, 220), (420, 220)), ((240, 220), (210, 220)), ((450, 138), (205, 192))):
        _arrow(shape, pymupdf.Point(start), pymupdf.Point(end))
    _write(shape, 548, 169, "no success", "heit", 10.5, GREY)
    _write(shape, 330, 172, "restarted", "heit", 10.5, GREY, anchor=0.5)
    shape.commit()
    pdf[0].get_pixmap(dpi=144).save(path)
    pdf.close()


def _arrow(shape: pymupdf.Shape, start: pymupdf.Point, end: pymupdf.Point) -> None:
    along = (end - start).unit
    across = pymupdf.Point(-along.y, along.x)
    shape.draw_line(start, end - along * 7)
    shape.finish(color=NAVY, width=1.5)
    shape.draw_polyline([end, end - along * 9 + across * 4, end - along * 9 - across * 4])
    shape.finish(color=NAVY, fill=NAVY, width=0.5, closePath=True)
