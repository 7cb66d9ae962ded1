"""The data that flows through mmrag: frozen dataclasses, provenance by containment.

Document ▶ Page ▶ Region ▶ Word, and Chunk ▶ Span ▶ Region. Nothing here reads a file, a model or an index,
except `Citation.image`, which renders its own page on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from PIL import Image


PAGED = {
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
"""Kinds of files that have pages, by suffix in lower case."""

LAID_OUT = {
    ".epub": "application/epub+zip",
    ".mobi": "application/x-mobipocket-ebook",
    ".fb2": "application/x-fictionbook+xml",
    ".cbz": "application/vnd.comicbook+zip",
    ".xps": "application/vnd.ms-xpsdocument",
    ".oxps": "application/vnd.ms-xpsdocument",
    ".svg": "image/svg+xml",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".txt": "text/plain",
    ".text": "text/plain",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".doc": "application/msword",
    ".xls": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
    ".rtf": "application/rtf",
}
"""Kinds of files whose pages are laid out at ingest, and kept as a PDF from then on."""

MEDIA_TYPES = PAGED | LAID_OUT
"""What can be ingested, by suffix in lower case."""


class BBox(NamedTuple):
    """A box in fractions of the visible page, origin top left, after rotation and crop."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return max(0.0, self.width) * max(0.0, self.height)

    @property
    def center(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def contains(self, point: tuple[float, float]) -> bool:
        x, y = point
        return self.x0 <= x <= self.x1 and self.y0 <= y <= self.y1

    def intersection(self, other: BBox) -> float:
        """Area shared with `other`, 0 when they do not overlap."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0.0, width) * max(0.0, height)

    def iou(self, other: BBox) -> float:
        shared = self.intersection(other)
        total = self.area + other.area - shared
        return shared / total if total > 0 else 0.0

    def within(self, clip: BBox) -> BBox:
        """From fractions of the part `clip` of a page to fractions of the page."""
        return BBox(
            clip.x0 + self.x0 * clip.width,
            clip.y0 + self.y0 * clip.height,
            clip.x0 + self.x1 * clip.width,
            clip.y0 + self.y1 * clip.height,
        )

    def to_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Corners on an image of `width` x `height` pixels, never outside it."""
        return (
            max(0, round(self.x0 * width)),
            max(0, round(self.y0 * height)),
            min(width, round(self.x1 * width)),
            min(height, round(self.y1 * height)),
        )

    @classmethod
    def from_size(cls, box: Sequence[float], width: float, height: float) -> BBox:
        """From corners in points or pixels of a page of `width` x `height`; clipped to the page, corners in order."""
        x0, x1 = sorted((_fraction(box[0], width), _fraction(box[2], width)))
        y0, y1 = sorted((_fraction(box[1], height), _fraction(box[3], height)))
        return cls(x0, y0, x1, y1)

    @classmethod
    def union(cls, boxes: Sequence[BBox]) -> BBox:
        """The smallest box around `boxes`, which must not be empty."""
        return cls(
            min(b.x0 for b in boxes),
            min(b.y0 for b in boxes),
            max(b.x1 for b in boxes),
            max(b.y1 for b in boxes),
        )


WHOLE_PAGE = BBox(0.0, 0.0, 1.0, 1.0)


def _fraction(value: float, size: float) -> float:
    # Five digits are a hundredth of a millimetre on A4: finer than any reader can see, and short in the ledger.
    return round(min(1.0, max(0.0, float(value) / size)), 5) if size > 0 else 0.0


class RegionKind(StrEnum):
    TEXT = "text"
    SECTION_HEADER = "section_header"
    LIST_ITEM = "list_item"
    TABLE = "table"
    PICTURE = "picture"
    CAPTION = "caption"
    FORMULA = "formula"
    PAGE_HEADER = "page_header"
    PAGE_FOOTER = "page_footer"

    @property
    def is_furniture(self) -> bool:
        """Running heads and feet: shown and citable, but kept out of chunks."""
        return self in (RegionKind.PAGE_HEADER, RegionKind.PAGE_FOOTER)

    @property
    def is_pointer(self) -> bool:
        """Captions and titles: whoever looks for what they say wants to see what they name."""
        return self in (RegionKind.CAPTION, RegionKind.SECTION_HEADER)


class TextSpan(NamedTuple):
    """`text[start:end]`."""

    start: int
    end: int


class Word(NamedTuple):
    """A word (or an OCR line, or a run of Chinese text), at `text[start : start + len(word.text)]` of its region."""

    text: str
    box: BBox
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Region:
    """A block of a page. Its id is given at ingest; a citation names it, so its geometry is never invented."""

    id: str
    kind: RegionKind
    box: BBox
    text: str
    words: tuple[Word, ...] = ()
    sentences: tuple[TextSpan, ...] = ()
    """Where its sentences stand in `text`; of a table, its rows. What can be quoted."""
    header_rows: int = 0
    """How many of a table's first rows name its columns."""
    caption_id: str | None = None
    """The caption of this table or picture, when the page has one."""
    description: str = ""
    """What a model says that this picture shows: generated, none of the document's words, never quoted."""
    tags: tuple[str, ...] = ()
    """What an image encoder takes this picture for: chart, photo, map …; the likeliest first."""

    def lines(self, start: int, end: int) -> tuple[BBox, ...]:
        """Boxes of the printed lines that `text[start:end]` covers, in reading order."""
        return merge_lines([w.box for w in self.words if w.start < end and w.end > start])


def merge_lines(boxes: Sequence[BBox]) -> tuple[BBox, ...]:
    """Join neighbouring boxes, given in reading order, that stand on one printed line."""
    lines: list[BBox] = []
    for box in boxes:
        if lines and _same_line(lines[-1], box):
            lines[-1] = BBox.union([lines[-1], box])
        else:
            lines.append(box)
    return tuple(lines)


def _same_line(line: BBox, box: BBox) -> bool:
    shared = min(line.y1, box.y1) - max(line.y0, box.y0)
    return shared > 0.5 * min(line.height, box.height) and box.x0 >= line.x0


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `number` is 1-based, sizes are in points (1/72 inch) of the visible page."""

    number: int
    width: float
    height: float
    regions: tuple[Region, ...] = ()
    text_source: str = "native"
    """Where the words come from: `native` (the file's text layer), `ocr`, `mixed`, or `none` (a page without words)."""
    labels: tuple[str, ...] = ()
    """Page numbers printed on it; a spread has two."""
    problem: str = ""
    """Why it could not be read, as a clause; it has no regions then."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file known by its content. `id` is derived from the sha256, so the same bytes are the same document."""

    id: str
    sha256: str
    name: str
    """The file's name, without its folder."""
    path: str
    """Where it was found at ingest."""
    media_type: str
    title: str
    page_count: int
    size: int
    """Bytes."""
    described_by: str = ""
    """The model that described its pictures; empty when none was asked."""
    undescribed: int = 0
    """Pictures on which that model failed: the next ingest with it tries them again."""


class Span(NamedTuple):
    """`chunk.text[start:end]` is `region.text[region_start : region_start + (end - start)]`."""

    region_id: str
    start: int
    end: int
    region_start: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one page that fits the text encoder."""

    id: str
    document_id: str
    page: int
    kind: RegionKind
    text: str
    box: BBox
    spans: tuple[Span, ...]
    context: str = ""
    """What the chunk stands under (section title, caption): encoded and searched with the text, never quoted."""
    description: str = ""
    """What a model says of this picture: not in the context, whose words are the document's and speak for a quote."""

    @property
    def encoded_text(self) -> str:
        lead = "".join(f"{part}\n" for part in (self.context, self.description) if part)
        return lead + self.text


class LegVote(NamedTuple):
    """Place of a page in one leg's ranking (from 1), and what that added to its fused score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A region that may answer, with its page's geometry and why it was found."""

    document: Document
    page: int
    region: Region
    chunk: Chunk
    score: float
    legs: dict[str, LegVote] = field(default_factory=dict)
    """What each retrieval leg said of its page; a leg that did not find it is absent."""
    agreement: float = 0.0
    """Mean reciprocal rank (0..1) of its page over the text legs that could read the question."""
    source: Path = field(default=Path(), repr=False)
    """The store's own copy of the file."""

    def cite(self, span: TextSpan | None = None) -> Citation:
        """The region as a citation that quotes `span` of its words; without one, the region is cited as a whole."""
        start, end = span or (0, 0)
        return Citation(
            document=self.document.name,
            document_id=self.document.id,
            page=self.page,
            region=self.region.id,
            bbox=self.region.box,
            quote=self.region.text[start:end],
            lines=self.region.lines(start, end),
            source=self.source,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "document": self.document.name,
            "page": self.page,
            "region": self.region.id,
            "kind": str(self.region.kind),
            "bbox": list(self.region.box),
            "score": round(self.score, 4),
            "text": self.region.text,
            **({"description": self.region.description} if self.region.description else {}),
            **({"tags": list(self.region.tags)} if self.region.tags else {}),
        }


@dataclass(frozen=True, slots=True)
class Citation:
    """The exact place that backs a claim."""

    document: str
    """The file's name."""
    document_id: str
    page: int
    region: str
    bbox: BBox
    quote: str
    """Words of the region; empty where it is cited as a whole, as a picture is."""
    lines: tuple[BBox, ...]
    """Boxes of the quoted words, line by line, inside `bbox`."""
    source: Path = field(repr=False)
    """The store's own copy of the file, so that a citation survives a moved original."""

    def image(self, dpi: int = 110) -> Image.Image:
        """The cited page, with the region outlined and the quoted words marked."""
        from mmrag.render import draw_regions, render_page

        return draw_regions(render_page(self.source, self.page, dpi=dpi), [(self.bbox, self.lines)])


class Support(StrEnum):
    SUPPORTED = "supported"
    PARTLY = "partly"
    UNSUPPORTED = "unsupported"
    CONTRADICTED = "contradicted"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the cited place says what a claim says."""

    support: Support
    probability: float
    """0..1 that it does."""
    reason: str
    """One sentence, for people."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of an answer and what backs it."""

    text: str
    citations: tuple[Citation, ...]
    """Empty where a model gave none that exists."""
    confidence: float
    """0..1, how likely the cited place answers the question."""
    verdict: Verdict | None = None
    """None where nobody has looked."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a generator makes of evidence."""

    claims: tuple[Claim, ...]
    abstained: bool
    confidence: float
    notes: tuple[str, ...] = ()
    """What a reader should know of it: why it abstains, citations that lead nowhere, a reply that was cut off."""
    signals: dict[str, float] = field(default_factory=dict)
    """What the confidence was made from, by name; empty where it is not calibrated."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What `ask` returns; abstaining is a value, not an exception."""

    question: str
    claims: tuple[Claim, ...]
    abstained: bool
    confidence: float
    evidence: tuple[Evidence, ...] = ()
    """What was looked at, best first; shown also when the answer abstains."""
    notes: tuple[str, ...] = ()
    """Why it abstains, citations that lead nowhere, a reply that was cut off: one sentence each."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    signals: dict[str, float] = field(default_factory=dict)
    """What the confidence was made from, by name; empty where it is not calibrated."""

    @property
    def text(self) -> str:
        return ABSTENTION if self.abstained else " ".join(claim.text for claim in self.claims)

    @property
    def citations(self) -> tuple[Citation, ...]:
        return tuple(citation for claim in self.claims for citation in claim.citations)

    def to_json(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "answer": self.text,
            "abstained": self.abstained,
            "confidence": round(self.confidence, 4),
            "claims": [
                {
                    "text": claim.text,
                    "confidence": round(claim.confidence, 4),
                    "regions": [citation.region for citation in claim.citations],
                    "support": claim.verdict and str(claim.verdict.support),
                    "reason": claim.verdict and claim.verdict.reason,
                }
                for claim in self.claims
            ],
            "citations": [
                {
                    "document": citation.document,
                    "page": citation.page,
                    "region": citation.region,
                    "bbox": list(citation.bbox),
                    "quote": citation.quote,
                    "claim": claim.text,
                }
                for claim in self.claims
                for citation in claim.citations
            ],
            "notes": list(self.notes),
            "timings": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
        }


ABSTENTION = "The documents do not answer this."
