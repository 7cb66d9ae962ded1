"""Makes a spreadsheet fit to be printed: cells that show all they hold, rows that are not torn apart, a grid.

Works on LibreOffice's flat XML, as LibreOffice wrote it. Programs that write spreadsheets seldom set widths, and what
does not fit a cell is cut off in print, or ### for a number: it would be lost to whoever reads the pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unicodedata import east_asian_width
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_TABLE, _STYLE, _OFFICE = f"{{{_ODF}:table:1.0}}", f"{{{_ODF}:style:1.0}}", f"{{{_ODF}:office:1.0}}"
_TEXT, _FO = f"{{{_ODF}:text:1.0}}", f"{{{_ODF}:xsl-fo-compatible:1.0}}"

_CHARACTER = 0.2
"""Width in cm, at ten points."""
_LONGEST_LINE = 50
"""Characters in a cell's line, from where it wraps."""
_PAGE = (29.7, 84.0)
"""Width in cm, the least (A4 on its side) and the most; what is wider still is printed smaller."""
_ASPECT = 1.414
_INCHES = {"cm": 1.0, "mm": 0.1, "in": 2.54, "pt": 2.54 / 72}


def make_readable(sheets: Path) -> None:
    """Rewrite a flat spreadsheet (.fods)."""
    for _, (prefix, space) in ElementTree.iterparse(sheets, ["start-ns"]):  # noqa: S314  # LibreOffice wrote it
        ElementTree.register_namespace(*map(str, (prefix, space)))  # or formulas would not know their own
    tree = ElementTree.parse(sheets)  # noqa: S314  # the same
    root = tree.getroot()
    styles = root.find(f"{_OFFICE}automatic-styles")
    if styles is None:
        return
    given = {str(style.get(f"{_STYLE}name")): style for style in styles}
    widest = 0.0
    for table in root.iter(f"{_TABLE}table"):
        widest = max(widest, _widen_columns(table, styles, given))
        _repeat_first_row(table)
    _wrap(root)
    _fit_pages(root, widest)
    tree.write(sheets, encoding="utf-8", xml_declaration=True)


# -- columns ---------------------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    element: Element
    width: float
    """In cm."""


def _widen_columns(table: Element, styles: Element, given: dict[str, Element]) -> float:
    """Returns the width of the table in cm."""
    lengths = _lengths(table)
    total, place = 0.0, 0
    for parent in [table, *table.iter(f"{_TABLE}table-column-group"), *table.iter(f"{_TABLE}table-header-columns")]:
        for child in list(parent):
            if child.tag != f"{_TABLE}table-column":
                continue
            at = list(parent).index(child)
            parent.remove(child)
            for offset, column in enumerate(_columns(child, lengths[place:], given)):
                parent.insert(at + offset, column.element)
                if column.width:
                    total += column.width
                    _give_width(column, styles)
            place += int(child.get(f"{_TABLE}number-columns-repeated", "1"))
    return total


def _columns(element: Element, lengths: list[int], given: dict[str, Element]) -> Iterator[_Column]:
    """One element for many columns, as one for each that holds something and one for the rest, of no width."""
    many = int(element.get(f"{_TABLE}number-columns-repeated", "1"))
    style = given.get(element.get(f"{_TABLE}style-name", ""))
    had = max((_centimetres(each.get(f"{_STYLE}column-width", "")) for each in style or ()), default=0.0)
    for length in lengths[:many]:
        single = Element(element.tag, element.attrib)
        single.attrib.pop(f"{_TABLE}number-columns-repeated", None)
        yield _Column(single, max(had, 0.4 + _CHARACTER * min(length, _LONGEST_LINE)))
    if many > len(lengths):
        rest = Element(element.tag, element.attrib | {f"{_TABLE}number-columns-repeated": str(many - len(lengths))})
        yield _Column(rest, 0.0)


def _give_width(column: _Column, styles: Element) -> None:
    name = f"width{round(100 * column.width)}"
    if not any(style.get(f"{_STYLE}name") == name for style in styles):
        attributes = {f"{_STYLE}name": name, f"{_STYLE}family": "table-column"}
        style = SubElement(styles, f"{_STYLE}style", attributes)
        SubElement(style, f"{_STYLE}table-column-properties", {f"{_STYLE}column-width": f"{column.width:.2f}cm"})
    column.element.set(f"{_TABLE}style-name", name)


def _lengths(table: Element) -> list[int]:
    """Of the longest line in each column, as far as there are any."""
    lengths: list[int] = []
    for row in table.iter(f"{_TABLE}table-row"):
        place = 0
        for cell in row:
            many = int(cell.get(f"{_TABLE}number-columns-repeated", "1"))
            lines = ["".join(line.itertext()) for line in cell.findall(f"{_TEXT}p")]
            if lines and cell.get(f"{_TABLE}number-columns-spanned", "1") == "1":
                lengths += [0] * (place + many - len(lengths))
                longest = max(map(_length, lines))
                lengths[place : place + many] = [max(longest, before) for before in lengths[place : place + many]]
            place += many
    return lengths


def _length(line: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in line)


def _centimetres(size: str) -> float:
    found = re.fullmatch(r"([\d.]+)(cm|mm|in|pt)", size)
    return float(found[1]) * _INCHES[found[2]] if found else 0.0


# -- rows, cells, pages ----------------------------------------------------------------------------------------------


def _repeat_first_row(table: Element) -> None:
    """On every page, as most sheets name their columns there."""
    rows = [child for child in table if child.tag.startswith(f"{_TABLE}table-row")]
    if rows and rows[0].tag == f"{_TABLE}table-row" and table.find(f"{_TABLE}table-header-rows") is None:
        at = list(table).index(rows[0])
        table.remove(rows[0])
        header = Element(f"{_TABLE}table-header-rows")
        header.append(rows[0])
        table.insert(at, header)


def _wrap(root: Element) -> None:
    """Long text in lines, its row as high as they need."""
    for style in (*root.iter(f"{_STYLE}style"), *root.iter(f"{_STYLE}default-style")):
        family = style.get(f"{_STYLE}family")
        if family == "table-cell":
            _property(style, "table-cell-properties").set(f"{_FO}wrap-option", "wrap")
        elif family == "table-row":
            _property(style, "table-row-properties").set(f"{_STYLE}use-optimal-row-height", "true")


def _property(style: Element, name: str) -> Element:
    found = style.find(f"{_STYLE}{name}")
    if found is None:
        found = Element(f"{_STYLE}{name}")
        style.insert(0, found)
    return found


def _fit_pages(root: Element, widest: float) -> None:
    layouts = list(root.iter(f"{_STYLE}page-layout-properties"))
    margins = 5.0
    width = min(_PAGE[1], max(_PAGE[0], widest + margins))
    for layout in layouts:
        for name in ("scale-to", "scale-to-pages"):
            layout.attrib.pop(f"{_STYLE}{name}", None)
        layout.set(f"{_FO}page-width", f"{width:.2f}cm")
        layout.set(f"{_FO}page-height", f"{width / _ASPECT:.2f}cm")
        layout.set(f"{_STYLE}print-orientation", "landscape")
        layout.set(f"{_STYLE}scale-to-X", "1")
        layout.set(f"{_STYLE}scale-to-Y", "0")
        layout.set(f"{_STYLE}print", "grid objects charts drawings zero-values")
