"""The `mmrag eval` commands: measurements on published labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.options import (
    BaseUrl,
    Contrast,
    Debug,
    Generator,
    ImageEncoder,
    Json,
    LoadIn4bit,
    MaxVisualTokens,
    Model,
    Profile,
    Reranker,
    Store,
    errors,
    settings,
)
from apps.terminal import (
    print_comparison,
    print_figures,
    print_json,
    print_line,
    print_retrieval,
    print_run,
    print_scale,
    print_scores,
    print_speeds,
    print_table,
    show_count,
    show_progress,
)
from mmrag import __version__
from mmrag.errors import GenerationError, UsageError

if TYPE_CHECKING:
    from eval.runs import Run

app = typer.Typer(help="Measure on published labels.", no_args_is_help=True, rich_markup_mode=None)


Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the JSON file and the plot.")]
RUNS = Path("runs")
Images = Annotated[
    Path | None,
    typer.Option(help="Folder with the images that the data names; nothing outside it is ever opened."),
]
Predictions = Annotated[
    list[Path] | None,
    typer.Option(help="Answers that are there, as JSON lines with an id and an answer: no model is asked."),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        help="Read the verdict from the model's text, or from its probabilities of yes and no (logits).",
        show_default="logits where the model gives them",
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Questions that are asked at once; for a server.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Ask everything again instead of going on with an earlier run.")]


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

        chosen = settings(locals())
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


@app.command(name="ingest")
def ingest_speed(
    data: Annotated[Path | None, typer.Option(help="Folder with pdf/.", show_default="none: only --scale")] = None,
    scale: Annotated[
        int | None, typer.Option(min=2000, help="Also let a store grow to so many synthetic pages (minutes).")
    ] = None,
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pages per second, memory and size of the index; and whether all that stays so as a store grows.

    In the same run, where its packages are installed (mmrag[reference]): LlamaIndex's documented defaults. The machine
    should have nothing else to do. Prints tables, writes a JSON file.
    """
    with errors(debug):
        from eval.ingest import measure_scale, measure_speed

        if data is None and scale is None:
            raise UsageError("There is nothing to measure: give --data, --scale or both.")
        speeds = measure_speed(data / "pdf") if data else {}
        growth = measure_scale(scale) if scale else None
        found = {"speed": {name: asdict(speed) for name, speed in speeds.items()}}
        result = {"made_by": {"mmrag": __version__}, **found, "scale": asdict(growth) if growth else None}
        output.mkdir(parents=True, exist_ok=True)
        (output / "ingest.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        if as_json:
            print_json(result)
            return
        if speeds:
            print_speeds(speeds)
        if growth:
            print_scale(growth)
        print_line(f"Written to {output}/ingest.json")


@app.command()
def speed(
    new_tokens: Annotated[
        int, typer.Option(min=2, help="Tokens that the generator writes, or fewer if it ends.")
    ] = 128,
    profile: Profile = None,
    image_encoder: ImageEncoder = None,
    generator: Generator = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Seconds to load and to the first token, tokens and images a second, memory: of the models that torch runs here.

    Measures the image encoder and the generator on pages drawn for it; needs no store and no labels. The machine
    should have nothing else to do. Prints a table, writes a JSON file.
    """
    with errors(debug):
        from importlib.metadata import version

        from eval.speed import encoder_speed, generator_speed
        from mmrag.checkpoint import placement
        from mmrag.models import load_image_encoder, load_llm

        chosen = settings(locals())
        if chosen.generator == "openai":
            raise UsageError("How fast a server is depends on it alone: name a checkpoint with --generator.")
        found: dict[str, Any] = {}
        if chosen.image_encoder != "captions":
            found["image encoder"] = asdict(encoder_speed(partial(load_image_encoder, chosen)))
        if chosen.generator != "extractive":
            device, _ = placement(chosen.device, None)
            found["generator"] = asdict(generator_speed(partial(load_llm, chosen), device, new_tokens=new_tokens))
        if not found:
            raise UsageError("There is nothing to measure: choose --profile full, --image-encoder or --generator.")
        versions = {name: version(name) for name in ("torch", "transformers")}
        result = {"made_by": {"mmrag": __version__, **versions}, **found}
        output.mkdir(parents=True, exist_ok=True)
        (output / "speed.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        if as_json:
            print_json(result)
            return
        for what, figures in found.items():
            print_figures(what, figures)
        print_line(f"Written to {output}/speed.json")


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

        with open_rag(settings(locals())) as rag:
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
def pope(
    data: Annotated[list[Path], typer.Option(help="A file of POPE's questions, coco_pope_random.json; repeatable.")],
    images: Images = None,
    predictions: Predictions = None,
    blind: Annotated[bool, typer.Option("--blind", help="Ask without the images: what a model says by habit.")] = False,
    by: By = None,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    contrast: Contrast = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    profile: Profile = None,
    workers: Workers = 1,
    fresh: Fresh = False,
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Is the object in the image? POPE's questions: accuracy, precision, recall, F1 and yes-rate by file.

    Needs one of: --images, with a model; --blind, with a model; --predictions, a file for each of --data, with rows of
    question_id and answer. An answer that says neither yes nor no is wrong, counted, and never dropped; where POPE's
    own script reads answers otherwise, its numbers stand beside. A run that was cut off goes on where it stopped.
    """
    with errors(debug):
        from eval.pope import ask_pope, score_predictions

        if predictions:
            run, path = score_predictions(data, predictions, output)
        else:
            seeing = {"contrast": contrast, "max_visual_tokens": max_visual_tokens, "load_in_4bit": load_in_4bit}
            load = partial(_llm, profile, generator=generator, base_url=base_url, model=model, **seeing)
            ask = partial(ask_pope, blind=blind, images=images, by=_by(by))
            run, path = _ask(ask, data, output, load, workers, fresh, as_json)
        finish(run, path, as_json)


@app.command()
def hallusionbench(
    data: Annotated[Path, typer.Option(help="HallusionBench.json as it is published, or its rows one a line.")],
    images: Images = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Answers that are there: the data's rows with model_prediction; no model is asked."),
    ] = None,
    by: By = None,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    contrast: Contrast = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    profile: Profile = None,
    workers: Workers = 1,
    fresh: Fresh = False,
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Illusions, charts and altered figures: HallusionBench's aAcc, fAcc and qAcc, easy and hard.

    Without --images, only the questions that need none are asked. Answers are read as yes or no and held against the
    label; where the rows of --predictions have a judge's finding (gpt4v_output_gpt_check or correctness: 0 wrong,
    1 right, 2 unclear), that counts instead. As published, not to know is right where a question has no figure; what
    it would be otherwise is printed too.
    """
    with errors(debug):
        from eval.hallusionbench import ask_hallusionbench, score_predictions

        if predictions:
            run, path = score_predictions(data, predictions, output)
        else:
            seeing = {"contrast": contrast, "max_visual_tokens": max_visual_tokens, "load_in_4bit": load_in_4bit}
            load = partial(_llm, profile, generator=generator, base_url=base_url, model=model, **seeing)
            ask = partial(ask_hallusionbench, images=images, by=_by(by))
            run, path = _ask(ask, data, output, load, workers, fresh, as_json)
        finish(run, path, as_json)


@app.command()
def amber(
    data: Annotated[Path, typer.Option(help="AMBER's queries joined with their labels, one a line.")],
    images: Images = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Answers that are there, rows of id and response: no model is asked.")
    ] = None,
    by: By = None,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    contrast: Contrast = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    profile: Profile = None,
    workers: Workers = 1,
    fresh: Fresh = False,
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Objects in descriptions (CHAIR, cover, hal, cog) and yes-or-no questions by type: AMBER.

    Of the questions, no counts as positive, as published: precision and recall are those of finding out what is not
    there. Objects in descriptions are found by words of ours and not by word vectors as published: compare these
    numbers with each other only.
    """
    with errors(debug):
        from eval.amber import ask_amber, score_predictions

        if predictions:
            run, path = score_predictions(data, predictions, output)
        else:
            seeing = {"contrast": contrast, "max_visual_tokens": max_visual_tokens, "load_in_4bit": load_in_4bit}
            load = partial(_llm, profile, generator=generator, base_url=base_url, model=model, **seeing)
            ask = partial(ask_amber, images=images, by=_by(by))
            run, path = _ask(ask, data, output, load, workers, fresh, as_json)
        finish(run, path, as_json)


@app.command()
def document_pope(
    data: Annotated[
        Path | None, typer.Option(help="Questions that --write has written, instead of drawing them from the store.")
    ] = None,
    pages: Annotated[int, typer.Option("--pages", "-n", min=1, help="Pages to ask about, 18 questions each.")] = 50,
    seed: Annotated[int, typer.Option(help="Which pages and objects are drawn.")] = 0,
    write: Annotated[Path | None, typer.Option(help="Write the questions to this file and ask no model.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Answers that are there, rows of question_id and answer: no model is asked.")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Ask without the pages: what a model says by habit.")] = False,
    by: By = None,
    generator: Generator = None,
    base_url: BaseUrl = None,
    model: Model = None,
    contrast: Contrast = None,
    max_visual_tokens: MaxVisualTokens = None,
    load_in_4bit: LoadIn4bit = None,
    store: Store = None,
    profile: Profile = None,
    workers: Workers = 1,
    fresh: Fresh = False,
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Is this row, column, figure, name or heading on the page? POPE's protocol on your own documents, without labels.

    Half of the questions are about what is not there: drawn at random, from what is most frequent in the store, and
    from what stands nearest (adversarial; of figures, one digit changed). Accuracy, precision, recall, F1 and yes-rate
    by setting and by kind. Needs one of: a model; --write; --predictions.
    """
    with errors(debug):
        from eval.document_pope import ask_questions, draw_questions, load_questions, score_predictions, to_jsonl
        from mmrag.index import Index

        where = settings({"store": store, "profile": profile}).store
        if data:
            questions = load_questions(data)
        else:
            with Index.open(where) as index:
                questions = draw_questions(index, pages=pages, seed=seed)
        if write:
            write.write_text(to_jsonl(questions), encoding="utf-8")
            print_line(f"{len(questions)} questions written to {write}")
            return
        if predictions:
            run, path = score_predictions(questions, predictions, output)
        else:
            seeing = {"contrast": contrast, "max_visual_tokens": max_visual_tokens, "load_in_4bit": load_in_4bit}
            load = partial(_llm, profile, generator=generator, base_url=base_url, model=model, **seeing)
            with nullcontext() if blind else Index.open(where) as pages_of:
                ask = partial(ask_questions, index=pages_of, by=_by(by))
                run, path = _ask(ask, questions, output, load, workers, fresh, as_json)
        finish(run, path, as_json)


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


@app.command()
def groundedness(
    data: Annotated[list[Path], typer.Option(help="Labelled claims, JSON lines; repeatable.")],
    nli: Annotated[str | None, typer.Option(help="An NLI model that decides, by hub name or folder.")] = None,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    fresh: Fresh = False,
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Does the source say what the claim says? The verifier against people's labels, beside two baselines.

    Rows have id, dataset, claim, label (supported or anything else) and source. One threshold for all data sets is
    chosen by cross-validation; balanced accuracy, F1 and AUROC by data set.
    """
    with errors(debug):
        from eval.groundedness import run_groundedness

        with show_count("checking", enabled=not as_json) as on_progress:
            run, path = run_groundedness(data, output, nli=nli, seed=seed, fresh=fresh, on_progress=on_progress)
        finish(run, path, as_json)


@app.command()
def tampering(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="True claims that are drawn.")] = 200,
    seed: Annotated[int, typer.Option(help="Which are drawn, and how they are tampered with.")] = 0,
    nli: Annotated[str | None, typer.Option(help="An NLI model that decides, by hub name or folder.")] = None,
    store: Store = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Does the verifier keep true claims, and catch a changed figure, another name, a moved citation?

    Claims are made from sentences and table rows of the store. Needs no labels: any store will do.
    """
    with errors(debug):
        from eval.tampering import evaluate_tampering, tampered_claims
        from mmrag.index import Index
        from mmrag.models import load_check

        chosen = settings(locals())
        with Index.open(chosen.store, chroma=chosen.chroma) as index:
            items = tampered_claims(index, count=count, seed=seed)
        report = evaluate_tampering(items, load_check(chosen))
        if as_json:
            wrong = [{**item._asdict(), "reason": reason} for item, reason in report.wrong]
            print_json({"seed": seed, "counts": report.counts, "wrong": wrong})
            return
        print_table(
            ("claims", "judged rightly>", "of>"), ((kind, str(n), str(of)) for kind, (n, of) in report.counts.items())
        )
        for item, reason in report.wrong[:10]:
            print_line(f"{item.kind}: {item.claim}  ({reason})")


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


def _ask(
    ask: Callable[..., tuple[Run, Path]],
    data: Any,
    output: Path,
    load: Callable[[], Any],
    workers: int,
    fresh: bool,
    as_json: bool,
) -> tuple[Run, Path]:
    with show_count("asking", enabled=not as_json) as on_progress:
        try:
            return ask(load, data, output, workers=workers, fresh=fresh, on_progress=on_progress)
        except GenerationError as error:
            raise GenerationError(f"{error} Run the command again: it goes on with what is left.") from error


def _by(name: str | None) -> Any:
    if name not in (None, "text", "logits"):
        raise UsageError(f"--by {name} is not known: choose text or logits.")
    return name


def _llm(profile: str | None, **choices: Any) -> Any:
    from mmrag.models import load_llm

    llm = load_llm(settings({"profile": profile, **choices}))
    if llm is None:
        raise UsageError(
            "There is no model to ask: name a vision-language checkpoint with --generator, or a server with "
            "--generator openai --base-url ADDRESS; answers that are there are scored with --predictions."
        )
    return llm
