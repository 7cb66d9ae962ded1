"""Collections on disk: which there are, how a new one is named, what a browser may name a file or folder.

Every name and path that arrives here was typed or sent by somebody: none leads out of the folders that are allowed.
Knows no Streamlit.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock
from platformdirs import user_data_path

from apps.demo import demo_store
from mmrag.errors import StoreBusy, StoreError, UsageError
from mmrag.settings import DEFAULT_STORE
from mmrag.types import MEDIA_TYPES

_NAME_BYTES = 120
"""Of a collection or an uploaded file: file systems end at 255, and `.partial` and the like come behind it."""
_MOST_FOLDERS = 4
"""That an uploaded file keeps of the path it had: a path must not become too long either."""
# What Windows takes for a device whatever its suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³])\s*(\.|$)", re.IGNORECASE)


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
    given = [folder for folder in os.environ.get("MMRAG_ALLOW", "").split(os.pathsep) if folder.strip()]
    return [Path(folder).expanduser().resolve() for folder in given or ["."]]


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
    return _told_apart(found)


def _told_apart(found: Iterable[Collection]) -> list[Collection]:
    """Of two with one name, one comes from elsewhere: its folder tells which."""
    told: dict[str, Collection] = {}
    for each in sorted(found, key=lambda each: not each.is_own):
        name = each.name if each.name not in told else f"{each.name} ({each.store.parent})"
        told[name] = replace(each, name=name)
    order = {each.store: place for place, each in enumerate(found)}
    return sorted(told.values(), key=lambda each: order[each.store])


def demo_collection() -> Collection:
    return Collection("Demo", demo_store(), is_own=False)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def new_collection(name: str) -> Collection:
    """Where a collection of this name will be; UsageError for a name that is taken or no name."""
    name = plain_name(re.sub(r"[\\/]", "-", name))
    if not name:
        raise UsageError("The collection needs a name with a letter or figure in it.")
    taken = [*(other.name for other in collections()), *(path.name for path in _folders(home()) if any(path.iterdir()))]
    if name.casefold() in map(str.casefold, taken):
        raise UsageError(f"There is a collection {name!r} already: choose another name.")
    return Collection(name, home() / name)


def delete_collection(collection: Collection) -> None:
    """Leaves nothing of it; the files that it was made from are not touched. StoreBusy while somebody writes to it."""
    store = collection.store
    if not collection.is_own or store.parent != home() or store.is_symlink():
        raise UsageError(f"{collection.name} was not made here: remove its folder {store} yourself.")
    if not store.is_dir():
        return
    try:
        with FileLock(store / "lock", timeout=0):
            shutil.rmtree(store, ignore_errors=True)
    except TimeoutError as error:
        raise StoreBusy(f"{collection.name} is being written to: wait until that ends, or cancel it.") from error
    if store.exists():
        raise StoreError(f"Not everything of {collection.name} could be deleted: remove its folder {store} yourself.")


# -- names and paths from outside ------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """A name from outside as that of a file or folder: no separators, nothing hidden or unprintable; may be empty."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).rpartition("/")[2]
    name = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in name)
    name = name.strip(" ").lstrip(". ")
    name = _shortened(f"_{name}" if _DEVICE.match(name) else name)
    # Windows drops dots and spaces at the end, and so would make two names one.
    name = name.rstrip(". ")
    return name if any(c.isalnum() for c in name) else ""


def _shortened(name: str) -> str:
    """Cut in its stem, so that the suffix goes on saying what it is."""
    stem, dot, suffix = name.rpartition(".")
    if len(suffix.encode()) > _NAME_BYTES // 2:
        stem, dot, suffix = name, "", ""
    room = _NAME_BYTES - len(f"{dot}{suffix}".encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix


def allowed_path(text: str, folders: Sequence[Path] | None = None) -> Path:
    """A path that was typed, links followed; UsageError where it is not in one of the allowed folders or not there."""
    folders = allowed_folders() if folders is None else folders
    if not text.strip():
        raise UsageError("No folder is named: type the path of one.")
    try:
        path = Path(text.strip()).expanduser().absolute()
        inside = _is_inside(path, folders)
        exists = inside and path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a home that nobody has
        inside = exists = False
    if not inside:
        shown = ", ".join(map(str, folders))
        raise UsageError(
            f"{text.strip()!r} is not in a folder that the app may read ({shown}): "
            "upload the files, or start the app with  mmrag app --allow FOLDER"
        )
    if not exists:
        raise UsageError(f"There is no file or folder {text.strip()!r}: check the path.")
    return path.resolve()


def _is_inside(path: Path, folders: Sequence[Path]) -> bool:
    """Where its links lead, not where it stands."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return False
    return any(real.is_relative_to(folder) for folder in folders)


def allowed_files(text: str, folders: Sequence[Path] | None = None, *, exclude: Path | None = None) -> list[Path]:
    """What can be ingested at a path that was typed: without links that lead out of the allowed folders."""
    folders = allowed_folders() if folders is None else folders
    from ingest.pipeline import find_files  # seconds, which no page need wait for

    found, _ = find_files([allowed_path(text, folders)], exclude=exclude)
    files = [path for path in found if _is_inside(path, folders)]
    if not files:
        raise UsageError(f"{text.strip()!r} holds no document or picture that can be read: name another folder.")
    return files


def keep_uploads(store: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Writes what was uploaded below the store, each under its own name, from where it is ingested.

    A file of a whole folder keeps its place in that; one that came before under the same name is written over, but
    never one of the same batch.
    """
    top = store / "uploads"
    kept: dict[str, Path] = {}
    for name, content in files:
        path = _upload_path(top, name, kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        part.write_bytes(content)
        part.replace(path)
        kept[str(path).casefold()] = path
    return list(kept.values())


def drop_uploads(store: Path, paths: Iterable[str]) -> None:
    """Deletes those of the files that were uploaded; what stands elsewhere is not touched."""
    top = (store / "uploads").resolve()
    for path in map(Path, paths):
        if path.parent.resolve().is_relative_to(top):
            path.unlink(missing_ok=True)


def _upload_path(top: Path, name: str, taken: Container[str]) -> Path:
    *above, last = name.replace("\\", "/").split("/")
    # A dot is in every file's name and in no folder's: so none stands where the other should.
    folders = [plain_name(part).replace(".", "_") for part in above[-_MOST_FOLDERS:]]
    plain = plain_name(last)
    if not Path(plain).suffix:
        suffix = Path(f"_{last}").suffix.lower()
        plain = f"{plain or 'unnamed'}{suffix if suffix in MEDIA_TYPES else '.file'}"
    stem, suffix = Path(plain).stem, Path(plain).suffix
    path, number = top.joinpath(*filter(None, folders), plain), 1
    while str(path).casefold() in taken:
        number += 1
        path = path.with_name(f"{stem} ({number}){suffix}")
    return path
