"""The `mmrag eval` commands: measurements on published labels."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.options import Debug, ImageEncoder, Json, Profile, Reranker, Store, errors, settings
from apps.terminal import (
    print_comparison,
    print_json,
    print_line,
    print_retrieval,
    print_run,
    print_scores,
    print_table,
    show_progress,
)
from mmrag import __version__

if TYPE_CHECKING:
    from eval.runs import Run

app = typer.Typer(help="Measure on published labels.", no_args_is_help=True, rich_markup_mode=None)


Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the JSON file and the plot.")]
RUNS = Path("runs")


@app.command()
def retrieval(
    data: Annotated[Path, typer.Option(help="Folder with pdf/ and questions.jsonl.")],
    output: Output = RUNS,
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    reranker: Reranker = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score the ranking of pages and regions, with intervals, an ablation and latency.

    Ingests into the store what it lacks of pdf/. Prints a table, writes a JSON file and a plot.
    """
    with errors(debug):
        from eval.retrieval import evaluate_retrieval, load_questions, plot_ablation
        from ingest.pipeline import ingest_files
        from mmrag.engine import open_rag
        from mmrag.retrieve import Weights

        chosen = settings(store, profile, image_encoder, reranker)
        questions = load_questions(data)
        with open_rag(chosen, create=True) as rag:
            with show_progress(enabled=not as_json) as on_progress:
                ingest_files(rag.index, [data / "pdf"], rag.encoders, on_progress=on_progress)
            report = evaluate_retrieval(rag, questions)
            encoders = {"text": rag.encoders.text_identity, "image": rag.encoders.image_identity}
        output.mkdir(parents=True, exist_ok=True)
        made_by = {"mmrag": __version__, **encoders, "reranker": chosen.reranker, "weights": asdict(Weights())}
        result = {"made_by": made_by, "profile": chosen.profile, **report.to_json()}
        (output / "retrieval.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        plot_ablation(report, output / "retrieval.png")
        if as_json:
            print_json(result)
        else:
            print_retrieval(report)
            print_line(f"Written to {output}/retrieval.json and retrieval.png")


@app.command()
def known_items(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Sentences of each language.")] = 60,
    seed: Annotated[int, typer.Option(help="Which sentences are drawn.")] = 0,
    store: Store = None,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    reranker: Reranker = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find pages again by part of a sentence that stands on them alone. Needs no labels: any store will do."""
    with errors(debug):
        from eval.known_items import evaluate_known_items, known_items
        from mmrag.engine import open_rag

        with open_rag(settings(store, profile, image_encoder, reranker)) as rag:
            items = known_items(rag.index, per_language=count, seed=seed)
            report = evaluate_known_items(rag, items)
            names = {document.id: document.name for document in rag.index.documents()}
        if as_json:
            missed = [{"query": i.query, "document": names[i.document_id], "page": i.page} for i in report.missed]
            scores = {language: {m: asdict(s) for m, s in of.items()} for language, of in report.scores.items()}
            print_json({"seed": seed, "scores": scores, "missed": missed})
            return
        print_scores(report.scores)
        for item in report.missed:
            print_line(f"Not among the first three: {names[item.document_id]}, page {item.page}: {item.query}")


@app.command()
def page_facts(
    data: Annotated[Path, typer.Option(help="Folder with page_facts.jsonl and ocr_pages/.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check published facts of single pages: text present or absent, reading order, table cells."""
    with errors(debug):
        from eval.page_facts import check_page_facts

        results = check_page_facts(data)
        if as_json:
            print_json([result._asdict() for result in results])
            return
        kinds = dict.fromkeys(result.type for result in results)
        held = {kind: [r.holds for r in results if r.type == kind] for kind in kinds}
        print_table(("fact", "hold>", "of>"), ((kind, str(sum(h)), str(len(h))) for kind, h in held.items()))
        print_line(f"Fail: {', '.join(result.id for result in results if not result.holds) or 'none'}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="JSON file of a run, as these commands write it.")],
    second: Annotated[Path, typer.Argument(help="That of another run of the same measurement.")],
    plot: Annotated[Path | None, typer.Option(help="Also write the differences as a PNG file.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put two runs side by side, on the items that both have.

    Differences are the second run less the first, with 95 % intervals by paired bootstrap; items that hang together,
    such as questions about one image, are drawn together. Says in how many of the samples the second is higher, on
    which items they differ most, and which settings they do not share.
    """
    with errors(debug):
        from eval.compare import compare as compare_runs
        from eval.plots import plot_comparison
        from eval.runs import load_run

        found = compare_runs(load_run(first), load_run(second))
        if plot:
            plot_comparison(found, plot)
        if as_json:
            print_json(found.to_json())
        else:
            print_comparison(found)


# -- shared by the measurements --------------------------------------------------------------------------------------


def finish(run: Run, path: Path, as_json: bool) -> None:
    """Write the run and its plot, and print it."""
    from eval.plots import plot_run
    from eval.runs import save_run

    save_run(run, path)
    plot_run(run, path.with_suffix(".png"))
    if as_json:
        print_json({"run": str(path), **run.to_json()})
        return
    print_run(run)
    print_line(f"Written to {path} and {path.with_suffix('.png').name}")
