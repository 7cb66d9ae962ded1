"""What kind of picture it is, by an image encoder that was never taught the kinds: zero-shot tags.

Knows vectors and what a CLIP-family encoder makes of their cosines. Sees no image: its vector is made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmrag.prompts import PICTURE_TAGS, TAG_TEMPLATES

Floats = NDArray[np.float64]

# Neither is measured: no published checkpoint was at hand when they were set.
MARGIN = 2.0
"""A tag is given when what comes after it is at most this fraction as likely."""
LEAST = 0.05
"""What a tag must have; with a sigmoid all of them may have less, and the picture gets none."""


class Calibration(NamedTuple):
    """How a model was trained to read a cosine: times `scale`, and plus `bias` where each pair is judged by itself."""

    scale: float
    bias: float | None = None
    """None where the texts compete for an image (CLIP), a number where they do not (SigLIP)."""

    def probabilities(self, cosines: Floats) -> Floats:  # (images, texts) -> the same
        logits = self.scale * cosines
        if self.bias is not None:
            return np.exp(-np.logaddexp(0.0, -(logits + self.bias)))  # the sigmoid, also far from zero
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: Floats = odds / odds.sum(axis=-1, keepdims=True)
        return shares


class ZeroShotTagger:
    """Tags pictures by their vectors; the prompts are encoded once, when the first picture comes."""

    def __init__(
        self,
        encoder: Any,
        calibration: Calibration,
        *,
        tags: Mapping[str, Sequence[str]] = PICTURE_TAGS,
        templates: Sequence[str] = TAG_TEMPLATES,
    ) -> None:
        self._encoder = encoder
        self._calibration = calibration
        self._tags = tags
        self._templates = templates

    def tags(self, vectors: Sequence[Sequence[float]]) -> list[tuple[str, ...]]:
        """One or two tags for each picture, or none where several are about as likely."""
        return [choose_tags(dict(zip(self._tags, row, strict=True))) for row in self.probabilities(vectors)]

    def probabilities(self, vectors: Sequence[Sequence[float]]) -> Floats:  # (pictures, tags)
        if not len(vectors):
            return np.empty((0, len(self._tags)))
        return self._calibration.probabilities(_unit(np.asarray(vectors)) @ self._prompts.T)

    @cached_property
    def _prompts(self) -> Floats:  # (tags, dim)
        """The mean direction of all prompts of a tag, as the CLIP paper makes an ensemble of them."""
        texts = [[t.format(name) for t in self._templates for name in names] for names in self._tags.values()]
        vectors = iter(self._encoder.get_text_embedding_batch([text for group in texts for text in group]))
        means = [_unit(np.asarray([next(vectors) for _ in group])).mean(axis=0) for group in texts]
        return _unit(np.asarray(means))


def zero_shot_tagger(encoder: Any) -> ZeroShotTagger | None:
    """None without an encoder, and for one that does not tell how sure it is or was not taught English."""
    calibration = getattr(encoder, "calibration", None)
    if calibration is None or encoder.family == "chinese_clip":
        return None
    return ZeroShotTagger(encoder, calibration)


def choose_tags(probabilities: Mapping[str, float]) -> tuple[str, ...]:
    """The likeliest tag, or the two likeliest, if the next one is far behind; nothing where that cannot be said."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    for count in range(1, min(2, len(ranked)) + 1):
        best, rest = ranked[:count], ranked[count:]
        if best[-1][1] >= LEAST and all(best[-1][1] >= MARGIN * chance for _, chance in rest):
            return tuple(tag for tag, _ in best)
    return ()


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths
