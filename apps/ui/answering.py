"""Answers questions in threads of their own, so that an answer goes on when its page is reloaded or left.

Knows no Streamlit: a page starts a turn, and reads it as often as it likes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from mmrag.errors import MmragError, brief
from mmrag.types import Answer

if TYPE_CHECKING:
    from mmrag.engine import Rag

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Turn:
    """A question and what has become of it so far."""

    question: str
    """As typed."""
    picture: bytes | None = None
    documents: tuple[str, ...] = ()
    """Ids of those that are searched; none for all."""
    as_typed: bool = False
    """Not to be rewritten."""
    asked: str = ""
    """As asked, which is not as typed where it was rewritten to stand alone."""
    said: str = ""
    """What a model has written so far."""
    answer: Answer | None = None
    error: str = ""
    done: Event = field(default_factory=Event)
    _stop: Event = field(default_factory=Event)
    _begin: Lock = field(default_factory=Lock)
    """Taken by the thread that answers."""

    def begin(self, rag: Rag, earlier: Sequence[Answer], *, top_k: int) -> None:
        """Has it answered, unless that has begun. `earlier` is what was said before, of which it may speak."""
        if self._begin.acquire(blocking=False):
            Thread(target=self._work, args=(rag, earlier, top_k), name="answer", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        self.error = self.error or "Stopped."
        self.done.set()

    def _work(self, rag: Rag, earlier: Sequence[Answer], top_k: int) -> None:
        try:
            found = self._ask(rag, earlier, top_k)
        except (MmragError, OSError) as error:
            self.error = self.error or str(error)
        except Exception as error:  # a defect of ours must not leave a reader waiting
            log.exception("a question was not answered")
            self.error = self.error or f"This went wrong in mmrag ({type(error).__name__}: {brief(error)}): ask again."
        else:
            self.answer = None if self._stop.is_set() else found
        finally:
            self.done.set()

    def _ask(self, rag: Rag, earlier: Sequence[Answer], top_k: int) -> Answer | None:
        self.asked = (
            self.question
            if self.as_typed
            else rag.stand_alone(self.question, [said for said in earlier if said.question])
        )
        pieces = rag.ask_stream(self.asked, image=self.picture, documents=self.documents or None, top_k=top_k)
        for piece in pieces:
            if isinstance(piece, Answer):
                return piece
            if self._stop.is_set():
                break
            self.said += piece
        return None
