"""A Qwen2-VL that was trained in this run reads pages whose answers are nowhere but in their pixels."""

import hashlib
import json
import random
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import mean, median

import pytest
from build import region
from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from trained_vl import (
    COLOURS,
    TOKENS,
    Board,
    evidence_of,
    flag_box,
    held_back_board,
    prompt,
    question,
    training_board,
    triples,
)

from mmrag.generate.budget import blank
from mmrag.generate.conversation import read_messages
from mmrag.generate.decoding import Decoding
from mmrag.generate.grounded import GroundedGenerator
from mmrag.generate.qwen2_vl import Qwen2VL
from mmrag.index import Index
from mmrag.prompts import NO_ANSWER
from mmrag.render import open_image
from mmrag.types import Chunk, Document, Evidence, Page, Region, RegionKind, Span

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

PAGES = 80
VISUAL_TOKENS = TOKENS[0] * TOKENS[1]


@dataclass(frozen=True)
class Asked:
    """A page that shows a combination of colours and mark that was never trained on, and a question about that."""

    evidence: list[Evidence]
    tops: set[str]
    question: str
    colour: str
    mark: int

    @property
    def reply(self) -> str:
        return f"{self.colour.capitalize()}. [{self.mark}]"

    @property
    def messages(self) -> list[ChatMessage]:
        return prompt(self.question, self.evidence)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small only wait for one another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def llm(trained_qwen2_vl) -> Qwen2VL:
    return Qwen2VL(trained_qwen2_vl, device="cpu", dtype="float32", max_new_tokens=16)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> list[Asked]:
    folder, rng = tmp_path_factory.mktemp("pages"), random.Random(2026)
    found = []
    for number in range(PAGES):
        board, (top, bottom, mark) = held_back_board(rng)
        evidence = evidence_of(board, folder, f"page{number}")
        found.append(Asked(evidence, {flag.top for flag in board.flags}, question(top), bottom, mark))
    return found


def blinded(messages: list[ChatMessage]) -> list[ChatMessage]:
    """The same words beside an image of the same size that shows nothing."""
    return [ChatMessage(role=one.role, blocks=[_blank(block) for block in one.blocks]) for one in messages]


def _blank(block):
    if not isinstance(block, ImageBlock):
        return block
    file = BytesIO()
    blank(open_image(BytesIO(block.resolve_image().read()))).save(file, "PNG")
    return ImageBlock(image=file.getvalue())


def share(right) -> float:
    return mean(map(bool, right))


def test_the_checkpoint_is_small(llm):
    assert type(llm._model._model).__name__ == "Qwen2VLForConditionalGeneration"
    assert llm._model._model.num_parameters() < 2_000_000


def test_what_is_held_back_was_never_trained_on(pages):
    rng = random.Random(0)
    trained = set().union(*(triples(training_board(rng)) for _ in range(2000)))
    asked = {(one.question.split()[-1].rstrip("?"), one.colour, one.mark) for one in pages}
    assert len(asked) > 15
    assert not asked & trained


def test_the_prompt_names_no_answer(pages):
    for one in pages:
        blocks = [block for message in one.messages for block in message.blocks if block.block_type == "text"]
        words = re.findall(r"\w+", " ".join(block.text for block in blocks).lower())
        assert set(words) & set(COLOURS) == set(re.findall(r"\w+", one.question)) & set(COLOURS)


def test_held_back_pages_are_answered_and_the_right_mark_is_cited(llm, pages):
    generator = GroundedGenerator(llm, visual_tokens=VISUAL_TOKENS)
    drafts = [generator.generate(one.question, one.evidence) for one in pages]
    said = [
        [claim.text for claim in draft.claims] == [f"{one.colour.capitalize()}."]
        for one, draft in zip(pages, drafts, strict=True)
    ]
    cited = [
        [citation.region for claim in draft.claims for citation in claim.citations]
        == [one.evidence[one.mark - 1].region.id]
        for one, draft in zip(pages, drafts, strict=True)
    ]
    print(f"right {share(said):.3f}, cited {share(cited):.3f}, both {share(map(min, said, cited)):.3f}")
    assert share(map(min, said, cited)) > 0.9


def test_what_no_page_shows_is_not_answered(llm, pages):
    generator = GroundedGenerator(llm, visual_tokens=VISUAL_TOKENS)
    absent = [next(colour for colour in COLOURS if colour not in one.tops) for one in pages]
    drafts = [generator.generate(question(colour), one.evidence) for colour, one in zip(absent, pages, strict=True)]
    print(f"abstained {share(draft.abstained for draft in drafts):.3f}")
    assert share(draft.abstained for draft in drafts) > 0.7


