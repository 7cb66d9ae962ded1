"""The page where runs of `mmrag eval` are read: their scores, two beside each other, and the items that fail."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair
import streamlit as st

from apps.ui import runs
from apps.ui.library import Collection
from apps.ui.parts import plain, show_page
from apps.ui.runs import Change, File, Listed, Refused, Spot
from apps.ui.state import collection, index, problems
from apps.ui.words import t
from eval.compare import Comparison, compare
from eval.plots import plot_run
from eval.runs import Row, Run
from mmrag.errors import MissingExtra, MmragError, UsageError
from mmrag.render import open_image

_BLUE = "#0072B2"


def evals_page() -> None:
    folder = runs.runs_folder()
    found = [_listed(file) for file in runs.run_files(folder)]
    good = [each for each in found if isinstance(each, Listed)]
    good.sort(key=lambda each: each.finished, reverse=True)
    st.header(t("Measurements"), anchor=False)
    if not good:
        st.info(t("There are no runs in {folder} yet. One is made by, for example:", folder=plain(str(folder))))
        st.code("mmrag eval answers --data FOLDER", language=None)
    chosen = _chosen(good) if good else []
    _refused([each for each in found if isinstance(each, Refused)])
    if not good:
        return
    if len(chosen) == 2:
        _two(*sorted(chosen, key=lambda each: each.finished))
    elif chosen:
        _one(chosen[0])
    else:
        st.info(t("Select at most two runs."))


# -- files that are read once ----------------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False, max_entries=8)
def _run(file: File) -> Run:
    return runs.read_run(file)


@st.cache_resource(show_spinner=False, max_entries=2000)
def _listed(file: File) -> Listed | Refused:
    try:
        return runs.listed(file, runs.read_run(file))
    except UsageError as error:
        return Refused(file, str(error))


@st.cache_resource(show_spinner=False, max_entries=16)
def _comparison(first: File, second: File) -> Comparison:
    return compare(_run(first), _run(second))


@st.cache_resource(show_spinner=False, max_entries=32)
def _cases(file: File, metric: str, group: str | None) -> tuple[list[Row], list[dict[str, Any]]]:
    """The rows, and what the table shows of them."""
    found = runs.cases(_run(file), metric, group)
    return found, [runs.case_row(row, metric) for row in found]


# -- the list --------------------------------------------------------------------------------------------------------


def _refused(found: Sequence[Refused]) -> None:
    if not found:
        return
    with st.expander(t("Files that are no runs: {count}", count=len(found)), icon=":material/warning:"):
        rows = [{t("File"): each.file.path.name, t("Reason"): runs.short(each.reason)} for each in found]
        st.dataframe(rows, hide_index=True, row_height=40)


def _chosen(good: Sequence[Listed]) -> list[Listed]:
    """The selected runs, at first the newest; none where more than two are selected."""
    names = [each.file.name for each in good]
    wanted = [name for name in st.session_state.get("evals-runs", ()) if name in names]
    rows = [
        {
            t("Measurement"): each.name,
            t("Made with"): each.made_with,
            t("Finished"): each.finished.astimezone().strftime("%Y-%m-%d %H:%M"),
            t("Items"): each.items,
            t("Metric"): each.metric,
            t("Score [95 %]"): str(each.score or ""),
            t("File"): each.file.name,
        }
        for each in good
    ]
    key = f"evals-list-{hash(tuple(names))}"  # of other runs the selected lines would be others
    st.caption(t("Select one run to read it, two to compare them."))
    st.dataframe(
        rows,
        hide_index=True,
        height=min(len(rows), 6) * 35 + 38,
        on_select=_selects(names, key),
        selection_mode="multi-row",
        selection_default={"selection": {"rows": [names.index(name) for name in wanted]}},
        key=key,
    )
    if len(wanted) > 2:
        return []
    return [each for each in good if each.file.name in (wanted or names[:1])]


def _selects(names: Sequence[str], key: str) -> Callable[[], None]:
    def select() -> None:
        st.session_state["evals-runs"] = [names[row] for row in st.session_state[key].selection.rows]

    return select


# -- one run ---------------------------------------------------------------------------------------------------------


def _one(chosen: Listed) -> None:
    with problems():
        run = _run(chosen.file)
        st.subheader(plain(f"{chosen.name} {chosen.made_with}"), anchor=False)
        scores, items, made = st.tabs([t("Scores"), t("Items, worst first"), t("What made it")])
        with scores:
            _scores(chosen.file, run)
        with items:
            _items(chosen.file, collection())
        with made:
            _made(run)


def _scores(file: File, run: Run) -> None:
    st.caption(t("Means, with 95 % intervals by bootstrap in brackets."))
    for number, rows in enumerate(runs.score_tables(run)):
        named = [{t("Group"): row[""], t("Items"): row["n"], **_metrics(row)} for row in rows]
        st.dataframe(
            named,
            hide_index=True,
            column_config={t("Group"): st.column_config.TextColumn(width=170, pinned=True)},
            key=f"evals-scores-{number}",
        )
    for note in run.notes:
        st.text(note)
    for image in _pictures(file):
        st.image(image)


def _metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    return {metric: value for metric, value in row.items() if metric not in ("", "n")}


def _pictures(file: File) -> list[bytes]:
    """The plots that stand beside a run, else one that is drawn now; what cannot be shown is said."""
    beside = [file.path.with_name(f"{file.name}{more}.png") for more in ("", "-confidence")]
    there = [path for path in beside if runs.is_inside(path, file.path.parent)]
    try:
        return [_plot(path, path.stat().st_mtime_ns) for path in there] or [_drawn(file)]
    except MissingExtra as error:
        st.caption(t("No plot was written beside this run, and none can be drawn: {reason}", reason=plain(str(error))))
    except (MmragError, OSError, ValueError) as error:
        st.caption(plain(str(error)))
    return []


@st.cache_data(show_spinner=False, max_entries=16)
def _plot(path: Path, modified: int) -> bytes:
    """Opened and written anew: what lies there may be anything."""
    made = io.BytesIO()
    open_image(path).save(made, "PNG")
    return made.getvalue()


@st.cache_data(show_spinner=False, max_entries=16)
def _drawn(file: File) -> bytes:
    made = io.BytesIO()
    run = _run(file)
    main = runs.main_score(run)
    # Panels of one kind only: one for each metric of all groups would be too small to read.
    plot_run(replace(run, scores={g: of for g, of in run.scores.items() if main and main[0] in of}), made)
    return made.getvalue()


def _made(run: Run) -> None:
    rows = [{t("Setting"): name, t("Value"): value} for name, value in runs.made_by_rows(run)]
    st.dataframe(rows, hide_index=True, column_config={t("Value"): st.column_config.TextColumn(width="large")})


# -- its items -------------------------------------------------------------------------------------------------------


@st.fragment
def _items(file: File, here: Collection | None) -> None:
    """A fragment: to select an item runs nothing else again."""
    run = _run(file)
    known = runs.metrics(run)
    if not known:
        st.info(t("This measurement keeps no items."))
        return
    by, of = st.columns(2)
    metric = by.selectbox(t("Metric"), known, key=f"evals-metric-{file.name}") or known[0]
    group = of.selectbox(
        t("Group"), runs.all_groups(run), None, placeholder=t("All groups"), key=f"evals-group-{file.name}"
    )
    found, table = _cases(file, metric, group)
    if not found:
        st.info(t("No item of this group has this metric."))
        return
    row = found[_selected_row(table, _CASE, f"evals-cases-{file.name}-{metric}-{group}")]
    with problems():
        _case(row, here)


_CASE = {"id": "Item", "value": "Value", "question": "Question", "expected": "Expected", "said": "Said"}


def _selected_row(table: Sequence[Mapping[str, Any]], titles: Mapping[str, str], key: str) -> int:
    picked = st.dataframe(
        table,
        hide_index=True,
        height=min(len(table), 8) * 35 + 38,
        column_order=list(titles),
        column_config={name: st.column_config.Column(t(title)) for name, title in titles.items()},
        on_select="rerun",
        selection_mode="single-row-required",
        key=key,
    )
    return next(iter(picked.selection.rows), 0)


def _case(row: Row, here: Collection | None) -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        _told(row)
    with right:
        _places(row, here)


def _told(row: Row) -> None:
    for title, text in ((t("Question"), runs.question(row)), (t("Expected"), runs.expected(row))):
        _labelled(title, text)
    _labelled(t("Said"), runs.said(row))
    values = [{t("Metric"): name, t("Value"): value} for name, value in row["values"].items()]
    st.dataframe(values, hide_index=True, key=f"evals-values-{row['id']}")
    if groups := runs.groups(row):
        st.caption(plain(" · ".join(groups)))
    with st.expander(t("All that the run says of it")):
        st.code(json.dumps(runs.rest(row), ensure_ascii=False, indent=1, default=str), language=None, wrap_lines=True)


def _labelled(title: str, text: str) -> None:
    st.caption(title)
    st.text(text or "–")


def _places(row: Row, here: Collection | None) -> None:
    spots = runs.spots(row)
    if not spots:
        st.info(t("The run names no page for this item."))
        return
    number = st.selectbox(
        t("Page"), range(len(spots)), format_func=lambda i: _spot_name(spots[i]), key=f"evals-spot-{row['id']}"
    )
    _place(spots[number or 0], here)


def _spot_name(spot: Spot) -> str:
    name = t("{document}, page {page}", document=spot.document, page=spot.page)
    return t("Right page: {page}", page=name) if spot.is_gold else t("Cited: {page}", page=name)


def _place(spot: Spot, here: Collection | None, key: str = "evals-page") -> None:
    known = index(here) if here else None
    found = runs.held(known, known.documents(), spot) if known else None
    if known is None or found is None:
        st.info(t("The collection that is open does not hold {document}.", document=plain(spot.document)))
        return
    document, page = found
    is_there = any(region.id == spot.region for region in page.regions)
    show_page(
        known.source(document),
        page,
        name=document.name,
        active=spot.region if is_there else None,
        key=key,
    )
    if spot.region and not is_there:
        st.caption(t("The page has no such region here: the document was read in another way."))


# -- two runs --------------------------------------------------------------------------------------------------------


def _two(first: Listed, second: Listed) -> None:
    with problems():
        with st.spinner(t("Comparing …")):
            found = _comparison(first.file, second.file)
        st.subheader(plain(first.name), anchor=False)
        one, other = st.columns(2)
        for place, title, each in ((one, t("First"), first), (other, t("Second"), second)):
            place.caption(title)
            place.text(f"{each.made_with}\n{each.file.name}")
        st.caption(
            t(
                "{common} items in both, {first} only in the first, {second} only in the second. Differences are the "
                "second less the first, with 95 % intervals by paired bootstrap.",
                common=found.common,
                first=found.only_first,
                second=found.only_second,
            )
        )
        _differences(found)
        for note in found.notes:
            st.text(note)
        metrics = [metric for metric in runs.metrics(_run(first.file)) if metric in found.metrics]
        _changed(first.file, second.file, metrics, collection())


def _differences(found: Comparison) -> None:
    rows = [
        {
            t("Metric"): name,
            t("Items"): d.count,
            t("First"): f"{d.first:.3f}",
            t("Second"): f"{d.second:.3f}",
            t("Difference [95 %]"): str(d),
            t("Second higher"): f"{d.above:.1%}",
            "p": f"{d.p:.3f}",
        }
        for name, d in found.metrics.items()
    ]
    table, picture = st.columns([3, 2], gap="large")
    table.dataframe(rows, hide_index=True)
    bounds = [{"metric": name, "mean": d.mean, "low": d.low, "high": d.high} for name, d in found.metrics.items()]
    picture.altair_chart(_interval_chart(bounds), height=36 * len(bounds) + 60)


def _interval_chart(rows: Sequence[Mapping[str, Any]]) -> altair.LayerChart:
    base = altair.Chart(altair.InlineData(values=list(rows))).encode(y=altair.Y("metric:N", sort=None, title=None))
    tooltip = [altair.Tooltip(f"{name}:Q", format="+.3f") for name in ("mean", "low", "high")]
    lines = base.mark_rule(strokeWidth=2, color=_BLUE).encode(
        x=altair.X("low:Q", title=t("Difference")), x2="high:Q", tooltip=tooltip
    )
    means = base.mark_circle(size=70, color=_BLUE, opacity=1).encode(x="mean:Q", tooltip=tooltip)
    zero = altair.Chart(altair.InlineData(values=[{"at": 0}])).mark_rule(strokeDash=[4, 4], color="#808080")
    chart: altair.LayerChart = zero.encode(x="at:Q") + lines + means
    return chart


@st.fragment
def _changed(first: File, second: File, metrics: Sequence[str], here: Collection | None) -> None:
    """The items that differ, those that differ most first."""
    st.markdown(f"**{t('Items that differ most')}**")
    metric = st.selectbox(t("Metric"), metrics, key="evals-differ-in")
    found = runs.changes(_run(first), _run(second), metric) if metric else []
    if not found:
        st.info(t("No item differs in this metric."))
        return
    picked = found[
        _selected_row(_change_rows(found, metric), _CHANGE, f"evals-changes-{first.name}-{second.name}-{metric}")
    ]
    _labelled(t("Question"), runs.question(picked.first))
    _labelled(t("Expected"), runs.expected(picked.first))
    with problems():
        for column, title, row in zip(st.columns(2), (t("First"), t("Second")), picked[:2], strict=True):
            with column:
                _labelled(title, runs.said(row))
                _first_place(row, f"evals-page-{title}", here)


_CHANGE = {
    "id": "Item",
    "difference": "Difference",
    "question": "Question",
    "expected": "Expected",
    "first": "First",
    "second": "Second",
}


def _change_rows(found: Iterable[Change], metric: str) -> list[dict[str, Any]]:
    return [
        {
            **runs.case_row(change.first, metric),
            "difference": change.difference,
            "first": runs.short(runs.said(change.first)),
            "second": runs.short(runs.said(change.second)),
        }
        for change in found
    ]


def _first_place(row: Row, key: str, here: Collection | None) -> None:
    if spots := runs.spots(row):
        st.caption(plain(_spot_name(spots[0])))
        _place(spots[0], here, key)
