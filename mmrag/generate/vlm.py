"""A vision-language checkpoint in this process: conversations in, text or log-probabilities out.

Knows how Qwen's processors want images and that every other architecture's resize their own. Knows no LlamaIndex, opens
no URL, unpickles nothing, and runs no code that comes with a checkpoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from mmrag.checkpoint import CONFIG, TEXT_PARTS, Form, fast_dtype, file_names, identify, locate, placement
from mmrag.errors import MissingExtra, MmragError, UsageError, brief, require, require_installed
from mmrag.generate.conversation import Conversation, blinded, fitted, images_of
from mmrag.generate.decoding import Contrast, Decoding, Draw, Watch, contrasted, cut_at_stop

_FORM = Form(
    parts={
        **CONFIG,
        **TEXT_PARTS,
        "image processor": ("preprocessor_config.json", "processor_config.json"),
    },
    instead=(
        "--profile offline  which needs no weights, or  "
        "--generator openai --base-url http://localhost:8000/v1 --model NAME  with a server that runs one"
    ),
)

_POINTING = {f"<|{what}_{side}|>" for what in ("object_ref", "box", "quad") for side in ("start", "end")}
"""Qwen's special tokens around a thing that it names and around the place where it sees it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Conversations as tensors; for a contrast, followed by the same conversations blinded."""

    inputs: Any
    width: int
    """Tokens of the longest, and of all when padded."""
    rows: int
    """Conversations, the blinded ones not counted."""
    tokens: list[int]
    visual_tokens: list[int]


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    stopped: str
    """Why it ends: `end` of the model's turn, `stop` string, `length`, or `repetition` (cut off in a loop)."""
    prompt_tokens: int
    visual_tokens: int
    completion_tokens: int


