"""Words for search: how text becomes lexical tokens, and how it is cut into sentences. Knows no index and no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from mmrag.once import once
from mmrag.types import TextSpan

# Chinese, Japanese and Korean are written without spaces: runs of these are cut into overlapping pairs.
_CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_CJK}]+|\d+(?:[.,]\d+)+|[^\W_{_CJK}]+")
_IS_CJK = re.compile(f"[{_CJK}]")
_CJK_SENTENCE = re.compile(r".+?(?:[。！？；]+[”」』）]?|[.!?]+(?=\s)|\n+|$)", re.DOTALL)
# Chinese and Japanese letters and full-width punctuation, between which no space is printed; Korean has spaces.
_SPACELESS = re.compile("[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")

# Words that shape a question but say nothing about where its answer stands. Short on purpose: BM25 already
# discounts whatever is frequent in the collection.
STOPWORDS = frozenset(
    """a about according all am an and any are as at be been being but by can could did do does doing for from had has
    have having he her here his how i if in into is it its itself many me more most much my no nor not of on only or
    other our out over own same she should so some such than that the their them then there these they this those to
    too under until up very was we were what when where which while who whom whose why will with would you
    your""".split()
)

# The same in Chinese, where a pair of characters across the end of such a word would be the rarest of all.
_CJK_QUESTION_WORDS = re.compile(
    "为什么|什么|多少|哪些|哪个|哪家|哪年|几个|怎么样|怎么|怎样|如何|是否|有没有|请问|以及|[是的了吗呢吧？]"
)

# What reports and papers abbreviate and Punkt's newspaper model does not know.
_BEFORE_FIGURE = re.compile(r"\b(?:nos?|refs?|vol|pp?|ch)\.\s*$", re.IGNORECASE)
_ABBREVIATIONS = ("e.g", "i.e", "fig", "figs", "tab", "eq", "eqs", "sec", "nos", "approx", "al", "cf", "resp", "ca")


def is_spaceless(character: str) -> bool:
    return _SPACELESS.match(character) is not None


def is_mostly_cjk(text: str) -> bool:
    """Whether a third of the letters or more are Chinese, Japanese or Korean."""
    return 3 * len(_IS_CJK.findall(text)) >= sum(c.isalpha() for c in text) > 0


def tokens(text: str) -> list[str]:
    """Lexical tokens: lower-case words, numbers without thousands separators, character pairs of CJK text."""
    return [token for run in _TOKEN.findall(unicodedata.normalize("NFKC", text).lower()) for token in _cut(run)]


def query_tokens(text: str) -> list[str]:
    """Distinct tokens of a question, without stop words (all of them if nothing else is left)."""
    found = list(dict.fromkeys(tokens(_CJK_QUESTION_WORDS.sub(" ", text)))) or tokens(text)
    return [token for token in found if token not in STOPWORDS] or found


def query_phrases(text: str) -> list[tuple[str, str]]:
    """Pairs of neighbouring tokens of a question that hold three Chinese characters in a row: words longer than two."""
    runs = _TOKEN.findall(unicodedata.normalize("NFKC", _CJK_QUESTION_WORDS.sub(" ", text)))
    return list(dict.fromkeys(pair for run in runs if _IS_CJK.match(run) for pair in pairwise(_cut(run))))


def _cut(run: str) -> Iterator[str]:
    if run[0].isdigit():
        yield re.sub(r",(?=\d{3}(?!\d))", "", run)
    elif _IS_CJK.match(run) and len(run) > 1:
        yield from (run[i : i + 2] for i in range(len(run) - 1))
    else:
        yield run


def sentence_spans(text: str) -> list[TextSpan]:
    """Where the sentences of `text` stand: English by NLTK's Punkt, Chinese by its full stops."""
    spans, cursor = [], 0
    for sentence in split_sentences(text):
        start = text.index(sentence, cursor)
        cursor = start + len(sentence)
        if sentence.strip():
            start += len(sentence) - len(sentence.lstrip())
            spans.append(TextSpan(start, start + len(sentence.strip())))
    return spans


def split_sentences(text: str) -> list[str]:
    """Sentences with the white space after them: joined, they are `text` again."""
    if is_mostly_cjk(text):
        return [part for part in _CJK_SENTENCE.findall(text) if part]
    starts = [start for start, _ in _punkt().span_tokenize(text)][1:]
    cuts = [start for start in starts if not (text[start].isdigit() and _BEFORE_FIGURE.search(text, 0, start))]
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


@once
def _punkt() -> Any:
    # NLTK takes a second to import: only ingest cuts sentences, a question finds them in the ledger.
    from llama_index.core.utils import globals_helper
    from nltk.tokenize.punkt import PunktSentenceTokenizer, load_punkt_params

    globals_helper.wait_for_nltk_check()  # puts the Punkt model inside llama-index's wheel on NLTK's path
    import nltk

    params = load_punkt_params(nltk.data.find("tokenizers/punkt_tab/english/"))
    params.abbrev_types.update(_ABBREVIATIONS)
    return PunktSentenceTokenizer(params)
