"""What the commands share: options, and how errors and settings are made of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

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
Generator = Annotated[
    str | None,
    typer.Option(
        "--generator",
        envvar="MMRAG_GENERATOR",
        help="What writes the answer: extractive (quotes the page, no model), a vision-language checkpoint by hub name "
        "or folder (needs mmrag[full]), or openai: any server that speaks OpenAI's protocol (needs mmrag[openai]).",
        show_default="by profile",
    ),
]
# No envvar here: what stands in the environment for a server must not be in the way of another generator.
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="With --generator openai: the server's address, such as http://localhost:8000/v1, to which questions "
        "and pictures of pages are sent. Its key comes from MMRAG_API_KEY.",
        show_default="MMRAG_BASE_URL",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="With --generator openai: the name by which the server knows its model; doctor lists them.",
        show_default="MMRAG_MODEL",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        help="Ask a model so often and keep the answer that most agree with; costs as many times more.",
        show_default="1",
    ),
]
Contrast = Annotated[
    float | None,
    typer.Option(
        "--contrast",
        help="With a checkpoint: stress what the pictures say against what the model would say blindly; 1 is usual, "
        "0 is off, above it takes twice the time.",
        show_default="0",
    ),
]
MaxVisualTokens = Annotated[
    int | None,
    typer.Option(
        "--max-visual-tokens",
        help="How sharp a model sees: what all pictures of a question take together; fewer are faster.",
        show_default="5000",
    ),
]
LoadIn4bit = Annotated[
    bool | None,
    typer.Option(
        "--load-in-4bit",
        help="With a checkpoint on an NVIDIA GPU: less memory, a little less exact (needs bitsandbytes, accelerate).",
        show_default="off",
    ),
]
Risk = Annotated[
    float | None,
    typer.Option(
        "--risk",
        help="How often an answer that is given may be wrong, 0 to 1: with less, more questions stay unanswered. For "
        "the extractive generator, whose confidence is calibrated.",
        show_default="0.5",
    ),
]
Check = Annotated[
    str | None,
    typer.Option(
        "--check",
        help="How a model's claims are checked: words (against the cited region and the other evidence); look (the "
        "model is also asked again about the region alone and the page without it, twice a claim); none.",
        show_default="words",
    ),
]
Nli = Annotated[
    str | None,
    typer.Option("--nli", help="An NLI model that decides whether a region says it, by hub name or folder."),
]
Unsupported = Annotated[
    str | None,
    typer.Option(
        "--unsupported", help="What becomes of claims that nothing supports: flag or drop.", show_default="flag"
    ),
]
# No envvar here: what stands in the environment is for new stores, and in no known one's way.
Chroma = Annotated[
    str | None,
    typer.Option(
        "--chroma",
        help="Address of a Chroma server for a new store's vectors, such as http://localhost:8000; the store remembers "
        "it. MMRAG_CHROMA_HEADERS holds, as JSON, the headers of a login.",
        show_default="MMRAG_CHROMA, or the store's folder",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """One clear sentence and an exit code instead of a traceback."""
    if debug:
        logging.basicConfig(level=logging.DEBUG)
        logging.getLogger("openai").setLevel(logging.INFO)  # at DEBUG it prints requests with all their pictures
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


def settings(given: Mapping[str, Any]) -> Settings:
    """From what a command was given, by the names of its parameters: `settings(locals())` as its first line."""
    from mmrag.settings import load_settings

    found = choices(given)
    return load_settings(found.pop("profile", None), store=given.get("store"), **found)


def choices(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of it are fields of Settings, but for the store; None where the user said nothing."""
    from mmrag.settings import Settings

    names = [field.name for field in fields(Settings) if field.name != "store"]
    return {name: given[name] for name in names if name in given}
