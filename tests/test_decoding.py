"""Sharing visual tokens, choosing tokens and stopping: pure logic, on numbers small enough to check by hand."""

import math
from threading import Event

import pytest
from build import RELAXED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmrag.errors import UsageError
from mmrag.generate.budget import LEAST_TOKENS, blank, share_budget, squat, token_count
from mmrag.generate.decoding import Decoding, cut_at_stop, has_looped, held_back

side = st.integers(1, 4000)
sizes = st.lists(st.tuples(side, side), min_size=1, max_size=12)
budgets = st.integers(1, 20_000)
grids = st.sampled_from([(14, 2), (16, 2)])


# The budget


@RELAXED
@given(sizes, budgets, grids)
def test_shares_never_exceed_the_budget_nor_the_need(sizes, budget, grid):
    unit = grid[0] * grid[1]
    needs = [token_count(size, unit) for size in sizes]
    least = sum(min(need, LEAST_TOKENS) for need in needs)
    if least > budget:
        with pytest.raises(UsageError, match=f"raise max_visual_tokens to {least}"):
            share_budget(sizes, budget, *grid)
        return
    limits = share_budget(sizes, budget, *grid)
    tokens = [limit // unit**2 for limit in limits]
    assert [token * unit**2 for token in tokens] == limits
    assert sum(tokens) <= budget
    assert all(min(need, LEAST_TOKENS) <= token <= need for need, token in zip(needs, tokens, strict=True))
    if sum(needs) <= budget:
        assert tokens == needs
    else:
        assert sum(tokens) > budget - len(sizes)  # nothing is left lying but what rounding leaves


@RELAXED
@given(sizes, budgets, grids)
def test_a_larger_image_never_gets_less(sizes, budget, grid):
    needs = [token_count(size, grid[0] * grid[1]) for size in sizes]
    if sum(min(need, LEAST_TOKENS) for need in needs) <= budget:
        by_need = sorted(zip(needs, share_budget(sizes, budget, *grid), strict=True))
        assert [limit for _, limit in by_need] == sorted(limit for _, limit in by_need)


def test_pages_share_by_area():
    unit = 28 * 28
    assert share_budget([(2800, 2800), (2800, 1400), (28, 28)], 1501, 14, 2) == [1000 * unit, 500 * unit, unit]
    assert share_budget([(280, 280), (280, 140)], 1500, 14, 2) == [100 * unit, 50 * unit]


@RELAXED
@given(st.tuples(st.integers(1, 1200), st.integers(1, 1200)), st.integers(1, 500), grids)
def test_qwens_resizing_keeps_every_image_within_its_share(size, budget, grid):
    resize = pytest.importorskip("qwen_vl_utils").smart_resize
    unit = grid[0] * grid[1]
    if min(token_count(size, unit), LEAST_TOKENS) > budget:
        return
    (limit,) = share_budget([size], budget, *grid)
    sheet = squat(Image.new("RGB", size), limit // unit**2, unit)
    height, width = resize(sheet.height, sheet.width, unit, min_pixels=unit**2, max_pixels=limit)
    assert min(height, width) >= unit
    assert height * width <= limit


def test_a_slim_image_is_laid_on_a_sheet_of_its_colour():
    strip = Image.new("RGB", (6000, 20), (10, 20, 30))
    sheet = squat(strip, token_count(strip.size, 28), 28)
    assert sheet.size == (6000, 40)
    assert sheet.getcolors() == [(6000 * 40, (10, 20, 30))]
    page = Image.new("RGB", (1240, 1754))
    assert squat(page, 4, 28) is page


def test_a_blank_has_the_mean_colour():
    image = Image.new("RGB", (10, 20), (200, 100, 0))
    image.paste((0, 100, 50), (0, 0, 10, 10))
    assert blank(image).getcolors() == [(200, (100, 100, 25))]


# Stopping


@RELAXED
@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_a_repeated_pattern_is_noticed(start, pattern):
    assert has_looped([*start, *pattern * 70], 4)


@RELAXED
@given(st.integers(1, 64), st.integers(2, 6))
def test_a_pattern_must_be_repeated_often_and_long_enough(period, repeats):
    pattern = list(range(period))
    needed = max(repeats, math.ceil(64 / period))
    assert has_looped(pattern * needed, repeats)
    assert not has_looped((pattern * needed)[1:], repeats)
    assert not has_looped(pattern * needed, 0)


def test_no_loop_in_text_that_goes_on():
    assert not has_looped([], 4)
    assert not has_looped(list(range(500)), 4)
    assert not has_looped([n for i in range(100) for n in (1, 2, i)], 4)  # a table whose last column changes


def test_stop_strings():
    assert cut_at_stop("one two three", ["three", "two"]) == "one "
    assert cut_at_stop("one", []) == cut_at_stop("one", ["x"]) == "one"
    assert held_back("the EN", ["END", "ENOUGH"]) == 2
    assert held_back("the end", ["END"]) == held_back("text", []) == 0


@RELAXED
@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_nothing_held_back_is_ever_taken_back(text, stops):
    shown = ""
    for end in range(len(text) + 1):
        part = text[:end]
        if (whole := cut_at_stop(part, stops)) != part:  # where generation ends
            assert whole.startswith(shown)
            return
        ready = part[: len(part) - held_back(part, stops)]
        assert ready.startswith(shown)
        shown = ready


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"stop": ("",)},
        {"contrast": -0.5},
        {"max_repeats": 1},
    ],
)
def test_options_that_cannot_be_used(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Decoding(**options)


# Choosing


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_watch_ends_each_row_for_its_own_reason(torch):
    from mmrag.generate.decoding import Watch

    cancelled = Event()
    watch = Watch(lambda ids: "".join(map(chr, ids)), 2, {0}, Decoding(stop=("END",)), cancelled)
    rows = [[0, 0, 65, 65], [0, 0, 65, 0], [0, 0, *b"xEND"], [0, 0, *b"x" * 64]]
    width = max(map(len, rows))
    for length in range(3, width + 1):
        ids = torch.tensor([[*row, *range(70, 70 + width)][:length] for row in rows])
        done = watch(ids, None)
    assert done.tolist() == [False, True, True, True]
    assert watch.stopped == {1: (4, "end"), 2: (6, "stop"), 3: (66, "repetition")}
    cancelled.set()
    assert watch(ids, None).all()


def test_contrast_by_hand(torch):
    from mmrag.generate.decoding import contrasted

    seen = torch.tensor([[2.0, 1.0, -3.0, 1.5]])
    blind = torch.tensor([[2.0, 0.0, -9.0, 3.0]])
    # The third is less than a tenth as likely as the first: out, though the contrast would praise it most.
    assert contrasted(seen, blind, 0.5).tolist() == [[2.0, 1.5, -math.inf, 0.75]]
    assert contrasted(seen, blind, 0.0).tolist() == [[2.0, 1.0, -math.inf, 1.5]]


def test_nucleus_by_hand(torch):
    from mmrag.generate.decoding import nucleus

    chances = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    assert nucleus(chances, 0.5).tolist() == [[0, 0.5, 0, 0]]
    assert nucleus(chances, 0.6).tolist() == [[0, 0.5, 0, 0.25]]
    assert torch.equal(nucleus(chances, 1.0), chances)


def test_draws_follow_the_probabilities_and_the_seed(torch):
    from mmrag.generate.decoding import Draw

    scores = torch.log(torch.tensor([[0.7, 0.3, 1e-9]]))
    draw = Draw(1.0, 1.0, [3])
    drawn = torch.cat([draw(None, scores).argmax(dim=-1) for _ in range(400)])
    assert abs((drawn == 0).float().mean() - 0.7) < 0.07
    again, other = Draw(1.0, 1.0, [3]), Draw(1.0, 1.0, [4])
    assert torch.equal(drawn, torch.cat([again(None, scores).argmax(dim=-1) for _ in range(400)]))
    assert not torch.equal(drawn, torch.cat([other(None, scores).argmax(dim=-1) for _ in range(400)]))
    cold = Draw(0.01, 1.0, [5])
    assert all(cold(None, scores).argmax() == 0 for _ in range(50))


def test_rows_are_drawn_apart_from_one_another(torch):
    from mmrag.generate.decoding import Draw

    state = torch.get_rng_state()
    scores = torch.zeros(3, 50)
    together = Draw(1.0, 1.0, [1, 2, 1])(None, scores).argmax(dim=-1)
    alone = Draw(1.0, 1.0, [2])(None, scores[:1]).argmax(dim=-1)
    assert together[0] == together[2] != together[1] == alone[0]
    assert torch.equal(torch.get_rng_state(), state)
