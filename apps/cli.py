"""The `mmrag` command: ingest, ask, search, list, show, remove, check, doctor, demo, app.

Knows how to speak to people and to machines (`--json`); every piece of work is done by the library. Models and Chroma
are imported inside the commands that need them, so that `--help` is immediate.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps import cli_eval, cli_eval_answers  # noqa: F401  # the second adds its commands to those of the first
from apps.options import (
    BaseUrl,
    Check,
    Chroma,
    Contrast,
    Debug,
    Generator,
    ImageEncoder,
    Json,
    LoadIn4bit,
    MaxVisualTokens,
    Model,
    Nli,
    Profile,
    Reranker,
    Risk,
    Samples,
    Store,
    Unsupported,
    choices,
    errors,
    settings,
)
from apps.terminal import (
    clean,
    file_size,
    file_stem,
    print_answer,
    print_evidence,
    print_findings,
    print_json,
    print_line,
    print_note,
    print_pictures,
    print_repaired,
    print_report,
    print_table,
    print_timings,
    show_progress,
    show_reply,
    show_steps,
    somebody_watches,
)
from ingest.limits import MB, Limits
from mmrag.errors import MmragError, UsageError

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

    from ingest.report import Report
    from mmrag.engine import Rag
    from mmrag.index import Index
    from mmrag.settings import Settings
    from mmrag.types import Answer, Document, Region

_LIMITS = Limits()

app = typer.Typer(
    name="mmrag",
    help="Ask your documents. Every sentence of an answer is tied to an exact region of a page.\n\n"
    "Start with  mmrag demo,  or with your own files:  mmrag ingest FOLDER  and  mmrag ask QUESTION.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Names = Annotated[list[str] | None, typer.Option("--document", "-d", help="Only in files of this name; repeatable.")]
Pages = Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="How many pages to look at.")]
app.add_typer(cli_eval.app, name="eval")


@app.command()
def ingest(
    sources: Annotated[list[str], typer.Argument(help="Files, folders (searched below) or glob patterns.")],
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read pages.", show_default="all cores")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            help="Read and encode on a Ray cluster (needs mmrag[ray]): local (of this machine alone), auto (that which "
            "it has joined), or HOST:PORT.",
            show_default="none",
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Read known content once more, after an upgrade for example."),
    ] = False,
    password: Annotated[
        list[str] | None,
        typer.Option(
            help="Opens encrypted files; repeatable. Others on this machine may see it; use --password-file then."
        ),
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="A text file with a password on each line; all are tried on encrypted files.")
    ] = None,
    no_ocr: Annotated[
        bool,
        typer.Option("--no-ocr", help="Read text layers only: faster, but scans and words in pictures are not read."),
    ] = False,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Processor time that a page may take, and twice that by the clock.")
    ] = _LIMITS.page_seconds,
    max_memory: Annotated[
        int, typer.Option(min=1, help="MB that a process reading pages may take; about 1300 are for its models.")
    ] = _LIMITS.memory // MB,
    max_pages: Annotated[int, typer.Option(min=1, help="Pages that a file may have.")] = _LIMITS.pages,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Millions of pixels that an image file may have.")
    ] = _LIMITS.pixels // 1_000_000,
    max_file_size: Annotated[int, typer.Option(min=1, help="MB that a file may have.")] = _LIMITS.file_bytes // MB,
    wait: Annotated[
        bool, typer.Option("--wait", help="While another process writes to the store, wait until it ends.")
    ] = False,
    timings: Annotated[bool, typer.Option("--timings", help="Also say where the time and the memory went.")] = False,
    describe_pictures: Annotated[
        bool,
        typer.Option("--describe-pictures", help="Let the generator say what each picture shows, to find it by that."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on until Ctrl-C: ingest what is new or changed. What is deleted stays in the store.",
        ),
    ] = False,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    load_in_4bit: LoadIn4bit = None,
    chroma: Chroma = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Read documents into the store: PDFs, images, e-books, Office files, HTML, Markdown, text.

    Content that the store already holds is skipped; a changed file replaces its old version. A file that cannot be read
    is named with its reason, and the rest goes on; the exit code is then 1. So is a page that cannot be read, while the
    other pages of its file are.
    """
    with errors(debug):
        from ingest.pipeline import ingest_files
        from mmrag.index import Index
        from mmrag.models import load_encoders

        chosen = settings(locals())
        limits = Limits(max_seconds, max_memory * MB, max_pages, max_pixels * 1_000_000, max_file_size * MB)
        passwords = [*(password or ()), *_passwords(password_file)]
        describer = _describer(chosen) if describe_pictures else None
        encoders = load_encoders(chosen)

        def read(batch: Sequence[str | Path], *, again: bool) -> Report:
            with show_progress(enabled=not as_json) as on_progress:
                report = ingest_files(
                    index,
                    batch,
                    encoders,
                    workers=workers,
                    ray=ray,
                    limits=limits,
                    passwords=passwords,
                    ocr=not no_ocr,
                    describer=describer,
                    again=again,
                    wait=wait or watch,
                    on_wait=print_note,
                    on_progress=on_progress,
                )
            if as_json:
                print_json(report.to_json())
            else:
                print_report(report, chosen.store)
            if timings and not as_json:
                print_timings(report)
            return report

        with Index.open(chosen.store, create=True, chroma=chosen.chroma) as index:
            if watch:
                _keep_reading(sources, index, read, again=again)
                return
            report = read(sources, again=again)
    if not report.is_complete:
        raise typer.Exit(1)


