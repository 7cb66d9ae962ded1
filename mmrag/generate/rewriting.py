"""Asks a model to say a follow-up question so that it stands alone, and checks that it made nothing up.

What the model says is taken when it is one question in the same language whose figures and names stand in the
conversation. Knows LlamaIndex's LLMs and text, no document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import LLM

from mmrag import prompts
from mmrag.abstain import names
from mmrag.asking import reply
from mmrag.facts import missing_figures
from mmrag.followups import Turn
from mmrag.generate.marks import quotable
from mmrag.text import STOPWORDS, is_mostly_cjk, query_tokens, tokens

_TURNS = 6
_QUESTION_CHARACTERS, _ANSWER_CHARACTERS = 500, 300
_LABEL = re.compile(
    r"^(?:(?:last|rewritten|stand-?alone) )?question:\s*|^(?:独立|改写后的)?问题[：:]\s*", re.IGNORECASE
)
_QUOTES = "«»\"'“”「」` "
_ENDS = ("?", "？")
_ROOM = 120
"""Characters that a rewritten question may have more than it and the longest of the conversation together."""
_KEPT = 0.5
"""Of the question's own words that must be there again: the others may have been pronouns and their like."""
# What Chinese questions are built with, so that it need not stand in the conversation.
_CJK_BUILDING = set("的了是在有和与及为其这那年月度中对于由被把从到多少什么哪谁几何如怎样吗呢请问个些一？，。?, ")


def rewrite(llm: LLM, question: str, turns: Sequence[Turn]) -> str | None:
    """None where the model said what cannot be taken; raises GenerationError where it says nothing."""
    shown = turns[-_TURNS:]
    lines = [
        prompts.TURN.format(
            question=quotable(turn.question, _QUESTION_CHARACTERS), answer=quotable(turn.answer, _ANSWER_CHARACTERS)
        )
        for turn in shown
    ]
    lines.append(prompts.LAST_QUESTION.format(question=quotable(question, _QUESTION_CHARACTERS)))
    said = reply(
        llm,
        [
            ChatMessage(role=MessageRole.SYSTEM, content=prompts.STAND_ALONE),
            ChatMessage(role=MessageRole.USER, content="\n".join(lines)),
        ],
    )
    return read_rewritten(said, question, shown)


def read_rewritten(said: str, question: str, turns: Sequence[Turn]) -> str | None:
    """The question that a reply holds, if it says no more than the conversation does."""
    lines = [line for line in said.splitlines() if line.strip()]
    found = _LABEL.sub("", lines[0].strip(_QUOTES)).strip(_QUOTES) if len(lines) == 1 else ""
    longest = len(question) + max((len(turn.question) for turn in turns), default=0) + _ROOM
    if not found or len(found) > longest or is_mostly_cjk(found) != is_mostly_cjk(question):
        return None
    if question.rstrip().endswith(_ENDS) and not found.endswith(_ENDS):
        return None  # it answers
    known = "\n".join([question, *(text for turn in turns for text in turn)])
    return found if _is_known(found, known) and _keeps(found, question) else None


def _is_known(found: str, known: str) -> bool:
    """Whether its figures and names stand in the conversation."""
    there = set(tokens(known))
    if missing_figures(found, known) or not all(there.issuperset(tokens(name)) for name in names(found)):
        return False
    # The first word has a capital in any case.
    if not there.union(STOPWORDS).issuperset(tokens(found)[:1]):
        return False
    return not is_mostly_cjk(found) or set(found) <= set(known) | _CJK_BUILDING


def _keeps(found: str, question: str) -> bool:
    own, there = query_tokens(question), set(tokens(found))
    content = [token for token in own if token not in STOPWORDS]
    numerals = [figure for figure in missing_figures(question, found) if figure[:1].isdigit()]
    kept = sum(token in there for token in content)
    return not numerals and (not content or is_mostly_cjk(question) or kept >= _KEPT * len(content))
