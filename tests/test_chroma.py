"""Vectors on a Chroma server: the store's own tests against a real one, and what happens when it fails.

The first tests are those of an embedded store, imported to be run with an index on the server.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import httpx
import pytest
from chroma_server import ChromaProcess, chroma_process, free_port, gate
from test_concurrency import (  # noqa: F401
    test_a_new_version_of_a_document_takes_its_place_at_once,
    test_processes_that_take_turns_in_writing_lose_nothing,
    test_threads_ask_while_another_process_ingests,
    test_two_that_share_a_store_in_one_process_are_both_fresh,
    test_vectors_of_another_process_are_found_by_the_next_query,
    write,
)
from test_index import (  # noqa: F401
    ENCODER,
    NOTHING,
    library,
    sample,
    test_a_commit_that_fails_is_rolled_back_and_swept_at_once,
    test_a_reopened_store_holds_the_same,
    test_a_version_of_the_same_content_replaces_the_one_before_and_keeps_its_copies,
    test_an_empty_collection_has_no_nearest,
    test_linking_other_content_drops_what_the_path_held,
    test_nearest_gives_cosines_best_first,
    test_nearest_keeps_to_the_documents,
    test_new_content_at_a_path_replaces_the_old,
    test_one_writer_at_a_time,
    test_pictures_have_a_collection_of_their_own,
    test_remove_leaves_nothing,
    test_remove_spares_the_others,
    test_the_next_writer_sweeps_up_after_a_killed_one,
)
from test_pipeline import pdf

from apps.doctor import examine
from ingest.pipeline import ingest_files
from ingest.report import FileResult, Report
from mmrag import chroma as chroma_module
from mmrag import vectors as vectors_module
from mmrag.chroma import ChromaServer
from mmrag.errors import StoreError, StoreMismatch, StoreUnreachable, UsageError
from mmrag.index import Index
from mmrag.models import Encoders
from mmrag.settings import load_settings
from mmrag.testing import HashEncoder
from mmrag.vectors import TEXT

pytestmark = pytest.mark.slow

SECRET = "Bearer hunter2"
Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaProcess]:
    with chroma_process(tmp_path_factory.mktemp("chroma")) as server:
        yield server


@pytest.fixture
def own_chroma(tmp_path: Path) -> Iterator[ChromaProcess]:
    """One that a test may kill."""
    with chroma_process(tmp_path / "own-chroma") as server:
        yield server


@pytest.fixture
def index(chroma: ChromaProcess, tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "store", create=True, chroma=ChromaServer(chroma.address)) as index:
        yield index
        assert not (index.path / "chroma").exists()


def query(index: Index, text: str) -> list[tuple[str, float]]:
    return index.nearest(TEXT, ENCODER.get_text_embedding(text), top_k=9)


# -- where the vectors are -------------------------------------------------------------------------------------------


def test_stores_on_one_server_do_not_mix(chroma: ChromaProcess, index: Index, tmp_path: Path) -> None:
    with Index.open(tmp_path / "second", create=True, chroma=ChromaServer(chroma.address)) as second:
        mine = sample(tmp_path, "a.pdf", "wind", "water").add_to(index)
        sample(tmp_path, "a.pdf", "wind", "water").add_to(second)
        with index.writing():
            index.remove(mine.id)
        assert query(index, "wind") == []
        assert len(query(second, "wind")) == 2


def test_a_store_remembers_its_server(chroma: ChromaProcess, index: Index, tmp_path: Path) -> None:
    sample(tmp_path, "a.pdf", "wind").add_to(index)
    with Index.open(index.path) as again:
        assert again.server == ChromaServer(chroma.address)
        assert query(again, "wind") == query(index, "wind") != []
    with Index.open(index.path, chroma=ChromaServer("http://elsewhere:8000")) as again:  # known, not asked for
        assert again.server == ChromaServer(chroma.address)


def test_another_server_than_that_of_the_store_is_refused(index: Index, tmp_path: Path) -> None:
    elsewhere = ChromaServer("http://elsewhere:8000", is_named=True)
    with pytest.raises(StoreMismatch, match=r"on the Chroma server at http://127.*, not at http://elsewhere:8000"):
        Index.open(index.path, chroma=elsewhere)
    Index.open(tmp_path / "embedded", create=True).close()
    with pytest.raises(StoreMismatch, match=r"has its vectors in its own folder, not at .*: leave --chroma out"):
        Index.open(tmp_path / "embedded", chroma=elsewhere)


def test_batches_are_no_larger_than_the_server_takes(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "_BATCH", 3)
    sample(tmp_path, "a.pdf", *(f"page {n}" for n in range(10))).add_to(index)
    assert index.counts()["text_vectors"] == 10


def test_an_address_that_does_not_answer_is_not_remembered(chroma: ChromaProcess, tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="cannot be reached"):
        Index.open(tmp_path / "store", create=True, chroma=ChromaServer(f"http://127.0.0.1:{free_port()}"))
    with Index.open(tmp_path / "store", create=True, chroma=ChromaServer(chroma.address, is_named=True)) as index:
        assert index.server is not None


def test_a_server_that_lost_the_vectors_is_no_empty_one(index: Index, tmp_path: Path) -> None:
    sample(tmp_path, "a.pdf", "wind").add_to(index)
    with chroma_process(tmp_path / "another") as another:
        with index._ledger.transaction() as db:
            db.execute("UPDATE meta SET value = ? WHERE key = 'vectors'", (another.address,))
        with Index.open(index.path) as misled:
            for ask in (lambda: query(misled, "wind"), lambda: misled.writing().__enter__()):
                with pytest.raises(StoreError, match="does not hold the vectors of this store: start"):
                    ask()
            assert len(misled.documents()) == 1


def test_what_is_set_aside_stays_and_the_store_begins_anew(index: Index, tmp_path: Path) -> None:
    document = sample(tmp_path, "a.pdf", "wind").add_to(index)
    with index.inspecting() as (_, vectors):
        assert [kept.document_id for batch in vectors.kept(TEXT, version=1) for kept in batch] == [document.id]
        aside = vectors.set_aside()
    assert "damaged" in aside
    assert index.counts()["text_vectors"] == 0
    with index.writing():
        index.remove(document.id)
    sample(tmp_path, "a.pdf", "wind").add_to(index)
    assert len(query(index, "wind")) == 1


# -- settings --------------------------------------------------------------------------------------------------------


def test_headers_go_to_the_server_that_they_were_given_for(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Authorization": SECRET}
    monkeypatch.setenv("MMRAG_CHROMA_HEADERS", json.dumps(headers))
    assert load_settings().chroma is None
    named = load_settings(chroma="https://chroma.example/").chroma
    assert named == ChromaServer("https://chroma.example", tuple(headers.items()), is_named=True)
    assert "hunter2" not in repr(load_settings(chroma="https://chroma.example"))
    monkeypatch.setenv("MMRAG_CHROMA", "https://chroma.example:443/base")
    known = load_settings().chroma
    assert known == ChromaServer("https://chroma.example:443/base", tuple(headers.items()))
    for other in ("http://chroma.example", "https://chroma.example.evil.example", "https://chroma.example:8443"):
        assert load_settings(chroma=other).chroma == ChromaServer(other, is_named=True)


@pytest.mark.parametrize(
    "headers", ["hunter2", '"hunter2"', '{"a": 1}', '{"a b": "hunter2"}', '{"a": "hunter2\\r\\nb: c"}', '{"a": " x"}']
)
def test_headers_that_are_none_are_refused_unseen(monkeypatch: pytest.MonkeyPatch, headers: str) -> None:
    monkeypatch.setenv("MMRAG_CHROMA_HEADERS", headers)
    with pytest.raises(UsageError, match="MMRAG_CHROMA_HEADERS must be JSON") as raised:
        load_settings(chroma="http://localhost:8000")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["localhost:8000", "http://me:hunter2@host", "file:///etc", "http://h?token=hunter2"]
)
def test_what_is_no_address_is_refused_unseen(address: str) -> None:
    with pytest.raises(UsageError, match="--chroma and MMRAG_CHROMA must be an address") as raised:
        load_settings(chroma=address)
    assert "hunter2" not in str(raised.value)


# -- a login before the server ---------------------------------------------------------------------------------------


def test_a_login_is_passed_with_the_headers_and_not_without(
    chroma: ChromaProcess, tmp_path: Path, python: Python
) -> None:
    pdf(tmp_path / "a.pdf", "harbour")
    command = ("-m", "mmrag")
    with gate(chroma.port, ("Authorization", SECRET)) as login:
        store, known = ("--store", tmp_path / "store"), {"MMRAG_CHROMA": login.address}
        secret = known | {"MMRAG_CHROMA_HEADERS": json.dumps({"Authorization": SECRET})}
        refused = python(*command, "ingest", tmp_path / "a.pdf", *store, "--chroma", login.address)
        assert refused.returncode == 1
        assert refused.stderr.strip() == (
            f"mmrag: The Chroma server at {login.address} refuses us (401): set MMRAG_CHROMA to its address and "
            "MMRAG_CHROMA_HEADERS to what it wants, as JSON."
        )
        done = python(*command, "ingest", tmp_path / "a.pdf", *store, **secret)
        assert done.returncode == 0, done.stderr
        found = python(*command, "search", "harbour", *store, "--debug", **secret)
        assert "a.pdf" in found.stdout
        assert "hunter2" not in found.stdout + found.stderr
        checked = python(*command, "check", *store, **secret)
        assert checked.returncode == 0, checked.stdout + checked.stderr

        asked = len(login.asked)
        without = python(*command, "search", "harbour", *store, **{**secret, "MMRAG_CHROMA": "http://elsewhere:1"})
        assert "refuses us (401)" in without.stderr
        assert all("authorization" not in headers for headers in login.asked[asked:])
        assert len(login.asked) > asked


def test_tls_is_checked_by_the_authorities_that_are_known(
    chroma: ChromaProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    certificate = tmp_path / "certificate.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*made, "-keyout", str(certificate), "-out", str(tmp_path / "c")], check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "c").read_bytes())
    with gate(chroma.port, certificate=certificate) as tls:
        with pytest.raises(StoreUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            Index.open(tmp_path / "store", create=True, chroma=ChromaServer(tls.address))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c"))
        with Index.open(tmp_path / "store", create=True, chroma=ChromaServer(tls.address)) as index:
            sample(tmp_path, "a.pdf", "wind").add_to(index)
            assert len(query(index, "wind")) == 1


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "says"),
    [(403, r"refuses us \(403\)"), (503, "is not there, says the proxy"), (404, "no Chroma server"), (500, "failed")],
)
def test_what_a_proxy_answers_is_one_sentence(chroma: ChromaProcess, tmp_path: Path, status: int, says: str) -> None:
    with gate(chroma.port, ("X-Key", "1"), status=status) as proxy, pytest.raises(StoreError, match=says):
        Index.open(tmp_path / "store", create=True, chroma=ChromaServer(proxy.address))


def test_another_program_at_the_address_is_no_chroma(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(9999)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nHey!")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(StoreUnreachable, match=f"What answers at {address} is no Chroma server"):
            Index.open(tmp_path / "store", create=True, chroma=ChromaServer(address))
        thread.join()


def test_a_silent_server_is_not_waited_for(
    chroma: ChromaProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_module, "READ_SECONDS", 0.5)
    with (
        gate(chroma.port) as proxy,
        Index.open(tmp_path / "store", create=True, chroma=ChromaServer(proxy.address)) as index,
    ):
        sample(tmp_path, "a.pdf", "wind").add_to(index)
        proxy.silent.set()
        started = monotonic()
        with pytest.raises(StoreUnreachable, match="has not answered for"):
            query(index, "wind")
        assert monotonic() - started < 5
        proxy.silent.clear()
        assert len(query(index, "wind")) == 1


def ingest(index: Index, folder: Path, on_result: Callable[[FileResult], None] = lambda result: None) -> Report:
    return ingest_files(index, [folder], Encoders(HashEncoder()), workers=1, on_result=on_result)


def test_a_server_that_dies_in_the_middle_loses_nothing(own_chroma: ChromaProcess, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for subject in "harbour lighthouse breakwater ferry".split():
        pdf(folder / f"{subject}.pdf", subject)
    server = ChromaServer(own_chroma.address)
    with Index.open(tmp_path / "undisturbed", create=True, chroma=server) as index:
        ingest(index, folder)
        undisturbed, vectors = index.counts(), index.nearest(TEXT, [1.0] * 64, top_k=99)

    with Index.open(tmp_path / "store", create=True, chroma=server) as index:
        report = ingest(index, folder, lambda result: own_chroma.kill())
        outcomes = [str(result.outcome) for result in report.results]
        assert outcomes == ["ingested", "failed", "failed", "failed"]
        assert all("The Chroma server at" in result.reason for result in report.results[1:])
        assert len(index.documents()) == 1
        started = monotonic()
        with pytest.raises(StoreUnreachable, match=r"cannot be reached \(Connection refused\): start it"):
            ingest(index, folder)
        assert monotonic() - started < 5

        own_chroma.start()
        report = ingest(index, folder)
        assert [str(result.outcome) for result in report.results] == ["unchanged", "ingested", "ingested", "ingested"]
        assert index.counts() == undisturbed != NOTHING
        assert dict(index.nearest(TEXT, [1.0] * 64, top_k=99)) == pytest.approx(dict(vectors))


def test_the_doctor_looks_at_the_server(own_chroma: ChromaProcess, tmp_path: Path) -> None:
    def found(**choices: str) -> list[tuple[bool, str, str]]:
        findings = examine(load_settings(store=tmp_path / "store", **choices))
        return [(f.ok, f.found, f.advice) for f in findings if f.what == "Chroma server"]

    assert found() == []
    Index.open(tmp_path / "store", create=True, chroma=ChromaServer(own_chroma.address)).close()
    assert found() == found(chroma=own_chroma.address) == [(True, f"{own_chroma.address}, 1.0.0", "")]
    own_chroma.kill()
    ((ok, _, advice),) = found()
    assert not ok
    assert "cannot be reached" in advice


def test_no_request_is_redirected(chroma: ChromaProcess, tmp_path: Path) -> None:
    with gate(chroma.port) as target, gate(chroma.port, ("never", "there"), status=307) as proxy:
        proxy.location = f"{target.address}/api/v2/auth/identity"
        with pytest.raises(StoreError, match=r"failed \(307\)"):
            Index.open(tmp_path / "store", create=True, chroma=ChromaServer(proxy.address, (("X-Key", SECRET),)))
        assert httpx.get(proxy.address, follow_redirects=True).status_code == 200
        assert len(target.asked) == 1
