"""From chunks to vectors, and from a picture's vector to its tags. Knows encoders, pages and where a file lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmrag.index import Vectors
from mmrag.models import Encoders
from mmrag.render import render_page
from mmrag.tags import ZeroShotTagger
from mmrag.types import Chunk, Page, RegionKind


def encode(chunks: Sequence[Chunk], path: Path, encoders: Encoders) -> tuple[Vectors, Vectors]:
    """Vectors of the text and of the image collection.

    Without an image encoder a picture is found by its caption, its words, the text around it and its description. What
    the text encoder cannot read (Chinese, for the bundled one) gets no vector: it would only be in the way of what it
    can. An image encoder's collection holds images alone: the vector of a description would lie nearer to every
    question than any image does, whatever they show. There a description is found by the legs that read text.
    """
    worded = [chunk for chunk in chunks if chunk.encoded_text and encoders.reads(chunk.encoded_text)]
    vectors = dict(
        zip(
            (chunk.id for chunk in worded),
            encoders.text.get_text_embedding_batch([chunk.encoded_text for chunk in worded]),
            strict=True,
        )
    )
    text_vectors = {chunk.id: vectors[chunk.id] for chunk in worded if chunk.text or chunk.description}
    pictures = [chunk for chunk in chunks if chunk.kind is RegionKind.PICTURE]
    if encoders.image is None:
        return text_vectors, {chunk.id: vectors[chunk.id] for chunk in pictures if chunk.id in vectors}
    crops = [render_page(path, chunk.page, clip=chunk.box) for chunk in pictures]
    return text_vectors, {
        chunk.id: vector
        for chunk, vector in zip(pictures, encoders.image.get_image_embedding_batch(crops), strict=True)
    }


def tagged(pages: Sequence[Page], chunks: Sequence[Chunk], images: Vectors, tagger: ZeroShotTagger) -> list[Page]:
    """The pages, their pictures tagged by the vectors that the image collection gets of them."""
    vectors = {chunk.spans[0].region_id: images[chunk.id] for chunk in chunks if chunk.id in images}
    tags = dict(zip(vectors, tagger.tags(list(vectors.values())), strict=True))
    return [
        replace(page, regions=tuple(replace(r, tags=tags[r.id]) if r.id in tags else r for r in page.regions))
        for page in pages
    ]