class VisionLanguageModel:
    """One loaded checkpoint. Not for two threads at once: Qwen's models keep the last prompt's positions."""

    def __init__(
        self,
        name: str,
        revision: str | None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        device_map: Any = None,
        load_in_4bit: bool = False,
    ) -> None:
        require_installed("torch", "transformers", extra="full")
        folder = locate(name, revision, _FORM)
        self.device, self.dtype = placement(device, dtype or fast_dtype(device))
        if load_in_4bit:
            device_map = device_map or {"": self.device}
        self._model, self._processor = _load(name, folder, self.dtype, device_map, load_in_4bit)
        if device_map is None:
            self._model.to(self.device)
        self._patch, self._merge = _units(self._processor)
        text = self._model.config.get_text_config()
        self.context_window: int = getattr(text, "max_position_embeddings", 4096)
        precision = "4bit" if load_in_4bit else self.dtype
        self.identity = f"{self._model.config.model_type}:{identify(name, revision, folder)}/{precision}"
        self._ends = _turn_ends(self._model, self.tokenizer)
        self._silent = _silent(self.tokenizer) | self._ends

    @property
    def tokenizer(self) -> Any:
        return self._processor.tokenizer

    @property
    def resizable(self) -> int:
        """Pixels along the side of a visual token; 0 where the processor resizes images and no budget holds."""
        return self._patch * self._merge

    def encode(self, conversations: Sequence[Conversation], budget: int, decoding: Decoding) -> Prompt:
        rows = list(conversations)
        if self.resizable:
            rows = [fitted(row, budget, self._patch, self._merge) for row in rows]
        if decoding.contrast:
            rows += [blinded(row) for row in rows]
        inputs = self._tensors(rows)
        ids = inputs["input_ids"]  # (rows, width), padded on the left
        count = len(conversations)
        placeholder = getattr(self._processor, "image_token_id", None)
        visual = (ids == placeholder).sum(dim=1).tolist() if placeholder is not None else [0] * len(rows)
        tokens = inputs["attention_mask"].sum(dim=1).tolist()
        self._check_length(ids.shape[1], max(visual), decoding.max_new_tokens)
        return Prompt(inputs, ids.shape[1], count, tokens[:count], visual[:count])

    def _tensors(self, conversations: list[Conversation]) -> Any:
        options: dict[str, Any] = {"padding": True}
        if self.resizable and any(images_of(conversation) for conversation in conversations):
            options["do_resize"] = False  # qwen-vl-utils has
        inputs = self._processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            # Words of a document that look like the model's own marks stay words: no turn ended, no image announced.
            sanitize_control_tokens=True,
            processor_kwargs=options,
        )
        return inputs.to(self._model.device, dtype=self._model.dtype)

    def _check_length(self, width: int, visual: int, new: int) -> None:
        if width + new > self.context_window:
            raise UsageError(
                f"The prompt takes {width} tokens, {visual} of them for images, and the answer up to {new}: together "
                f"more than the {self.context_window} that the model reads. Give less evidence, or lower "
                "max_visual_tokens or max_new_tokens."
            )

    def reply(
        self,
        prompt: Prompt,
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        streamer: Any = None,
        cancelled: Event | None = None,
    ) -> list[Reply]:
        import torch

        config = require("transformers", extra="full").GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(self._ends),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        watch = Watch(self.decode, prompt.width, self._ends, decoding, cancelled or Event())
        with torch.inference_mode(), _attention(self._model.device):
            ids = self._model.generate(
                **prompt.inputs,
                generation_config=config,
                logits_processor=_processors(decoding, seeds),
                stopping_criteria=[watch],
                streamer=streamer,
            )
        return [self._read(row, ids[row].tolist(), prompt, watch, decoding.stop) for row in range(prompt.rows)]

    def _read(self, row: int, ids: list[int], prompt: Prompt, watch: Watch, stops: Sequence[str]) -> Reply:
        length, stopped = watch.stopped.get(row, (len(ids), "length"))
        text = cut_at_stop(self.decode(ids[prompt.width : length]), stops)
        used = prompt.tokens[row], prompt.visual_tokens[row], length - prompt.width
        return Reply(text, stopped, *used)

    def decode(self, ids: Sequence[int] | int) -> str:
        """What the model says, the boxes it points at in its own marks. A streamer may ask for a single token."""
        spoken = [number for number in ([ids] if isinstance(ids, int) else ids) if number not in self._silent]
        text: str = self.tokenizer.decode(spoken, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def score(self, prompt: Prompt, continuations: Sequence[str], alpha: float) -> list[float]:
        """Log-probability of each continuation of a prompt of one conversation, the end of the turn not counted."""
        import torch

        tokens = [self.tokenizer.encode(text, add_special_tokens=False) for text in continuations]
        rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in tokens], batch_first=True)
        rows = rows.to(self._model.device)  # (n, longest)
        with torch.inference_mode(), _attention(self._model.device):
            logits = self._continued(prompt, rows).float()  # (n or 2 n, longest, vocabulary)
            if alpha:
                seen, blind = logits.chunk(2)
                logits = contrasted(seen, blind, alpha)
            chosen = torch.log_softmax(logits, dim=-1).gather(-1, rows[..., None])[..., 0].cpu()
        return [float(row[: len(ids)].sum()) for row, ids in zip(chosen, tokens, strict=True)]

    def _continued(self, prompt: Prompt, rows: Any) -> Any:
        """Logits of every token of `rows`: the prompt is read once, whatever their number."""
        import torch

        _forget_positions(self._model)
        keep = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self._model.forward).parameters else {}
        begun = self._model(**prompt.inputs, use_cache=True, **keep)
        first = begun.logits[:, -1:].repeat_interleave(len(rows), dim=0)
        if rows.shape[1] == 1:
            return first
        begun.cache.batch_repeat_interleave(len(rows))
        # No attention mask: the prompts have no padding, and that of `rows` comes after all that counts.
        repeated = rows[:, :-1].repeat(len(begun.logits), 1)
        rest = self._model(input_ids=repeated, cache=begun.cache, use_cache=True).logits
        return torch.cat([first, rest], dim=1)


def _processors(decoding: Decoding, seeds: Sequence[int]) -> list[Any]:
    processors: list[Any] = []
    if decoding.contrast:
        processors.append(Contrast(decoding.contrast))
    if decoding.temperature:
        rows = [*seeds, *seeds] if decoding.contrast else seeds
        processors.append(Draw(decoding.temperature, decoding.top_p, rows))
    return processors


