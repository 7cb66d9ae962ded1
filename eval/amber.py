"""AMBER: objects in a free description, and yes-or-no questions (Wang et al., 2023), by the published labels.

Descriptions: CHAIR (share of the objects named that are not there), cover (share of the objects there that are named),
hal (share of descriptions with an object that is not there), cog (share of the objects that people would expect there
and that are not, which are named). Questions: the published script counts "no" as positive, since finding out what is
not there is the point.

The published script tags nouns and compares them by the word vectors of a spaCy model; neither comes with an install.
Here a word is an object when it is a label of the data or a word of `_NAMED_BY`, singular or plural. So the numbers of
descriptions are comparable with each other, not with published ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.inputs import Record, check_images, fields, image_bytes, read_predictions, read_records
from eval.metrics import Score, ratio_score
from eval.pope import to_verdict
from eval.runs import Row, Run, Scores, collect, made_by, run_path
from eval.verdicts import By, Load, Question, asked, grouped_scores, judged, notes, reading_of, verdict_scores
from mmrag import prompts
from mmrag.asking import about_image, reply
from mmrag.errors import UsageError
from mmrag.yes_no import YesNo


class Description(NamedTuple):
    """An image to describe: the objects in it, and those that would be made up first."""

    id: str
    prompt: str
    image: str
    truth: tuple[str, ...]
    expected: tuple[str, ...]


Item = Question | Description

_GROUPS = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("attribute", "attribute: state"),
    "discriminative-attribute-number": ("attribute", "attribute: number"),
    "discriminative-attribute-action": ("attribute", "attribute: action"),
    "discriminative-relation": ("relation",),
    "relation": ("relation",),
}


def load_amber(path: Path) -> list[Item]:
    """Queries joined with their labels: `id`, `image`, `query`, `type`, `truth` and for descriptions `hallu`."""
    items = [_item(path, record) for record in read_records(path)]
    if not items:
        raise UsageError(f"There are no queries in {path}: give AMBER's queries with their labels, one a line.")
    if len({item.id for item in items}) < len(items):
        raise UsageError(f"{path} has an id twice: give each query once.")
    return items


def _item(path: Path, record: Record) -> Item:
    name, image, query, kind, label = fields(path, record, "id", "image", "query", "type", "truth")
    if kind == "generative":
        truth, expected = record["truth"], record.get("hallu")
        if not isinstance(truth, list) or not isinstance(expected, list):
            raise UsageError(f"{path}: query {name} needs lists of words as truth and hallu.")
        return Description(name, query, image, tuple(map(_label, truth)), tuple(map(_label, expected)))
    if kind not in _GROUPS:
        raise UsageError(
            f"{path}: query {name} is of the type {kind[:40]!r}: known are generative, {', '.join(_GROUPS)}."
        )
    return Question(name, query, image, to_verdict(path, label), _GROUPS[kind])


def published_reading(answer: str) -> YesNo | None:
    """As the published script reads: Yes or No, in these letters and with nothing beside them."""
    return {"Yes": "yes", "No": "no"}.get(answer)  # type: ignore[return-value]


# -- objects in a description ----------------------------------------------------------------------------------------

_NAMED_BY = {
    label.strip(): frozenset(words.split()) | {label.strip()}
    for label, _, words in (
        line.partition(":")
        for line in """
        person: people human man woman child boy girl lady guy kid baby adult player pedestrian rider passenger crowd
        man: person people human guy gentleman boy male adult
        woman: person people human lady girl female adult
        child: person people human kid baby boy girl toddler
        sofa: couch
        lounge: chair deckchair lounger sofa couch
        chair: seat stool armchair
        sea: ocean water wave
        lake: water pond
        river: water stream
        water: sea ocean lake river
        beach: sand shore coast
        waterfront: shore coast beach
        forest: tree wood woods jungle
        tree: palm forest
        bush: shrub plant
        grass: lawn meadow grassland
        tussock: grass
        flower: blossom bouquet rose
        road: street highway path
        car: vehicle automobile
        truck: lorry vehicle
        bus: coach vehicle
        bicycle: bike
        motorbike: motorcycle bike
        electrombile: scooter moped
        ship: boat vessel yacht sailboat
        plane: airplane aircraft aeroplane jet
        house: building home
        building: skyscraper tower house
        mountain: hill peak
        rock: stone boulder
        stone: rock boulder
        ground: floor
        floor: ground
        carpet: rug
        television: tv screen
        monitor: screen
        computer: laptop pc
        laptop: computer
        phone: smartphone cellphone telephone
        streetlamp: lamppost streetlight lamp
        light: lamp
        tap: faucet
        bin: dustbin trash
        dustbin: bin trash
        luggage: suitcase baggage
        baggage: suitcase luggage
        bag: handbag backpack
        cup: mug
        wineglass: glass
        tangerine: orange mandarin
        doughnut: donut
        football: soccer ball
        basketball: ball
        volleyball: ball
        baseball: ball
        ball: football basketball volleyball baseball
        cushion: pillow
        pillow: cushion
        quilt: blanket
        blanket: quilt
        bath: bathtub tub
        seegull: seagull gull bird
        bird: seagull gull duck
        guardrail: railing fence
        fence: railing
        leave: leaf
        cloth: clothes clothing
        """.strip().splitlines()
    )
}
"""Labels of the data, with the words that name such a thing, or a kind of it, or more generally it."""

# Labels that a description uses more often for something else ("leaves the beach", "in line", "hot", "bright light").
_AMBIGUOUS = frozenset("leave line hot support sound drink light orange note track board sheet star card paper".split())
_IRREGULAR = {
    **{"men": "man", "women": "woman", "children": "child", "mice": "mouse", "knives": "knife", "leaves": "leaf"},
    **{"shelves": "shelf", "bookshelves": "bookshelf", "geese": "goose", "lives": "life"},
}
_PLURALS = (("ies", "y"), ("es", ""), ("s", ""))
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def named_objects(text: str, labels: Iterable[str]) -> list[str]:
    """Every mention of a label, or of a word for the same, in the singular and in order."""
    known = {word for label in labels for word in _words_for(label)}
    return [word for found in _WORD.findall(text.lower()) if (word := _singular(found, known)) in known]


def _words_for(label: str) -> frozenset[str]:
    return _NAMED_BY.get(label) or frozenset({label})


def _label(word: Any) -> str:
    return str(word).strip().lower()


def _singular(word: str, known: set[str]) -> str:
    forms = [word, _IRREGULAR.get(word, word)]
    forms += [word.removesuffix(ending) + instead for ending, instead in _PLURALS if word.endswith(ending)]
    return next((form for form in forms if form in known), word)


def described(item: Description, answer: str | None, labels: frozenset[str]) -> Row:
    """The row of a description: what it names, what of that is not there. A missing one covers nothing."""
    there = {word for label in item.truth for word in _words_for(label)}
    named = [word for word in named_objects(answer or "", labels) if word in there or word not in _AMBIGUOUS]
    wrong = [word for word in named if word not in there]
    covered = [label for label in item.truth if _words_for(label) & set(named)]
    thought_up = [label for label in item.expected if _words_for(label) & set(wrong)]
    counts = {
        "chair": (len(wrong), len(named)),
        "cover": (len(covered), len(item.truth)),
        "hal": (int(bool(wrong)), 1),
        "cog": (len(thought_up), len(item.expected)),
    }
    return {
        "values": {name: part / whole if whole else 0.0 for name, (part, whole) in counts.items()},
        "counts": counts,
        "cluster": item.image,
        "answer": answer,
        "named": named,
        "not there": wrong,
        "missed": [label for label in item.truth if label not in covered],
    }


def description_scores(rows: Sequence[Row]) -> dict[str, Score]:
    """Of all mentions and labels together, as the published script counts them."""
    names = list(rows[0]["counts"]) if rows else []
    return {
        name: ratio_score(*zip(*((float(p), float(w)) for p, w in (row["counts"][name] for row in rows)), strict=True))
        for name in names
    }


# -- runs ------------------------------------------------------------------------------------------------------------


def score_predictions(data: Path, predictions: Path, output: Path) -> tuple[Run, Path]:
    """Of answers that are there, `id` and `response` as published; what has none counts as said nothing of."""
    items = load_amber(data)
    labels = _labels(items)
    answers = read_predictions(predictions, [item.id for item in items], key=("id", "question_id"))
    rows = [{"id": item.id, **_scored(item, answers.get(item.id), labels)} for item in items]
    # Answers to the questions alone, or to the descriptions alone, are a whole of their own.
    kinds = {isinstance(item, Description) for item in items if item.id in answers}
    rows = [row for row, item in zip(rows, items, strict=True) if isinstance(item, Description) in kinds]
    if not rows:
        raise UsageError(f"There are no answers in {predictions}: give rows with id and response.")
    made = made_by(data=[data, predictions])
    return _run(rows, made), run_path(output, "amber", made)


def ask_amber(
    load: Load, data: Path, output: Path, *, images: Path | None, by: By | None = None, **options: Any
) -> tuple[Run, Path]:
    """`options` are those of `collect`."""
    items = load_amber(data)
    if images is None:
        raise UsageError(
            f"The {len(items)} queries are about {len({item.image for item in items})} images: name their folder by "
            "--images. Without images, --predictions scores answers that are there."
        )
    folder = images
    check_images(folder, (item.image for item in items))
    llm, labels = load(), _labels(items)
    reading = reading_of(llm, by)

    def ask(item: Item) -> Row:
        image = image_bytes(folder, item.image)
        if isinstance(item, Description):
            return described(item, reply(llm, about_image(item.prompt, image)), labels)
        return asked(llm, item, image, reading, published_reading)

    made = made_by(llm, data=[data], by=reading, prompt=prompts.YES_OR_NO)
    path = run_path(output, "amber", made)
    return _run(collect(path, {item.id: item for item in items}, ask, **options), made), path


def _scored(item: Item, answer: str | None, labels: frozenset[str]) -> Row:
    if isinstance(item, Description):
        return described(item, answer, labels)
    return judged(item, answer, published_reading)


def _labels(items: Iterable[Item]) -> frozenset[str]:
    """What counts as an object: whatever is one in some image of the data."""
    return frozenset(
        label for item in items if isinstance(item, Description) for label in (*item.truth, *item.expected)
    )


def _run(rows: Sequence[Row], made: dict[str, Any]) -> Run:
    texts, verdicts = ([row for row in rows if ("counts" in row) == is_text] for is_text in (True, False))
    scores: Scores = {"descriptions": description_scores(texts)} if texts else {}
    said = notes(verdicts)
    if verdicts:
        of = grouped_scores(verdicts, positive="no")
        scores |= {"questions" + name.removeprefix("all") if name.startswith("all") else name: of[name] for name in of}
    if missing := sum(row["answer"] is None for row in texts):
        said.append(f"{missing} of {len(texts)} images have no description: they count as covering nothing.")
    if texts and verdicts:
        f1 = verdict_scores(verdicts, positive="no")["f1"].mean
        whole = (1 - scores["descriptions"]["chair"].mean + f1) / 2
        said.append(f"AMBER score, the mean of 1 - CHAIR and the questions' F1: {whole:.3f}.")
    return Run("amber", made, scores, tuple(rows), tuple(said))
