"""What one file may cost before it is given up. Plain data; who reads the file keeps to it."""

from __future__ import annotations

from dataclasses import dataclass

from mmrag.errors import UsageError

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """All are for one file or page, so that whatever is wrong with it costs only itself."""

    page_seconds: float = 30.0
    """Of processor time for a page, and twice that by the clock: a machine that is busy elsewhere costs no page."""
    memory: int = 2_100 * MB
    """Bytes that a worker process may take (kept to on Linux only), about 1,300 MB of them for its models."""
    pages: int = 10_000
    """In a file: its pages are in memory until all are read."""
    pixels: int = 150_000_000
    """Of an image file: A0 at 300 dpi has 139 million."""
    file_bytes: int = 2_000 * MB

    def __post_init__(self) -> None:
        for name in ("page_seconds", "memory", "pages", "pixels", "file_bytes"):
            if getattr(self, name) <= 0:
                raise UsageError(f"A limit of {getattr(self, name)} ({name.replace('_', ' ')}) lets nothing through.")


def megabytes(size: float) -> str:
    return f"{size / MB:,.0f} MB"