def _attention(device: Any) -> AbstractContextManager[Any]:
    """On a GPU, without cuDNN's kernels: torch prefers them on an H100, and they are built anew for every length.

    Every token of an answer makes another length: it took 66 to 136 ms, where it takes 27 to 43 with the others.
    While this lasts it holds for the whole process, as torch has it.
    """
    if device.type != "cuda":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(kernels)


def _forget_positions(model: Any) -> None:
    """Qwen's models would count a text's positions as the last image prompt's."""
    inner: Any = getattr(model, "model", None)
    if hasattr(inner, "rope_deltas"):
        inner.rope_deltas = None


def _units(processor: Any) -> tuple[int, int]:
    """Patch size and patches along a token's side, where the processor is one that qwen-vl-utils resizes for."""
    images = processor.image_processor
    if type(images).__name__.startswith("Qwen2VLImageProcessor"):  # Qwen2.5's and Qwen3's too
        return images.patch_size, images.merge_size
    return 0, 0


def _turn_ends(model: Any, tokenizer: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    found = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    return {end for end in found if end is not None}


def _silent(tokenizer: Any) -> set[int]:
    """Special tokens that are not part of a text: they begin, end or pad it, or stand for an image."""
    # A tokenizer file may make a token special without giving it a role, and a role may have an ordinary token.
    marked = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {
        number
        for number in marked | set(tokenizer.all_special_ids)
        if tokenizer.convert_ids_to_tokens(number) not in _POINTING
    }


def _load(name: str, folder: Path, dtype: str, device_map: Any, load_in_4bit: bool) -> tuple[Any, Any]:
    import torch

    transformers = require("transformers", extra="full")
    if "config.json" not in file_names(folder):
        raise _FORM.not_found(name, "has no config.json")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    weights: dict[str, Any] = {"dtype": getattr(torch, dtype), "use_safetensors": True, "device_map": device_map}
    if load_in_4bit:
        weights["quantization_config"] = _four_bits(dtype)
    try:
        _check_family(name, transformers.AutoConfig.from_pretrained(folder, **options))
        if part := _FORM.lacks(file_names(folder)):
            raise _FORM.not_found(name, f"has no {part}")
        processor = transformers.AutoProcessor.from_pretrained(folder, **options)
        model, report = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, output_loading_info=True, **weights, **options
        )
        _prepare(name, processor)
    except MmragError:
        raise
    except ImportError as error:
        hint = "run  pip install 'mmrag[full]' accelerate"
        raise MissingExtra(f"{name} needs a package that is not installed ({brief(error)}): {hint}") from error
    except Exception as error:  # OSError, ValueError, SafetensorError, RuntimeError …: each loader has its own
        raise _FORM.not_found(name, f"cannot be loaded from {folder} ({brief(error)})") from error
    # transformers fills what a file lacks with random numbers and goes on.
    if missing := sorted(report["missing_keys"]):
        raise _FORM.not_found(name, f"lacks {len(missing)} of its weights, {missing[0]} for one")
    return model.eval(), processor


def _check_family(name: str, config: Any) -> None:
    if type(config) not in require("transformers", extra="full").MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UsageError(
            f"{name} is a {config.model_type} model, which does not read images and write text: "
            "name a vision-language checkpoint, for example  Qwen/Qwen2-VL-2B-Instruct."
        )


def _four_bits(dtype: str) -> Any:
    import torch

    try:
        require("bitsandbytes", extra="full")
        require("accelerate", extra="full")
    except MissingExtra as error:
        raise MissingExtra("4-bit weights need two more packages: run  pip install bitsandbytes accelerate") from error
    return require("transformers", extra="full").BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
    )


def _prepare(name: str, processor: Any) -> None:
    """Left padding, so that every row of a batch ends where its answer begins; a beginning mark in the template."""
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if not processor.chat_template:
        raise _FORM.not_found(name, "has no chat template, so it was not trained to answer")
    # A tokenizer that writes the mark itself (LLaMA's) cannot keep a document's marks words at the same time.
    sample = processor.apply_chat_template([{"role": "user", "content": [{"type": "text", "text": "?"}]}])
    begins = tokenizer.bos_token_id in tokenizer.encode("") if tokenizer.bos_token else False
    if begins and not sample.startswith(tokenizer.bos_token):
        processor.chat_template = "{{ bos_token }}" + processor.chat_template
