"""POPE for documents: is this row, column, figure, name or heading on the page? Made from any store.

As in POPE, each page has as many questions about what is there as about what is not, and what is not there is drawn in
three ways: at random, from what is most frequent in the collection, and from what stands nearest (adversarial). The
labels come from the words that were read: what is asked as absent is nowhere among them, not inside a longer number
either, and nothing much like it is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from eval.inputs import fields, read_predictions, read_records
from eval.page_objects import KINDS, Kind, PageObjects, page_objects, squeeze
from eval.pope import to_verdict
from eval.runs import Row, Run, collect, made_by, run_path
from eval.verdicts import By, Load, Question, asked, grouped_scores, judged, notes, reading_of
from mmrag import prompts
from mmrag.errors import UsageError
from mmrag.generate.marks import png
from mmrag.index import Index
from mmrag.render import render_page, shrunk
from mmrag.text import is_mostly_cjk
from mmrag.yes_no import YesNo

SETTINGS = ("random", "frequent", "adversarial")
PER_PAGE = 3
"""Objects that are there, and in each setting as many that are not, as POPE has them."""
_FREQUENT = 20
"""So many count as the most frequent: the very first would be asked for on every page."""
_MOST_PIXELS = 2_500_000
"""A page of A4 at 150 dpi is 2.2 million."""


class PageQuestion(NamedTuple):
    id: str
    document: str
    document_id: str
    page: int
    text: str
    label: YesNo
    setting: str
    kind: str

    @property
    def question(self) -> Question:
        return Question(self.id, self.text, f"{self.document_id} {self.page}", self.label, (self.setting, self.kind))


# -- questions -------------------------------------------------------------------------------------------------------


def draw_questions(index: Index, *, pages: int, seed: int = 0) -> list[PageQuestion]:
    """Questions about so many pages, or as many as there are with enough on them; documents take turns."""
    drawn = random.Random(seed)  # noqa: S311  # a sample, not a secret
    collection = _Collection(_read(index), drawn)
    found: list[PageQuestion] = []
    count = 0
    for page in collection.in_turn():
        chosen = _chosen(page, collection, drawn)
        if len(chosen) == PER_PAGE and count < pages:
            count += 1
            found += _about(page, chosen)
    if not found:
        raise UsageError(
            "No page of the store has enough to ask for: ingest more documents, with tables or running text."
        )
    return sorted(found, key=lambda question: SETTINGS.index(question.setting))


def _read(index: Index) -> Iterator[PageObjects]:
    for document in sorted(index.documents(), key=lambda document: document.id):
        for number in range(1, document.page_count + 1):
            if page := index.page(document.id, number):
                yield page_objects(document.id, document.name, page)


class _Collection:
    """All pages' objects, by document and by how many documents and pages have them."""

    def __init__(self, pages: Iterator[PageObjects], drawn: random.Random) -> None:
        self._drawn = drawn
        self._pages: dict[str, list[PageObjects]] = {}
        where: dict[tuple[str, Kind], dict[str, list[str]]] = {}
        for page in pages:
            self._pages.setdefault(page.document_id, []).append(page)
            for kind, text in ((kind, text) for kind, texts in page.objects.items() for text in texts):
                where.setdefault(_group(page, kind), {}).setdefault(text, []).append(page.document_id)
        # By documents first: what stands at the head of every page of one is not frequent.
        self._frequent = {
            group: sorted(of, key=lambda text: (-len(set(of[text])), -len(of[text]))) for group, of in where.items()
        }

    def in_turn(self) -> Iterator[PageObjects]:
        """A page of each document, then another of each: a long one does not crowd out the others."""
        orders = [self._drawn.sample(pages, len(pages)) for pages in self._pages.values()]
        for turn in zip_longest(*self._drawn.sample(orders, len(orders))):
            yield from (page for page in turn if page)

    def candidates(self, page: PageObjects, kind: Kind, text: str) -> Mapping[str, Iterator[str]]:
        """By setting, what may be asked as absent instead of `text`, the best first."""
        known = self._frequent[_group(page, kind)]
        frequent, others = known[:_FREQUENT], known[_FREQUENT:]
        return {
            "random": iter(self._drawn.sample(known, len(known))),
            "frequent": iter([*self._drawn.sample(frequent, len(frequent)), *others]),
            "adversarial": self._altered(text) if kind == "figure" else self._nearest(page, kind),
        }

    def _nearest(self, page: PageObjects, kind: Kind) -> Iterator[str]:
        """What stands on the neighbouring pages of the document, which its reader would expect; then, what stands on
        the pages of others that have most in common with this one."""
        for other in sorted(self._pages[page.document_id], key=lambda other: abs(other.page - page.page)):
            yield from self._drawn.sample(other.objects[kind], len(other.objects[kind]))
        elsewhere = [
            other
            for document_id, pages in self._pages.items()
            for other in pages
            if document_id != page.document_id and other.language == page.language
        ]
        for other in sorted(elsewhere, key=lambda other: -_shared(page, other)):
            yield from self._drawn.sample(other.objects[kind], len(other.objects[kind]))

    def _altered(self, figure: str) -> Iterator[str]:
        """The figure with one digit changed; the first not to 0, which nobody prints."""
        digits = [i for i, c in enumerate(figure) if c.isdigit()]
        changes = [(i, new) for i in digits for new in "0123456789" if new != figure[i] and (new != "0" or i)]
        for i, new in self._drawn.sample(changes, len(changes)):
            yield figure[:i] + new + figure[i + 1 :]


