"""`mmrag demo`: builds the collection, ingests it, asks its questions, writes the page that shows the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from mmrag.errors import MmragError
from mmrag.index import FORMAT
from mmrag.settings import load_settings
from mmrag.types import Answer

if TYPE_CHECKING:
    from ingest.pipeline import Progress


@dataclass(frozen=True, slots=True)
class DemoResult:
    store: Path
    html: Path
    answers: tuple[Answer, ...]


def demo_folder() -> Path:
    return user_data_path("mmrag") / "demo"


def demo_store(folder: Path | None = None) -> Path:
    """A demo of an older version may have left its store in the folder: each format has one of its own."""
    return (folder or demo_folder()) / f"store-{FORMAT}"


def run_demo(folder: Path | None, on_progress: Callable[[Progress], None]) -> DemoResult:
    """Everything lands in `folder` (documents, store, answers.html); a second run finds its documents unchanged."""
    # Here, so that whoever only asks where the demo is need not wait for them.
    from apps.demo_documents import QUESTIONS, build_demo_documents
    from apps.overlay import answers_html
    from ingest.pipeline import Outcome, ingest_files
    from mmrag.engine import open_rag

    folder = (folder or demo_folder()).expanduser().resolve()
    settings = load_settings("offline", store=demo_store(folder))
    files = build_demo_documents(folder / "documents")
    with open_rag(settings, create=True) as rag:
        report = ingest_files(rag.index, files, rag.encoders, on_progress=on_progress)
        for result in report.results:
            if result.outcome is Outcome.FAILED:
                raise MmragError(f"The demo's {result.path.name} could not be ingested: {result.reason}")
        answers = tuple(rag.ask(question.text) for question in QUESTIONS)
    html = folder / "answers.html"
    html.write_text(answers_html(answers, title="mmrag demo: five questions, four cited answers"), encoding="utf-8")
    return DemoResult(settings.store, html, answers)
