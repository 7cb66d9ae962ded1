"""From a question to an answer over the demo collection, alone and inside LlamaIndex, without and with CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from PIL import Image, ImageChops

import mmrag
from apps.demo_documents import BRIEF, DIAGRAM, PAPER, QUESTIONS, REPORT, SCAN, DemoQuestion
from ingest.pipeline import Outcome, ingest_into
from mmrag import Answer
from mmrag.encoders import BundledTextEncoder
from mmrag.engine import Rag
from mmrag.errors import ModelNotFound, StoreMismatch, StoreNotFound, UsageError
from mmrag.index import IMAGE, Index
from mmrag.render import render_page
from mmrag.testing import tiny_clip
from mmrag.types import RegionKind

ANSWERABLE = [question for question in QUESTIONS if question.document]
UNANSWERABLE = QUESTIONS[-1]


@pytest.fixture(scope="module")
def rag(demo_store: Path) -> Iterator[Rag]:
    with mmrag.open(demo_store) as rag:
        yield rag


@pytest.fixture(scope="module")
def answers(rag: Rag) -> dict[str, Answer]:
    return {question.text: rag.ask(question.text) for question in QUESTIONS}


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ANSWERABLE, ids=lambda question: question.text)
def test_the_demo_questions_are_answered_from_the_right_page(
    answers: dict[str, Answer], question: DemoQuestion
) -> None:
    answer = answers[question.text]
    assert not answer.abstained
    first = answer.citations[0]
    assert (first.document, first.page) == (question.document, question.page)
    assert question.answer in first.quote or question.answer in answer.claims[0].text
    assert answer.text.startswith(answer.claims[0].text)
    assert answer.confidence == answer.claims[0].confidence


def test_what_the_documents_do_not_say_is_not_answered(answers: dict[str, Answer]) -> None:
    answer = answers[UNANSWERABLE.text]
    assert answer.abstained
    assert answer.text == "The documents do not answer this."
    assert answer.evidence
    assert answer.confidence < min(answers[question.text].confidence for question in ANSWERABLE)


@pytest.mark.parametrize("question", ANSWERABLE, ids=lambda question: question.text)
def test_a_citation_is_the_region_it_names(rag: Rag, answers: dict[str, Answer], question: DemoQuestion) -> None:
    for citation in answers[question.text].citations:
        page = rag.index.page(citation.document_id, citation.page)
        assert page is not None
        (region,) = [region for region in page.regions if region.id == citation.region]
        assert citation.bbox == region.box
        assert citation.quote in region.text
        assert citation.lines
        for line in citation.lines:
            assert line.area > 0
            assert line.intersection(region.box) == pytest.approx(line.area)


@pytest.mark.parametrize("question", ANSWERABLE, ids=lambda question: question.text)
def test_a_citations_image_marks_its_lines_and_leaves_the_rest_of_the_page(
    answers: dict[str, Answer], question: DemoQuestion
) -> None:
    citation = answers[question.text].citations[0]
    marked, plain = citation.image(), render_page(citation.source, citation.page, dpi=110)
    assert isinstance(marked, Image.Image)
    assert marked.size == plain.size
    changed = np.asarray(ImageChops.difference(marked, plain)).sum(axis=2) > 0
    for line in citation.lines:
        x0, y0, x1, y1 = line.to_pixels(*plain.size)
        assert changed[y0:y1, x0:x1].mean() > 0.3  # the paper between the letters
    x0, y0, x1, y1 = citation.bbox.to_pixels(*plain.size)
    border = 12
    changed[max(0, y0 - border) : y1 + border, max(0, x0 - border) : x1 + border] = False
    assert not changed.any()


def test_an_answer_as_json(answers: dict[str, Answer]) -> None:
    answer = answers[QUESTIONS[0].text]
    value = answer.to_json()
    assert list(value) == ["question", "answer", "abstained", "confidence", "claims", "citations", "notes", "timings"]
    assert (value["question"], value["answer"], value["abstained"]) == (answer.question, answer.text, False)
    assert list(value["citations"][0]) == ["document", "page", "region", "bbox", "quote", "claim"]
    assert value["citations"][0]["bbox"] == list(answer.citations[0].bbox)
    assert list(value["timings"]) == ["retrieve", "generate"]


# -- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "document", "page"),
    [
        ("power lost to barnacles at a tip-speed ratio", PAPER, 2),
        ("what happens after a turbine alarm", DIAGRAM, 1),
        ("certificate of inspection of a vessel", SCAN, 1),
        ("海上风电一期工程", BRIEF, 1),
        ("number of employees", REPORT, 4),
    ],
)
def test_search_puts_the_right_page_first(rag: Rag, query: str, document: str, page: int) -> None:
    found = rag.search(query)
    assert (found[0].document.name, found[0].page) == (document, page)
    assert [e.score for e in found] == sorted((e.score for e in found), reverse=True)
    assert len({(e.document.id, e.page) for e in found}) == len(found)


@pytest.mark.parametrize(
    ("query", "kind", "beginning"),
    [
        ("What does Figure 1 show?", RegionKind.PICTURE, "Figure 1. Power coefficient"),
        ("What is listed in Table 1?", RegionKind.TABLE, "Table 1. State of the blade surfaces"),
    ],
)
def test_a_figure_or_table_is_found_by_its_number(rag: Rag, query: str, kind: RegionKind, beginning: str) -> None:
    (first, *_) = rag.search(query, documents=[PAPER])
    assert first.region.kind is kind
    assert first.region.caption_id is not None
    assert rag.index.regions([first.region.caption_id])[first.region.caption_id].text.startswith(beginning)
    assert "label" in first.legs


@pytest.mark.parametrize(("query", "page"), [("What is on page 3?", 3), ("the last page", 4), ("第2页", 2)])
def test_a_page_is_found_by_its_number(rag: Rag, query: str, page: int) -> None:
    (first, *_) = rag.search(query, documents=[REPORT])
    assert first.page == page
    assert first.legs["page_number"].rank == 1


def test_a_label_votes_for_every_document_that_has_it(rag: Rag) -> None:
    assert {e.document.name for e in rag.search("Table 1", top_k=2)} == {REPORT, PAPER}
    assert not any("label" in e.legs for e in rag.search("Table 77"))


def test_a_document_keeps_the_scale_of_the_collection(rag: Rag) -> None:
    """Among its own pages, a leg that tells nothing apart would be blown up to the same spread as one that does."""
    alone = rag.retriever.legs("turbine blades", documents=[PAPER])
    whole = rag.retriever.legs("turbine blades")
    for name, leg in alone.items():
        assert leg.whole == whole[name]
        assert {key: whole[name].pages[key] for key in leg.pages} == pytest.approx(leg.pages)


def test_search_keeps_to_top_k(rag: Rag) -> None:
    assert len(rag.search("turbine", top_k=2)) == 2
    assert rag.search("turbine", top_k=2) == rag.search("turbine", top_k=5)[:2]


def test_documents_limit_search_and_answers(rag: Rag) -> None:
    assert {e.document.name for e in rag.search("turbine", documents=[REPORT, BRIEF])} <= {REPORT, BRIEF}
    answer = rag.ask("How much is the total investment in turbines?", documents=[PAPER])
    assert {e.document.name for e in answer.evidence} == {PAPER}
    (paper,) = [document for document in rag.index.documents() if document.name == PAPER]
    assert rag.search("turbine", documents=[paper.id]) == rag.search("turbine", documents=[PAPER])


def test_an_unknown_document_is_named(rag: Rag) -> None:
    with pytest.raises(UsageError, match=r"The store has no document 'nope.pdf'; it has control-room.png"):
        rag.ask("turbine", documents=["nope.pdf"])


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_an_empty_question_is_refused(rag: Rag, question: str) -> None:
    with pytest.raises(UsageError, match="The question is empty"):
        rag.ask(question)
    with pytest.raises(UsageError, match="The question is empty"):
        rag.search(question)


@pytest.mark.parametrize("question", ["???", '"', "a", "\x00", "🙂", "x" * 20_000, "turbine " * 5_000, "' OR 1=1; --"])
def test_odd_questions_are_answered_or_not_but_never_fail(rag: Rag, question: str) -> None:
    answer = rag.ask(question, top_k=2)
    assert 0 <= answer.confidence <= 1
    assert answer.abstained == (answer.text == "The documents do not answer this.")


def test_half_a_character_is_no_question(rag: Rag) -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        rag.ask("turbine \udcff")


# -- a store that changes under a reader -----------------------------------------------------------------------------


def test_a_reader_outlives_a_removal_by_another_process(
    own_store: Path, python: Callable[..., CompletedProcess[str]]
) -> None:
    with mmrag.open(own_store) as reader:
        assert reader.search("barnacles")[0].document.name == PAPER
        done = python("-m", "mmrag", "remove", PAPER, "--store", own_store)
        assert done.returncode == 0, done.stderr
        found = reader.search("barnacles")
        assert found
        assert PAPER not in {evidence.document.name for evidence in found}
        assert reader.ask("How thick are barnacles?").text


def test_vectors_without_a_ledger_row_are_passed_over(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another reader sees a writer between the vectors and the commit, or after it was killed there."""
    with mmrag.open(own_store) as reader:
        before = [(e.document.name, e.page) for e in reader.search("barnacles")]
        (paper,) = [document for document in reader.index.documents() if document.name == PAPER]
        pages = [page for n in (1, 2) if (page := reader.index.page(paper.id, n))]
        chunks = reader.index.chunks_of([(paper.id, 1), (paper.id, 2)])
        source = Path(paper.path)
        vectors = {c.id: reader.encoders.text.get_text_embedding(c.encoded_text) for c in chunks if c.text}
        counts = reader.index.counts()
        with reader.index.writing():
            reader.index.remove(paper.id)
            for name in ("insert", "Index._finish"):  # nor is it swept up before the next writer comes
                monkeypatch.setattr(f"mmrag.index.{name}", lambda *args: (_ for _ in ()).throw(OSError("killed")))
            with pytest.raises(OSError, match="killed"):
                reader.index.add(paper, pages, chunks, source=source, text_vectors=vectors, image_vectors={})
        assert reader.index.counts()["text_vectors"] == counts["text_vectors"]
        assert reader.index.counts()["chunks"] == counts["chunks"] - len(chunks)
        after = [(e.document.name, e.page) for e in reader.search("barnacles")]
        assert PAPER not in {name for name, _ in after}
        assert {(name, page) for name, page in before if name != PAPER} <= set(after)


