"""How much of a request's visual tokens each of its images gets. Plain arithmetic on sizes; knows no model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageStat

from mmrag.errors import UsageError

LEAST_TOKENS = 4
"""An image shown at all gets this many (or what it needs, if less): Qwen's own processors go no lower."""

_SLIMMEST = 150

Size = tuple[int, int]
"""Width and height in pixels."""


def share_budget(sizes: Sequence[Size], budget: int, patch: int, merge: int) -> list[int]:
    """The most pixels for each image, so that all together take at most `budget` tokens.

    A token stands for `merge` x `merge` patches of `patch` x `patch` pixels. When the budget is short, it is shared by
    area, so that all pages of a request are shrunk alike and stay as legible as one another.
    """
    unit = patch * merge
    needs = [token_count(size, unit) for size in sizes]
    if sum(needs) <= budget:
        return [need * unit * unit for need in needs]
    shares = [min(need, LEAST_TOKENS) for need in needs]
    if sum(shares) > budget:
        raise UsageError(
            f"{len(sizes)} images do not fit into {budget} visual tokens: "
            f"show fewer, or raise max_visual_tokens to {sum(shares)} or more."
        )
    # Those whose part by area is below the least leave less for the others: until nobody falls below any more.
    open_to, left = set(range(len(sizes))), budget
    while small := {i for i in open_to if left * needs[i] < shares[i] * sum(needs[j] for j in open_to)}:
        open_to -= small
        left -= sum(shares[i] for i in small)
    whole = sum(needs[i] for i in open_to)
    for i in open_to:
        shares[i] = left * needs[i] // whole
    return [share * unit * unit for share in shares]


def token_count(size: Size, unit: int) -> int:
    """Tokens of an image at its own size: sides are rounded to whole units, but never to none."""
    return max(1, round(size[0] / unit)) * max(1, round(size[1] / unit))


def squat(image: Image.Image, tokens: int, unit: int) -> Image.Image:
    """On a broader sheet of its own colour, where it is too slim to be shrunk to so few tokens or for Qwen at all."""
    width, height = image.size
    # Shrunk to n tokens, a strip of n to 1 is one unit thin; a tenth more, for the rounding. Qwen refuses 200 to 1.
    ratio = min(tokens * 0.9, _SLIMMEST) if token_count(image.size, unit) > tokens else _SLIMMEST
    thinnest = math.ceil(max(width, height) / ratio)
    if min(width, height) >= thinnest:
        return image
    sheet = blank(image, (max(width, thinnest), max(height, thinnest)))
    sheet.paste(image, (0, 0))
    return sheet


def blank(image: Image.Image, size: Size | None = None) -> Image.Image:
    """Nothing but the mean colour of an RGB image."""
    red, green, blue = (round(mean) for mean in ImageStat.Stat(image).mean)
    return Image.new("RGB", size or image.size, (red, green, blue))
