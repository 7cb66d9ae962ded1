"""Draws citations: PNG files of single pages, and one self-contained HTML page of questions with their cited pages.

Everything that comes out of a document (names, quotes) is escaped; the HTML loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from mmrag.render import PALETTE, Mark, draw_regions, render_page
from mmrag.types import Answer, BBox, Citation, Claim, Evidence, Support

_PAGE_DPI = 100
# A region up to this share of the page's height is shown whole beside its sentence.
_CLOSEUP_HEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class _NumberedCitation:
    number: int
    citation: Citation

    @property
    def colour(self) -> str:
        return PALETTE[(self.number - 1) % len(PALETTE)]


def write_page_png(source: Path, page: int, marks: Sequence[Mark], target: Path, *, labels: Sequence[str] = ()) -> None:
    draw_regions(render_page(source, page), marks, labels=labels).save(target, "PNG")


def answers_html(answers: Sequence[Answer], *, title: str) -> str:
    """One page that shows each answer beside the pages it cites, with the regions drawn on them."""
    cards = "\n".join(_card(answer, f"q{i}") for i, answer in enumerate(answers, start=1))
    return _TEMPLATE.format(title=escape(title), style=_STYLE, cards=cards)


def _card(answer: Answer, anchor: str) -> str:
    numbered = [_NumberedCitation(i, c) for i, c in enumerate(answer.citations, start=1)]
    pages: dict[tuple[str, int], list[_NumberedCitation]] = {}
    if not answer.abstained:
        for item in numbered:
            pages.setdefault((item.citation.document_id, item.citation.page), []).append(item)
    figures = "".join(_figure(items, anchor) for items in pages.values())
    return (
        f'<section class="card{" abstained" if answer.abstained else ""}" id="{anchor}">'
        f'<div class="said"><h2>{escape(answer.question)}</h2>{_sentences(answer, anchor)}</div>'
        f'<div class="pages">{figures}</div></section>'
    )


def _sentences(answer: Answer, anchor: str) -> str:
    if answer.abstained:
        looked = "".join(f"<li>{escape(e.document.name)}, page {e.page}</li>" for e in nearest(answer))
        places = f'<p class="note">Looked most closely at:</p><ul class="note">{looked}</ul>'
        return f'<p class="none">{escape(answer.text)}</p>{_notes(answer)}{places}'
    parts, number = [], 0
    for claim in answer.claims:
        chips = ""
        for _ in claim.citations:
            number += 1
            colour = PALETTE[(number - 1) % len(PALETTE)]
            chips += f'<a class="chip" style="background:{colour}" href="#{anchor}-c{number}">{number}</a>'
        closeups = "".join(_closeup(citation) for citation in claim.citations)
        parts.append(f"<p>{escape(claim.text)} {chips or _UNCITED}{_verdict(claim)}</p>{closeups}")
    return "".join(parts) + _notes(answer) + f'<p class="note">confidence {answer.confidence:.0%}</p>'


_UNCITED = '<span class="uncited">no source</span>'


def _verdict(claim: Claim) -> str:
    if claim.verdict is None or claim.verdict.support is Support.SUPPORTED:
        return ""
    return f' <span class="uncited">{claim.verdict.support}: {escape(claim.verdict.reason)}</span>'


def _notes(answer: Answer) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in answer.notes)


def _closeup(citation: Citation) -> str:
    """The cited region with its quoted lines marked, or of a long region the lines alone."""
    short = citation.bbox.height <= _CLOSEUP_HEIGHT or not citation.lines
    box = citation.bbox if short else BBox.union(citation.lines)
    clip = BBox(max(0.0, box.x0 - 0.015), max(0.0, box.y0 - 0.006), min(1.0, box.x1 + 0.015), min(1.0, box.y1 + 0.006))
    page = citation.image(dpi=150)
    url = data_url(page.crop(clip.to_pixels(*page.size)))
    return f'<img class="closeup" alt="{escape(citation.quote, quote=True)}" src="{url}">'


def nearest(answer: Answer, count: int = 3) -> list[Evidence]:
    """The best evidence of each of the pages that were looked at, the best pages first."""
    return list({(e.document.id, e.page): e for e in reversed(answer.evidence)}.values())[::-1][:count]


def _figure(items: Sequence[_NumberedCitation], anchor: str) -> str:
    first = items[0].citation
    boxes = "".join(
        "".join(f'<span class="line" style="{_place(line)}"></span>' for line in item.citation.lines)
        + f'<a class="box" id="{anchor}-c{item.number}" style="{_place(item.citation.bbox)};--c:{item.colour}" '
        f'title="{escape(item.citation.quote, quote=True)}"><b>{item.number}</b></a>'
        for item in items
    )
    return (
        f'<figure><div class="page"><img alt="{escape(first.document, quote=True)}, page {first.page}" '
        f'src="{data_url(render_page(first.source, first.page, dpi=_PAGE_DPI))}">{boxes}</div>'
        f"<figcaption>{escape(first.document)}, page {first.page}</figcaption></figure>"
    )


def _place(box: BBox) -> str:
    return f"left:{box.x0:.3%};top:{box.y0:.3%};width:{box.width:.3%};height:{box.height:.3%}"


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #f4f5f7; --card: #fff; --soft: #68707d; --edge: #d9dde3 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --paper: #14171c; --card: #1e232b; --soft: #98a1af; --edge: #333a45 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 1.5rem }
.card { display: grid; grid-template-columns: minmax(16rem, 2fr) 3fr; gap: 2rem; background: var(--card);
        border: 1px solid var(--edge); border-radius: 12px; padding: 1.5rem; margin-bottom: 1.5rem }
.card.abstained { grid-template-columns: 1fr; border-style: dashed }
.said h2 { font-size: 1.1rem; margin: 0 0 .75rem }
.said p { margin: 0 0 .6rem; overflow-wrap: anywhere }
.closeup { display: block; max-width: 100%; margin: 0 0 1rem; border: 1px solid var(--edge); border-radius: 4px }
.note, figcaption { color: var(--soft); font-size: .85rem }
ul.note { margin: 0; padding-left: 1.2rem }
.none { font-style: italic }
.uncited { color: #b45309; font-size: .85rem }
.chip { display: inline-block; min-width: 1.5em; padding: 0 .4em; border-radius: .75em; color: #fff; font-size: .75rem;
        font-weight: 600; text-align: center; text-decoration: none; vertical-align: .15em }
.pages { display: grid; gap: 1.25rem }
figure { margin: 0 }
figcaption { margin-top: .4rem }
.page { position: relative; border: 1px solid var(--edge); border-radius: 4px; overflow: hidden; background: #fff }
.page img { display: block; width: 100% }
.line { position: absolute; background: rgb(255 221 0 / .38); mix-blend-mode: multiply }
.box { position: absolute; outline: 2.5px solid var(--c); outline-offset: 3px; border-radius: 3px }
.box b { position: absolute; right: 100%; top: -4px; margin-right: 6px; padding: 0 .45em; border-radius: .7em;
         background: var(--c); color: #fff; font-size: .75rem }
.box:target { background: color-mix(in srgb, var(--c) 18%, transparent) }
@media (max-width: 46rem) { .card { grid-template-columns: 1fr } }
"""

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{cards}
</body>
</html>
"""
