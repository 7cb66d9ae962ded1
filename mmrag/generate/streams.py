"""Generators that block, read without blocking an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any


async def in_threads(items: Any) -> AsyncGenerator[Any, None]:
    """The items of a generator that blocks, without blocking the event loop."""
    pending: Any = None
    try:
        while True:
            pending = asyncio.ensure_future(asyncio.to_thread(next, items, None))
            if (item := await asyncio.shield(pending)) is None:
                return
            yield item
    finally:
        if pending is not None and not pending.done():  # cancelled: a generator that runs cannot be closed
            await asyncio.wait([pending])
        await asyncio.to_thread(items.close)