@app.command()
def ask(
    question: Annotated[
        str | None, typer.Argument(help="The question, or - to read one a line from standard input.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="A picture that the question is about, such as a screenshot of a table.")
    ] = None,
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    reranker: Reranker = None,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    samples: Samples = None,
    contrast: Contrast = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    risk: Risk = None,
    check: Check = None,
    nli: Nli = None,
    unsupported: Unsupported = None,
    document: Names = None,
    top_k: Pages = 8,
    chroma: Chroma = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write one HTML file that shows the cited pages with their regions.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer a question with citations, or say that the documents do not answer it.

    With a picture alone, what the documents say where its words stand is quoted.
    """
    if question is None and image is None:
        raise typer.BadParameter("give a question, or a picture with --image.", param_hint="QUESTION")
    with errors(debug):
        answers: list[Answer] = []

        def answer(text: str) -> Answer:
            if somebody_watches():
                found = show_reply(rag.ask_stream(text, image=image, top_k=top_k, documents=document))
            else:
                found = rag.ask(text, image=image, top_k=top_k, documents=document)
            answers.append(found)
            return found

        chosen = settings(locals())
        with _open(chosen) as rag:
            _ = rag.generator  # loaded before the first question, so that what is wrong with it is said once
            failed = _each(question or "", answer, lambda found: found.to_json(), print_answer, as_json)
        if html:
            from apps.overlay import answers_html

            html.write_text(answers_html(answers, title="Answers"), encoding="utf-8")
            print_note(f"Wrote {html}")
    if failed:
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[
        str, typer.Argument(help="What to look for, or - to read one query a line from standard input.")
    ] = "",
    image: Annotated[
        str | None, typer.Option(help="A picture to look for, alone or with words; one without print needs an encoder.")
    ] = None,
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    reranker: Reranker = None,
    document: Names = None,
    top_k: Pages = 10,
    chroma: Chroma = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find pages, best first, each with its best region (text, table or picture)."""
    with errors(debug), _open(settings(locals())) as rag:
        failed = _each(
            query,
            lambda text: rag.search(text, image=image, top_k=top_k, documents=document),
            lambda found: [evidence.to_json() for evidence in found],
            print_evidence,
            as_json,
        )
    if failed:
        raise typer.Exit(1)


@app.command(name="list")
def list_documents(store: Store = None, as_json: Json = False, debug: Debug = False) -> None:
    """List the documents in the store."""
    with errors(debug):
        with _index(store) as index:
            documents = index.documents()
        if as_json:
            keys = ("id", "name", "path", "media_type", "title", "page_count", "size", "sha256", "described_by")
            print_json([{key: getattr(d, key) for key in keys} for d in documents])
            return
        print_table(
            ("document", "pages>", "size>", "id"),
            ((d.name, str(d.page_count), file_size(d.size), d.id) for d in documents),
        )
        print_line(f"{len(documents)} documents, {sum(d.page_count for d in documents)} pages")


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="File names, paths or ids, as  mmrag list  shows them.")],
    store: Store = None,
    chroma: Chroma = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove documents from the store and leave nothing of them behind. The original files are not touched."""
    with errors(debug):
        from mmrag.retrieve import resolve_documents

        with _index(store, chroma) as index:
            ids = list(dict.fromkeys(resolve_documents(index, names) or ()))
            gone = [d for d in index.documents() if d.id in ids]
            with index.writing():
                for document_id in ids:
                    index.remove(document_id)
        if as_json:
            print_json([{"id": d.id, "name": d.name} for d in gone])
        else:
            for d in gone:
                print_line(f"Removed {d.name} ({d.page_count} pages)")


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
    with errors(debug):
        from apps.overlay import write_page_png

        with _index(store) as index:
            found = _regions_by_page(index, targets, page)
            if output and len(found) > 1:
                raise UsageError(f"The regions stand on {len(found)} pages: leave --output out, each gets its own PNG.")
            written: set[Path] = set()
            for (document, number), regions in found.items():
                target = output or Path(f"{file_stem(document.name)}-p{number}.png")
                if target in written:  # two documents of one name
                    target = Path(f"{file_stem(document.name)}-{document.id}-p{number}.png")
                written.add(target)
                marks = [(region.box, ()) for region in regions]
                labels = [region.id.rsplit("-", 1)[1] for region in regions]
                write_page_png(index.source(document), number, marks, target, labels=labels)
                print_line(f"{target}  {document.name}, page {number}, {len(regions)} regions")
                print_pictures(regions)


@app.command(name="check")
def check_store(
    store: Store = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; vectors need the profile of the ingest.")
    ] = False,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Verify that the ledger, the vectors and the copies of files agree; the exit code is 1 where something is left."""
    with errors(debug):
        chosen = settings(locals())
        from ingest.repair import Repaired, interrupted_jobs
        from ingest.repair import repair as mend
        from mmrag.check import check
        from mmrag.index import Index
        from mmrag.models import load_encoders

        with Index.open(chosen.store, chroma=chosen.chroma) as index, show_steps(enabled=not as_json) as on_progress:
            if repair:
                result = mend(index, lambda: load_encoders(chosen), on_progress=on_progress)
            else:
                found = check(index, on_progress=on_progress)
                result = Repaired(found, found, [])
        result.notes.extend(interrupted_jobs(chosen.store))
        if as_json:
            print_json(result.to_json())
        else:
            print_repaired(result)
    if result.left:
        raise typer.Exit(1)


