"""The legs of retrieval and their fusion: lexical (chunks and pages), dense text, visual, a picture, a reranker.

Legs speak different scales (BM25, cosines of text to text, of text to picture), so each is standardised over what it
found before they are added. Knows the index and the encoders; knows no generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import pstdev
from typing import NamedTuple, TypedDict, TypeVar

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode

from mmrag.errors import UsageError
from mmrag.index import Index
from mmrag.models import Encoders, reads
from mmrag.questions import labels, leading_label, page_reference
from mmrag.render import ImageInput, Picture
from mmrag.text import query_tokens, tokens
from mmrag.types import Chunk, Document, Evidence, LegVote, Region, RegionKind
from mmrag.vectors import IMAGE, TEXT

_Key = TypeVar("_Key")

PageKey = tuple[str, int]
"""(document id, 1-based page)"""

DEPTH = 300
"""How many hits each leg gives to the fusion."""
RERANKED = 20
"""How many pages a reranker reads, the best chunk of each; the others keep their order after the worst of these."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each leg's standardised score counts. Where they come from: eval/LOG.md."""

    page_words: float = 1.5
    chunk_words: float = 1.0
    dense: float = 1.0
    visual: float = 0.3
    page_number: float = 8.0
    label: float = 8.0
    image: float = 3.5  # a picture that is asked for weighs as much as all the words beside it: not measured
    rerank: float = 0.3


@dataclass(frozen=True, slots=True)
class PageHit:
    """A page with its fused score, what each leg gave to it, and the scores of its chunks."""

    key: PageKey
    score: float
    legs: dict[str, LegVote]
    agreement: float
    chunks: dict[str, float]


