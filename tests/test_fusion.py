"""Fusion of the legs on plain scores, and how sure an answer is."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import pstdev

import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st

from mmrag.retrieve import Leg, PageHit, PageKey, fuse, leg_of_chunks, standardise

NAMES = ["page_words", "chunk_words", "dense", "visual"]
EVEN = dict.fromkeys(NAMES, 1.0)
A, B, C, D = [("doc", number) for number in range(1, 5)]

KEYS = st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 4))
SCORES = st.integers(-50, 50).map(float)  # whole numbers: scaling them does not round two into one
LEGS = st.dictionaries(KEYS, SCORES, max_size=8).map(lambda pages: Leg(pages, {}))
# The lexical leg over pages is always asked.
ALL_LEGS = st.fixed_dictionaries({"page_words": LEGS}, optional=dict.fromkeys(NAMES[1:], LEGS))


def leg(scores: dict[PageKey, float]) -> Leg:
    return Leg(scores, {})


def by_key(hits: list[PageHit]) -> dict[PageKey, PageHit]:
    return {hit.key: hit for hit in hits}


# -- one leg ---------------------------------------------------------------------------------------------------------


def test_standardise_counts_standard_deviations_above_the_worst() -> None:
    assert standardise({"a": 1.0, "b": 3.0}) == {"a": 0.0, "b": 2.0}
    spread = pstdev([10, 20, 60])
    assert standardise({"a": 10, "b": 20, "c": 60}) == pytest.approx({"a": 0, "b": 10 / spread, "c": 50 / spread})


@pytest.mark.parametrize("scores", [{"a": -7.5}, {"a": 0.1, "b": 0.1, "c": 0.1}])
def test_hits_that_do_not_differ_all_get_one(scores: dict[str, float]) -> None:
    assert standardise(scores) == dict.fromkeys(scores, 1.0)


def test_another_ranking_can_set_the_scale() -> None:
    whole = {"a": 10, "b": 20, "c": 60}
    assert standardise({"b": 20}, whole) == pytest.approx({"b": 10 / pstdev(whole.values())})
    assert standardise({"d": 5, "b": 20}, whole) == pytest.approx({"d": 0, "b": 15 / pstdev(whole.values())})
    assert standardise({"b": 20}, {}) == {"b": 1.0}


def test_standardise_of_nothing() -> None:
    assert standardise({}) == {}


@RELAXED
@given(st.dictionaries(st.integers(), SCORES), st.integers(-1000, 1000), st.sampled_from([0.001, 0.5, 3, 1000]))
def test_standardise_forgets_scale_and_offset(scores: dict[int, float], offset: int, scale: float) -> None:
    moved = {key: offset + scale * score for key, score in scores.items()}
    if len(set(scores.values())) > 1:
        assert standardise(moved) == pytest.approx(standardise(scores), abs=1e-6)
    else:
        assert set(standardise(moved).values()) <= {1.0}


@RELAXED
@given(st.dictionaries(st.integers(), SCORES, min_size=2))
def test_standardise_keeps_the_order_and_starts_at_nothing(scores: dict[int, float]) -> None:
    found = standardise(scores)
    order = sorted(scores, key=lambda key: scores[key])
    assert all((found[a] < found[b]) == (scores[a] < scores[b]) for a, b in pairwise(order))
    assert min(found.values()) == (0 if len(set(scores.values())) > 1 else 1)


def test_a_page_is_as_good_as_its_best_chunk() -> None:
    places = {"c1": A, "c2": A, "c3": B, "c4": A}
    found = leg_of_chunks([("c1", -2.0), ("c2", -0.5), ("c3", -1.0), ("c4", -3.0)], places)
    assert found.pages == {A: -0.5, B: -1.0}
    assert found.chunks == {"c1": -2.0, "c2": -0.5, "c3": -1.0, "c4": -3.0}
    assert leg_of_chunks([], {}) == Leg({}, {})


# -- all legs --------------------------------------------------------------------------------------------------------


def test_fusion_by_hand() -> None:
    legs = {"page_words": leg({A: 1, B: 3}), "dense": leg({B: 0.5, C: 0.7}), "visual": leg({A: 0.2})}
    hits = fuse(legs, {"page_words": 1.0, "dense": 1.0, "visual": 0.3})
    assert [(hit.key, hit.score) for hit in hits] == [
        (B, pytest.approx(2.0)),  # two above the worst of its words, worst of the dense
        (C, pytest.approx(2.0)),
        (A, pytest.approx(0.3)),  # worst by words, alone by looks
    ]
    found = by_key(hits)
    assert {name: vote.rank for name, vote in found[B].legs.items()} == {"page_words": 1, "dense": 2}
    assert found[A].legs["visual"].score == pytest.approx(0.3)
    assert [hit.agreement for hit in hits] == pytest.approx([0.75, 0.5, 0.25])  # the visual leg has no part in it


@RELAXED
@given(ALL_LEGS, st.sampled_from(NAMES), st.integers(-100, 100), st.sampled_from([0.01, 2, 500]))
def test_fusion_does_not_depend_on_the_scale_of_a_leg(
    legs: dict[str, Leg], name: str, offset: int, scale: float
) -> None:
    moved = {
        n: leg({key: offset + scale * score for key, score in of.pages.items()}) if n == name else of
        for n, of in legs.items()
    }
    before, after = by_key(fuse(legs, EVEN)), by_key(fuse(moved, EVEN))
    assert before.keys() == after.keys()
    for key, hit in before.items():
        assert after[key].score == pytest.approx(hit.score, abs=1e-6)
        assert after[key].agreement == hit.agreement


@RELAXED
@given(ALL_LEGS)
def test_an_empty_leg_adds_nothing_to_a_score(legs: dict[str, Leg]) -> None:
    full = {name: of for name, of in legs.items() if of.pages or name == "page_words"}
    scores = {hit.key: hit.score for hit in fuse(full, EVEN)}
    padded = fuse({name: full.get(name, leg({})) for name in NAMES}, EVEN)
    assert {hit.key: hit.score for hit in padded} == pytest.approx(scores)
    assert all(name in full for hit in padded for name in hit.legs)


@RELAXED
@given(ALL_LEGS)
def test_a_leg_of_weight_zero_moves_no_score(legs: dict[str, Leg]) -> None:
    weights = {**EVEN, "visual": 0.0}
    without = {hit.key: hit.score for hit in fuse({n: of for n, of in legs.items() if n != "visual"}, weights)}
    for hit in fuse(legs, weights):
        assert hit.score == pytest.approx(without.get(hit.key, 0.0))


@RELAXED
@given(LEGS.filter(lambda of: bool(of.pages)), st.sampled_from(NAMES), KEYS)
def test_a_leg_that_found_one_page_votes_for_it(words: Leg, name: str, only: PageKey) -> None:
    legs = {"page_words": words} | {name: leg({only: -3.0})}
    before = by_key(fuse({"page_words": leg({}) if name == "page_words" else words}, EVEN))
    hit = by_key(fuse(legs, EVEN))[only]
    assert hit.score == pytest.approx((before[only].score if only in before else 0.0) + 1.0)
    assert hit.legs[name] == (1, 1.0)


@RELAXED
@given(ALL_LEGS)
def test_hits_are_ordered_and_agreement_is_a_share(legs: dict[str, Leg]) -> None:
    hits = fuse(legs, EVEN)
    assert {hit.key for hit in hits} == {key for of in legs.values() for key in of.pages}
    assert all((-a.score, a.key) < (-b.score, b.key) for a, b in pairwise(hits))
    assert all(0 <= hit.agreement <= 1 for hit in hits)
    assert all(hit.score == pytest.approx(sum(vote.score for vote in hit.legs.values())) for hit in hits)


def test_agreement_is_one_only_where_every_text_leg_has_the_page_first() -> None:
    legs = {"page_words": leg({A: 2, B: 1}), "chunk_words": leg({A: 9, C: 1}), "visual": leg({D: 1})}
    found = by_key(fuse(legs, EVEN))
    assert [found[key].agreement for key in (A, B, C, D)] == [1.0, 0.25, 0.25, 0.0]


@RELAXED
@given(ALL_LEGS, st.randoms(use_true_random=False))
def test_fusion_does_not_depend_on_the_order_of_equal_scores(legs: dict[str, Leg], random: Random) -> None:
    def shuffled(of: Leg) -> Leg:
        pages = list(of.pages.items())
        random.shuffle(pages)
        return leg(dict(pages))

    assert fuse({name: shuffled(of) for name, of in legs.items()}, EVEN) == fuse(legs, EVEN)


def test_scores_of_chunks_are_fused_too() -> None:
    legs = {"chunk_words": Leg({A: 3}, {"c1": 1.0, "c2": 3.0}), "dense": Leg({A: 1}, {"c2": 0.5})}
    (hit,) = fuse(legs, {"chunk_words": 1.0, "dense": 0.5})
    assert hit.chunks == pytest.approx({"c1": 0.0, "c2": 2.5})


def test_no_legs_or_empty_ones_find_nothing() -> None:
    assert fuse({}, EVEN) == []
    assert fuse(dict.fromkeys(NAMES, leg({})), EVEN) == []


def test_the_visual_leg_can_stand_alone() -> None:
    (hit,) = fuse({"visual": leg({A: 0.3})}, EVEN)
    assert (hit.key, hit.score, hit.agreement) == (A, 1.0, 0.0)
