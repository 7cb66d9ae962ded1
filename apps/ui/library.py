"""Collections on disk: which there are, how a new one is named, what a browser may name a file or folder.

Every name and path that arrives here was typed or sent by somebody: none leads out of the folders that are allowed.
Knows no Streamlit.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_data_path

from apps.demo import demo_store
from mmrag.errors import StoreBusy, UsageError
from mmrag.settings import DEFAULT_STORE

_NAME_BYTES = 120
"""Of a collection or an uploaded file: file systems end at 255, and `.partial` and the like come behind it."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A store with a name."""

    name: str
    store: Path
    is_own: bool = True
    """Made in the app, which may then delete it: a store from elsewhere is only used."""

    @property
    def is_empty_folder(self) -> bool:
        return not (self.store / "ledger.sqlite3").is_file()


def home() -> Path:
    """The folder with the collections that the app has made."""
    return Path(os.environ.get("MMRAG_COLLECTIONS") or user_data_path("mmrag") / "collections").expanduser().absolute()


def allowed_folders() -> list[Path]:
    """Where the browser may point at files of this machine: MMRAG_ALLOW, or the folder in which the app was started."""
    given = os.environ.get("MMRAG_ALLOW")
    return [Path(folder).expanduser().resolve() for folder in (given.split(os.pathsep) if given else ["."])]


def collections() -> list[Collection]:
    """Those of `home`, by name; the store that the app was started with before them, the demo's after them."""
    given = Path(os.environ.get("MMRAG_STORE") or DEFAULT_STORE).expanduser().absolute()
    own = [path for path in _folders(home()) if (path / "ledger.sqlite3").is_file()]
    own.sort(key=lambda path: (path != given, path))
    found = [Collection(path.name, path) for path in own]
    if (given / "ledger.sqlite3").is_file() and given not in own:
        found.insert(0, Collection(given.name, given, is_own=False))
    if (demo_store() / "ledger.sqlite3").is_file() and demo_store() != given:
        found.append(demo_collection())
    return found


def demo_collection() -> Collection:
    return Collection("Demo", demo_store(), is_own=False)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def new_collection(name: str) -> Collection:
    """Where a collection of this name will be; UsageError for a name that is taken or no name."""
    name = plain_name(name)
    if not name:
        raise UsageError("The collection needs a name with a letter or figure in it.")
    if any(name.casefold() == other.name.casefold() for other in collections()):
        raise UsageError(f"There is a collection {name!r} already: choose another name.")
    return Collection(name, home() / name)


def delete_collection(collection: Collection) -> None:
    """Leaves nothing of it; the files that it was made from are not touched. StoreBusy while somebody writes to it."""
    if not collection.is_own or collection.store.parent != home():
        raise UsageError(f"{collection.name} was not made here: remove its folder {collection.store} yourself.")
    lock = FileLock(collection.store / "lock", timeout=0)
    try:
        with lock:
            shutil.rmtree(collection.store, ignore_errors=True)
    except TimeoutError as error:
        raise StoreBusy(f"{collection.name} is being written to: wait until that ends, or cancel it.") from error


def plain_name(name: str) -> str:
    """A name from outside as that of a file or folder: no separators, nothing hidden or unprintable; may be empty."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).rpartition("/")[2]
    name = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in name).strip().lstrip(".")
    stem, dot, suffix = name.rpartition(".")
    while len(name.encode()) > _NAME_BYTES:
        stem = stem[:-1] if stem else ""
        suffix = suffix if stem else suffix[:-1]
        name = f"{stem}{dot}{suffix}" if stem else suffix
    # What Windows takes for a device whatever its suffix.
    reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)", name.partition(".")[0])
    return f"_{name}" if reserved else name if any(c.isalnum() for c in name) else ""


def allowed_path(text: str, folders: Sequence[Path] | None = None) -> Path:
    """A path that was typed, links followed; UsageError where it is not in one of the allowed folders or not there."""
    folders = allowed_folders() if folders is None else folders
    try:
        path = Path(text.strip()).expanduser().resolve()
        inside = any(path.is_relative_to(folder) for folder in folders)
        exists = inside and path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a home that nobody has, links in a circle
        inside = exists = False
    if not inside:
        shown = ", ".join(map(str, folders))
        raise UsageError(
            f"{text.strip()!r} is not in a folder that the app may read ({shown}): "
            "upload the files, or start the app with  mmrag app --allow FOLDER"
        )
    if not exists:
        raise UsageError(f"There is no file or folder {text.strip()!r}: check the path.")
    return path


def keep_uploads(store: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Writes what was uploaded below the store, each under its own name, from where it is ingested."""
    folder = store / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for name, content in files:
        path = folder / (plain_name(name) or "unnamed")
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(content)
        part.replace(path)
        kept.append(path)
    return kept
