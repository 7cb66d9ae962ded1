"""The page where a person chooses how pages are found, answers written and claims checked, for this browser tab.

Nothing counts before it is applied and fits together. A key is taken out of its field as soon as it arrives: the page
never says more of it than that there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from apps.ui.choosing import fields_of, made, refuse_strange_folders, told_elsewhere
from apps.ui.library import home
from apps.ui.parts import plain
from apps.ui.state import (
    checked,
    choices,
    collection,
    defaults,
    evidence_pages,
    forget_kept,
    has_kept,
    keep_choices,
    listens_locally,
    problems,
    servers,
)
from apps.ui.words import t
from mmrag.errors import MmragError, UsageError
from mmrag.settings import CHECKS, PROFILES, Settings

if TYPE_CHECKING:
    from apps.fit import Finding

_WIDTH = 760
"""Pixels: longer lines are hard to read."""
_MOST_MODELS = 500
_GIVEN = ("profile", "top_k", "api_key")
"""Choices that are no field of Settings with a default to show."""


def settings_page() -> None:
    st.title(t("Settings"), anchor=False)
    with st.container(width=_WIDTH):
        st.caption(t("These choices are for this browser tab; they count once they are applied."))
        _fill_in()
        _finding()
        _answering()
        _decide()
        st.divider()
        _examination()


# -- what the fields hold --------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    return f"choice-{name}"


def _fill_in() -> None:
    """What is in force, wherever a field has nothing yet."""
    shown = _in_force()
    for name, value in shown.items():
        st.session_state.setdefault(_key(name), value)


def _in_force() -> dict[str, Any]:
    chosen = choices()
    try:
        found = checked({"profile": chosen.get("profile"), "generator": chosen.get("generator")}, Path())
    except UsageError:
        found = PROFILES.get(str(chosen.get("profile")), Settings())
    names = [*fields_of("extractive"), *fields_of("openai"), *fields_of("a checkpoint")]
    usual = {name: getattr(found, name) for name in names if name not in _GIVEN}
    usual |= {"profile": found.profile, "top_k": evidence_pages()}
    return usual | {name: value for name, value in chosen.items() if name in usual}


def _field(name: str) -> Any:
    return st.session_state.get(_key(name))


def _fields() -> dict[str, Any]:
    """As they stand on the page; the key is the one that was just given, or that in force for the same server."""
    found = {name: _field(name) for name in _in_force()}
    typed = st.session_state.get("typed-key")
    same = str(found.get("base_url") or "").strip() == choices().get("base_url")
    return found | {"api_key": typed or (choices().get("api_key") if same else None)}


def _profile_changed() -> None:
    profile = PROFILES[_field("profile")]
    st.session_state[_key("image_encoder")] = profile.image_encoder
    st.session_state[_key("generator")] = profile.generator


def _take_key() -> None:
    st.session_state["typed-key"] = st.session_state[_key("api_key")]
    st.session_state[_key("api_key")] = ""


def _address_changed() -> None:
    """A key was given for one server and goes to no other."""
    st.session_state.pop("typed-key", None)


# -- the fields ------------------------------------------------------------------------------------------------------


def _pick(name: str, label: str, options: Sequence[str], about: str, words: dict[str, str] | None = None) -> None:
    """One of these, or whatever is typed."""
    now, words = _field(name), words or {}
    st.selectbox(
        label,
        list(dict.fromkeys([*options, *([now] if now else [])])),
        format_func=lambda option: words.get(option, option),
        help=about,
        accept_new_options=True,
        placeholder=t("choose or type"),
        key=_key(name),
    )


def _finding() -> None:
    st.subheader(t("Finding pages"), anchor=False)
    st.radio(
        t("Profile"),
        list(PROFILES),
        captions=[t("All models come with the install."), t("CLIP, and a model that writes the answer.")],
        horizontal=True,
        key=_key("profile"),
        on_change=_profile_changed,
    )
    _pick(
        "image_encoder",
        t("How pictures are found"),
        ["captions", PROFILES["full"].image_encoder],
        t("A CLIP-family checkpoint by hub name or folder. A collection is asked with the one it was made with."),
        {"captions": t("by their captions and the words around them")},
    )
    _pick(
        "reranker",
        t("Reading the best pages once more"),
        ["none", "bundled"],
        t("A cross-encoder by hub name or folder, or the one that comes with the install, which reads English."),
        {"none": t("no"), "bundled": t("yes, with the bundled reranker (English)")},
    )
    st.slider(
        t("Pages that an answer is made from"),
        1,
        max(30, _field("top_k")),
        key=_key("top_k"),
        help=t("More pages find more and take longer; a model may get lost in too many."),
    )


def _answering() -> None:
    st.subheader(t("Answering"), anchor=False)
    _pick(
        "generator",
        t("Who writes the answer"),
        ["extractive", "openai", PROFILES["full"].generator],
        t("A vision-language checkpoint by hub name or folder can be typed here too (needs mmrag[full])."),
        {
            "extractive": t("nobody: the page is quoted"),
            "openai": t("a model on a server (OpenAI's protocol)"),
        },
    )
    generator = _field("generator")
    if generator == "extractive":
        _risk()
        return
    if generator == "openai":
        _server()
    _writing(in_process=generator != "openai")
    _checking()


def _risk() -> None:
    risk = st.slider(t("Wrong answers that you accept"), 0.0, 1.0, step=0.05, key=_key("risk"))
    st.caption(
        t(
            "An answer is given when mmrag is at least {sure} sure of it; otherwise it says that the documents do not "
            "answer. Further left, fewer questions are answered, and more of them rightly.",
            sure=f"{1 - risk:.0%}",
        )
    )


def _server() -> None:
    if listens_locally():
        st.text_input(
            t("Server address"),
            placeholder="http://localhost:8000/v1",
            key=_key("base_url"),
            on_change=_address_changed,
        )
        st.caption(t("This machine sends questions and pictures of pages there: name only a server that you trust."))
    else:
        if _field("base_url") not in servers():
            st.session_state[_key("base_url")] = next(iter(servers()), None)
        st.selectbox(t("Server address"), servers(), key=_key("base_url"), on_change=_address_changed)
        st.caption(
            t(
                "Other machines reach this app, so it sends pages only to servers that it was started with: an address "
                "typed here would let anybody make this machine send requests."
            )
        )
    names, list_them = st.columns([3, 2], vertical_alignment="bottom")
    if list_them.button(t("List its models"), icon=":material/list:", key="list-models", width="stretch"):
        with st.spinner(t("Asking the server …"), show_time=True), problems():
            st.session_state["listed-models"] = _models()
    with names:
        _pick(
            "model",
            t("Model"),
            st.session_state.get("listed-models", []),
            t("The name by which the server knows it; it must read images."),
        )
    _secret()


def _models() -> list[str]:
    import httpx

    from mmrag.generate.server import Server, http_options

    asked = checked(made(_fields()), Path())
    url = asked.base_url or ""
    with httpx.Client(**http_options(url)) as http:
        names = Server(url, asked.api_key, http).models()
    if not names:
        raise MmragError(t("The server lists no models: type the name of one."))
    return names[:_MOST_MODELS]


def _secret() -> None:
    has_key = bool(_fields()["api_key"])
    field, forget = st.columns([3, 2], vertical_alignment="bottom")
    field.text_input(
        t("Key"),
        type="password",
        placeholder=t("A key is set.") if has_key else t("only if the server wants one"),
        autocomplete="off",
        key=_key("api_key"),
        on_change=_take_key,
        help=t("It stays in this machine's memory while the tab is open, and is neither shown nor kept."),
    )
    if forget.button(t("Forget the key"), disabled=not has_key, key="forget-key", width="stretch"):
        st.session_state.pop("typed-key", None)
        choices().pop("api_key", None)
        st.rerun()


def _writing(*, in_process: bool) -> None:
    st.number_input(
        t("Answers that are compared"),
        1,
        key=_key("samples"),
        help=t("With more than one, the model answers several times, and what most of them say is kept."),
    )
    st.number_input(
        t("Visual tokens"),
        1,
        step=500,
        placeholder="5000",
        key=_key("max_visual_tokens"),
        help=t("How sharp the model sees all pictures of a question together; fewer are faster."),
    )
    if in_process:
        st.number_input(
            t("Contrast"),
            0.0,
            step=0.5,
            key=_key("contrast"),
            help=t("Weighs down what the model would say without looking; 0 is off, 1 is usual, more is slower."),
        )
        st.toggle(t("Load in 4 bits (NVIDIA GPU)"), key=_key("load_in_4bit"))


def _checking() -> None:
    st.subheader(t("Checking what a model says"), anchor=False)
    names = {
        "words": t("by the words of the cited place"),
        "look": t("by looking again, too"),
        "none": t("not at all"),
    }
    st.segmented_control(
        t("How claims are checked"), CHECKS, format_func=names.__getitem__, required=True, key=_key("check")
    )
    if _field("check") == "none":
        return
    st.text_input(
        t("NLI model"),
        key=_key("nli"),
        placeholder=t("none"),
        help=t("Decides whether a place says it, by hub name or folder (needs mmrag[full])."),
    )
    st.segmented_control(
        t("What nothing supports"),
        ["flag", "drop"],
        format_func={"flag": t("is marked"), "drop": t("is left out")}.__getitem__,
        required=True,
        key=_key("unsupported"),
    )


# -- what becomes of them --------------------------------------------------------------------------------------------


def _decide() -> None:
    local = listens_locally()
    with st.container(horizontal=True):
        apply = st.button(t("Apply"), type="primary", icon=":material/check:", key="apply")
        reset = st.button(t("Reset"), key="reset", help=t("Back to how the app was started, with what is kept."))
        keep = st.button(
            t("Keep as default"),
            disabled=not local,
            key="keep",
            help=t("For everybody and the next start, without the key.") if local else t("Only on the machine itself."),
        )
    if reset:
        _reset()
    if (apply or keep) and _apply():
        if keep:
            with problems():
                keep_choices()
        st.toast(t("Kept.") if keep else t("Applied."), icon=":material/check:")
    if local and has_kept() and st.button(t("Forget the defaults"), type="tertiary", key="forget-kept"):
        forget_kept()
        st.rerun()


def _apply() -> bool:
    with problems():
        chosen = made(_fields())
        if chosen["generator"] == "openai" and "base_url" not in chosen:
            raise UsageError(t("The server's address is missing: http://localhost:8000/v1, for example."))
        refuse_strange_folders(chosen, defaults())
        checked(chosen, Path())
        if chosen["generator"] == "openai" and "model" not in chosen:
            raise UsageError(t("Name the server's model, or list what it has."))
        st.session_state["choices"] = chosen
        st.session_state.pop("typed-key", None)
        return True
    return False


def _reset() -> None:
    for name in [*st.session_state]:
        if str(name).startswith(_key("")) or name in ("choices", "typed-key", "listed-models"):
            del st.session_state[name]
    st.rerun()


# -- the machine -----------------------------------------------------------------------------------------------------


def _examination() -> None:
    st.subheader(t("This machine"), anchor=False)
    if st.button(t("Look what is installed and what fits"), icon=":material/stethoscope:", key="examine"):
        _examined.clear()
        st.session_state["examined"] = True
    if not st.session_state.get("examined"):
        return
    with st.spinner(t("Looking …"), show_time=True), problems():
        here = collection()
        found = _examined(checked(choices(), here.store if here else home()))
        _show(found if listens_locally() else told_elsewhere(found))


@st.cache_data(ttl=600, max_entries=16, show_spinner=False)
def _examined(settings: Settings) -> list[Finding]:
    from apps.doctor import examine

    return examine(settings)


def _show(findings: Sequence[Finding]) -> None:
    to_do = [finding for finding in findings if not finding.ok]
    fine = [finding for finding in findings if finding.ok]
    for finding in to_do:
        st.markdown(f":material/build: **{plain(finding.what)}**: {plain(finding.found)}")
        if finding.advice:
            st.caption(plain(finding.advice))
    if not to_do:
        st.success(t("Nothing to do."), icon=":material/check:")
    with st.expander(t("{count} things are fine", count=len(fine))):
        for finding in fine:
            st.markdown(f"**{plain(finding.what)}**: {plain(finding.found)}")
            if finding.advice:
                st.caption(plain(finding.advice))
