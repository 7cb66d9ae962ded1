"""A Qwen2-VL of 800,000 numbers that learns, within a minute or two on two cores, to read pages of flags.

Every page shows a few flags of two colours each, as pictures: no word on the page or in the prompt names a colour. The
model is asked as `GroundedGenerator` asks and must say which colour is below another, and cite the flag's mark.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from build import evidence, region
from llama_index.core.base.llms.types import ChatMessage
from PIL import Image, ImageDraw

from mmrag import testing
from mmrag.errors import require
from mmrag.generate.conversation import read_messages
from mmrag.generate.marks import mark_pages, messages
from mmrag.prompts import NO_ANSWER
from mmrag.render import IMAGE_DPI
from mmrag.types import BBox, Evidence, RegionKind

COLOURS = {
    "red": "#D01818",
    "green": "#10A030",
    "blue": "#1830D0",
    "yellow": "#F0D010",
    "purple": "#801090",
    "black": "#101010",
    "pink": "#FF90C8",
    "brown": "#804010",
}
TOKENS = (7, 5)
"""Width and height of a page in visual tokens of 28 x 28 pixels."""
SLOTS = tuple(product((1, 4), (1, 3)))
"""Where a flag of 2 x 1 tokens may stand, in tokens; the chip with its mark finds room beside it."""
_INSET = 5 / 28  # so that the outline of a flag lies in the flag's own tokens
_SHOWN_DPI = 140  # what pages without print are shown at: see mmrag.generate.marks
_TOKEN = 28 * IMAGE_DPI / _SHOWN_DPI

PAGES = 700
LOOK_STEPS, LOOK_BATCH = 80, 16
SHORT_STEPS, SHORT_BATCH = 200, 32
WHOLE_STEPS, WHOLE_BATCH = 160, 12
RATE = 2e-3
_WIDTH = 128


@dataclass(frozen=True)
class Flag:
    top: str
    bottom: str
    place: tuple[float, float]
    """Of its upper left corner, in tokens."""


@dataclass(frozen=True)
class Board:
    """A page of flags, in the order of their marks."""

    flags: tuple[Flag, ...]

    def answers(self) -> Iterator[tuple[str, str]]:
        """Questions that the page answers, and the replies."""
        for mark, flag in enumerate(self.flags, start=1):
            yield question(flag.top), f"{flag.bottom.capitalize()}. [{mark}]"


def question(top: str) -> str:
    return f"Which colour is below {top}?"


Triple = tuple[str, str, int]


def triples(board: Board) -> set[Triple]:
    return {(flag.top, flag.bottom, mark) for mark, flag in enumerate(board.flags, start=1)}


def held_back() -> frozenset[Triple]:
    """One in ten combinations of two colours and a mark: no page trained on shows one of them."""
    every = [(*pair, mark) for pair in product(COLOURS, COLOURS) if pair[0] != pair[1] for mark in (1, 2, 3, 4)]
    return frozenset(random.Random(1).sample(every, len(every) // 10))


HELD_BACK = held_back()


def random_board(rng: random.Random, size: int = 0) -> Board:
    size = size or rng.choice((2, 3, 4))
    tops, places = rng.sample(list(COLOURS), size), rng.sample(SLOTS, size)
    flags = []
    for top, (x, y) in zip(tops, places, strict=True):
        bottom = rng.choice([colour for colour in COLOURS if colour != top])
        flags.append(Flag(top, bottom, (x + rng.uniform(-0.05, 0.05), y + rng.uniform(-0.05, 0.05))))
    return Board(tuple(flags))


def training_board(rng: random.Random) -> Board:
    while triples(board := random_board(rng)) & HELD_BACK:
        pass
    return board


def held_back_board(rng: random.Random) -> tuple[Board, Triple]:
    """A page with a flag that was held back."""
    while not (held := triples(board := random_board(rng)) & HELD_BACK):
        pass
    return board, min(held)


def draw_board(board: Board) -> Image.Image:
    page = Image.new("RGB", (round(TOKENS[0] * _TOKEN), round(TOKENS[1] * _TOKEN)), "white")
    draw = ImageDraw.Draw(page)
    for flag in board.flags:
        x0, y0, x1, y1 = flag_box(flag).to_pixels(*page.size)
        draw.rectangle((x0, y0, x1, y1), fill=COLOURS[flag.bottom])
        draw.rectangle((x0, y0, x1, (y0 + y1) / 2), fill=COLOURS[flag.top])
    return page


def flag_box(flag: Flag) -> BBox:
    x, y = flag.place
    x0, y0, x1, y1 = x + _INSET, y + _INSET, x + 2 - _INSET, y + 1 - _INSET
    return BBox(x0 / TOKENS[0], y0 / TOKENS[1], x1 / TOKENS[0], y1 / TOKENS[1])


def evidence_of(board: Board, folder: Path, name: str = "page") -> list[Evidence]:
    """The flags as regions that retrieval found, of a page that lies in `folder`."""
    source = folder / f"{name}.png"
    draw_board(board).save(source)
    found = [region("", RegionKind.PICTURE, id=f"r{i}", box=flag_box(flag)) for i, flag in enumerate(board.flags)]
    return [replace(evidence(item, name="flags.pdf"), source=source) for item in found]


def prompt(asked: str, items: Sequence[Evidence]) -> list[ChatMessage]:
    return messages(asked, mark_pages(items, visual_tokens=TOKENS[0] * TOKENS[1]))


# The model


def build_model() -> tuple[Any, Any]:
    """With random weights, and its processor."""
    torch, transformers = require("torch", extra="full"), require("transformers", extra="full")
    tokenizer = _tokenizer(transformers)
    ids = tokenizer.get_vocab()
    text = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 2048}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}}
    text |= {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    vision = {"depth": 2, "embed_dim": 64, "hidden_size": 128, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    config = transformers.Qwen2VLConfig(
        text_config={**text, "vocab_size": len(ids), "pad_token_id": ids["<|endoftext|>"], "initializer_range": 0.05},
        vision_config={**vision, "initializer_range": 0.05},
        tie_word_embeddings=True,
        **{f"{name}_token_id": ids[f"<|{name}|>"] for name in ("vision_start", "vision_end")},
        **{f"{name}_token_id": ids[f"<|{name}_pad|>"] for name in ("image", "video")},
    )
    images, videos = transformers.Qwen2VLImageProcessor(patch_size=14), transformers.Qwen2VLVideoProcessor()
    processor = transformers.Qwen2VLProcessor(images, tokenizer, videos, chat_template=testing._QWEN_TEMPLATE)
    model = transformers.Qwen2VLForConditionalGeneration(config)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.3)  # and the embeddings: they are tied
        # Words stand out from what the layers add, and like looks at like: from there, hundreds of steps are enough.
        for layer in model.model.language_model.layers:
            layer.self_attn.q_proj.weight.mul_(2)
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
            layer.self_attn.o_proj.weight.mul_(0.2)
            layer.mlp.down_proj.weight.mul_(0.2)
    return model, processor


def _tokenizer(transformers: Any) -> Any:
    """Words of the prompts in one piece each, and any other text in bytes."""
    import tokenizers

    special = testing._QWEN_SPECIAL
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = testing._byte_tokenizer(special).backend_tokenizer.pre_tokenizer
    alphabet = sorted(testing._byte_alphabet())
    learner.train_from_iterator(
        _sentences(), tokenizers.trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(learner.to_str())["model"]
    vocab = {token: number for number, token in enumerate([*model["vocab"], *special])}
    merges = [tuple(merge) for merge in model["merges"]]
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocab, merges=merges, **ends)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    return tokenizer


def _sentences() -> Iterator[str]:
    with TemporaryDirectory() as folder:
        board = random_board(random.Random(0), 4)
        for message in prompt(question("red"), evidence_of(board, Path(folder))):
            yield from (block.text for block in message.blocks if block.block_type == "text")
    yield "\n".join(["system", "user", "assistant", NO_ANSWER, "You are a helpful assistant."])
    for colour in COLOURS:
        yield f"{question(colour)}\n{colour.capitalize()}. [1]"


# What it learns from


@dataclass(frozen=True)
class Turn:
    asked: list[int]
    reply: list[int]
    hint: tuple[int, int, int] | None
    """Where the colour asked for stands in the question; the tokens of the answer and of its mark."""


@dataclass(frozen=True)
class Example:
    """One page and several questions about it."""

    shown: list[int]
    """Tokens of the prompt up to the question."""
    kinds: Any
    pixels: Any
    grid: Any
    turns: tuple[Turn, ...]
    things: Any
    """(n, 4): a visual token, and the tokens of the words for what it shows: two colours and a mark."""
    seen: Any = None
    """(visual tokens, width): what the vision tower makes of the page."""


def examples(processor: Any, rng: random.Random, count: int) -> Iterator[Example]:
    with TemporaryDirectory() as folder:
        for _ in range(count):
            board = training_board(rng)
            answers = list(board.answers())
            rng.shuffle(answers)
            absent = rng.choice([colour for colour in COLOURS if colour not in {flag.top for flag in board.flags}])
            answers = answers[:3] + [(question(absent), NO_ANSWER)] * (rng.random() < 0.3)
            yield make_example(processor, board, answers, Path(folder))


def make_example(processor: Any, board: Board, answers: Sequence[tuple[str, str]], folder: Path) -> Example:
    asked = prompt(answers[0][0], evidence_of(board, folder))
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = processor.apply_chat_template([read_messages(asked)], processor_kwargs={"do_resize": False}, **options)
    turns = tuple(_turn(processor.tokenizer, *answer) for answer in answers)
    ids = inputs["input_ids"][0].tolist()
    cut = len(ids) - len(turns[0].asked)
    assert ids[cut:] == turns[0].asked  # what is trained on is what is asked
    kinds, things = inputs["mm_token_type_ids"][:, :cut], _things(processor.tokenizer, board)
    return Example(ids[:cut], kinds, inputs["pixel_values"], inputs["image_grid_thw"], turns, things)


def _turn(tokenizer: Any, text: str, answer: str) -> Turn:
    asked = tokenizer.encode(f"Question: {text}<|im_end|>\n<|im_start|>assistant\n")
    reply = tokenizer.encode(f"{answer}<|im_end|>")
    colour = asked.index(tokenizer.encode("?")[0]) - 1
    return Turn(asked, reply, None if answer == NO_ANSWER else (colour, reply[0], reply[-3]))


def _things(tokenizer: Any, board: Board) -> Any:
    import torch

    rows = []
    for mark, flag in enumerate(board.flags, start=1):
        x, y = (round(side) for side in flag.place)
        words = [tokenizer.encode(word)[0] for word in (f" {flag.top}", flag.bottom.capitalize(), str(mark))]
        rows += [[y * TOKENS[0] + column, *words] for column in (x, x + 1)]
    return torch.tensor(rows)


def shortened(example: Example) -> Example:
    """The image and the questions alone."""
    start, end = example.kinds[0].nonzero()[0].item() - 1, example.kinds[0].nonzero()[-1].item() + 2
    return replace(example, shown=example.shown[start:end], kinds=example.kinds[:, start:end])


# Training


class Trainer:
    """Three lessons: visual tokens name what they show; questions about an image alone; whole prompts.

    `hints` turn what a visual token holds, and what the model thinks at the colour asked for, into the other colour and
    the mark. They make hundreds of steps out of thousands, and are no part of the checkpoint.
    """

    def __init__(self, model: Any) -> None:
        import torch

        self.model = model
        self.hints = torch.nn.ModuleList(torch.nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(2))
        self.optimizer: Any = None

    def start(self) -> None:
        import torch

        parameters = [*self.model.parameters(), *self.hints.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)

    def look(self, batch: Sequence[Example], rate: float) -> float:
        """Visual tokens learn the words for what they show."""
        import torch

        pixels, grid = torch.cat([e.pixels for e in batch]), torch.cat([e.grid for e in batch])
        seen = self.model.model.get_image_features(pixels, grid).pooler_output
        at = torch.cat([page[e.things[:, 0]] for page, e in zip(seen, batch, strict=True)])
        things = torch.cat([e.things for e in batch])
        words = self.model.lm_head.weight
        loss = torch.nn.functional.cross_entropy(at @ words.T, things[:, 1]) + self._hinted(at, things[:, 2:])
        self._step(loss, rate)
        return float(loss.detach())

    def answer(self, batch: Sequence[Example], rate: float) -> float:
        import torch

        rows = collate(self.model, batch)
        hidden = self.model.model.language_model(**rows.inputs, use_cache=False).last_hidden_state
        chosen = rows.targets != -100
        loss = torch.nn.functional.cross_entropy(self.model.lm_head(hidden[chosen]), rows.targets[chosen])
        hint = self._hinted(hidden[rows.hints[:, 0], rows.hints[:, 1]], rows.hints[:, 2:])
        self._step(loss + hint, rate)
        return float(loss.detach())

    def _hinted(self, at: Any, words: Any) -> Any:
        """Of `at`, (n, width), the two `words`, (n, 2)."""
        import torch

        logits = [hint(at) @ self.model.lm_head.weight.T for hint in self.hints]
        return sum(torch.nn.functional.cross_entropy(logits[i], words[:, i]) for i in range(2))

    def _step(self, loss: Any, rate: float) -> None:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


@dataclass(frozen=True)
class Rows:
    inputs: dict[str, Any]
    targets: Any
    """(rows, width); -100 where nothing is to be learned."""
    hints: Any
    """(n, 4): row, place, and two tokens."""


def collate(model: Any, batch: Sequence[Example]) -> Rows:
    """Questions about one page beside each other: each sees the page and itself, as if it had been asked alone."""
    import torch

    width = max(len(e.shown) + sum(len(turn.asked + turn.reply) for turn in e.turns) for e in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    group = torch.full_like(ids, -1)  # the page is 0, its questions are 1, 2 and so on; padding is -1
    targets = torch.full_like(ids, -100)
    places = torch.zeros(3, *ids.shape, dtype=torch.long)
    hints = []
    for row, example in enumerate(batch):
        end = len(example.shown)
        ids[row, :end], group[row, :end] = torch.tensor(example.shown), 0
        found, _ = model.model.get_rope_index(ids[row : row + 1, :end], example.kinds, image_grid_thw=example.grid)
        places[:, row, :end] = found[:, 0]
        first = int(found.max()) + 1
        for number, turn in enumerate(example.turns, start=1):
            start, middle, end = end, end + len(turn.asked), end + len(turn.asked + turn.reply)
            ids[row, start:end], group[row, start:end] = torch.tensor(turn.asked + turn.reply), number
            places[:, row, start:end] = torch.arange(first, first + end - start)
            targets[row, middle - 1 : end - 1] = torch.tensor(turn.reply)
            if turn.hint:
                hints.append((row, start + turn.hint[0], *turn.hint[1:]))
    visible = (group[:, :, None] == group[:, None, :]) | (group[:, None, :] == 0)
    embedded = model.model.language_model.embed_tokens(ids)
    images = (ids == model.config.image_token_id)[..., None]
    inputs = {
        "inputs_embeds": embedded.masked_scatter(images, torch.cat([example.seen for example in batch])),
        "attention_mask": (visible & torch.ones(width, width, dtype=torch.bool).tril())[:, None],
        "position_ids": places,
    }
    return Rows(inputs, targets, torch.tensor(hints))


def train(folder: Path, seed: int = 0, *, report: Callable[..., None] = lambda *_: None) -> Path:
    """Saves a checkpoint that has learned to answer."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums come out the same whatever the number of cores
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, processor = build_model()
            trainer = Trainer(model)
        rng = random.Random(seed)
        _teach(trainer, list(examples(processor, rng, PAGES)), rng, report)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _teach(trainer: Trainer, pages: list[Example], rng: random.Random, report: Callable[..., None]) -> None:
    import torch

    model = trainer.model
    trainer.start()
    for step in range(LOOK_STEPS):
        report("look", step, trainer.look(rng.sample(pages, LOOK_BATCH), RATE * _warm(step)), model)
    with torch.no_grad():  # the vision tower has learned enough
        pages = [replace(e, seen=model.model.get_image_features(e.pixels, e.grid).pooler_output[0]) for e in pages]
    short = [shortened(page) for page in pages]
    trainer.start()
    for step in range(SHORT_STEPS):
        report("short", step, trainer.answer(rng.sample(short, SHORT_BATCH), RATE * _warm(step)), model)
    for step in range(WHOLE_STEPS):
        rate = RATE * (1 + math.cos(math.pi * step / WHOLE_STEPS)) / 2
        report("whole", step, trainer.answer(rng.sample(pages, WHOLE_BATCH), rate), model)


def _warm(step: int) -> float:
    return min(1.0, (step + 1) / 20)
