"""One run of a measurement: a row for each item, scores, and what made them, in one JSON file.

Rows are written beside that file as they are made, so that a run that was cut off goes on where it stopped. Knows no
protocol, no model and no terminal.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from eval.metrics import Score
from mmrag import __version__
from mmrag.errors import UsageError, brief

T = TypeVar("T")
OnProgress = Callable[[int, int], None]
"""Told how many rows are there, of how many."""

Row = dict[str, Any]
"""`id`; `values`, numbers by metric; what explains them, such as the question, the label and the answer; `cluster`
where items hang together, such as questions about one image."""

Scores = dict[str, dict[str, Score]]
"""By group and metric; the first group is the whole."""


@dataclass(frozen=True, slots=True)
class Run:
    name: str
    made_by: dict[str, Any]
    scores: Scores
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know of it, one sentence each."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def made_by(llm: Any = None, *, data: Iterable[Path] = (), seed: int = 0, **settings: Any) -> dict[str, Any]:
    """What a result depends on. No secrets: of an LLM only the fields that are named here are read."""
    return {
        "mmrag": __version__,
        "commit": _commit(),
        "generator": None if llm is None else _describe(llm),
        "data": [{"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()[:16]} for path in data],
        "seed": seed,
        **settings,
    }


_DECODING = (
    "revision",
    "temperature",
    "top_p",
    "seed",
    "max_new_tokens",
    "max_tokens",
    "max_visual_tokens",
    "contrast",
)


def _describe(llm: Any) -> dict[str, Any]:
    name = str(getattr(llm, "identity", None) or llm.metadata.model_name)
    return {"class": type(llm).__name__, "model": name} | {
        field: value for field in _DECODING if (value := getattr(llm, field, None)) is not None
    }


def _commit() -> str | None:
    """The commit of the checkout that runs, with a mark of what was changed since; None where it is no checkout."""
    home, git = Path(__file__).resolve().parents[1], shutil.which("git")
    if git is None or not (home / ".git").exists():
        return None

    def ask(*words: str) -> bytes:
        return subprocess.run([git, "-C", str(home), *words], capture_output=True, check=True).stdout  # noqa: S603

    try:
        commit, changes = ask("rev-parse", "--short=12", "HEAD").decode().strip(), ask("diff", "HEAD")
    except (OSError, subprocess.CalledProcessError):  # a checkout of somebody else's, or without a commit
        return None
    return f"{commit}+{_digest(changes)}" if changes else commit


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=4).hexdigest()


# -- rows ------------------------------------------------------------------------------------------------------------


def run_path(folder: Path, name: str, made_by: Mapping[str, Any]) -> Path:
    """Other settings give another file: a result is never mixed with rows that something else made."""
    model = (made_by.get("generator") or {}).get("model", "")
    model = model.partition(" at ")[0].rstrip("/").split("/")[-1]  # a server's address, a folder: not in a name
    short = re.sub(r"[^A-Za-z0-9.-]+", "-", model)[:40].strip("-.")
    parts = [name, short, _digest(json.dumps(made_by, sort_keys=True, default=str).encode())]
    return folder / ("-".join(part for part in parts if part) + ".json")


def collect(
    path: Path,
    items: Mapping[str, T],
    ask: Callable[[T], Row],
    *,
    workers: int = 1,
    fresh: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> list[Row]:
    """A row for every item, by its id and in their order. Those that were made before are read, not made again.

    `path` is the run's JSON file (`run_path`); the rows stand in a JSONL file beside it. What `ask` raises ends the run
    and leaves them. With more than one of `workers`, `ask` is called from as many threads.
    """
    beside = path.with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(beside):
        rows = {} if fresh else {row["id"]: row for row in _kept(beside) if row["id"] in items}
        left = {name: item for name, item in items.items() if name not in rows}
        whole = beside.with_suffix(".part")
        whole.write_text("".join(f"{json.dumps(row)}\n" for row in rows.values()), encoding="utf-8")
        whole.replace(beside)  # without a line that was cut off: the next one would be glued to it
        on_progress(len(rows), len(items))
        with beside.open("a", encoding="utf-8") as file:
            for name, made in _made(left, ask, workers):
                rows[name] = {"id": name, **made}
                file.write(f"{json.dumps(rows[name])}\n")
                file.flush()
                on_progress(len(rows), len(items))
    return [rows[name] for name in items]


def _kept(path: Path) -> Iterator[Row]:
    """The rows of a file that may end, or after a crash hold, a line that is none."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("values"), dict) and isinstance(row.get("id"), str):
            yield row


def _made(items: Mapping[str, T], ask: Callable[[T], Row], workers: int) -> Iterator[tuple[str, Row]]:
    if workers == 1:
        yield from ((name, ask(item)) for name, item in items.items())
        return
    with ThreadPoolExecutor(workers) as threads:
        calls = {threads.submit(ask, item): name for name, item in items.items()}
        try:
            for call in as_completed(calls):
                yield calls.pop(call), call.result()
        finally:  # after an error, or Control-C: those that run are waited for, the others not begun
            threads.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise UsageError(f"Another process is making {path.with_suffix('.json')}: wait for it.") from error


# -- files -----------------------------------------------------------------------------------------------------------


def save_run(run: Run, path: Path) -> None:
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    content = {**run.to_json(), "made_by": {**run.made_by, "finished": finished}}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    part.replace(path)


def load_run(path: Path) -> Run:
    """UsageError where the file is no run."""
    try:
        return _to_run(read_json(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no run ({brief(error)}): name a JSON file that mmrag eval has written.") from error


def read_json(path: Path) -> Any:
    """UsageError where the file is not there, or no JSON."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        if "\\ud" in text.lower():  # half of a pair that stands alone can be written nowhere
            found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}: name the JSON file of a run, as mmrag eval writes it.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no run ({brief(error)}): name a JSON file that mmrag eval has written.") from error
    return found


def _to_run(content: Any) -> Run:
    return Run(
        str(content["name"]),
        dict(content["made_by"]),
        to_scores(content["scores"]),
        tuple(_to_row(row) for row in content["rows"]),
        tuple(map(str, content["notes"])),
    )


def to_scores(content: Any) -> Scores:
    """From what a Score is in JSON; ValueError, TypeError and their like where it is something else."""
    return {group: {metric: _to_score(**score) for metric, score in of.items()} for group, of in content.items()}


def _to_score(mean: Any, low: Any, high: Any, count: Any) -> Score:
    return Score(float(mean), float(low), float(high), int(count))


def _to_row(row: Any) -> Row:
    together = {"cluster": str(row["cluster"])} if "cluster" in row else {}
    values = {metric: float(value) for metric, value in row["values"].items()}
    return {**row, "id": str(row["id"]), "values": values, **together}