class Retriever(BaseRetriever):
    """Finds mixed evidence (text, tables, pictures); a LlamaIndex retriever whose nodes carry their geometry."""

    def __init__(
        self,
        index: Index,
        encoders: Encoders,
        *,
        weights: Weights = Weights(),
        top_k: int = 10,
        documents: Sequence[str] | None = None,
        reranker: BaseNodePostprocessor | None = None,
    ) -> None:
        super().__init__()
        self._index = index
        self._encoders = encoders
        self._weights = weights
        self._top_k = top_k
        self._documents = documents
        self.reranker = reranker

    @property
    def weights(self) -> dict[str, float]:
        """How much each leg counts, by its name."""
        return asdict(self._weights)

    def search(
        self,
        query: str = "",
        *,
        image: ImageInput | Picture | None = None,
        top_k: int = 10,
        documents: Sequence[str] | None = None,
        per_page: int = 1,
    ) -> list[Evidence]:
        """Regions of the `top_k` best pages, best first, at most `per_page` from each.

        With an `image`, pictures like it are looked for, and the words of `query`, if there are any, vote too; a store
        of captions is searched for the words on the image. `documents` limits the search to files of these names (or
        document ids); raises UsageError for an unknown one.
        """
        asked = self._read(query, image)
        with self._index.reading():  # a document may be replaced meanwhile
            return self._evidence(asked, self._rank(asked, documents)[:top_k], per_page)

    def rank_pages(
        self, query: str = "", *, image: ImageInput | Picture | None = None, documents: Sequence[str] | None = None
    ) -> list[PageHit]:
        """Every page that a leg found, by fused score."""
        return self._rank(self._read(query, image), documents)

    def legs(
        self, query: str = "", *, image: ImageInput | Picture | None = None, documents: Sequence[str] | None = None
    ) -> dict[str, Leg]:
        """What each leg found; a leg that cannot read the question's language is left out, so that it does not vote."""
        return self._legs(self._read(query, image), documents)

    def _rank(self, asked: _Asked, documents: Sequence[str] | None) -> list[PageHit]:
        return fuse(self._legs(asked, documents), asdict(self._weights))

    def _legs(self, asked: _Asked, documents: Sequence[str] | None) -> dict[str, Leg]:
        scope = resolve_documents(self._index, documents)
        legs = self._find(asked, None)
        if scope is not None:
            legs = {name: replace(leg, whole=legs[name]) for name, leg in self._find(asked, scope).items()}
        if self.reranker and self._weights.rerank and asked.words and reads(self.reranker, asked.words):
            legs["rerank"] = self._rerank(self.reranker, asked, fuse(legs, asdict(self._weights))[:RERANKED])
        return legs

    def evidence(self, query: str, hits: Sequence[PageHit], *, per_page: int = 1) -> list[Evidence]:
        """The best regions of ranked pages; of a page that has been removed since, none."""
        asked = _Asked(labels=labels(query), said=query)
        with self._index.reading():
            return self._evidence(asked, [hit for hit in hits if self._index.page(*hit.key)], per_page)

    def _read(self, query: str, image: ImageInput | Picture | None) -> _Asked:
        if image is None or query.strip():
            check_question(query)
        picture = None if image is None else self._encoders.picture(image)
        likeness = None if picture is None else self._encoders.encode_picture(picture)
        # Only what was typed names pages and figures: a picture of a page has numbers of its own.
        numbers, typed = page_reference(query) if query.strip() else ((), "")
        read = picture.words if picture else ""
        words = f"{typed} {read}".strip()
        if not words:
            return _Asked(likeness=likeness)
        text = self._encoders.text.get_query_embedding(words) if self._encoders.reads(words) else None
        visual = self._encoders.encode_image_query(words) if self._encoders.image or text is not None else None
        return _Asked(words, text, visual, likeness, numbers, labels(typed), f"{query} {read}".strip())

    def _find(self, asked: _Asked, documents: Sequence[str] | None) -> dict[str, Leg]:
        """Every leg that has something to go by, in the given documents (all of them when None)."""
        index, scope = self._index, _Scope(top_k=DEPTH, documents=documents)
        vectors = {"dense": (TEXT, asked.text), "visual": (IMAGE, asked.visual), "image": (IMAGE, asked.likeness)}
        found = {
            name: index.nearest(space, vector, **scope)
            for name, (space, vector) in vectors.items()
            if vector is not None
        }
        if asked.words:
            found["chunk_words"] = index.match_chunks(asked.words, **scope)
        legs = self._shown(found)
        if asked.words:
            legs["page_words"] = Leg(dict(index.match_pages(asked.words, **scope)), {})
        if asked.numbers:
            legs["page_number"] = Leg(dict(index.numbered_pages(asked.numbers, documents=documents)), {}, is_named=True)
        if asked.labels:
            legs["label"] = Leg(dict(index.labelled_pages(asked.labels, documents=documents)), {}, is_named=True)
        return legs

    def _shown(self, found: Mapping[str, list[tuple[str, float]]]) -> dict[str, Leg]:
        places = self._index.pages_of([chunk_id for hits in found.values() for chunk_id, _ in hits])
        # Chroma may hold vectors that the ledger does not show: of a removed document, or of one not yet committed.
        shown = {name: [hit for hit in hits if hit[0] in places] for name, hits in found.items()}
        return {name: leg_of_chunks(hits, places) for name, hits in shown.items()}

    def _rerank(self, reranker: BaseNodePostprocessor, asked: _Asked, hits: Sequence[PageHit]) -> Leg:
        """What a reranker says of pages, each by its best chunk."""
        evidence = self._evidence(asked, hits, per_page=1)
        nodes = [NodeWithScore(node=to_node(item), score=item.score) for item in evidence]
        kept = reranker.postprocess_nodes(nodes, query_bundle=QueryBundle(asked.words))
        scores = {node.node_id: node.get_score() for node in kept}
        found = self._shown({"rerank": list(scores.items())})["rerank"]
        return Leg(with_left_out(found.pages, [hit.key for hit in hits]), {})

    def _evidence(self, asked: _Asked, hits: Sequence[PageHit], per_page: int) -> list[Evidence]:
        known: dict[str, Document] = {d.id: d for d in self._index.documents()}
        found = []
        for hit in hits:
            for chunk, region in self._best_regions(asked, hit, per_page):
                document, page = known[hit.key[0]], hit.key[1]
                source = self._index.source(document)
                found.append(Evidence(document, page, region, chunk, hit.score, hit.legs, hit.agreement, source))
        return found

    def _best_regions(self, asked: _Asked, hit: PageHit, count: int) -> list[tuple[Chunk, Region]]:
        """Regions of a page: what the question names, then by score of their chunk, then by the words they share."""
        wanted, named = set(query_tokens(asked.said)), set(asked.labels)
        page = self._index.page(*hit.key)
        regions = {region.id: region for region in (page.regions if page else ())}
        ranked: dict[str, tuple[tuple[bool, float, int], Chunk]] = {}
        for chunk in self._index.chunks_of([hit.key]):
            score = hit.chunks.get(chunk.id, -1.0)  # below the worst that was found
            for span in chunk.spans:
                region = regions[span.region_id]
                is_named = bool(named) and region.kind.is_pointer and leading_label(region.text) in named
                rank = (is_named, score, len(wanted.intersection(tokens(chunk.text[span.start : span.end]))))
                if region.id not in ranked or rank > ranked[region.id][0]:
                    ranked[region.id] = (rank, chunk)
        best = sorted(ranked, key=lambda region_id: ranked[region_id][0], reverse=True)
        led: dict[str, str] = {}  # to a region from the best-ranked one that leads to it, mostly itself
        for region_id in best:
            led.setdefault(_named_by(regions[region_id], list(regions.values())).id, region_id)
        return [(ranked.get(to, ranked[by])[1], regions[to]) for to, by in list(led.items())[:count]]

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query, image = query_bundle.query_str, query_bundle.image_path
        found = self.search(query, image=image, top_k=self._top_k, documents=self._documents)
        return [NodeWithScore(node=to_node(evidence), score=evidence.score) for evidence in found]


