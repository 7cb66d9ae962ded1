"""The `mmrag` command: ingest, ask, search, list, show, remove, doctor, demo.

Knows how to speak to people and to machines (`--json`); every piece of work is done by the library. Models and Chroma
are imported inside the commands that need them, so that `--help` is immediate.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrag.errors import MmragError, UsageError

if TYPE_CHECKING:
    from ingest.pipeline import Report
    from mmrag.engine import Rag
    from mmrag.index import Index
    from mmrag.settings import Settings
    from mmrag.types import Answer, Document, Evidence, Region

app = typer.Typer(
    name="mmrag",
    help="Ask your documents. Every sentence of an answer is tied to an exact region of a page.\n\n"
    "Start with  mmrag demo,  or with your own files:  mmrag ingest FOLDER  and  mmrag ask QUESTION.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Names = Annotated[list[str] | None, typer.Option("--document", "-d", help="Only in files of this name; repeatable.")]
Pages = Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="How many pages to look at.")]


@app.command()
def ingest(
    sources: Annotated[list[str], typer.Argument(help="Files, folders (searched below) or glob patterns.")],
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read pages.", show_default="all cores")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Read PDFs and images (PNG, JPEG, TIFF, WebP) into the store.

    Content that the store already holds is skipped; a changed file replaces its old version. A file that cannot be read
    is named with its reason, and the rest goes on; the exit code is then 1.
    """
    with _errors(debug):
        from ingest.pipeline import Outcome, ingest_files
        from mmrag.index import Index
        from mmrag.models import load_encoders

        settings = _settings(store, profile, image_encoder)
        encoders = load_encoders(settings)
        index = Index.open(settings.store, create=True)
        with _progress(enabled=not as_json) as on_progress:
            report = ingest_files(index, sources, encoders, workers=workers, on_progress=on_progress)
        if as_json:
            _print_json(_report_json(report))
        else:
            _print_report(report, index)
    if report.count(Outcome.FAILED):
        raise typer.Exit(1)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question, or - to read one a line from standard input.")],
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    document: Names = None,
    top_k: Pages = 8,
    html: Annotated[
        Path | None, typer.Option(help="Also write one HTML file that shows the cited pages with their regions.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer a question with citations, or say that the documents do not answer it."""
    with _errors(debug):
        rag = _open(_settings(store, profile, image_encoder))
        answers: list[Answer] = []

        def answer(text: str) -> Answer:
            answers.append(rag.ask(text, top_k=top_k, documents=document))
            return answers[-1]

        failed = _each(question, answer, lambda found: found.to_json(), _print_answer, as_json)
        if html:
            from apps.overlay import answers_html

            html.write_text(answers_html(answers, title="Answers"), encoding="utf-8")
            err.print(Text(f"Wrote {html}"))
    if failed:
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for, or - to read one query a line from standard input.")],
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    document: Names = None,
    top_k: Pages = 10,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find pages, best first, each with its best region (text, table or picture)."""
    with _errors(debug):
        rag = _open(_settings(store, profile, image_encoder))
        failed = _each(
            query,
            lambda text: rag.search(text, top_k=top_k, documents=document),
            lambda found: [evidence.to_json() for evidence in found],
            _print_evidence,
            as_json,
        )
    if failed:
        raise typer.Exit(1)


@app.command(name="list")
def list_documents(store: Store = None, as_json: Json = False, debug: Debug = False) -> None:
    """List the documents in the store."""
    with _errors(debug):
        documents = _index(store).documents()
        if as_json:
            keys = ("id", "name", "path", "media_type", "title", "page_count", "size", "sha256")
            _print_json([{key: getattr(d, key) for key in keys} for d in documents])
            return
        table = _table("document", "pages>", "size>", "id")
        for d in documents:
            table.add_row(_clean(d.name), str(d.page_count), _size(d.size), d.id)
        out.print(table)
        out.print(f"{len(documents)} documents, {sum(d.page_count for d in documents)} pages")


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="File names, paths or ids, as  mmrag list  shows them.")],
    store: Store = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove documents from the store and leave nothing of them behind. The original files are not touched."""
    with _errors(debug):
        from mmrag.retrieve import resolve_documents

        index = _index(store)
        ids = list(dict.fromkeys(resolve_documents(index, names) or ()))
        gone = [d for d in index.documents() if d.id in ids]
        with index.writing():
            for document_id in ids:
                index.remove(document_id)
        if as_json:
            _print_json([{"id": d.id, "name": d.name} for d in gone])
        else:
            for d in gone:
                out.print(Text(f"Removed {_clean(d.name)} ({d.page_count} pages)"))


@app.command()
def show(
    targets: Annotated[list[str], typer.Argument(help="Region ids, as ask and search print them; or one document.")],
    store: Store = None,
    page: Annotated[int, typer.Option(min=1, help="With a document: which page; all its regions are drawn.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG file to write.", show_default="./DOCUMENT-pN.png")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a page as a PNG with regions drawn on it: those named, or all of a document's page."""
    with _errors(debug):
        from apps.overlay import write_page_png

        index = _index(store)
        found = _regions_by_page(index, targets, page)
        if output and len(found) > 1:
            raise UsageError(
                f"The regions stand on {len(found)} pages: leave --output out, one PNG is written for each."
            )
        for (document, number), regions in found.items():
            target = output or Path(f"{_file_stem(document.name)}-p{number}.png")
            marks = [(region.box, ()) for region in regions]
            labels = [region.id.rsplit("-", 1)[1] for region in regions]
            write_page_png(index.source(document), number, marks, target, labels=labels)
            out.print(Text(f"{target}  {_clean(document.name)}, page {number}, {len(regions)} regions"))


@app.command()
def doctor(store: Store = None, profile: Profile = None, as_json: Json = False, debug: Debug = False) -> None:
    """Say what is installed, which weights are here, what the machine has, and what to do next."""
    with _errors(debug):
        from apps.doctor import examine

        findings = examine(_settings(store, profile, None))
        if as_json:
            _print_json([finding._asdict() for finding in findings])
            return
        table = _table("", "what", "found", "what to do")
        for finding in findings:
            mark = Text("ok", style="green") if finding.ok else Text("!", style="yellow")
            table.add_row(mark, finding.what, finding.found, finding.advice)
        out.print(table)


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Option(help="Where to build the collection.", show_default="a folder of the user's own")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build a small collection, ingest it, ask five questions and write a page that shows the cited regions."""
    with _errors(debug):
        from apps.demo import run_demo

        with _progress(enabled=not as_json) as on_progress:
            result = run_demo(folder, on_progress)
        if as_json:
            _print_json({"answers": [a.to_json() for a in result.answers], "html": str(result.html)})
            return
        for answer in result.answers:
            _print_answer(answer)
        out.print(Text(f"See the cited regions on their pages: open {result.html}"))
        out.print(Text(f"Ask this collection yourself:         mmrag ask --store '{result.store}' 'your question'"))
        out.print(Text("Ask your own documents:               mmrag ingest FOLDER, then mmrag ask 'your question'"))


def main() -> None:
    app(prog_name="mmrag")


# -- shared by the commands ------------------------------------------------------------------------------------------


@contextmanager
def _errors(debug: bool) -> Iterator[None]:
    """One clear sentence and an exit code instead of a traceback."""
    if debug:
        logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING)
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
    err.print(Text(f"mmrag: {_clean(message)}"))
    raise typer.Exit(code)


def _settings(store: Path | None, profile: str | None, image_encoder: str | None) -> Settings:
    from mmrag.settings import load_settings

    return load_settings(profile, store=store, image_encoder=image_encoder)


def _index(store: Path | None) -> Index:
    from mmrag.index import Index

    return Index.open(_settings(store, None, None).store)


def _open(settings: Settings) -> Rag:
    from mmrag.engine import open_rag

    return open_rag(settings)


def _each(
    text: str,
    work: Callable[[str], Any],
    to_json: Callable[[Any], Any],
    to_person: Callable[[Any], None],
    as_json: bool,
) -> int:
    """Run one question, or with `-` every line of standard input, one JSON value a line; returns how many failed."""
    if text != "-":
        found = work(text)
        if as_json:
            _print_json(to_json(found))
        else:
            to_person(found)
        return 0
    failed = 0
    for line in sys.stdin:
        try:
            value = to_json(work(line.strip()))
        except MmragError as error:
            value, failed = {"question": line.strip(), "error": str(error)}, failed + 1
        print(json.dumps(value, ensure_ascii=False), flush=True)
    return failed


@contextmanager
def _progress(*, enabled: bool) -> Iterator[Callable[[Any], None]]:
    """A bar on standard error with pages per second and the file being read."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.1f} pages/s")

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=err, disable=not (enabled and err.is_terminal), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda step: bar.update(
            task, completed=step.pages_done, total=step.pages_total, description=_clean(step.file)
        )


def _regions_by_page(index: Index, targets: list[str], page: int) -> dict[tuple[Document, int], list[Region]]:
    from mmrag.retrieve import resolve_documents

    known = {document.id: document for document in index.documents()}
    found: dict[tuple[Document, int], list[Region]] = {}
    for target in targets:
        document_id, _, place = target.partition("-p")
        if document_id in known and "-r" in place and place.split("-r")[0].isdigit():
            number = int(place.split("-r")[0])
            region = index.regions([target]).get(target)
            if region is None:
                raise UsageError(f"There is no region {target!r}: region ids are printed by ask and search.")
            found.setdefault((known[document_id], number), []).append(region)
            continue
        for document_id in resolve_documents(index, [target]) or ():
            content = index.page(document_id, page)
            if content is None:
                pages = known[document_id].page_count
                raise UsageError(f"{known[document_id].name} has pages 1 to {pages}; there is no page {page}.")
            found.setdefault((known[document_id], page), []).extend(content.regions)
    return found


# -- printing --------------------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=None))


def _print_answer(answer: Answer) -> None:
    out.print(Text(_clean(answer.question), style="bold"))
    if answer.abstained:
        out.print(Text(f"  {answer.text}", style="italic"))
        for evidence in answer.evidence[:1]:
            out.print(Text(f"  Nearest: {_clean(evidence.document.name)}, page {evidence.page}", style="dim"))
        out.print()
        return
    numbered = iter(range(1, len(answer.citations) + 1))
    sources = []
    for claim in answer.claims:
        marks = ""
        for citation in claim.citations:
            number = next(numbered)
            marks += f" [{number}]"
            sources.append(f"  [{number}] {_clean(citation.document)}, page {citation.page}  ({citation.region})")
        out.print(Text(f"  {_clean(claim.text)}").append(marks, style="cyan"))
    for source in sources:
        out.print(Text(source, style="dim"))
    out.print(Text(f"  confidence {answer.confidence:.0%}", style="dim"))
    out.print()


def _print_evidence(found: list[Evidence]) -> None:
    table = _table("#>", "score>", "document", "page>", "kind", "region", "text")
    for rank, evidence in enumerate(found, start=1):
        text = " ".join(evidence.region.text.split())
        table.add_row(
            *(str(rank), f"{evidence.score:.2f}", _clean(evidence.document.name), str(evidence.page)),
            *(str(evidence.region.kind), evidence.region.id, _clean(text[:120] + ("…" if len(text) > 120 else ""))),
        )
    out.print(table if found else "Nothing in the store matches.")


def _report_json(report: Report) -> dict[str, Any]:
    files = [
        {"path": str(r.path), "outcome": str(r.outcome), "pages": r.pages, "chunks": r.chunks, "reason": r.reason}
        for r in report.results
    ]
    return {"files": files, "pages_read": report.pages_read, "seconds": round(report.seconds, 3)}


def _print_report(report: Report, index: Index) -> None:
    styles = {"ingested": "green", "replaced": "green", "unchanged": "dim", "failed": "red"}
    table = _table("file", "", "pages>", "chunks>", "why")
    for r in report.results:
        numbers = (str(r.pages or ""), str(r.chunks or ""))
        table.add_row(_clean(r.path.name), Text(r.outcome, style=styles[r.outcome]), *numbers, _clean(r.reason))
    out.print(table)
    counts = ", ".join(f"{report.count(o)} {o}" for o in dict.fromkeys(r.outcome for r in report.results))
    speed = f" ({report.pages_read / report.seconds:.1f} pages/s)" if report.pages_read else ""
    out.print(Text(f"{counts or 'nothing found'} in {report.seconds:.1f} s{speed}; store: {index.path}"))


def _table(*columns: str) -> Table:
    """A borderless table; a column name that ends in > is aligned to the right. Cells are plain text, never markup."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", overflow="fold")
    return table


def _clean(text: str) -> str:
    """Text from outside, without control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _file_stem(name: str) -> str:
    """A document's name as part of a file name of ours: no separators, nothing hidden."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(name).stem).lstrip(".") or "page"
