"""How the `mmrag` command prints: plain text to people, JSON to machines, progress to standard error.

What comes from outside (file names, quotes) is printed as text: no markup, no control characters that a terminal obeys.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from apps.fit import Finding
    from eval.compare import Comparison
    from eval.ingest import Scale, Speed
    from eval.metrics import Score
    from eval.retrieval import RetrievalReport
    from eval.runs import Run
    from ingest.pipeline import Progress, Report
    from ingest.repair import Repaired
    from mmrag.types import Answer, Evidence, Region

out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
if not out.is_terminal:
    out.width = 10_000  # a pipe has no margin: ids and names must not be folded


def print_line(text: str) -> None:
    out.print(Text(clean(text)))


def print_note(text: str) -> None:
    """To standard error, where it is not in the way of output."""
    err.print(Text(clean(text)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Without borders; a column whose name ends in > is aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(clean(cell) if isinstance(cell, str) else cell for cell in row))
    out.print(table)


def print_json(value: Any) -> None:
    """One line; valid JSON also where the terminal or pipe cannot hold every character."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=ascii_only), flush=True)


def print_answer(answer: Answer) -> None:
    out.print(Text(clean(answer.question), style="bold"))
    if answer.abstained:
        out.print(Text(f"  {answer.text}", style="italic"))
        _print_notes(answer)
        for evidence in answer.evidence[:1]:
            out.print(Text(f"  Nearest: {clean(evidence.document.name)}, page {evidence.page}", style="dim"))
        out.print()
        return
    numbered = iter(range(1, len(answer.citations) + 1))
    sources = []
    for claim in answer.claims:
        marks = ""
        for citation in claim.citations:
            number = next(numbered)
            marks += f" [{number}]"
            sources.append(f"  [{number}] {clean(citation.document)}, page {citation.page}  ({citation.region})")
        line = Text(f"  {clean(claim.text)}").append(marks or " [no source]", style="cyan" if marks else "yellow")
        if claim.verdict and claim.verdict.support != "supported":
            line.append(f"  {claim.verdict.support}: {clean(claim.verdict.reason)}", style="yellow")
        out.print(line)
    for source in sources:
        out.print(Text(source, style="dim"))
    _print_notes(answer)
    out.print(Text(f"  confidence {answer.confidence:.0%}", style="dim"))
    out.print()


def _print_notes(answer: Answer) -> None:
    for note in answer.notes:
        out.print(Text(f"  {clean(note)}", style="yellow"))


def print_evidence(found: Sequence[Evidence]) -> None:
    if not found:
        print_line("Nothing in the store matches.")
        return
    print_table(
        ("#>", "score>", "document", "page>", "kind", "region", "text"),
        (
            (str(rank), f"{e.score:.2f}", e.document.name, str(e.page), _kind(e.region), e.region.id, _snippet(e))
            for rank, e in enumerate(found, start=1)
        ),
    )


def _kind(region: Region) -> str:
    return f"{region.kind} ({', '.join(region.tags)})" if region.tags else str(region.kind)


def _snippet(evidence: Evidence) -> str:
    region = evidence.region
    text = " ".join((region.text or _described(region)).split())
    return text[:120] + ("…" if len(text) > 120 else "")


def _described(region: Region) -> str:
    """A model's words about a picture, marked as such."""
    return f"[described by a model] {region.description}" if region.description else ""


def print_pictures(regions: Iterable[Region]) -> None:
    """What models say of the pictures among them."""
    for region in regions:
        if region.tags or region.description:
            print_line(f"  {region.id}  {_kind(region)}  {_described(region)}".rstrip())


def print_report(report: Report, store: Path) -> None:
    styles = {"ingested": "green", "replaced": "green", "unchanged": "dim", "failed": "red"}
    print_table(
        ("file", "", "pages>", "chunks>", "why"),
        (
            (r.path.name, Text(r.outcome, styles[r.outcome]), str(r.pages or ""), str(r.chunks or ""), r.reason)
            for r in report.results
        ),
    )
    counts = ", ".join(f"{report.count(o)} {o}" for o in dict.fromkeys(r.outcome for r in report.results))
    speed = f" ({report.pages_read / report.seconds:.1f} pages/s)" if report.pages_read else ""
    print_line(f"{counts or 'nothing found'} in {report.seconds:.1f} s{speed}; store: {store}")


def print_timings(report: Report) -> None:
    """Where the time of all processes went, and the most memory that any of them had."""
    timings, pages = report.timings, report.pages_read
    total = sum(timings.seconds.values())
    print_table(
        ("stage", "seconds>", "share>", "ms a page>"),
        (
            (name, f"{seconds:.1f}", f"{seconds / total:.0%}", f"{1000 * seconds / pages:.0f}" if pages else "")
            for name, seconds in sorted(timings.seconds.items(), key=lambda item: -item[1])
        ),
    )
    if report.seconds:
        print_line(f"{total:.1f} s of work in {report.seconds:.1f} s: {total / report.seconds:.1f} at a time")
    peaks = {"this process": timings.peak_here, "the largest worker": timings.peak_of_workers}
    print_line("peak memory: " + ", ".join(f"{name} {file_size(size)}" for name, size in peaks.items() if size))


