"""Reranking: one more leg, by any LlamaIndex postprocessor, the bundled cross-encoder or a checkpoint by name."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from typer.testing import CliRunner

import mmrag
from apps.cli import app
from apps.demo_documents import BRIEF, DIAGRAM, PAPER, QUESTIONS, REPORT, SCAN
from mmrag import retrieve
from mmrag.bundled import BundledCrossEncoder
from mmrag.engine import Rag
from mmrag.errors import MissingExtra, ModelNotFound, UsageError
from mmrag.rerank import HubCrossEncoder, Reranker
from mmrag.retrieve import Retriever, Weights, with_left_out
from mmrag.testing import tiny_clip, tiny_cross_encoder
from mmrag.types import Evidence

QUERY = "turbine"


class Scripted(BaseNodePostprocessor):
    """Gives each node what `judge` says of it, leaves out those of which it says None, and remembers what it saw."""

    _judge: Callable[[NodeWithScore], float | None] = PrivateAttr()
    _seen: list[tuple[str, list[NodeWithScore]]] = PrivateAttr(default_factory=list)

    def __init__(self, judge: Callable[[NodeWithScore], float | None]) -> None:
        super().__init__()
        self._judge = judge

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        assert query_bundle is not None
        self._seen.append((query_bundle.query_str, nodes))
        judged = [NodeWithScore(node=node.node, score=self._judge(node)) for node in nodes]
        return sorted((n for n in judged if n.score is not None), key=NodeWithScore.get_score, reverse=True)


def favour(name: str) -> Scripted:
    return Scripted(lambda node: float(node.metadata["document"] == name))


@pytest.fixture(scope="module")
def rag(demo_store: Path) -> Iterator[Rag]:
    with mmrag.open(demo_store) as rag:
        yield rag


def search(rag: Rag, reranker: BaseNodePostprocessor, query: str = QUERY, weight: float = 100.0) -> list[Evidence]:
    weights = Weights(rerank=weight)
    return Retriever(rag.index, rag.encoders, weights=weights, reranker=reranker).search(query)


def places(found: list[Evidence]) -> list[tuple[str, int]]:
    return [(evidence.document.name, evidence.page) for evidence in found]


# -- the leg ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [DIAGRAM, SCAN, REPORT])
def test_a_reranker_votes_and_the_vote_is_shown(rag: Rag, name: str) -> None:
    plain = rag.search(QUERY)
    assert name in {evidence.document.name for evidence in plain}
    found = search(rag, favour(name))
    assert found[0].document.name == name
    assert sorted(places(found)) == sorted(places(plain))
    best, rest = (
        [e.legs["rerank"] for e in found if (e.document.name == name) is favoured] for favoured in (True, False)
    )
    assert {vote.rank for vote in best} == {1}
    assert {(vote.rank, vote.score) for vote in rest} == {(1 + len(best), 0.0)}  # the worst of a leg adds nothing
    without = dict(zip(places(plain), plain, strict=True))
    for place, evidence in zip(places(found), found, strict=True):
        assert evidence.agreement == without[place].agreement  # of the text legs alone
        assert evidence.score == pytest.approx(without[place].score + evidence.legs["rerank"].score)


def test_a_light_vote_does_not_decide_alone(rag: Rag) -> None:
    assert places(search(rag, favour(DIAGRAM), weight=1e-6)) == places(rag.search(QUERY))


def test_it_reads_the_best_chunk_of_each_of_the_best_pages(rag: Rag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve, "RERANKED", 3)
    plain = rag.search(QUERY)
    assert len(plain) > 4
    reranker = Scripted(lambda node: -node.get_score())  # the worst first
    found = search(rag, reranker)
    ((query, nodes),) = reranker._seen
    assert query == QUERY
    assert [node.node_id for node in nodes] == [evidence.chunk.id for evidence in plain[:3]]
    assert [node.get_score() for node in nodes] == [evidence.score for evidence in plain[:3]]
    assert nodes[0].metadata["document"] == plain[0].document.name
    # Those that were not read keep their order, and nothing of theirs, below the worst that was.
    assert places(found) == places(plain[2::-1] + plain[3:])
    assert ["rerank" in evidence.legs for evidence in found] == [True] * 3 + [False] * (len(found) - 3)


def test_what_is_left_out_counts_as_the_worst(rag: Rag) -> None:
    plain = rag.search(QUERY)
    kept = plain[4].chunk.id
    found = search(rag, Scripted(lambda node: 0.3 if node.node_id == kept else None))
    assert places(found)[0] == places(plain)[4]
    assert places(found)[1:] == places(plain[:4] + plain[5:])
    assert [evidence.legs["rerank"].score > 0 for evidence in found] == [True] + [False] * (len(found) - 1)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({}, {}),
        ({"a": 0.5}, {"a": 0.5, "b": -0.5, "c": -0.5}),
        ({"a": 5.0, "b": 1.0}, {"a": 5.0, "b": 1.0, "c": -3.0}),
        ({"a": 2.0, "b": 2.0}, {"a": 2.0, "b": 2.0, "c": 1.0}),
        ({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 3.0, "b": 2.0, "c": 1.0}),
    ],
)
def test_the_left_out_stand_a_step_below_the_last(scores: dict[str, float], expected: dict[str, float]) -> None:
    assert with_left_out(scores, "abc") == expected


def test_a_postprocessor_that_keeps_nothing_or_makes_its_own_nodes_changes_nothing(rag: Rag) -> None:
    class Stranger(Scripted):
        def _postprocess_nodes(
            self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
        ) -> list[NodeWithScore]:
            return [NodeWithScore(node=TextNode(text="a summary"), score=9.0)]

    plain = rag.search(QUERY)
    for reranker in (Scripted(lambda node: None), Stranger(lambda node: None)):
        found = search(rag, reranker)
        assert found == plain
    assert search(rag, SimilarityPostprocessor(similarity_cutoff=0.0))[0] != plain[0]  # LlamaIndex's own fit too


def test_without_weight_or_words_it_is_not_asked(rag: Rag) -> None:
    reranker = Scripted(lambda node: 1.0)
    assert search(rag, reranker, weight=0.0) == rag.search(QUERY)
    assert reranker._seen == []


def test_ask_search_and_llamaindex_use_it_alike(demo_store: Path) -> None:
    with mmrag.open(demo_store, reranker=favour(SCAN)) as rag:
        (evidence,) = [e for e in rag.search(QUERY) if e.document.name == SCAN]
        assert evidence.legs["rerank"].rank == 1
        assert {"rerank"} <= rag.ask(QUERY).evidence[0].legs.keys()
        scores = [node.score for node in rag.retriever.retrieve(QUERY)]
        assert scores == [e.score for e in rag.search(QUERY)]


# -- the bundled cross-encoder ---------------------------------------------------------------------------------------

PASSAGES = [
    "Port electricity remains the largest segment, with 41 percent of revenue.",
    "The rotor blades of a tidal turbine are painted with copper epoxy against barnacles.",
    "Barnacles",
    "word " * 900,
]


def test_as_a_postprocessor_of_any_program() -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in PASSAGES]
    reranker = Reranker(BundledCrossEncoder())
    found = reranker.postprocess_nodes(nodes, query_str="What are the blades painted with?")
    assert found[0].text == PASSAGES[1]
    assert {node.text for node in found} == set(PASSAGES)
    assert [node.score for node in nodes] == [1.0] * 4  # the caller's nodes are left as they were
    assert reranker.postprocess_nodes([], query_str="anything") == []
    with pytest.raises(UsageError, match="query_str"):
        reranker.postprocess_nodes(nodes)


def test_a_passage_scores_the_same_in_any_company() -> None:
    encoder = BundledCrossEncoder()
    question = "What are the blades painted with?"
    together = encoder.score(question, PASSAGES)
    assert together == pytest.approx([encoder.score(question, [passage])[0] for passage in PASSAGES], abs=1e-4)


def test_the_bundled_reranker_by_name(demo_store: Path) -> None:
    with mmrag.open(demo_store, reranker="bundled") as rag:
        for question in QUESTIONS[:3]:
            found = rag.search(question.text)
            assert (found[0].document.name, found[0].page) == (question.document, question.page)
            assert found[0].legs["rerank"].rank <= 2
        assert not rag.ask(QUESTIONS[1].text).abstained
        chinese = rag.search("海上风电一期工程")
        assert chinese[0].document.name == BRIEF
        assert all("rerank" not in evidence.legs for evidence in chinese)  # it reads no Chinese


def test_the_command_takes_a_reranker(demo_store: Path) -> None:
    def run(*options: str) -> list[dict[str, object]]:
        done = CliRunner().invoke(app, ["search", "barnacles", "-s", str(demo_store), "--json", *options])
        assert (done.exit_code, done.stderr) == (0, "")
        return list(json.loads(done.stdout))

    plain, reranked = run(), run("--reranker", "bundled")
    assert reranked[0]["document"] == PAPER
    assert run("--reranker", "none") == plain
    assert reranked[0]["score"] > plain[0]["score"]  # type: ignore[operator]
    done = CliRunner().invoke(app, ["ask", "why?", "-s", str(demo_store), "--reranker", "/nonexistent/folder"])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "/nonexistent/folder" in done.stderr


# -- a checkpoint by name --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    return tiny_cross_encoder(tmp_path_factory.mktemp("models") / "tiny")


def test_a_checkpoint_equals_transformers(folder: Path) -> None:
    import torch
    import transformers

    passages = ["a red cat", "the blue dog " * 30, "7", ""]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(["which cat"] * 4, passages, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits[:, 0].tolist()
    encoder = HubCrossEncoder(str(folder), device="cpu")
    assert encoder.score("which cat", passages) == pytest.approx(expected, abs=1e-5)
    assert len(set(np.round(expected, 4))) == 4  # otherwise a wrong order would pass unseen
    assert re.fullmatch(r"cross-encoder:tiny@[0-9a-f]{12}", encoder.identity)


def test_a_checkpoint_reads_every_language(demo_store: Path, folder: Path) -> None:
    with mmrag.open(demo_store, reranker=str(folder)) as rag:
        assert "rerank" in rag.search("海上风电一期工程")[0].legs


@pytest.mark.parametrize(
    ("removed", "named"), [("config.json", "config.json"), ("model.safetensors", "safetensors"), ("", "loaded")]
)
def test_a_checkpoint_that_is_not_whole(tmp_path: Path, removed: str, named: str) -> None:
    torch = pytest.importorskip("torch")
    folder = tiny_cross_encoder(tmp_path / "part")
    if removed:
        (folder / removed).unlink()
        torch.save({}, folder / "pytorch_model.bin")  # must not stand in for the weights
    else:
        (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelNotFound, match=named) as error:
        HubCrossEncoder(str(folder))
    assert str(folder) in str(error.value)
    assert "--reranker bundled" in str(error.value)


def test_models_that_score_no_pairs_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="CLIPModel, which does not score pairs"):
        HubCrossEncoder(str(tiny_clip(tmp_path / "clip")))
    with pytest.raises(UsageError, match="gives 3 scores"):
        HubCrossEncoder(str(tiny_cross_encoder(tmp_path / "three", num_labels=3)))


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = tiny_cross_encoder(tmp_path / "armed")
    config = json.loads((folder / "config.json").read_text())
    armed = {"model_type": "acme", "auto_map": {"AutoConfig": "acme.C", "AutoModelForSequenceClassification": "acme.M"}}
    (folder / "config.json").write_text(json.dumps(config | armed))
    (folder / "acme.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    with pytest.raises(ModelNotFound):
        HubCrossEncoder(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'mmrag[full]'")):
        HubCrossEncoder(str(tmp_path))