def _named_by(region: Region, page: Sequence[Region]) -> Region:
    """What a caption or section title speaks of: its table or picture, the region after it; any other region itself."""
    if region.kind is RegionKind.CAPTION:
        return next((other for other in page if other.caption_id == region.id), region)
    if region.kind is RegionKind.SECTION_HEADER:
        below = page[1 + [other.id for other in page].index(region.id) :]
        return next((o for o in below if not o.kind.is_furniture and o.kind is not region.kind), region)
    return region


class _Asked(NamedTuple):
    """A question as the legs need it. A vector is None where nothing was asked that its encoder can read."""

    words: str = ""
    """Those typed, without the pages that they name, and those read on the picture."""
    text: Sequence[float] | None = None
    visual: Sequence[float] | None = None
    likeness: Sequence[float] | None = None
    """Of the picture that is asked with."""
    numbers: Sequence[int] = ()
    labels: Sequence[str] = ()
    said: str = ""
    """As `words`, with the pages."""


class _Scope(TypedDict):
    top_k: int
    documents: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Leg:
    """Scores of one leg by page, and by chunk where the leg ranks chunks; greater is better, any scale."""

    pages: Mapping[PageKey, float]
    chunks: Mapping[str, float]
    whole: Leg | None = None
    """What it found in the whole collection, where this is of some documents only: that sets its scale."""
    is_named: bool = False
    """The question names these pages: the scores (0..1) say how surely, and are not standardised."""


def leg_of_chunks(hits: Sequence[tuple[str, float]], places: Mapping[str, PageKey]) -> Leg:
    """A page is as good as its best chunk."""
    pages: dict[PageKey, float] = {}
    for chunk_id, score in hits:
        key = places[chunk_id]
        pages[key] = max(score, pages.get(key, score))
    return Leg(pages, dict(hits))


