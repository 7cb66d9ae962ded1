"""Which files of folders are new or have changed, again and again, as soon as nobody writes to them any more.

Knows nothing of stores: whoever asks ingests what it gets. What the system tells of changes only says when to look;
what has changed is seen by looking, so that nothing depends on every event being told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from watchfiles import watch as watch_folders

from ingest.files import absolute, find_files
from mmrag.errors import UsageError

if TYPE_CHECKING:
    from threading import Event

SETTLE_SECONDS = 2.0
"""A file counts as written when it has stayed as it is for so long: it may be one that is still being copied."""

_Stamp = tuple[int, int, int]
"""Time of the last change, size, inode: another file may have taken the place of one with the same time and size."""


def batches(
    sources: Sequence[str | Path],
    *,
    exclude: Path | None = None,
    settle: float = SETTLE_SECONDS,
    stop: Event | None = None,
) -> Iterator[Sequence[str | Path]]:
    """What to ingest: first `sources` themselves, then, each time there are some, files that are new or have changed.

    Without an end, unless `stop` is set. A file that was given out once is not given out again until it changes. What
    is in the folder `exclude`, such as the store, is passed over. Raises UsageError where folders cannot be watched.
    """
    look = _Look(sources, exclude, settle)
    yield sources
    for _ in _wakings(look, exclude, settle, stop):
        if batch := look.settled(monotonic()):
            yield batch


class _Look:
    """What is there, compared with what was there before."""

    def __init__(self, sources: Sequence[str | Path], exclude: Path | None, settle: float) -> None:
        self._sources, self._exclude, self._settle = sources, exclude, settle
        self._given = self._stamps()
        self._moving: dict[Path, tuple[_Stamp, float]] = {}
        self.folders = [path for source in sources if (path := absolute(source)).is_dir()]
        self.must_poll = len(self.folders) < len(sources)
        """Files and patterns: to watch the folders around them might be to watch half a disk."""

    @property
    def is_waiting(self) -> bool:
        return bool(self._moving)

    def settled(self, now: float) -> list[Path]:
        """Files that differ from what was given out, and have been as they are for long enough."""
        stamps = self._stamps()
        self._given = {path: stamp for path, stamp in self._given.items() if path in stamps}
        changed = {path: stamp for path, stamp in stamps.items() if self._given.get(path) != stamp}
        before, self._moving = self._moving, {}
        for path, stamp in changed.items():
            seen, since = before.get(path, (stamp, now))
            self._moving[path] = (stamp, since if seen == stamp else now)
        ready = [path for path, (_, since) in self._moving.items() if now - since >= self._settle]
        self._given |= {path: self._moving.pop(path)[0] for path in ready}
        return ready

    def _stamps(self) -> dict[Path, _Stamp]:
        found, _ = find_files(self._sources, exclude=self._exclude)
        return {path: stamp for path in found if (stamp := _stamp(path))}


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:  # gone since, or a link to nowhere
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _wakings(look: _Look, exclude: Path | None, settle: float, stop: Event | None) -> Iterator[None]:
    """A moment to look: when something happens in the folders, and regularly while something is being written."""
    yield None  # what happened during the first ingest was not told
    try:
        moments = watch_folders(
            *look.folders,
            watch_filter=lambda _, path: exclude is None or not Path(path).is_relative_to(exclude),
            debounce=200,
            rust_timeout=max(10, round(1000 * settle / 4)),
            yield_on_timeout=True,
            stop_event=stop,
            ignore_permission_denied=True,
        )
        for changes in moments:
            if changes or look.is_waiting or look.must_poll:
                yield None
    except OSError as error:
        raise UsageError(
            f"The folders cannot be watched ({error}): set WATCHFILES_FORCE_POLLING=1 to have them looked at regularly."
        ) from error
