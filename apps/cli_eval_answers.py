"""The `mmrag eval` commands that measure answers: answers, citations, graded."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli_eval import RUNS, Fresh, Output, Workers, app, finish
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
    Risk,
    Samples,
    Store,
    errors,
    settings,
)
from apps.terminal import print_json, print_line, print_run, show_count, show_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmrag.engine import Rag
    from mmrag.settings import Settings

Data = Annotated[Path, typer.Option(help="Folder with pdf/ and questions.jsonl.")]
Within = Annotated[bool, typer.Option("--within-document", help="Ask each question of its own document only.")]


@app.command()
def answers(
    data: Data,
    output: Output = RUNS,
    within_document: Within = False,
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
    workers: Workers = 1,
    fresh: Fresh = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask published questions: are answers, pages and regions right, and does the confidence tell?

    Ingests into the store what it lacks of pdf/. Every question is answered, however unsure, and scored against its
    gold answer, page and region; risk against coverage, AUROC and calibration error say what the confidence is worth,
    refusal precision and recall what --risk makes of it. A run that was cut off goes on where it stopped.
    """
    with errors(debug):
        from eval.answers import ask_answers, trust_curves
        from eval.plots import plot_run, plot_trust
        from eval.runs import save_run

        chosen = settings(locals())
        with _filled(chosen, data, as_json) as rag, show_count("asking", enabled=not as_json) as on_progress:
            run, path = ask_answers(
                rag,
                data,
                output,
                within_document=within_document,
                risk=chosen.risk,
                workers=workers,
                fresh=fresh,
                on_progress=on_progress,
            )
        save_run(run, path)
        # Panels of what has a group for each kind of question; the rest is in the other picture.
        plot_run(
            replace(run, scores={g: of for g, of in run.scores.items() if "region" in of}), path.with_suffix(".png")
        )
        trust = path.with_name(f"{path.stem}-confidence.png")
        plot_trust(trust_curves(run.rows), trust)
        if as_json:
            print_json({"run": str(path), **run.to_json()})
        else:
            print_run(run)
            print_line(f"Written to {path}, {path.stem}.png and {trust.name}")


@app.command()
def citations(
    data: Data,
    output: Output = RUNS,
    within_document: Within = False,
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
    workers: Workers = 1,
    fresh: Fresh = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Do the cited regions bear out what is said? Citation recall and precision by ALCE, overlap with published boxes.

    A claim counts as recalled when mmrag's own verifier finds it supported by all its regions together; a citation as
    precise when it alone supports the claim or the others do not without it. Of the answers that are given at --risk.
    """
    with errors(debug):
        from eval.citations import ask_citations
        from mmrag.models import load_check
        from mmrag.settings import Settings
        from mmrag.types import Support

        chosen = settings(locals())
        check = load_check(Settings())  # the same for all generators, so that they can be compared
        with _filled(chosen, data, as_json) as rag, show_count("asking", enabled=not as_json) as on_progress:
            run, path = ask_citations(
                rag,
                data,
                output,
                lambda claim, passages: check(claim, passages).support is Support.SUPPORTED,
                judge="words",
                within_document=within_document,
                risk=chosen.risk,
                workers=workers,
                fresh=fresh,
                on_progress=on_progress,
            )
        finish(run, path, as_json)


@app.command()
def graded(
    data: Annotated[Path, typer.Option(help="Answers with human verdicts, one a line.")],
    output: Output = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """How well do our metrics of answers agree with people? Asks no model.

    Rows of id, question, gold_answer, model_answer and human_label (Correct Answer, Incorrect Answer, Refusal). For
    each metric: AUROC, and balanced accuracy and Cohen's kappa, by a threshold from other questions' answers.
    """
    with errors(debug):
        from eval.graded import score_graded

        finish(*score_graded(data, output), as_json)


@contextmanager
def _filled(chosen: Settings, data: Path, as_json: bool) -> Iterator[Rag]:
    """The store, with all of the data's documents in it."""
    from ingest.pipeline import ingest_files
    from mmrag.engine import open_rag

    with open_rag(chosen, create=True) as rag:
        if (data / "pdf").is_dir():
            with show_progress(enabled=not as_json) as on_progress:
                ingest_files(rag.index, [data / "pdf"], rag.encoders, on_progress=on_progress)
        yield rag
