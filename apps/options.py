"""What the commands share: options, and how errors and settings are made of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from apps.terminal import print_note
from mmrag.errors import MmragError, UsageError

if TYPE_CHECKING:
    from mmrag.settings import Settings

Store = Annotated[
    Path | None,
    typer.Option("--store", "-s", envvar="MMRAG_STORE", help="Folder of the store.", show_default="./mmrag-store"),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        envvar="MMRAG_PROFILE",
        help="offline (all models come with the install, no torch) or full (CLIP; needs mmrag[full]).",
        show_default="offline",
    ),
]
ImageEncoder = Annotated[
    str | None,
    typer.Option(
        "--image-encoder",
        help="A CLIP-family checkpoint, by hub name or folder, that encodes pictures; or captions, for none.",
        show_default="by profile",
    ),
]
Reranker = Annotated[
    str | None,
    typer.Option(
        "--reranker",
        help="Reads the best pages once more: none, bundled (English), or a cross-encoder by hub name or folder.",
        show_default="none",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """One clear sentence and an exit code instead of a traceback."""
    if debug:
        logging.basicConfig(level=logging.DEBUG)
    try:
        yield
    except MmragError as error:
        if debug:
            raise
        _fail(str(error), code=2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        _fail("Interrupted. What was committed stays; run the same command again to go on.", code=130)
    except BrokenPipeError:  # `mmrag search … | head`
        sys.stderr.close()
        raise typer.Exit(1) from None
    except OSError as error:
        if debug:
            raise
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), code=1)


def _fail(message: str, *, code: int) -> NoReturn:
    print_note(f"mmrag: {message}")
    raise typer.Exit(code)


def settings(
    store: Path | None, profile: str | None = None, image_encoder: str | None = None, reranker: str | None = None
) -> Settings:
    from mmrag.settings import load_settings

    return load_settings(profile, store=store, image_encoder=image_encoder, reranker=reranker)
