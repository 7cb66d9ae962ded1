"""What can go wrong, and what to do about it.

    MmragError
    ├── UsageError            an option, profile or question that cannot be used as given
    ├── MissingExtra          an optional dependency is not installed
    ├── ModelNotFound         weights that are neither on this disk nor reachable
    ├── OutOfMemory           a model that needs more memory than there is
    ├── GenerationError       a model or server that did not give an answer
    ├── ClusterError          a Ray cluster that does not answer or went away
    ├── StoreError            the store on disk
    │   ├── StoreNotFound     there is none at this path yet
    │   ├── StoreMismatch     it was built by other encoders or another version
    │   ├── StoreBusy         another process is writing to it
    │   └── StoreUnreachable  the server with its vectors does not answer
    └── DocumentError         one file or page; the rest of a batch goes on
        ├── UnreadableFile    missing, not permitted, empty, damaged or of an unknown kind
        └── EncryptedFile     needs a password

Every message is one sentence or two that name the file, page or option and say what to do next.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from types import ModuleType


class MmragError(Exception):
    """Base of everything that mmrag raises on purpose."""


class UsageError(MmragError):
    """An option, profile or question cannot be used as given."""


class MissingExtra(MmragError):
    """An optional dependency is not installed."""


class ModelNotFound(MmragError):
    """Model weights are neither on this disk nor reachable."""


class OutOfMemory(MmragError):
    """A model needs more memory than there is."""


class GenerationError(MmragError):
    """A model or server did not give an answer."""


class ClusterError(MmragError):
    """A Ray cluster does not answer, or went away."""


class StoreError(MmragError):
    """The store on disk cannot be used."""


class StoreNotFound(StoreError):
    """There is no store at this path yet."""


class StoreMismatch(StoreError):
    """The store was built by other encoders or another version of the format."""


class StoreBusy(StoreError):
    """Another process is writing to the store."""


class StoreUnreachable(StoreError):
    """The server that holds the store's vectors does not answer."""


class DocumentError(MmragError):
    """One file or page cannot be ingested; the rest of the batch goes on."""


class UnreadableFile(DocumentError):
    """The file is missing, not permitted, empty, damaged or of an unknown kind."""


class EncryptedFile(DocumentError):
    """The file needs a password."""


def require_installed(*modules: str, extra: str) -> None:
    """As `require`, without the seconds that importing takes: what else may fail then fails first."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(f"{module} is not installed: run  pip install 'mmrag[{extra}]'")


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{error.name or module} is not installed: run  pip install 'mmrag[{extra}]'") from error


def brief(error: BaseException) -> str:
    """Its first sentence, for a parenthesis."""
    return re.split(r"[.:]?(?:\s*\n|\. |$)", str(error).strip(), maxsplit=1)[0][:160] or type(error).__name__
