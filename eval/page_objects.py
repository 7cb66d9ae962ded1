"""What stands on a page that one can ask for: labels of rows and columns, figures, names, headings.

Leaves out what a person could not tell apart or would not call by that word: pieces of wrapped labels, years, numbers
of pages. Knows regions as they were read; asks nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from mmrag.errors import require
from mmrag.tables import CELL
from mmrag.text import is_mostly_cjk
from mmrag.types import Page, Region, RegionKind

Kind = Literal["row", "column", "figure", "name", "heading"]
KINDS: tuple[Kind, ...] = ("row", "column", "figure", "name", "heading")

_PROSE = (RegionKind.TEXT, RegionKind.LIST_ITEM, RegionKind.CAPTION)
_SIMILAR = 85
"""Likeness (0..100) from which words of a page may be the ones asked for, misread or in another number."""
_MOST_CHARACTERS, _MOST_WORDS, _MOST_CJK = 60, 8, 20


class PageObjects(NamedTuple):
    document_id: str
    document: str
    page: int
    language: str
    """`zh` or `en`, which stands for all others."""
    squeezed: str
    """Letters and digits of all that was read on the page."""
    objects: dict[Kind, tuple[str, ...]]

    def lacks(self, kind: Kind, text: str) -> bool:
        """Whether it is certain: not among the words nor inside one or a longer number, nor anything much alike."""
        wanted = squeeze(text)
        if kind == "name" and any(squeeze(form) in self.squeezed for form in _short_forms(text)):
            return False
        if not wanted or wanted in self.squeezed:
            return False
        alike: float = (
            0 if kind == "figure" else require("rapidfuzz", extra="eval").fuzz.partial_ratio(wanted, self.squeezed)
        )
        return alike < _SIMILAR


def squeeze(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def page_objects(document_id: str, document: str, page: Page) -> PageObjects:
    text = " ".join(region.text for region in page.regions)
    is_chinese = is_mostly_cjk(text) and not _KANA_OR_HANGUL.search(text)
    return PageObjects(
        document_id, document, page.number, "zh" if is_chinese else "en", squeeze(text), objects_of(page.regions)
    )


_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af]{2}")


def objects_of(regions: Iterable[Region]) -> dict[Kind, tuple[str, ...]]:
    """In the order of the page, each once."""
    found: dict[Kind, dict[str, str]] = {kind: {} for kind in KINDS}
    for region in regions:
        for kind, text in _in_region(region):
            found[kind].setdefault(squeeze(text), text)
    return {kind: tuple(texts.values()) for kind, texts in found.items()}


def _in_region(region: Region) -> Iterator[tuple[Kind, str]]:
    if region.kind is RegionKind.SECTION_HEADER:
        heading = _NUMBERING.sub("", region.text.strip())
        if "\n" not in heading and is_label(heading):
            yield "heading", heading
    elif region.kind is RegionKind.TABLE:
        yield from (("row", label) for label in row_labels(region))
        yield from (("column", name) for name in column_heads(region))
        yield from (("figure", figure) for figure in figures(region.text))
    elif region.kind in _PROSE:
        yield from (("figure", figure) for figure in figures(region.text))
        yield from (("name", name) for name in names(region.text))


# -- tables ----------------------------------------------------------------------------------------------------------


_LEAST_ROWS = 3
"""Of figures with a label: what is smaller and was read as a table may be a chart, or text set in columns."""


def row_labels(table: Region) -> list[str]:
    """First cells of rows that have a figure: others are headings or wrapped lines."""
    rows = [table.text[row.start : row.end].split(CELL) for row in table.sentences[table.header_rows :]]
    labels = [_plain(label) for label, *rest in rows if _HAS_FIGURE.search(CELL.join(rest)) and not _goes_on(rest)]
    found = [label for label in labels if is_label(label)]
    return found if len(found) >= _LEAST_ROWS else []


def column_heads(table: Region) -> list[str]:
    """Of tables with one row of heads: where there are more, a cell may be but a piece of one."""
    if table.header_rows != 1 or not row_labels(table):
        return []
    head = table.sentences[0]
    names = [_plain(cell) for cell in table.text[head.start : head.end].split(CELL)]
    if any(len(name) > (_MOST_CJK if is_mostly_cjk(name) else _MOST_CHARACTERS) for name in names):
        return []  # a row of a table that goes on from the page before
    return [name for name in names if len(names) > 1 and is_label(name)]


def _goes_on(rest: list[str]) -> bool:
    """Whether what was read as the next cell is more of the label: `Interest`, `– fixed loans`."""
    return bool(rest) and re.match(r"\s*[-–—]\s*[^\W\d]", rest[0]) is not None


_HAS_FIGURE = re.compile(r"\d")
_NUMBERING = re.compile(
    r"^(?:\d\s+|(?:[A-Z]|\d+)(?:\.\d+)+[.)]?\s+|(?:[A-Z]|\d+)[.)]\s+"  # not the 12 of "12 weeks ended"
    r"|[（(]?[一二三四五六七八九十\d]+[）)、.．]\s*|第[一二三四五六七八九十]+[章节条]\s*)"
)
_FOOTNOTE = re.compile(r"\s*(?:[(\[]\w{1,2}[)\]]|[*†‡]+)+$")
_LEADERS = re.compile(r"[\s.…·_]{3,}$|[\s:：]+$")


def _plain(label: str) -> str:
    """Without a footnote's mark, dots that lead to the next cell, or a colon."""
    return _LEADERS.sub("", _FOOTNOTE.sub("", _LEADERS.sub("", " ".join(label.split()))))


