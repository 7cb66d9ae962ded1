"""Boxes, printed lines and the JSON that answers are given out as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from build import RELAXED, evidence, region
from hypothesis import given
from hypothesis import strategies as st

from mmrag.types import (
    ABSTENTION,
    Answer,
    BBox,
    Chunk,
    Citation,
    Claim,
    Region,
    RegionKind,
    Support,
    Verdict,
    Word,
    merge_lines,
)

UNIT = st.floats(0, 1)
BOXES = st.builds(lambda xs, ys: BBox(min(xs), min(ys), max(xs), max(ys)), st.tuples(UNIT, UNIT), st.tuples(UNIT, UNIT))
ANYWHERE = st.floats(-1e4, 1e4)


@RELAXED
@given(BOXES, BOXES)
def test_iou_is_a_symmetric_share(a: BBox, b: BBox) -> None:
    assert a.iou(b) == b.iou(a)
    assert 0 <= a.iou(b) <= 1


@RELAXED
@given(BOXES)
def test_iou_with_itself_is_one_unless_the_box_is_empty(box: BBox) -> None:
    assert box.iou(box) == (1 if box.area > 0 else 0)


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (BBox(0.0, 0.0, 0.5, 0.5), 1.0),
        (BBox(0.25, 0.0, 0.75, 0.5), 1 / 3),
        (BBox(0.0, 0.0, 1.0, 1.0), 0.25),
        (BBox(0.5, 0.0, 1.0, 0.5), 0.0),  # side by side
        (BBox(0.6, 0.6, 1.0, 1.0), 0.0),  # apart along both axes
    ],
)
def test_iou_by_hand(other: BBox, iou: float) -> None:
    assert BBox(0.0, 0.0, 0.5, 0.5).iou(other) == pytest.approx(iou)


@RELAXED
@given(st.lists(BOXES, min_size=1, max_size=5))
def test_union_is_the_smallest_box_around_all(boxes: list[BBox]) -> None:
    union = BBox.union(boxes)
    corners = [corner for b in boxes for corner in ((b.x0, b.y0), (b.x1, b.y1))]
    assert all(union.contains(corner) for corner in corners)
    assert {union.x0, union.x1} <= {x for x, _ in corners}
    assert {union.y0, union.y1} <= {y for _, y in corners}


@RELAXED
@given(st.tuples(ANYWHERE, ANYWHERE, ANYWHERE, ANYWHERE), st.floats(0.5, 1e4), st.floats(0.5, 1e4))
def test_from_size_clips_and_orders(corners: tuple[float, float, float, float], width: float, height: float) -> None:
    box = BBox.from_size(corners, width, height)
    assert 0 <= box.x0 <= box.x1 <= 1
    assert 0 <= box.y0 <= box.y1 <= 1
    x0, y0, x1, y1 = corners
    assert box == BBox.from_size((x1, y1, x0, y0), width, height)


@RELAXED
@given(BOXES, st.floats(1, 1e4), st.floats(1, 1e4))
def test_from_size_keeps_what_is_on_the_page(box: BBox, width: float, height: float) -> None:
    points = (box.x0 * width, box.y0 * height, box.x1 * width, box.y1 * height)
    assert BBox.from_size(points, width, height) == pytest.approx(box, abs=1e-5)


def test_from_size_of_a_page_without_size_is_empty() -> None:
    assert BBox.from_size((1, 2, 3, 4), 0, 0).area == 0


@RELAXED
@given(BOXES, st.integers(1, 5000), st.integers(1, 5000))
def test_to_pixels_stays_inside_the_image(box: BBox, width: int, height: int) -> None:
    x0, y0, x1, y1 = box.to_pixels(width, height)
    assert 0 <= x0 <= x1 <= width
    assert 0 <= y0 <= y1 <= height
    assert abs(x0 - box.x0 * width) <= 0.5
    assert abs(y1 - box.y1 * height) <= 0.5


# Two printed lines: "The lamp is" and "red.".
LAMP = Region(
    "r1",
    RegionKind.TEXT,
    BBox(0.1, 0.1, 0.5, 0.16),
    "The lamp is red.",
    (
        Word("The", BBox(0.1, 0.1, 0.2, 0.12), 0),
        Word("lamp", BBox(0.22, 0.101, 0.3, 0.121), 4),
        Word("is", BBox(0.32, 0.1, 0.36, 0.12), 9),
        Word("red.", BBox(0.1, 0.13, 0.2, 0.15), 12),
    ),
)


@pytest.mark.parametrize(
    ("quote", "lines"),
    [
        ("The lamp is red.", [BBox(0.1, 0.1, 0.36, 0.121), BBox(0.1, 0.13, 0.2, 0.15)]),
        ("lamp is", [BBox(0.22, 0.1, 0.36, 0.121)]),
        ("am", [BBox(0.22, 0.101, 0.3, 0.121)]),  # part of a word: the word
        (" ", []),  # the gap between two words
        ("red.", [BBox(0.1, 0.13, 0.2, 0.15)]),
    ],
)
def test_lines_of_a_quote(quote: str, lines: list[BBox]) -> None:
    start = LAMP.text.index(quote)
    assert list(LAMP.lines(start, start + len(quote))) == lines


def test_lines_keep_a_new_column_apart() -> None:
    left, right = BBox(0.1, 0.8, 0.4, 0.82), BBox(0.6, 0.1, 0.9, 0.12)
    assert merge_lines([left, right]) == (left, right)
    assert merge_lines([]) == ()


def test_a_word_back_at_the_left_starts_a_new_line() -> None:
    last, first = BBox(0.6, 0.1, 0.9, 0.12), BBox(0.1, 0.105, 0.4, 0.125)
    assert merge_lines([last, first]) == (last, first)


@RELAXED
@given(st.lists(BOXES, max_size=8))
def test_merged_lines_cover_every_word_and_nothing_more(boxes: list[BBox]) -> None:
    lines = merge_lines(boxes)
    assert all(any(line.contains(b[:2]) and line.contains(b[2:]) for line in lines) for b in boxes)
    if boxes:
        assert BBox.union(lines) == BBox.union(boxes)


def citation(region_id: str = "d-p2-r3", quote: str = "The lamp is red.") -> Citation:
    box = BBox(0.1, 0.2, 0.3, 0.4)
    return Citation("lamp.pdf", "d", 2, region_id, box, quote, (box,), Path("stored.pdf"))


SEEN = Verdict(Support.SUPPORTED, 0.9, "Seen.")


def test_answer_as_json() -> None:
    claims = (
        Claim("It is red.", (citation(), citation("d-p2-r4", "Red, then.")), 0.9, SEEN),
        Claim("It was made in Delft.", (citation("d-p5-r1", "Made in Delft."),), 0.55555),
    )
    answer = Answer(
        "Which lamp?", claims, False, 0.123456, (evidence(region("x")),), ("Cut off.",), {"retrieve": 0.01234567}
    )
    place = {"document": "lamp.pdf", "page": 2, "bbox": [0.1, 0.2, 0.3, 0.4]}
    expected = {
        "question": "Which lamp?",
        "answer": "It is red. It was made in Delft.",
        "abstained": False,
        "confidence": 0.1235,
        "claims": [
            {
                "text": "It is red.",
                "confidence": 0.9,
                "regions": ["d-p2-r3", "d-p2-r4"],
                "support": "supported",
                "reason": "Seen.",
            },
            {
                "text": "It was made in Delft.",
                "confidence": 0.5555,
                "regions": ["d-p5-r1"],
                "support": None,
                "reason": None,
            },
        ],
        "citations": [
            {**place, "region": "d-p2-r3", "quote": "The lamp is red.", "claim": "It is red."},
            {**place, "region": "d-p2-r4", "quote": "Red, then.", "claim": "It is red."},
            {**place, "region": "d-p5-r1", "quote": "Made in Delft.", "claim": "It was made in Delft."},
        ],
        "notes": ["Cut off."],
        "timings": {"retrieve": 0.0123},
    }
    assert answer.to_json() == expected
    assert json.loads(json.dumps(answer.to_json())) == expected
    assert [c.region for c in answer.citations] == ["d-p2-r3", "d-p2-r4", "d-p5-r1"]


def test_an_abstention_says_so_in_the_same_shape() -> None:
    answer = Answer("Which lamp?", (), True, 0.0)
    assert answer.to_json() == {
        "question": "Which lamp?",
        "answer": ABSTENTION,
        "abstained": True,
        "confidence": 0.0,
        "claims": [],
        "citations": [],
        "notes": [],
        "timings": {},
    }


def test_an_answer_that_abstains_withholds_its_claims() -> None:
    answer = Answer("Which lamp?", (Claim("It is red.", (citation(),), 0.1),), True, 0.1)
    assert "red" not in answer.text


def test_evidence_as_json() -> None:
    item = evidence(region("A\tB\n1\t2", RegionKind.TABLE), score=1.23456, page_number=7, name="数据.pdf")
    expected = {
        "document": "数据.pdf",
        "page": 7,
        "region": "d-p1-r1",
        "kind": "table",
        "bbox": [0.1, 0.1, 0.9, 0.2],
        "score": 1.2346,
        "text": "A\tB\n1\t2",
    }
    assert item.to_json() == expected
    assert json.loads(json.dumps(item.to_json())) == expected


@pytest.mark.parametrize(("context", "encoded"), [("", "Body."), ("Title", "Title\nBody.")])
def test_a_chunk_is_encoded_under_its_context(context: str, encoded: str) -> None:
    box = BBox(0, 0, 1, 1)
    assert Chunk("c", "d", 1, RegionKind.TEXT, "Body.", box, (), context).encoded_text == encoded


def test_only_running_heads_and_feet_are_furniture() -> None:
    assert [kind for kind in RegionKind if kind.is_furniture] == [RegionKind.PAGE_HEADER, RegionKind.PAGE_FOOTER]