def test_an_empty_store_answers_nothing(tmp_path: Path) -> None:
    ingest_into(tmp_path / "store", [])
    with mmrag.open(tmp_path / "store") as rag:
        assert rag.search("anything") == []
        assert rag.ask("What is there?").abstained


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        mmrag.open(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="There is no profile 'online': choose offline or full"):
        mmrag.open(tmp_path, profile="online")


# -- inside LlamaIndex -----------------------------------------------------------------------------------------------


def test_the_retriever_serves_a_llamaindex_query_engine(rag: Rag) -> None:
    engine = RetrieverQueryEngine.from_args(rag.retriever, llm=MockLLM())
    response = engine.query(QUESTIONS[1].text)
    first = response.source_nodes[0]
    assert first.metadata["document"] == PAPER
    assert set(first.metadata) == {"document", "page", "region", "kind", "bbox"}
    assert rag.index.regions([first.metadata["region"]])[first.metadata["region"]].box == tuple(first.metadata["bbox"])
    # MockLLM repeats its prompt: the model is told the document and page, and not the geometry.
    assert f"document: {PAPER}\npage: {first.metadata['page']}" in str(response)
    assert "bbox" not in str(response)


def test_the_query_engine_gives_the_answer_with_its_citations(rag: Rag, answers: dict[str, Answer]) -> None:
    response = rag.query_engine().query(QUESTIONS[0].text)
    assert isinstance(response, Response)
    assert response.metadata is not None
    assert response.metadata["answer"].citations == answers[QUESTIONS[0].text].citations
    assert str(response) == answers[QUESTIONS[0].text].text
    assert [node.metadata["region"] for node in response.source_nodes] == [
        evidence.region.id for evidence in response.metadata["answer"].evidence
    ]