def _group(page: PageObjects, kind: Kind) -> tuple[str, Kind]:
    """What may be asked instead of one another: words of one language, figures of all."""
    return "" if kind == "figure" else page.language, kind


def _shared(a: PageObjects, b: PageObjects) -> int:
    return sum(len(set(a.objects[kind]) & set(b.objects[kind])) for kind in KINDS)


class _Chosen(NamedTuple):
    kind: Kind
    present: str
    absent: dict[str, str]
    """By setting."""


def _chosen(page: PageObjects, collection: _Collection, drawn: random.Random) -> list[_Chosen]:
    """Kinds take turns."""
    orders = [
        [(kind, text) for text in drawn.sample(page.objects[kind], len(page.objects[kind]))]
        for kind in drawn.sample(KINDS, len(KINDS))
    ]
    chosen: list[_Chosen] = []
    used: set[str] = set()
    for kind, text in (item for turn in zip_longest(*orders) for item in turn if item):
        if len(chosen) == PER_PAGE:
            break
        absent = _absent(page, kind, collection.candidates(page, kind, text), used)
        if len(absent) == len(SETTINGS):
            chosen.append(_Chosen(kind, text, absent))
            used |= {squeeze(other) for other in absent.values()}
    return chosen


_TRIES = 200
"""Candidates that are looked at: where so many are on the page, it is too full to say what is not."""


