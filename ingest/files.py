"""Which files a batch is made of: named ones, those below folders, those that a pattern matches. Reads none of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ingest.report import FileResult, Outcome
from mmrag.types import MEDIA_TYPES


def find_files(sources: Iterable[str | Path], *, exclude: Path | None = None) -> tuple[list[Path], list[FileResult]]:
    """Absolute paths of the files that `sources` name, each once, and a failed row for whatever cannot be looked at.

    A file that is named must be of a known kind; files of other kinds inside a folder are passed over.
    """
    files: dict[Path, None] = {}
    problems: list[FileResult] = []
    for source in sources:
        path = absolute(source)
        if path.is_dir():
            files.update(dict.fromkeys(_files_below(path, exclude, problems)))
        elif os.path.lexists(path):  # a link to nowhere is reported as a file that cannot be read
            files[path] = None
        elif matches := sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  # absolute patterns, which Path.glob refuses
            found, trouble = find_files([m for m in matches if not Path(m).is_file() or is_known(m)], exclude=exclude)
            files.update(dict.fromkeys(found))
            problems.extend(trouble)
        else:
            problems.append(failed(path, "There is no such file or folder."))
    return list(files), problems


def absolute(source: str | Path) -> Path:
    return Path(os.path.abspath(Path(source).expanduser()))  # noqa: PTH100  # closes `..` without following links


def _files_below(folder: Path, exclude: Path | None, problems: list[FileResult]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(failed(Path(error.filename or folder), f"The folder cannot be read: {error.strerror}."))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if Path(root, name).resolve() != exclude)
        yield from (path for name in sorted(names) if is_known(name) and not is_special(path := Path(root, name)))


def is_special(path: Path) -> bool:
    """Whether it is a pipe, socket or device, which would be waited for or read without end."""
    return path.exists() and not path.is_file()


def is_known(name: str) -> bool:
    return Path(name).suffix.lower() in MEDIA_TYPES


def failed(path: Path, reason: str) -> FileResult:
    return FileResult(path, Outcome.FAILED, reason=reason)


def is_text(path: Path) -> bool:
    """Whether the name can be stored and shown."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