def test_the_encoder_is_a_llamaindex_embedding() -> None:
    encoder = BundledTextEncoder()
    assert isinstance(encoder, BaseEmbedding)
    texts = [
        "Port electricity remains the largest segment, with 41 percent of revenue.",
        "Barnacles",
        "word " * 900,  # longer than the model reads
        "Rotor blades of a tidal turbine are painted with copper epoxy.",
    ]
    batch = np.array(encoder.get_text_embedding_batch(texts))
    single = np.array([encoder.get_text_embedding(text) for text in texts])
    assert batch.shape == (4, encoder.dim)
    assert np.linalg.norm(batch, axis=1) == pytest.approx(1, abs=1e-5)
    cosines = single @ batch.T
    # Activations are quantised over a whole batch: the same text differs in the third digit from one to another.
    assert np.diag(cosines) == pytest.approx(1, abs=0.02)
    assert (cosines.argmax(axis=1) == np.arange(4)).all()
    assert encoder.get_text_embedding_batch([]) == []
    question = encoder.get_query_embedding("What are the blades of a turbine painted with?")
    assert (batch @ question).argmax() == 3
    assert encoder.count_tokens(["the rotor of the turbine", ""]) == [5, 0]


# -- with CLIP -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_clip_encodes_the_pictures(demo_documents: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    checkpoint, store = str(tiny_clip(tmp_path / "tiny-clip")), tmp_path / "store"
    report = ingest_into(store, [demo_documents], image_encoder=checkpoint)
    assert report.count(Outcome.INGESTED) == 5

    with mmrag.open(store, image_encoder=checkpoint) as rag:
        pages = [(d.id, n) for d in rag.index.documents() for n in range(1, d.page_count + 1)]
        pictures = {chunk.id for chunk in rag.index.chunks_of(pages) if chunk.kind is RegionKind.PICTURE}
        query = rag.encoders.encode_image_query("a chart")
        hits = rag.index.nearest(IMAGE, query, top_k=100)
        assert len(pictures) >= 2
        assert {chunk_id for chunk_id, _ in hits} == pictures
        assert rag.index.counts()["image_vectors"] == len(pictures)
        assert len(query) == 24
        assert math.hypot(*query) == pytest.approx(1, abs=1e-5)
        found = rag.search("Electricity generated by year")
        assert (found[0].document.name, found[0].page) == (REPORT, 3)
        assert "visual" in found[0].legs
        chinese = rag.search("海上风电", top_k=9)
        assert "visual" in {leg for evidence in chinese for leg in evidence.legs}  # CLIP may read what bge cannot

    with pytest.raises(StoreMismatch, match=r"built with the image encoder .*, not captions by bge"):
        mmrag.open(store)


def test_a_store_made_with_captions_refuses_clip(demo_store: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    checkpoint = tiny_clip(tmp_path / "tiny-clip")
    with pytest.raises(StoreMismatch, match="built with the image encoder captions by bge"):
        mmrag.open(demo_store, image_encoder=str(checkpoint))


def test_a_missing_checkpoint_is_named_and_the_store_left_alone(own_store: Path, tmp_path: Path) -> None:
    with pytest.raises((ModelNotFound, mmrag.MissingExtra), match=r"no-such-model|mmrag\[full\]"):
        mmrag.open(own_store, image_encoder=str(tmp_path / "no-such-model"))
    with Index.open(own_store) as index:
        assert len(index.documents()) == 5
