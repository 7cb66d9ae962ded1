"""The legs of retrieval and their fusion: lexical (chunks, pages), dense text, visual; one search per modality.

Legs speak different scales (BM25, cosines of text to text, of text to picture), so each is standardised over what it found
before they are added. Knows the index and the encoders; knows no generator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode

from mmrag.errors import UsageError
from mmrag.index import IMAGE, TEXT, Index
from mmrag.models import Encoders
from mmrag.text import has_cjk, query_tokens, tokens
from mmrag.types import Chunk, Document, Evidence, Region

PageKey = tuple[str, int]
"""(document id, 1-based page)"""

DEPTH = 100
"""How many hits each leg gives to the fusion."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each leg's standardised score counts. Fitted on public questions: see eval/LOG.md."""

    page_words: float = 1.0
    chunk_words: float = 1.0
    dense: float = 1.0
    visual: float = 0.3