_NEVER = re.compile(r"[\"“”„«»<>|{}\\\x00-\x1f\x7f]|\bhttps?:|www\.|@")
_CUT_OFF = re.compile(
    r"(?:[-–—,(&/。，；：！？.;:!?]|\b(?:a|an|and|as|at|by|for|from|in|is|of|on|or|per|than|the|to|with|vs))$",
    re.IGNORECASE,
)


def is_label(text: str) -> bool:
    """A short name that begins and ends like one."""
    letters = [c for c in text if c.isalpha()]
    printed = sum(not c.isspace() for c in text)
    least, most = (2, _MOST_CJK) if is_mostly_cjk(text) else (4, _MOST_CHARACTERS)
    is_short = len(text) <= most and len(text.split()) <= _MOST_WORDS
    is_wordy = 2 * len(letters) >= printed and len(letters) >= least
    is_whole = not _CUT_OFF.search(text) and all(text.count(a) == text.count(b) for a, b in ("()", "（）", "[]"))
    begins = text[:1].isalnum() and not text[:1].islower()
    return is_short and is_wordy and is_whole and begins and not _NEVER.search(text)


# -- text ------------------------------------------------------------------------------------------------------------

_FIGURE = re.compile(
    r"(?<![\w.,/:\-–−+#'’\[])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d{3,5})%?(?![\w/:\-–+'’%\]]|[.,]\d|\.\w)"
)
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d")


def figures(text: str) -> list[str]:
    """Numbers of two significant digits or more, as printed; no years, and no parts of dates, codes or references.

    More than five digits in a row without commas are mostly a code.
    """
    return [
        figure
        for figure in _FIGURE.findall(unicodedata.normalize("NFKC", text))
        if len(re.sub(r"\D", "", figure).strip("0")) >= 2 and not _YEAR.fullmatch(figure)
    ]


_PARTS = re.compile(r" (?:of|for|de) ")


def _short_forms(name: str) -> tuple[str, str]:
    """By which a text goes on to call it: `Holm` for Ida Holm, `The Severn` for The Severn of Wales."""
    return name.split()[-1], _PARTS.split(name)[0]


# After a word in small letters, where a capital means a name; "of" and the like may stand within.
_NAME = re.compile(
    r"(?<![\w'’-])(?!and )[a-z]+[,;]? ([A-Z][a-z]+(?:(?: of| of the| for| de)? [A-Z][a-z]+){1,4})"
    r"(?![\w'’-]| [A-Z&(]| (?:and|of|for|de)(?: the)? [A-Z]|/)"
)
_CHINESE_NAME = re.compile(r"《([\u4e00-\u9fff]{4,20})》")
_MONTHS = re.compile(r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December)\b")


def names(text: str) -> list[str]:
    """Groups of capitalised words in English prose; in Chinese, titles of works and laws in their brackets."""
    plain = " ".join(text.split())
    found = [name for name in _NAME.findall(plain) if not _MONTHS.search(name)]
    return [name for name in (*found, *_CHINESE_NAME.findall(plain)) if is_label(name)]