@app.command()
def doctor(
    store: Store = None,
    profile: Profile = None,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    chroma: Chroma = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what is installed, which weights are here, what the machine has, and what to do next."""
    with errors(debug):
        from apps.doctor import examine

        chosen = settings(locals())
        findings = examine(chosen)
        if as_json:
            print_json([finding._asdict() for finding in findings])
            return
        print_findings(findings)


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Option(help="Where to build the collection.", show_default="a folder of the user's own")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build a small collection, ingest it, ask five questions and write a page that shows the cited regions."""
    with errors(debug):
        from apps.demo import run_demo

        with show_progress(enabled=not as_json) as on_progress:
            result = run_demo(folder, on_progress)
        if as_json:
            print_json({"answers": [a.to_json() for a in result.answers], "html": str(result.html)})
            return
        for answer in result.answers:
            print_answer(answer)
        print_line(f"See the cited regions on their pages: open {result.html}")
        print_line(f"Ask this collection yourself:         mmrag ask --store '{result.store}' 'your question'")
        print_line("Ask your own documents:               mmrag ingest FOLDER, then mmrag ask 'your question'")


@app.command(name="app")
def serve_app(
    store: Store = None,
    collections: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the collections that are made in the app.", show_default="a folder of the user's own"
        ),
    ] = None,
    allow: Annotated[
        list[Path] | None,
        typer.Option(help="A folder from which the browser may name files; repeatable.", show_default="."),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder with the runs of  mmrag eval.", show_default="./runs")
    ] = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    reranker: Reranker = None,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    samples: Samples = None,
    contrast: Contrast = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    risk: Risk = None,
    check: Check = None,
    nli: Nli = None,
    unsupported: Unsupported = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any other than localhost lets other machines in, without login.")
    ] = "localhost",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen at.", show_default="8501 or the next free one")
    ] = None,
    public_name: Annotated[
        str | None, typer.Option(help="The name under which a proxy with a login offers the app by HTTPS.")
    ] = None,
    max_upload: Annotated[int, typer.Option(min=1, help="MB that a file sent by the browser may have.")] = 200,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    debug: Debug = False,
) -> None:
    """Open the app in the browser: ask, see the cited pages, add documents."""
    given = locals()
    with errors(debug):
        from apps.serve import REACHABLE, address, environment, free_port, is_local, serve

        settings(given)  # what does not go together is said here rather than in the browser
        os.environ.update(environment(store, collections, runs, allow or [], choices(given)))
        found = free_port(host, port)
        print_line(f"mmrag is at {address(host, found)}  (Ctrl-C ends it)")
        if public_name or not is_local(host):
            print_note(REACHABLE)
        serve(host, found, public_name=public_name, max_upload=max_upload, browser=not no_browser)


