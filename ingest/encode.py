"""From chunks to vectors, and from a picture's vector to its tags. Knows encoders, pages and where a file lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ingest.timing import stage
from ingest.worker import InProcess, Pool
from mmrag.index import Vectors
from mmrag.models import Encoders
from mmrag.render import render_page
from mmrag.tags import ZeroShotTagger
from mmrag.types import Chunk, Page, RegionKind

TASK_CHARACTERS = 12_000
"""Of the texts that are encoded in one go, some 3,000 tokens: about a second, so that at the end no core waits long."""


class Encoding:
    """The vectors of a document's chunks, while they are being made.

    Without an image encoder a picture is found by its caption, its words, the text around it and its description. What
    the text encoder cannot read (Chinese, for the bundled one) gets no vector: it would only be in the way of what it
    can. An image encoder's collection holds images alone: the vector of a description would lie nearer to every
    question than any image does, whatever they show. There a description is found by the legs that read text.
    """

    def __init__(self, chunks: Sequence[Chunk], source: Path, encoders: Encoders, pool: Pool | InProcess) -> None:
        """`source` is what the pages are drawn from."""
        self._pool, self._chunks = pool, chunks
        self._pictures = [chunk for chunk in chunks if chunk.kind is RegionKind.PICTURE]
        worded = [chunk for chunk in chunks if chunk.encoded_text and encoders.reads(chunk.encoded_text)]
        # Sorted by length, texts of a batch need little padding.
        self._worded = sorted(worded, key=lambda chunk: len(chunk.encoded_text))
        anywhere = getattr(encoders.text, "anywhere", None)
        submit = pool.submit_unlimited if anywhere else pool.submit_here
        to_vectors = anywhere or encoders.text.get_text_embedding_batch
        self._texts = [
            submit(_encode_texts, to_vectors, [chunk.encoded_text for chunk in task]) for task in _tasks(self._worded)
        ]
        self._has_images = encoders.image is not None
        images = [(encoders.image, source, self._pictures)] if self._has_images else []
        self._images = [pool.submit_here(_encode_images, *args) for args in images]

    def is_done(self) -> bool:
        return all(future.done() for future in (*self._texts, *self._images))

    def vectors(self) -> tuple[Vectors, Vectors]:
        """Of the text and of the image collection, as soon as they are there."""
        rows = self._results(self._texts)
        vectors: dict[str, Sequence[float]] = dict(zip((chunk.id for chunk in self._worded), rows, strict=True))
        text = {c.id: vectors[c.id] for c in self._chunks if c.id in vectors and (c.text or c.description)}
        if not self._has_images:
            return text, {chunk.id: vectors[chunk.id] for chunk in self._pictures if chunk.id in vectors}
        images = self._results(self._images)
        return text, dict(zip((chunk.id for chunk in self._pictures), images, strict=True))

    def _results(self, futures: Sequence[Future[Any]]) -> list[Any]:
        return [row for future in futures for row in self._pool.result(future)]


def encode(chunks: Sequence[Chunk], source: Path, encoders: Encoders) -> tuple[Vectors, Vectors]:
    """The vectors of `Encoding`, made at once in this process."""
    return Encoding(chunks, source, encoders, InProcess()).vectors()


def _tasks(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    task: list[Chunk] = []
    characters = 0
    for chunk in chunks:
        if task and characters + len(chunk.encoded_text) > TASK_CHARACTERS:
            yield task
            task, characters = [], 0
        task.append(chunk)
        characters += len(chunk.encoded_text)
    if task:
        yield task


def _encode_texts(to_vectors: Callable[[list[str]], Any], texts: list[str]) -> Any:
    with stage("encoding text"):
        return np.asarray(to_vectors(texts), dtype=np.float32)  # (texts, dim)


def _encode_images(encoder: Any, source: Path, pictures: Sequence[Chunk]) -> list[Any]:
    with stage("encoding pictures"):
        crops = [render_page(source, chunk.page, clip=chunk.box) for chunk in pictures]
        return list(encoder.get_image_embedding_batch(crops))


def tagged(pages: Sequence[Page], chunks: Sequence[Chunk], images: Vectors, tagger: ZeroShotTagger) -> list[Page]:
    """The pages, their pictures tagged by the vectors that the image collection gets of them."""
    vectors = {chunk.spans[0].region_id: images[chunk.id] for chunk in chunks if chunk.id in images}
    tags = dict(zip(vectors, tagger.tags(list(vectors.values())), strict=True))
    return [
        replace(page, regions=tuple(replace(r, tags=tags[r.id]) if r.id in tags else r for r in page.regions))
        for page in pages
    ]
