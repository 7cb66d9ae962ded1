"""The ingests of a collection: how far each is, what became of every file, what can be done about those that failed.

All of it from `ingest.jobs`, so that it is there again after a reload and in another window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import streamlit as st

from apps.ui.library import Collection
from apps.ui.parts import plain
from apps.ui.progress import share, told
from apps.ui.state import problems
from apps.ui.words import t
from ingest.jobs import Job, JobFile, cancel, forget, jobs, resume

_STATES = {
    "waiting": ("orange", "hourglass_empty", "waiting"),
    "running": ("blue", "sync", "running"),
    "done": ("green", "check_circle", "done"),
    "failed": ("red", "error", "failed"),
    "cancelled": ("gray", "cancel", "cancelled"),
    "interrupted": ("orange", "power_off", "interrupted"),
}
_RESUMED = ("cancelled", "interrupted")
_SIGNS = {
    "failed": "✕",
    "reading": "●",
    "": "○",
    "ingested": "✓",
    "replaced": "✓",
    "unchanged": "=",
    "removed": "−",
}
"""By what became of a file; empty before its turn."""
_ORDER = {outcome: place for place, outcome in enumerate(_SIGNS)}
_SPELLED_OUT = 5
"""Failed files that are told in full; more of them make a table."""
_MOST_ROWS = 500
"""Of a table that is sent anew every second."""
_MOST_ENDED = 5


def show_ingests(here: Collection) -> None:
    """Renewed every second while one runs; the page runs anew when the last one ends."""
    held = _newest_first(here)
    if any(job.is_alive for job in held):
        _live(here)
    else:
        _show(here, held)


def _newest_first(here: Collection) -> list[Job]:
    return sorted(jobs(here.store), key=lambda job: (not job.is_alive, -job.started))


@st.fragment(run_every=1.0)
def _live(here: Collection) -> None:
    held = _newest_first(here)
    if not any(job.is_alive for job in held):
        st.rerun()
    _show(here, held)


def _show(here: Collection, held: Sequence[Job]) -> None:
    active = sum(job.is_alive for job in held)
    for job in held[: active + _MOST_ENDED]:
        with st.container(border=True, key=f"job-{job.id}"):
            _job(here, job)
    ended = held[active:]
    if len(ended) > 1 and st.button(t("Dismiss all {count}", count=len(ended)), type="tertiary", key="dismiss-all"):
        _then(lambda: _forget(here, ended))


def _forget(here: Collection, ended: Sequence[Job]) -> None:
    for job in ended:
        forget(here.store, job.id)


def _job(here: Collection, job: Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        colour, icon, state = _STATES.get(job.state, ("gray", "help", job.state))
        st.markdown(f":{colour}-badge[:material/{icon}: {plain(t(state))}] {plain(_summary(job))}")
        _buttons(here, job)
    if job.is_alive:
        st.progress(share(job), text=plain(told(job)))
    if job.error:
        st.error(plain(job.error), icon=":material/error:")
    _failed([file for file in job.files if file.outcome == "failed"], job)
    if job.is_alive:
        _table(job.files, key=f"files-{job.id}")
    elif job.files:
        with st.expander(t("All {count} files", count=len(job.files))):
            _table(job.files, key=f"files-{job.id}")


def _buttons(here: Collection, job: Job) -> None:
    def button(label: str, icon: str, act: Callable[[], object]) -> None:
        if st.button(t(label), icon=f":material/{icon}:", type="tertiary", key=f"{label}-{job.id}"):
            _then(act)

    if job.is_alive:
        button("Cancel", "stop_circle", lambda: cancel(here.store, job.id))
        return
    if job.state in _RESUMED:
        button("Resume", "play_circle", lambda: resume(here.store, job.id))
    button("Dismiss", "close", lambda: forget(here.store, job.id))


def _then(act: Callable[[], object]) -> None:
    with problems():
        act()
        st.rerun()


def _summary(job: Job) -> str:
    """How many files came to what, and when it began."""
    counts = Counter(file.outcome for file in job.files)
    told = [f"{counts[outcome]} {_outcome(outcome)}" for outcome in sorted(counts, key=_place)]
    began = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M")  # on the clock of this machine
    return " · ".join([*told, began])


def _failed(files: Sequence[JobFile], job: Job) -> None:
    if not files:
        return
    if len(files) > _SPELLED_OUT:
        st.error(t("{count} files could not be read:", count=len(files)), icon=":material/error:")
        rows = {t("File"): [file.name for file in files], t("What to do"): [file.reason for file in files]}
        st.dataframe(rows, hide_index=True, height=220, key=f"failed-{job.id}")
        return
    for file in files:
        st.error(f"**{plain(file.name)}** — {plain(file.reason)}", icon=":material/error:")


def _table(files: Sequence[JobFile], *, key: str) -> None:
    if not files:
        return
    rows = file_rows(files)
    st.dataframe(
        rows,
        hide_index=True,
        height=min(len(files), 8) * 35 + 38,
        column_config={
            t("State"): st.column_config.TextColumn(width=90),
            t("Pages"): st.column_config.TextColumn(width=60),
            t("What to know"): st.column_config.TextColumn(width="large"),
        },
        key=key,
    )
    if len(files) > _MOST_ROWS:
        st.caption(t("The first {shown} of {count} files.", shown=_MOST_ROWS, count=len(files)))


def file_rows(files: Sequence[JobFile]) -> dict[str, list[str]]:
    """The columns of the table, failed files first, then those that are being read."""
    shown = sorted(files, key=lambda file: _place(file.outcome))[:_MOST_ROWS]
    return {
        t("State"): [f"{_SIGNS.get(file.outcome, '?')} {_outcome(file.outcome)}" for file in shown],
        t("File"): [file.name for file in shown],
        t("Pages"): [_pages(file) for file in shown],
        t("What to know"): [file.reason for file in shown],
    }


def _outcome(outcome: str) -> str:
    return t(outcome or "waiting")


def _pages(file: JobFile) -> str:
    if not file.pages_total:
        return ""
    done = file.outcome in ("reading", "", "failed") and file.pages_done != file.pages_total
    return f"{file.pages_done} / {file.pages_total}" if done else str(file.pages_total)


def _place(outcome: str) -> int:
    return _ORDER.get(outcome, len(_ORDER))