def with_left_out(scores: Mapping[_Key, float], keys: Sequence[_Key]) -> dict[_Key, float]:
    """Scores of all keys: those that a reranker left out stand one mean step below the last that it kept."""
    if not scores:
        return {}
    best, last = max(scores.values()), min(scores.values())
    step = (best - last) / (len(scores) - 1) if best > last else 1.0
    return dict.fromkeys(keys, last - step) | dict(scores)


def fuse(legs: Mapping[str, Leg], weights: Mapping[str, float]) -> list[PageHit]:
    """Weighted sum of standardised scores, best first; a leg gives nothing to what it did not find."""
    legs = {name: leg for name, leg in legs.items() if weights[name]}
    votes: dict[PageKey, dict[str, LegVote]] = {}
    chunks: dict[str, float] = {}
    for name, leg in legs.items():
        scale = leg.whole or leg
        scores = dict(leg.pages) if leg.is_named else standardise(leg.pages, scale.pages)
        rank_of = {score: rank for rank, score in reversed(list(enumerate(sorted(scores.values(), reverse=True), 1)))}
        for key, score in scores.items():  # pages of equal score share the better rank
            votes.setdefault(key, {})[name] = LegVote(rank_of[score], weights[name] * score)
        for chunk_id, score in standardise(leg.chunks, scale.chunks).items():
            chunks[chunk_id] = chunks.get(chunk_id, 0.0) + weights[name] * score
    text_legs = [name for name in legs if name in ("page_words", "chunk_words", "dense")]
    hits = [
        PageHit(
            key,
            score=sum(vote.score for vote in by_leg.values()),
            legs=by_leg,
            agreement=_mean([1 / by_leg[name].rank if name in by_leg else 0.0 for name in text_legs]),
            chunks=chunks,
        )
        for key, by_leg in votes.items()
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.key))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def standardise(scores: Mapping[_Key, float], scale: Mapping[_Key, float] | None = None) -> dict[_Key, float]:
    """Standard deviations (of `scale`, else of `scores`) above the worst, so that what was not found counts as worst.

    Hits that do not differ all get 1: a leg that found one page alone still votes for it.
    """
    scale = scores if scale is None else scale
    worst = min((*scores.values(), *scale.values()), default=0.0)
    spread = pstdev(scale.values()) if scale else 0.0
    if spread == 0:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - worst) / spread for key, score in scores.items()}


def check_question(text: str) -> None:
    """Raise UsageError for what cannot be asked."""
    if not text.strip():
        raise UsageError("The question is empty: type a few words.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("The question is not valid UTF-8: check the encoding of the terminal or file.") from None


def resolve_documents(index: Index, names: Sequence[str] | None) -> list[str] | None:
    """Document ids for file names or ids; None stays None (all of them)."""
    if not names:
        return None
    known = index.documents()
    ids = []
    for name in names:
        matches = [d.id for d in known if name in (d.name, d.id, d.path)]
        if not matches:
            shown = ", ".join(d.name for d in known[:5]) + (", …" if len(known) > 5 else "")
            raise UsageError(f"The store has no document {name!r}; it has {shown or 'none yet'} (see  mmrag list).")
        ids.extend(matches)
    return ids


def to_node(evidence: Evidence) -> TextNode:
    """Evidence as a LlamaIndex node: the chunk's text, with the region's place in its metadata."""
    place = evidence.to_json()
    metadata = {key: place[key] for key in ("document", "page", "region", "kind", "bbox")}
    # Generated words stand apart from the document's, under a name that says so to whatever model reads the node.
    described = {"described by a model": evidence.chunk.description} if evidence.chunk.description else {}
    return TextNode(
        id_=evidence.chunk.id,
        text=replace(evidence.chunk, description="").encoded_text,
        metadata=metadata | described,
        excluded_embed_metadata_keys=list(metadata),
        excluded_llm_metadata_keys=["region", "kind", "bbox"],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=evidence.document.id)},
    )
