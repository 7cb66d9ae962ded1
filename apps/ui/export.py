"""Answers as Markdown with their citations, to paste or to keep. Knows no Streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable

from apps.overlay import nearest
from mmrag.types import Answer, Citation, Support


def answer_markdown(answer: Answer) -> str:
    """Its sentences with numbers, and below them where each of these stands."""
    if answer.abstained:
        looked = [f"- {_source(e.document.name, e.page)}" for e in nearest(answer)]
        lines = [f"*{_text(answer.text)}*", *map(_text, answer.notes)]
        return "\n\n".join([*lines, *(["Nearest places:\n" + "\n".join(looked)] if looked else [])])
    said, sources, number = [], [], 0
    for claim in answer.claims:
        marks = ""
        for citation in claim.citations:
            number += 1
            marks += f"[{number}]"
            sources.append(f"{number}. {_cited(citation)}")
        doubt = claim.verdict and claim.verdict.support is not Support.SUPPORTED
        remark = f" *({claim.verdict.support}: {_text(claim.verdict.reason)})*" if doubt and claim.verdict else ""
        said.append(f"{_text(claim.text)} {marks or '[no source]'}{remark}")
    return "\n\n".join(["\n".join(said), "\n".join(sources), *map(_text, answer.notes)])


def conversation_markdown(answers: Iterable[Answer]) -> str:
    return "\n\n".join(f"## {_text(answer.question)}\n\n{answer_markdown(answer)}" for answer in answers) + "\n"


def _cited(citation: Citation) -> str:
    quote = f": “{_text(citation.quote)}”" if citation.quote else ""
    return f"{_source(citation.document, citation.page)}{quote} ({citation.region})"


def _source(document: str, page: int) -> str:
    return f"**{_text(document)}**, page {page}"


def _text(text: str) -> str:
    """What would be markup, an image or HTML in Markdown, shown as it is."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(text.split()))
