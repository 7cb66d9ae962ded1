"""What published labels say of a question, and whether a cited region holds it.

A region on a page of the question's document holds what was asked for in one of four ways:

- `box`: it overlaps a published box on its page, as in the measurement of retrieval (IoU 0.3, or the box's centre
  inside). Boxes of nine tenths of a page or more say nothing and do not count.
- `evidence`: it stands on a gold page and holds half of the words of a published evidence text, or is itself, with 20
  words or more, nine tenths a part of it.
- `answer`: its text, with its caption and titles, holds a gold answer: all figures that the question does not give away
  (figures alone count if a half of the answer's other words are there too), or four fifths of its telling words; of a
  list, every item. Brief answers (fewer than three telling words and no figure of three digits but a year) count on a
  gold page only; yes, no and a lone digit never: such words stand everywhere.
- `page`: no box and no evidence text is published, and no region of the gold pages holds the answer, which is
  computed or counted: then all that is known is the page. A region on it counts if it holds half of the question's
  words.

The first three are the strict rule; what `page` adds is always told apart.

Knows the format of `questions.jsonl`; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.inputs import read_records
from eval.retrieval import WHOLE_PAGE_AREA, GoldRegion, name_regions
from eval.text_metrics import list_items, telling_figures
from mmrag.errors import UsageError
from mmrag.facts import Figure, figures, missing_figures
from mmrag.text import is_mostly_cjk, query_tokens, tokens
from mmrag.types import BBox

_EVIDENCE_HELD, _PART_OF_EVIDENCE, _PART_WORDS = 0.5, 0.9, 20
_WORDS_HELD, _WORDS_BESIDE_FIGURES, _WORDS_ASKED = 0.8, 0.5, 0.5
_EVERYWHERE = frozenset("yes no true false none 是 否 不 有 没有 对 不是".split())


class Gold(NamedTuple):
    """A question with its published answer; pages are 1-based. Without `answerable` there is none in its document."""

    id: str
    text: str
    document: str
    answerable: bool
    answers: tuple[str, ...]
    pages: tuple[int, ...]
    boxes: tuple[GoldRegion, ...] = ()
    """Published boxes that say more than the page."""
    evidence: tuple[str, ...] = ()
    """Published texts that answer."""
    kinds: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """What the results are split by."""
        return (*(self.kinds or ("unspecified",)), "Chinese" if is_mostly_cjk(self.text) else "English")


class Place(NamedTuple):
    """A cited region."""

    document: str
    page: int
    box: BBox
    text: str
    """With its caption and the titles that it stands under."""


def load_gold(data: Path) -> list[Gold]:
    """The questions of a data folder. UsageError where there are none, or one is not complete."""
    path = data / "questions.jsonl"
    try:
        found = [_gold(row) for row in read_records(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: a row is not as documented ({error}): see docs/eval.md for its fields.") from error
    if not found:
        raise UsageError(f"{path} has no questions: give one a line.")
    return found


def _gold(row: dict[str, Any]) -> Gold:
    regions = (GoldRegion(r["page"] + 1, BBox.from_size(r["bbox"], *r["page_size"])) for r in row.get("regions") or ())
    evidence = row.get("evidence_text") or ()
    return Gold(
        str(row["id"]),
        str(row["question"]),
        str(row["doc"]),
        bool(row["answerable"]),
        tuple(dict.fromkeys(map(str, [row["answer"], *(row.get("answers") or ())]))) if row["answerable"] else (),
        tuple(int(page) + 1 for page in row["gold_pages"]),
        tuple(region for region in regions if region.box.area < WHOLE_PAGE_AREA),
        (evidence,) if isinstance(evidence, str) else tuple(map(str, evidence)),
        tuple(map(str, row.get("evidence_type") or ())),
    )


def on_gold_page(gold: Gold, place: Place) -> bool:
    return gold.answerable and place.document == gold.document and place.page in gold.pages


def is_page_only(gold: Gold, places: Iterable[Place]) -> bool:
    """Whether the page is all that is known of where the answer stands; `places` are all regions of the gold pages."""
    return gold.answerable and not gold.boxes and not gold.evidence and not any(held(gold, place) for place in places)


def held(gold: Gold, place: Place, *, page_only: bool = False) -> list[str]:
    """The ways in which the place holds what was asked for; none for a question without an answer."""
    if not gold.answerable or place.document != gold.document:
        return []
    on_page = on_gold_page(gold, place)
    ways = {
        "box": any(name.startswith("gold") for name in name_regions([(place.page, place.box)], gold.boxes)),
        "evidence": on_page and any(_holds_evidence(text, place.text) for text in gold.evidence),
        "answer": any(_holds_answer(answer, gold.text, place.text, on_page) for answer in gold.answers),
        "page": page_only and on_page and _speaks_of(gold.text, place.text),
    }
    return [way for way, holds in ways.items() if holds]


def _speaks_of(question: str, text: str) -> bool:
    wanted, there = query_tokens(question), set(tokens(text))
    return sum(word in there for word in wanted) >= _WORDS_ASKED * len(wanted)


def _holds_evidence(evidence: str, text: str) -> bool:
    wanted, there = set(query_tokens(evidence)), set(query_tokens(text))
    common = len(wanted & there)
    is_part = len(there) >= _PART_WORDS and common >= _PART_OF_EVIDENCE * len(there)
    return is_part or (bool(wanted) and common >= _EVIDENCE_HELD * len(wanted))


def _holds_answer(answer: str, question: str, text: str, on_page: bool) -> bool:
    items = list_items(answer)
    if not (on_page or _is_telling(items, question)) or _is_everywhere(items, question):
        return False
    return all(_holds_item(item, question, text) for item in items)


def _holds_item(item: str, question: str, text: str) -> bool:
    there, wanted = set(tokens(text)), _telling_words(item, question)
    share = sum(word in there for word in wanted) / len(wanted) if wanted else 1.0
    needed = {figure.text for figure in telling_figures(item, question)}
    if not needed:
        return bool(wanted) and share >= _WORDS_HELD
    return share >= _WORDS_BESIDE_FIGURES and not needed.intersection(missing_figures(item, text))


def _is_everywhere(items: Sequence[str], question: str) -> bool:
    """Yes, no, and lone digits."""
    if all(" ".join(tokens(item)) in _EVERYWHERE for item in items):
        return True
    return all(
        not _telling_words(item, question)
        and all(f.value < 10 and f.unit == 1 for f in telling_figures(item, question))
        for item in items
    )


def _is_telling(items: Sequence[str], question: str) -> bool:
    words = [word for item in items for word in _telling_words(item, question)]
    return len(words) >= 3 or any(_is_rare(f) for item in items for f in telling_figures(item, question))


def _is_rare(figure: Figure) -> bool:
    digits = "".join(c for c in figure.text if c.isdigit()).strip("0")
    is_year = figure.unit == 1 and 1900 <= figure.value < 2100
    return len(digits) >= 3 and not is_year


def _telling_words(item: str, question: str) -> list[str]:
    """Words that the question does not have already; all of them where it has them all."""
    words = [word for word in query_tokens(item) if not figures(word)]
    asked = set(tokens(question))
    return [word for word in words if word not in asked] or words