def _absent(page: PageObjects, kind: Kind, candidates: Mapping[str, Iterator[str]], used: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for setting in reversed(SETTINGS):  # the adversarial ones are fewest
        taken = used | {squeeze(text) for text in found.values()}
        tried = (text for text, _ in zip(candidates[setting], range(_TRIES), strict=False))
        text = next((text for text in tried if squeeze(text) not in taken and page.lacks(kind, text)), None)
        if text is not None:
            found[setting] = text
    return found


def _about(page: PageObjects, chosen: Sequence[_Chosen]) -> Iterator[PageQuestion]:
    words = prompts.IS_ON_PAGE[page.language]
    for setting in SETTINGS:
        for number, one in enumerate(chosen, start=1):
            labelled: tuple[tuple[YesNo, str], ...] = (("yes", one.present), ("no", one.absent[setting]))
            for label, text in labelled:
                name = f"{setting}-{page.document_id}-p{page.page}-{number}{label[0]}"
                asked_for = words[one.kind].format(object=text)
                yield PageQuestion(
                    name, page.document, page.document_id, page.page, asked_for, label, setting, one.kind
                )


# -- files -----------------------------------------------------------------------------------------------------------


def to_jsonl(questions: Sequence[PageQuestion]) -> str:
    rows = ({"question_id": question.id, **question._asdict()} for question in questions)
    return "".join(f"{json.dumps({k: v for k, v in row.items() if k != 'id'}, ensure_ascii=False)}\n" for row in rows)


def load_questions(path: Path) -> list[PageQuestion]:
    """What `to_jsonl` writes."""
    questions = []
    for record in read_records(path):
        names = fields(path, record, "question_id", "document", "document_id", "page", "text", "label")
        setting, kind = fields(path, record, "setting", "kind")
        name, document, document_id, page, text, label = names
        if not page.isdecimal():
            raise UsageError(f"{path}: {name[:80]} is about the page {page[:20]!r}: it must be a number.")
        label = to_verdict(path, label)
        questions.append(PageQuestion(name, document, document_id, int(page), text, label, setting, kind))
    if len({question.id for question in questions}) < len(questions):
        raise UsageError(f"{path} has a question_id twice: give the file as it was written.")
    if not questions:
        raise UsageError(f"There are no questions in {path}: make some with --write.")
    return questions


# -- answers ---------------------------------------------------------------------------------------------------------


def score_predictions(questions: Sequence[PageQuestion], predictions: Path, output: Path) -> tuple[Run, Path]:
    answers = read_predictions(predictions, [question.id for question in questions])
    rows = [{"id": one.id, **judged(one.question, answers.get(one.id)), **_about_page(one)} for one in questions]
    made = made_by(data=[predictions], questions=_digest(questions))
    return _run(rows, made), run_path(output, "document-pope", made)


def ask_questions(
    load: Load,
    questions: Sequence[PageQuestion],
    output: Path,
    *,
    index: Index | None,
    by: By | None = None,
    **options: Any,
) -> tuple[Run, Path]:
    """Asks with the page's image; without an index, blind: what a model says by habit. `options`: those of `collect`.

    What is there is asked in all three settings, of the model only once.
    """
    sources = {question.document_id: _source(index, question) for question in questions} if index else {}
    llm = load()
    reading = reading_of(llm, by)
    said: dict[tuple[str, str], Row] = {}

    def ask(one: PageQuestion) -> Row:
        key = one.question.image, one.text
        if key not in said:
            image = _page_image(sources[one.document_id], one.page) if index else None
            said[key] = asked(llm, one.question, image, reading, prompt=_prompt(one))
        return {**said[key], "groups": list(one.question.groups), **_about_page(one)}

    made = made_by(llm, blind=index is None, by=reading, questions=_digest(questions), prompt=prompts.YES_OR_NO)
    path = run_path(output, "document-pope", made)
    return _run(collect(path, {one.id: one for one in questions}, ask, **options), made), path


def _about_page(question: PageQuestion) -> Row:
    return {"document": question.document, "pages": [question.page]}


def _prompt(question: PageQuestion) -> str:
    return prompts.YES_OR_NO_CHINESE if is_mostly_cjk(question.text) else prompts.YES_OR_NO


def _source(index: Index, question: PageQuestion) -> Path:
    document = index.document(question.document_id)
    if document is None or not 1 <= question.page <= document.page_count:
        raise UsageError(
            f"The store has no page {question.page} of {question.document[:80]} ({question.document_id[:40]}): "
            "name the store that the questions were made from by --store."
        )
    return index.source(document)


def _page_image(source: Path, page: int) -> bytes:
    return png(shrunk(render_page(source, page), _MOST_PIXELS))


def _run(rows: Sequence[Row], made: dict[str, Any]) -> Run:
    return Run("document-pope", made, grouped_scores(rows), tuple(rows), tuple(notes(rows)))


def _digest(questions: Sequence[PageQuestion]) -> str:
    return sha256(to_jsonl(questions).encode()).hexdigest()[:16]
