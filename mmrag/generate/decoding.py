"""How the next token is chosen, and when to stop. Works on token ids and scores; knows no images and no messages.

The classes are transformers' logits processors and stopping criteria in all but name: torch loads when they are called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from mmrag.errors import UsageError

PLAUSIBLE = 0.1
"""Contrast chooses among tokens at least this fraction as likely as the likeliest (beta of the VCD paper)."""
_LONGEST_PATTERN = 64
_LEAST_REPEATED = 64


@dataclass(frozen=True, slots=True)
class Decoding:
    """What a request may ask of the decoder."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    contrast: float = 0.0
    """Alpha of visual contrastive decoding; 0 is off, above it costs twice the time."""
    max_repeats: int = 4
    """Generation ends when its last tokens are a pattern that often in a row; 0 is off."""

    def __post_init__(self) -> None:
        wrong = {
            "max_new_tokens": self.max_new_tokens < 1,
            "temperature": not 0 <= self.temperature < math.inf,
            "top_p": not 0 < self.top_p <= 1,
            "stop": "" in self.stop,
            "contrast": not 0 <= self.contrast < math.inf,
            "max_repeats": self.max_repeats < 0 or self.max_repeats == 1,
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise UsageError(f"{name} cannot be {getattr(self, name)!r}: see mmrag.generate.decoding.Decoding.")


def has_looped(ids: Sequence[int], repeats: int) -> bool:
    """Whether the end is one pattern `repeats` times in a row, and long enough to be no row of dots or table rule."""
    for period in range(1, min(_LONGEST_PATTERN, len(ids) // max(1, repeats)) + 1):
        span = period * max(repeats, math.ceil(_LEAST_REPEATED / period))
        tail = ids[-span:]
        if repeats and len(tail) == span and tail[period:] == tail[:-period]:
            return True
    return False


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """What comes before the first stop string."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def held_back(text: str, stops: Sequence[str]) -> int:
    """Characters at the end that may be the beginning of a stop string."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )


class Watch:
    """A stopping criterion: ends a row for a reason and remembers it, by row: tokens in all, and the reason."""

    def __init__(
        self, decode: Callable[[list[int]], str], prompt: int, ends: set[int], decoding: Decoding, cancelled: Event
    ) -> None:
        self.stopped: dict[int, tuple[int, str]] = {}
        self._decode, self._prompt, self._ends, self._decoding = decode, prompt, ends, decoding
        self._cancelled = cancelled
        # A token is a byte at least; a character, four at most.
        self._reach = 4 * max((len(stop) for stop in decoding.stop), default=0)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        reach = max(self._reach, _LONGEST_PATTERN * self._decoding.max_repeats, _LEAST_REPEATED)
        for row, ids in enumerate(input_ids[:, self._prompt :][:, -reach:].tolist()):
            if row not in self.stopped and (reason := self._reason(ids)):
                self.stopped[row] = input_ids.shape[1], reason
        done = [self._cancelled.is_set() or row in self.stopped for row in range(len(input_ids))]
        return torch.tensor(done, device=input_ids.device)

    def _reason(self, ids: list[int]) -> str:
        if ids[-1] in self._ends:
            return "end"
        if self._reach and any(stop in self._decode(ids[-self._reach :]) for stop in self._decoding.stop):
            return "stop"
        return "repetition" if has_looped(ids, self._decoding.max_repeats) else ""


class Contrast:
    """A logits processor: the second half of the rows are the first half's, told without their images."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        seen, blind = scores.chunk(2)
        both = contrasted(seen, blind, self._alpha)
        return torch.cat([both, both])  # both halves go on with the same token


def contrasted(seen: Any, blind: Any, alpha: float) -> Any:
    """What the image adds, stressed: visual contrastive decoding (Leng et al. 2023, equations 3 and 4)."""
    cutoff = seen.max(dim=-1, keepdim=True).values + math.log(PLAUSIBLE)
    return ((1 + alpha) * seen - alpha * blind).masked_fill(seen < cutoff, -math.inf)


class Draw:
    """A logits processor: draws each row's token by its own seed and leaves nothing else to choose.

    transformers samples from the one global generator: a row would depend on its neighbours and on other threads.
    """

    def __init__(self, temperature: float, top_p: float, seeds: Sequence[int]) -> None:
        import torch

        self._temperature, self._top_p = temperature, top_p
        # On the CPU whatever the device: the same seed draws the same numbers everywhere.
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        chances = nucleus(torch.softmax(scores.float() / self._temperature, dim=-1), self._top_p).cpu()
        rows = zip(chances, self._generators, strict=True)
        drawn = torch.stack([torch.multinomial(row, 1, generator=generator) for row, generator in rows])
        return torch.full_like(scores, -math.inf).scatter(1, drawn.to(scores.device), 0.0)


def nucleus(chances: Any, top_p: float) -> Any:
    """The likeliest tokens that together reach `top_p`; zero elsewhere."""
    ranked, order = chances.sort(dim=-1, descending=True)
    kept = ranked.masked_fill(ranked.cumsum(dim=-1) - ranked >= top_p, 0.0)
    return chances.new_zeros(chances.shape).scatter(-1, order, kept)
