"""Collections on disk: names, paths and uploads from a browser, none of which leads out of where it may."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from filelock import FileLock
from hypothesis import example, given
from hypothesis import strategies as strategies

from apps.demo import demo_store
from apps.ui.library import (
    Collection,
    allowed_files,
    allowed_folders,
    allowed_path,
    collections,
    delete_collection,
    drop_uploads,
    home,
    keep_uploads,
    new_collection,
    plain_name,
)
from mmrag.errors import StoreBusy, UsageError
from mmrag.index import Index
from tests.build import RELAXED

HOSTILE = [
    "../../etc/passwd",
    "..\\..\\windows\\system.ini",
    "/etc/passwd",
    "C:\\boot.ini",
    "\\\\server\\share\\x.pdf",
    "a\0b.pdf",
    ".",
    "..",
    "...",
    "~",
    "~root/x.pdf",
    "-rf",
    "$HOME",
    "CON.pdf",
    "com1",
    "lpt9 .pdf",
    "x.pdf:stream",
    "a\nb.pdf",
    "\u202efdp.exe",
    "\ud800.pdf",
    "报" * 400 + ".pdf",
    "." * 400 + "pdf",
    "a" * 400,
    "x." + "y" * 400,
    "😀" * 100 + ".pdf",
    ".pdf",
    " . . .pdf ",
    "",
]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("MMRAG_COLLECTIONS", str(tmp_path / "collections"))
    monkeypatch.setenv("MMRAG_STORE", str(tmp_path / "given"))


def make(name: str) -> Collection:
    made = new_collection(name)
    Index.open(made.store, create=True).close()
    return made


# -- names -----------------------------------------------------------------------------------------------------------


def is_one_part(name: str) -> bool:
    return Path("folder", name).parent == Path("folder") and name not in ("", ".", "..") and os.sep not in name


@RELAXED
@given(strategies.text(strategies.characters(exclude_categories=())) | strategies.sampled_from(HOSTILE))
def test_a_name_is_one_part_of_a_path_that_every_system_takes(text: str) -> None:
    name = plain_name(text)
    if not name:
        return
    assert is_one_part(name)
    assert name.isprintable()
    assert not set(name) & set('<>:"|?*\\/\0')
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert len(name.encode()) <= 121
    assert plain_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("../../x.pdf", "x.pdf"),
        ("..\\..\\x.pdf", "x.pdf"),
        ("a\0b.pdf", "a_b.pdf"),
        ("CON.pdf", "_CON.pdf"),
        ("con", "_con"),
        ("Com3.tar.gz", "_Com3.tar.gz"),
        ("lpt9 .pdf", "_lpt9 .pdf"),
        ("console.pdf", "console.pdf"),
        (".bashrc", "bashrc"),
        ("x.pdf. . ", "x.pdf"),
        ("年报 2024.pdf", "年报 2024.pdf"),
        ("e\u0301te.pdf", "\u00e9te.pdf"),
        ("..", ""),
        ("😀", ""),
        (" ", ""),
    ],
)
def test_names(text: str, name: str) -> None:
    assert plain_name(text) == name


@pytest.mark.parametrize("stem", ["报" * 400, "a" * 400, "é" * 200])
def test_a_long_name_keeps_its_suffix(stem: str) -> None:
    name = plain_name(f"{stem}.pdf")
    assert name.endswith(".pdf")
    assert stem.startswith(name[:-4])
    assert 110 < len(name.encode()) <= 120


# -- paths -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "a.pdf").write_bytes(b"a")
    (folder / "b.png").write_bytes(b"b")
    (folder / "notes.bin").write_bytes(b"c")
    (tmp_path / "allowed-not").mkdir()
    (tmp_path / "allowed-not" / "secret.pdf").write_bytes(b"secret")
    return folder


@RELAXED
@given(strategies.text(strategies.characters(exclude_categories=())) | strategies.sampled_from(HOSTILE))
@example("allowed/../allowed-not")
@example("~" * 5000)
@example("a/" * 5000)
def test_no_path_leads_out_of_the_allowed_folders(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp().resolve() / "only-this"
    folder.mkdir(exist_ok=True)
    for typed in (text, f"{folder}/{text}", f"{folder}/../{text}"):
        with suppress(UsageError):
            assert allowed_path(typed, [folder]).is_relative_to(folder)


def test_a_path_in_an_allowed_folder(allowed: Path) -> None:
    assert allowed_path(f" {allowed} ", [allowed]) == allowed
    assert allowed_path(f"{allowed}/below/../b.png", [allowed]) == allowed / "b.png"


@pytest.mark.parametrize("typed", ["{}/../allowed-not", "{}-not", "{}/..", "/", "~", "/etc/passwd", "{}\0", "x" * 9000])
def test_a_path_elsewhere_is_refused_with_the_way_to_allow_it(allowed: Path, typed: str) -> None:
    with pytest.raises(UsageError, match=r"mmrag app --allow FOLDER"):
        allowed_path(typed.format(allowed), [allowed])


def test_a_path_that_is_not_there_or_not_typed(allowed: Path) -> None:
    with pytest.raises(UsageError, match="check the path"):
        allowed_path(f"{allowed}/none.pdf", [allowed])
    with pytest.raises(UsageError, match="type the path"):
        allowed_path("  ", [allowed])


def test_links_are_followed_before_they_are_judged(allowed: Path, tmp_path: Path) -> None:
    (allowed / "out").symlink_to(tmp_path / "allowed-not")
    (allowed / "in").symlink_to(allowed / "below")
    (allowed / "circle").symlink_to(allowed / "circle")
    with pytest.raises(UsageError, match="not in a folder"):
        allowed_path(f"{allowed}/out/secret.pdf", [allowed])
    with pytest.raises(UsageError):
        allowed_path(f"{allowed}/circle", [allowed])
    assert allowed_path(f"{allowed}/in/a.pdf", [allowed]) == allowed / "below" / "a.pdf"


def test_of_a_folder_only_what_lies_inside_is_taken(allowed: Path, tmp_path: Path) -> None:
    (allowed / "folder-out").symlink_to(tmp_path / "allowed-not")
    (allowed / "file-out.pdf").symlink_to(tmp_path / "allowed-not" / "secret.pdf")
    (allowed / "circle.pdf").symlink_to(allowed / "circle.pdf")
    (allowed / "file-in.pdf").symlink_to(allowed / "below" / "a.pdf")
    found = allowed_files(str(allowed), [allowed])
    assert {path.relative_to(allowed).as_posix() for path in found} == {"b.png", "below/a.pdf", "file-in.pdf"}


def test_a_folder_with_nothing_to_read(allowed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no document or picture"):
        allowed_files(str(tmp_path / "empty"), [tmp_path])


def test_the_store_itself_is_not_taken(allowed: Path) -> None:
    found = allowed_files(str(allowed), [allowed], exclude=allowed / "below")
    assert found == [allowed / "b.png"]


def test_which_folders_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert allowed_folders() == [tmp_path.resolve()]
    # An empty part would be the folder in which the app was started.
    monkeypatch.setenv("MMRAG_ALLOW", os.pathsep.join(["/one", "", " ", "/two"]))
    assert allowed_folders() == [Path("/one"), Path("/two")]


# -- uploads ---------------------------------------------------------------------------------------------------------

_NAMES = strategies.text(strategies.characters(exclude_categories=()), max_size=40) | strategies.sampled_from(HOSTILE)
_PATHS = strategies.lists(_NAMES | strategies.sampled_from(["a", "a.pdf", ".."]), min_size=1, max_size=8).map("/".join)


@RELAXED
@given(strategies.lists(strategies.tuples(_PATHS | _NAMES, strategies.binary(max_size=3)), max_size=6))
@example([("a", b"1"), ("a/a", b"2"), ("a.pdf/a.pdf", b"3"), ("a.pdf", b"4")])
def test_uploads_stay_in_their_folder_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]]
) -> None:
    store = tmp_path_factory.mktemp("store")
    for _ in range(2):  # the second time they replace those of the first
        kept = keep_uploads(store, files)
        assert [path.read_bytes() for path in kept] == [content for _, content in files]
    below = {path for path in (store / "uploads").rglob("*") if not path.is_dir()}
    assert below == set(kept)
    assert all(path.resolve().is_relative_to((store / "uploads").resolve()) for path in kept)
    assert {path.name for path in store.iterdir()} == ({"uploads"} if files else set())


def test_the_same_name_replaces_but_not_in_one_batch(tmp_path: Path) -> None:
    (first,) = keep_uploads(tmp_path, [("report.pdf", b"old")])
    one, two = keep_uploads(tmp_path, [("report.pdf", b"new"), ("Report.pdf", b"another")])
    assert one == first
    assert one.read_bytes() == b"new"
    assert (two.name, two.read_bytes()) == ("Report (2).pdf", b"another")


def test_files_of_a_folder_keep_their_places(tmp_path: Path) -> None:
    kept = keep_uploads(tmp_path, [("all/2023/report.pdf", b"a"), ("all/2024/report.pdf", b"b")])
    assert [path.relative_to(tmp_path / "uploads").as_posix() for path in kept] == [
        "all/2023/report.pdf",
        "all/2024/report.pdf",
    ]


@pytest.mark.parametrize(
    ("name", "kept"), [(".pdf", "pdf.pdf"), ("..", "unnamed.file"), ("😀.PNG", "😀.PNG"), ("x", "x.file")]
)
def test_an_upload_without_a_name_gets_one(tmp_path: Path, name: str, kept: str) -> None:
    assert keep_uploads(tmp_path, [(name, b"")])[0].name == kept


def test_only_uploads_are_dropped(tmp_path: Path) -> None:
    store, other = tmp_path / "store", tmp_path / "other.pdf"
    other.write_bytes(b"x")
    gone, kept = keep_uploads(store, [("all/a.pdf", b"a"), ("b.pdf", b"b")])
    (store / "uploads" / "link.pdf").symlink_to(other)
    paths = [str(gone), str(gone), str(other), f"{store}/uploads/../../other.pdf", f"{store}/uploads/link.pdf"]
    drop_uploads(store, paths)
    assert not gone.exists()
    assert kept.exists()
    assert other.read_bytes() == b"x"


# -- collections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "  ", "..", "///", "😀", "\0"])
def test_a_collection_needs_a_name(name: str) -> None:
    with pytest.raises(UsageError, match="needs a name"):
        new_collection(name)


@pytest.mark.parametrize("name", ["../../x", "..\\..\\x", "/etc", "2023/2024 reports", "CON", "年报" * 200])
def test_a_collection_is_a_folder_of_its_own(name: str) -> None:
    made = make(name)
    assert made.store.parent == home()
    assert made.store.resolve().parent == home().resolve()
    assert collections() == [made]


def test_a_name_is_given_once() -> None:
    make("Reports")
    for taken in ("Reports", "reports", " REPORTS "):
        with pytest.raises(UsageError, match="already"):
            new_collection(taken)


def test_a_folder_that_is_left_over_is_not_built_upon() -> None:
    (home() / "Old" / "chroma").mkdir(parents=True)
    assert collections() == []
    with pytest.raises(UsageError, match="already"):
        new_collection("Old")


def test_collections_from_elsewhere_are_told_apart_from_own_ones(tmp_path: Path) -> None:
    own = make("given")
    Index.open(tmp_path / "given", create=True).close()
    make("Demo")
    Index.open(demo_store(), create=True).close()
    names = {each.name: each for each in collections()}
    assert list(names) == [f"given ({tmp_path})", "Demo", "given", f"Demo ({demo_store().parent})"]
    assert names["given"] == own
    assert [each.is_own for each in names.values()] == [False, True, True, False]


def test_a_deleted_collection_is_gone_with_its_uploads(tmp_path: Path) -> None:
    made = make("Reports")
    keep_uploads(made.store, [("a.pdf", b"a")])
    delete_collection(made)
    assert not made.store.exists()
    assert collections() == []
    delete_collection(made)  # somebody else was quicker
    assert make("Reports") == made


def test_only_what_was_made_here_is_deleted(tmp_path: Path) -> None:
    Index.open(tmp_path / "given", create=True).close()
    (given,) = collections()
    linked = home() / "linked"
    home().mkdir()
    linked.symlink_to(tmp_path / "given")
    for kept in (given, Collection("x", tmp_path / "given"), Collection("x", home()), Collection("linked", linked)):
        with pytest.raises(UsageError, match="remove its folder"):
            delete_collection(kept)
    assert (tmp_path / "given" / "ledger.sqlite3").is_file()


def test_a_collection_that_is_written_to_is_not_deleted() -> None:
    made = make("Reports")
    with FileLock(made.store / "lock"), pytest.raises(StoreBusy, match="wait until that ends"):
        delete_collection(made)
    assert collections() == [made]