def main() -> None:
    if isinstance(sys.stdin, io.TextIOWrapper):  # a line that is not UTF-8 costs only itself
        sys.stdin.reconfigure(errors="surrogateescape")
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show Chinese shows escapes instead of failing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="mmrag")


# -- shared by the commands ------------------------------------------------------------------------------------------


def _index(store: Path | None, chroma: str | None = None) -> Index:
    from mmrag.index import Index

    chosen = settings({"store": store, "chroma": chroma})
    return Index.open(chosen.store, chroma=chosen.chroma)


def _open(settings: Settings) -> Rag:
    from apps.pictures import read_words
    from mmrag.engine import open_rag

    return open_rag(settings, read_words=read_words)


def _describer(settings: Settings) -> LLM:
    from mmrag.models import load_llm

    llm = load_llm(settings)
    if llm is None:
        raise UsageError(
            "--describe-pictures needs a generator that reads pictures, and the extractive one only quotes: "
            "choose --profile full, or name a model with --generator."
        )
    return llm


def _passwords(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return [line for line in file.expanduser().read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The passwords in {file} cannot be read: give a text file in UTF-8.") from error


def _keep_reading(sources: Sequence[str], index: Index, read: Callable[..., Report], *, again: bool) -> None:
    from ingest.watch import batches

    try:
        for number, batch in enumerate(batches(sources, exclude=index.path)):
            read(batch, again=again and not number)
            if not number:
                print_note("Watching for new and changed files. Ctrl-C ends it.")
    except KeyboardInterrupt:
        print_note("No longer watching. What was committed stays.")


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
            print_json(to_json(found))
        else:
            to_person(found)
        return 0
    failed = 0
    for line in sys.stdin:
        try:
            value = to_json(work(line.strip()))
        except MmragError as error:
            value, failed = {"question": clean(line.strip()), "error": str(error)}, failed + 1
        print_json(value)
    return failed


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