def print_speeds(speeds: Mapping[str, Speed]) -> None:
    """The last one is what the others are compared with, where it is the reference."""
    from eval.ingest import REFERENCE

    base = speeds.get(REFERENCE)
    print_table(
        ("", "pages>", "seconds>", "pages/s>", "of LlamaIndex's>", "peak memory>", "index a page>"),
        (
            (
                *(name, str(s.pages), f"{s.seconds:.1f}", f"{s.pages_per_second:.1f}"),
                f"{s.pages_per_second / base.pages_per_second:.2f}" if base else "",
                *(file_size(s.peak_bytes), file_size(s.index_bytes // s.pages)),
            )
            for name, s in speeds.items()
        ),
    )


def print_scale(found: Scale) -> None:
    print_table(
        ("pages>", "pages/s>", "memory>"),
        (
            (str(pages), f"{(pages - before) / seconds:.0f}", file_size(memory))
            for before, pages, seconds, memory in zip(
                [0, *found.pages], found.pages, found.seconds, found.memory, strict=False
            )
        ),
    )
    print_line(f"rate at the end over that at the start: {found.end_to_start:.2f}")
    print_line(f"a search takes {1000 * found.query_p50:.0f} ms, 95 % of them {1000 * found.query_p95:.0f} ms or less")
    print_line(f"{found.vectors} vectors, {file_size(found.index_bytes // found.pages[-1])} a page on the disk")


def print_figures(what: str, figures: Mapping[str, Any]) -> None:
    """One a line; figures in bytes are called so."""
    print_table(
        (what, ""), ((name.removesuffix("_bytes").replace("_", " "), _figure(name, figures)) for name in figures)
    )


def _figure(name: str, figures: Mapping[str, Any]) -> str:
    value = figures[name]
    if name.endswith("_bytes"):
        return file_size(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def print_retrieval(report: RetrievalReport) -> None:
    rows = {
        **report.scopes,
        **{f"evidence or language: {name}": scores for name, scores in report.groups.items()},
        **report.ablation,
    }
    print_scores(rows)
    if report.region_hit:
        print_line(f"Best region of the right page overlaps the published box: {report.region_hit}")
    print_line(", ".join(f"{name} {1000 * value:.0f} ms" for name, value in report.latency.items()) + " a query")


def print_scores(rows: Mapping[str, Mapping[str, Score]], *, of: str = "questions") -> None:
    """A line for each group of items; the first metric with its interval."""
    metrics = list(dict.fromkeys(metric for scores in rows.values() for metric in scores))
    if not metrics:
        print_line("Nothing to measure: no question fits.")
        return
    print_table(
        ("", f"{of}>", f"{metrics[0]} [95 %]>", *(f"{name}>" for name in metrics[1:])),
        (
            (
                name,
                str(max((score.count for score in s.values()), default=0)),
                str(s.get(metrics[0], "")),
                *(f"{s[metric].mean:.3f}" if metric in s else "" for metric in metrics[1:]),
            )
            for name, s in rows.items()
        ),
    )


def print_run(run: Run) -> None:
    print_scores(run.scores, of="items")
    for note in run.notes:
        print_line(note)


def print_comparison(found: Comparison) -> None:
    print_table(
        ("", "items>", "first>", "second>", "difference [95 %]>", "second higher>", "p>"),
        (
            (name, str(d.count), f"{d.first:.3f}", f"{d.second:.3f}", str(d), f"{d.above:.1%}", f"{d.p:.3f}")
            for name, d in found.metrics.items()
        ),
    )
    print_line(f"{found.common} items in both, {found.only_first} only in the first, {found.only_second} in the second")
    for name, d in found.metrics.items():
        if d.most:
            print_line(f"{name} differs most: " + ", ".join(f"{item} ({value:+.2f})" for item, value in d.most))
    for note in found.notes:
        print_line(note)


def print_findings(findings: Sequence[Finding]) -> None:
    marks = {True: Text("ok", "green"), False: Text("!", "yellow")}
    print_table(("", "what", "found", "what to do"), ((marks[f.ok], f.what, f.found, f.advice) for f in findings))


def print_repaired(result: Repaired) -> None:
    for state, style, found in (("mended", "green", result.mended), ("found", "red", result.left)):
        for finding in found:
            of = f"{clean(finding.document.name)}: " if finding.document else ""
            detail = f" ({clean(finding.detail)})" if finding.detail else ""
            out.print(Text(state, style).append(f"  {of}{finding.what}: {finding.count}{detail}", style="default"))
            if state == "found":
                out.print(Text(f"       {clean(finding.remedy)}", style="dim"))
    for note in result.notes:
        print_line(note)
    if not result.left:
        print_line("The store is whole.")


def clean(text: str) -> str:
    """Text from outside, without control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def file_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def file_stem(name: str) -> str:
    """A document's name as part of a file name of ours: no separators, nothing hidden."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(name).stem).lstrip(".") or "page"


def somebody_watches() -> bool:
    return bool(err.is_terminal and out.is_terminal)


def show_reply(pieces: Iterator[str | Answer]) -> Answer:
    """Shows what a model writes while it writes, on standard error, and gives the answer that comes last."""
    from rich.live import Live

    said = ""
    with Live(console=err, transient=True) as live:
        while isinstance(piece := next(pieces), str):
            said += piece
            live.update(Text(clean(" ".join(said.split())), style="dim", overflow="fold", no_wrap=False))
    return piece


@contextmanager
def show_progress(*, enabled: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error with pages per second and the file being read."""
    with _bar("pages", enabled=enabled) as update:
        yield lambda step: update(
            step.pages_done,
            step.pages_total,
            clean(step.file) + (f", picture {step.pictures}" if step.pictures else ""),
        )


@contextmanager
def show_steps(*, enabled: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error for work of several kinds, each with its name."""
    with _bar("items", enabled=enabled) as update:
        yield lambda done, total, name: update(done, total, clean(name))


@contextmanager
def show_count(name: str, *, enabled: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for items of one kind, such as questions: how many are done, of how many."""
    with _bar("items", enabled=enabled) as update:
        yield lambda done, total: update(done, total, name)


@contextmanager
def _bar(unit: str, *, enabled: bool) -> Iterator[Callable[[int, int, str], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.1f} {unit}/s")

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=err, disable=not (enabled and err.is_terminal), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)
