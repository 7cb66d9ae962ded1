"""Rerankers by name: the bundled cross-encoder, or any of sentence-transformers', as LlamaIndex node postprocessors.

Knows how a question and a passage are read together; knows nothing of pages, legs or their fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from mmrag.checkpoint import CONFIG, TEXT_PARTS, Form, file_names, identify, locate, placement
from mmrag.errors import MmragError, UsageError, brief, require, require_installed

MAX_TOKENS = 512
"""Question and passage together: no chunk is longer, and a model of 8,192 would let one long table cost seconds."""
_FORM = Form(
    parts={**CONFIG, **TEXT_PARTS},
    instead="--reranker bundled  whose weights come with the install",
    ignored=("onnx/*", "openvino/*"),
)


class PairScorer(Protocol):
    """A cross-encoder: how relevant each passage is to the question, greater is better."""

    identity: str

    def score(self, question: str, passages: Sequence[str]) -> list[float]: ...


class Reranker(BaseNodePostprocessor):
    """Scores every node by a cross-encoder and puts the best first; leaves none out."""

    identity: str = ""
    english_only: bool = False
    _scorer: PairScorer = PrivateAttr()

    def __init__(self, scorer: PairScorer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.identity = scorer.identity
        self.english_only = getattr(scorer, "english_only", False)
        self._scorer = scorer

    @classmethod
    def class_name(cls) -> str:
        return "Reranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise UsageError("A reranker needs the question: give query_bundle or query_str.")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        scores = self._scorer.score(query_bundle.query_str, texts) if texts else []
        scored = [NodeWithScore(node=node.node, score=score) for node, score in zip(nodes, scores, strict=True)]
        return sorted(scored, key=NodeWithScore.get_score, reverse=True)


class HubCrossEncoder:
    """A CrossEncoder of sentence-transformers that gives one score for a pair, by hub name or local folder."""

    def __init__(self, name: str, *, device: str | None = None) -> None:
        self._model, weights = _loaded(name, device)
        if (count := self._model.num_labels) != 1:
            raise UsageError(f"{name} gives {count} scores for a pair: name a reranker that gives one.")
        self.identity = f"cross-encoder:{weights}"

    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        """The model's raw logits."""
        import torch

        # sentence-transformers sorts by length itself. No sigmoid: far from the middle it would make all pages alike.
        pairs = [(question, passage) for passage in passages]
        logits = self._model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return [float(logit) for logit in logits]


class HubEntailment:
    """An NLI model (or a cross-encoder of one score) as the probability that a premise entails a hypothesis."""

    def __init__(self, name: str, *, device: str | None = None) -> None:
        self._model, weights = _loaded(name, device)
        self._entails = _entailment_label(name, self._model)
        self.identity = f"nli:{weights}"

    def __call__(self, premise: str, hypothesis: str) -> float:
        import torch

        logits = self._model.predict([(premise, hypothesis)], activation_fn=torch.nn.Identity(), convert_to_tensor=True)
        chances = torch.sigmoid(logits.float()) if self._model.num_labels == 1 else logits.float().softmax(dim=-1)
        return float(chances.reshape(-1)[self._entails])


def _entailment_label(name: str, model: Any) -> int:
    if model.num_labels == 1:
        return 0
    labels = {int(number): str(label).lower() for number, label in model.config.id2label.items()}
    found = [number for number, label in labels.items() if label.startswith("entail")]
    if len(found) != 1:
        raise UsageError(f"{name} does not say which of its labels means entailment: name an NLI model that does.")
    return found[0]


def _loaded(name: str, device: str | None) -> tuple[Any, str]:
    """The model, and what names its weights."""
    require_installed("torch", "sentence_transformers", extra="full")
    folder = locate(name, None, _FORM)
    return _load(name, folder, *placement(device, None)), identify(name, None, folder)


def _load(name: str, folder: Path, device: str, dtype: str) -> Any:
    import torch
    from sentence_transformers import CrossEncoder

    if part := _FORM.lacks(file_names(folder)):
        raise _FORM.not_found(name, f"has no {part}")
    weights = {"use_safetensors": True, "dtype": getattr(torch, dtype)}
    try:
        _check_architecture(name, folder)
        model = CrossEncoder(str(folder), device=device, local_files_only=True, model_kwargs=weights)
    except MmragError:
        raise
    except Exception as error:  # OSError, ValueError, SafetensorError, RuntimeError …: each loader has its own
        raise _FORM.not_found(name, f"cannot be loaded from {folder} ({brief(error)})") from error
    model.max_seq_length = min(model.max_seq_length or MAX_TOKENS, MAX_TOKENS)
    return model


def _check_architecture(name: str, folder: Path) -> None:
    """An encoder without a head to score by would be given one of random numbers."""
    transformers = require("transformers", extra="full")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    architecture = next(iter(config.architectures or ()), config.model_type)
    if not architecture.endswith(("ForSequenceClassification", "ForCausalLM")):
        raise UsageError(
            f"{name} is a {architecture}, which does not score pairs: "
            "name a cross-encoder, for example  cross-encoder/ms-marco-MiniLM-L6-v2."
        )
