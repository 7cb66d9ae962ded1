"""LlamaIndex chat messages as what a chat template and a processor read, their images opened, blinded or shrunk.

Knows no model. Opens no URL and no path: an image comes as bytes, from the program that asks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from PIL import Image

from mmrag.errors import UsageError, require
from mmrag.generate.budget import blank, share_budget, squat
from mmrag.render import open_image

Conversation = list[dict[str, Any]]
"""Messages of a role and their content: dicts of type `text` or `image`, the image as RGB."""

_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}


def read_messages(messages: Sequence[ChatMessage]) -> Conversation:
    if not messages:
        raise UsageError("A conversation needs a message: give one of the user's.")
    return [{"role": _role(message), "content": [_part(block) for block in message.blocks]} for message in messages]


def _role(message: ChatMessage) -> str:
    if message.role not in _ROLES:
        raise UsageError(f"Messages of the role {message.role.value} cannot be given to this model: use  user.")
    return _ROLES[message.role]


def _part(block: Any) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, ImageBlock):
        return {"type": "image", "image": open_image(payload(block))}
    raise UsageError(f"A {type(block).__name__} cannot be given to this model: use TextBlock and ImageBlock.")


def payload(block: ImageBlock) -> bytes:
    # A path or address may have come out of a document: what it names could be any file or server.
    if block.path is not None or block.url is not None or block.image is None:
        raise UsageError("An ImageBlock must hold the image itself: give its bytes as `image`, no path and no url.")
    data = block.image if isinstance(block.image, bytes) else _read(block.image)
    try:
        return base64.b64decode(data, validate=True)  # the form ImageBlock brings bytes into
    except binascii.Error:
        return data


def _read(file: Any) -> bytes:
    file.seek(0)
    data: bytes = file.read()
    return data


def images_of(conversation: Conversation) -> list[Image.Image]:
    return [part["image"] for message in conversation for part in message["content"] if part["type"] == "image"]


def with_images(conversation: Conversation, images: Sequence[Image.Image]) -> Conversation:
    """The conversation with other images in the places of its own."""
    rest = iter(images)
    return [
        message
        | {
            "content": [
                part | {"image": next(rest)} if part["type"] == "image" else part for part in message["content"]
            ]
        }
        for message in conversation
    ]


def blinded(conversation: Conversation) -> Conversation:
    """The same words beside images of the same sizes that show nothing."""
    return with_images(conversation, [blank(image) for image in images_of(conversation)])


def fitted(conversation: Conversation, budget: int, patch: int, merge: int) -> Conversation:
    """Its images resized as Qwen's models want them, within `budget` visual tokens together."""
    images = images_of(conversation)
    if not images:
        return conversation
    fetch = require("qwen_vl_utils", extra="full").fetch_image
    limits = share_budget([image.size for image in images], budget, patch, merge)
    resized = [_resized(fetch, image, limit, patch, merge) for image, limit in zip(images, limits, strict=True)]
    return with_images(conversation, resized)


def _resized(fetch: Callable[..., Image.Image], image: Image.Image, limit: int, patch: int, merge: int) -> Image.Image:
    unit = patch * merge
    sheet = squat(image, limit // unit**2, unit)
    # qwen-vl-utils would blow tiny images up past their share: the least is one token.
    return fetch({"image": sheet, "min_pixels": unit**2, "max_pixels": limit}, image_patch_size=patch)
