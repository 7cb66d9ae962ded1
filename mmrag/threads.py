"""How many threads a model may compute with in this process."""

from __future__ import annotations

from multiprocessing import parent_process


def threads() -> int | None:
    """One in a worker, since there are as many workers as cores; None, as many as it likes, elsewhere."""
    return 1 if parent_process() else None
