"""Files that outlive a loss of power, and one sentence for a full disk. Knows nothing of what the files hold."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrag.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LITTLE = 1_000_000
"""Bytes: with less than that, what the vector store could not write had no room."""


def copy_durably(source: Path, target: Path) -> None:
    """The copy is there whole, on the disk and under its name, or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        sync(partial)
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)  # it takes room, of which there may be none
        raise
    sync(target.parent)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Until this returns the operating system may hold what was written in its memory alone."""
    if os.name == "nt" and path.is_dir():  # which Windows cannot be asked for
        return
    file = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_below(folder: Path) -> None:
    """Every file and folder in it; a file that goes away meanwhile was not to stay."""
    for root, _, names in os.walk(folder):
        for path in (*(Path(root, name) for name in names), Path(root)):
            try:
                sync(path)
            except FileNotFoundError:
                continue


@contextmanager
def room_on(folder: Path) -> Iterator[None]:
    """What fails inside for want of room becomes a StoreError that says so."""
    try:
        yield
    except (OSError, sqlite3.Error, StoreError) as error:
        if not _is_full(error, folder):
            raise
        raise StoreError(
            f"No space left on the disk of {folder}: make room, then run the same command again."
        ) from error


def _is_full(error: Exception, folder: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
    # Chroma does not always tell.
    return type(error) is StoreError and error.__cause__ is not None and shutil.disk_usage(folder).free < _LITTLE
