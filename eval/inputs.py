"""Published files as they are read: rows of JSON, predictions, and images that a row names. Trusts none of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from mmrag.errors import UsageError, brief
from mmrag.render import open_image

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """The objects of a file with one a line, or with a list of them. UsageError names the line that is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}: check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({brief(error)}): give a UTF-8 file of JSON lines.") from error
    if text.lstrip().startswith("["):
        rows = _parsed(path, 1, text)
    else:
        # Not splitlines: a string may hold other ends of lines than \n.
        rows = [_parsed(path, n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UsageError(f"{path}, row {number}: expected a JSON object, found {str(row)[:40]!r}.")
    return list(rows)


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}, line {number} is no JSON ({brief(error)}): give one JSON object a line.") from error


def fields(path: Path, record: Record, *names: str) -> list[str]:
    """The named fields as text; UsageError where one is missing."""
    if missing := [name for name in names if record.get(name) is None]:
        raise UsageError(f"{path}: a row has no {missing[0]!r} (it has {', '.join(map(str, record))}).")
    return [str(record[name]) for name in names]


_ANSWERS = ("answer", "response", "model_prediction", "prediction", "text", "output")


def read_predictions(path: Path, ids: Sequence[str], *, key: Iterable[str] = ("question_id", "id")) -> dict[str, str]:
    """Answers by id; rows without any id are taken in the order of `ids`, one for each.

    UsageError where a row answers nothing that was asked, or something twice.
    """
    records = read_records(path)
    names = [next((str(record[k]) for k in key if record.get(k) is not None), None) for record in records]
    if records and not any(names):
        if len(records) != len(ids):
            raise UsageError(f"{path} has {len(records)} rows without an id for {len(ids)} questions: add question_id.")
        names = list(ids)
    answers: dict[str, str] = {}
    known = set(ids)
    for name, record in zip(names, records, strict=True):
        if name is None or name not in known:
            raise UsageError(f"{path} answers the question {name!r}, which is not in the data: give the file for it.")
        if name in answers:
            raise UsageError(f"{path} answers the question {name!r} twice: leave one of the answers.")
        answers[name] = answer_of(path, record)
    return answers


def answer_of(path: Path, record: Record) -> str:
    found = [name for name in _ANSWERS if record.get(name) is not None]
    if not found:
        raise UsageError(f"{path}: a row has no answer: give it as {', '.join(_ANSWERS[:-1])} or {_ANSWERS[-1]}.")
    return str(record[found[0]])


# -- images ----------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[^\\/:\x00-\x1f]+")


def image_in(folder: Path, name: str) -> Path:
    """The file of that name in the folder, or below where the name says so; nothing outside it, by whatever way."""
    parts = name.removeprefix("./").split("/")
    if not all(_PLAIN.fullmatch(part) and part not in (".", "..") for part in parts):
        raise UsageError(f"The data names an image {name[:80]!r}, which is no plain file name: it is not opened.")
    path = folder.joinpath(*parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"The image {name[:80]!r} is a link out of {folder}: it is not opened.")
    return path


def check_images(folder: Path, names: Iterable[str]) -> None:
    """UsageError, before a model is asked, where an image is missing."""
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}: name the one with the images by --images.")
    wanted = list(dict.fromkeys(names))
    missing = [name for name in wanted if not image_in(folder, name).is_file()]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(wanted)} images are not in {folder}, such as {missing[0][:80]}: "
            "name the folder that holds them by --images."
        )


def image_bytes(folder: Path, name: str) -> bytes:
    """A PNG of the image as a person would see it."""
    buffer = BytesIO()
    open_image(image_in(folder, name)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()