def test_contrast_raises_the_score_of_what_is_seen(llm, pages):
    plain = [llm.score(one.messages, [one.reply])[0] for one in pages]
    contrasted = [llm.score(one.messages, [one.reply], contrast=1.0)[0] for one in pages]
    raised = share(after > before for before, after in zip(plain, contrasted, strict=True))
    print(f"raised on {raised:.3f} of the pages, median {median(plain):.4f} to {median(contrasted):.4f}")
    # Not on all: what is hardly seen becomes less likely, and what is implausible impossible.
    assert raised > 0.9
    assert median(contrasted) > median(plain)


def test_without_the_image_nothing_is_left(llm, pages):
    seen = [llm.score(one.messages, [one.reply])[0] for one in pages]
    blind = [llm.score(blinded(one.messages), [one.reply])[0] for one in pages]
    answers = [llm.chat(blinded(one.messages)).message.content for one in pages]
    drops = [before - after for before, after in zip(seen, blind, strict=True)]
    right = share(answer.startswith(one.colour.capitalize()) for answer, one in zip(answers, pages, strict=True))
    print(f"score lower by {mean(drops):.2f} on average, on {share(drop > 3 for drop in drops):.3f} by more than 3")
    print(f"right without the image: {right:.3f}; replies: {sorted(set(answers))}")
    assert share(drop > 3 for drop in drops) > 0.9
    assert right <= 0.25  # one in seven by chance


def test_greedy_answers_are_those_of_transformers(llm, pages, trained_qwen2_vl):
    model = transformers.AutoModelForImageTextToText.from_pretrained(trained_qwen2_vl).eval()
    processor = transformers.AutoProcessor.from_pretrained(trained_qwen2_vl)
    for one in pages[:20]:
        inputs = llm._model.encode([read_messages(one.messages)], 5000, Decoding()).inputs
        ids = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected = processor.tokenizer.decode(ids, skip_special_tokens=True)
        assert llm.chat(one.messages).message.content == expected
        assert expected == NO_ANSWER or expected.endswith("]")


def test_ask_from_the_shell_answers_what_only_the_pixels_say(trained_qwen2_vl, tmp_path, python):
    rng = random.Random(7)
    while len((board := held_back_board(rng)[0]).flags) < 4:
        pass
    store = flag_store(board, tmp_path)
    choices = ["--generator", trained_qwen2_vl, "--max-visual-tokens", VISUAL_TOKENS, "--top-k", 1]
    asked = "".join(f"{question(flag.top)}\n" for flag in board.flags)
    done = python("-m", "mmrag", "ask", "-", "--store", store, *choices, stdin=asked, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    right = [
        (answer["answer"], [tuple(citation["bbox"]) for citation in answer["citations"]])
        == (f"{flag.bottom.capitalize()}.", [tuple(region.box)])
        for answer, flag, region in zip(answers, board.flags, flag_regions(board, "d"), strict=True)
    ]
    print(f"right {sum(right)} of {len(right)}: {[(answer['answer'], answer['notes']) for answer in answers]}")
    assert sum(right) >= 3


def flag_regions(board: Board, document_id: str) -> list[Region]:
    return [
        region("", RegionKind.PICTURE, id=f"{document_id}-p1-r{i}", box=flag_box(flag))
        for i, flag in enumerate(board.flags, 2)
    ]


def flag_store(board: Board, folder: Path) -> Path:
    """A store that holds the page as ingest would, but for stray strokes that OCR takes for words."""
    source = evidence_of(board, folder, "flags")[0].source
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    document = Document(sha256[:16], sha256, "flags.pdf", str(source), "image/png", "", 1, source.stat().st_size)
    head = region("Flags, and which colour is below which", RegionKind.PAGE_HEADER, id=f"{document.id}-p1-r1")
    pictures = flag_regions(board, document.id)
    chunks = [
        Chunk(f"{document.id}-p1-c{i}", document.id, 1, r.kind, "", r.box, (Span(r.id, 0, 0, 0),))
        for i, r in enumerate(pictures, 1)
    ]
    with Index.open(folder / "store", create=True) as index, index.writing():
        pages = [Page(1, 100, 72, (head, *pictures))]
        index.add(document, pages, chunks, source=source, text_vectors={}, image_vectors={})
    return folder / "store"
