"""How far an ingest is, on every page that has to do with its collection."""

from __future__ import annotations

import streamlit as st

from apps.ui.library import Collection
from apps.ui.parts import plain
from apps.ui.state import index
from apps.ui.words import t
from ingest.jobs import Job, jobs


def active_jobs(here: Collection) -> list[Job]:
    return [job for job in jobs(here.store) if job.is_alive]


def progress_line(here: Collection, *, is_empty: bool) -> None:
    """A bar for each running job, renewed every second.

    The page runs anew when the last one ends, and when an empty collection gets its first document.
    """
    if active_jobs(here):
        _bars(here, is_empty)


@st.fragment(run_every=1.0)
def _bars(here: Collection, is_empty: bool) -> None:
    running = active_jobs(here)
    if not running or (is_empty and index(here).documents()):
        st.rerun()
    for job in running:
        st.progress(share(job), text=plain(told(job)))


def share(job: Job) -> float:
    return min(1.0, job.pages_done / job.pages_total) if job.pages_total else 0.0


def told(job: Job) -> str:
    """Where a running job is, in words."""
    if job.state == "waiting":
        return t("Waiting for another program that writes to this collection …")
    reading = next((file for file in job.files if file.outcome == "reading"), None)
    if reading is None:
        return t("Starting …")
    parts = [
        t(
            "Reading {file}: page {done} of {total}",
            file=reading.name,
            done=reading.pages_done,
            total=reading.pages_total,
        )
    ]
    if job.pages_per_second:
        parts.append(t("{speed} pages a second", speed=f"{job.pages_per_second:.1f}"))
    if job.seconds_left is not None:
        parts.append(t("about {time} left", time=duration(job.seconds_left)))
    return " · ".join(parts)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
