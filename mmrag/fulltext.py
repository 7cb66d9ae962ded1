"""Search by words in the ledger's full text (FTS5): what a question matches, ranked by BM25.

Knows the tables of `mmrag.rows` by name, and nothing of vectors or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from mmrag.text import query_phrases, query_tokens, tokens

RANKED_ROWS = 20_000
"""Where a question's words stand in more rows than so many, only the rows with its rarer words are ranked."""

Rows = Callable[[str, Sequence[Any]], list[Any]]
"""Runs SQL with its values."""


def match(
    rows: Rows, table: str, columns: str, query: str, top_k: int, documents: Sequence[str] | None = None
) -> list[Any]:
    """`columns` of the best rows `t` of `table`, "chunks" or "pages", each followed by its score: greater is better."""
    # A lone Chinese character is the beginning of a pair in the index.
    words = [f'"{t}"*' if len(t) == 1 and not t.isascii() else f'"{t}"' for t in query_tokens(query)]
    phrases = [f'"{first} {second}"' for first, second in query_phrases(query)]
    # Whoever types words of a document one after the other wants the page that has them so: they count three times.
    verbatim = [f'"{" ".join(all_tokens)}"'] * 3 if len(all_tokens := tokens(query)) > 2 else []
    terms = " OR ".join([*words, *phrases, *verbatim])
    if not terms:
        return []
    if documents is None:
        only, values = _rarer(rows, table, words)
    else:
        only, values = f"AND +rowid IN (SELECT rowid FROM {table} WHERE document_id IN ({marks(documents)}))", documents  # noqa: S608
    # The rows themselves are looked up last: for every row that matches, it would take four times as long.
    sql = f"""SELECT {columns}, -found.score
              FROM (SELECT rowid, bm25({table}_fts) AS score FROM {table}_fts
                    WHERE {table}_fts MATCH ? {only} ORDER BY score, rowid LIMIT ?) AS found
              JOIN {table} t ON t.rowid = found.rowid ORDER BY found.score, found.rowid"""  # noqa: S608  # constants only
    return rows(sql, (terms, *values, top_k))


def _rarer(rows: Rows, table: str, words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """SQL, and its values, for the rows that have one of the rarer words; empty where all are ranked."""
    if (rows(f"SELECT max(rowid) FROM {table}", ())[0][0] or 0) <= RANKED_ROWS:  # noqa: S608
        return "", ()
    some = f"SELECT count(*) FROM (SELECT 1 FROM {table}_fts WHERE {table}_fts MATCH ? LIMIT {RANKED_ROWS + 1})"  # noqa: S608
    counted = sorted((rows(some, (word,))[0][0], word) for word in words)
    sums = accumulate(count for count, _ in counted)
    rarer = [word for (_, word), total in zip(counted, sums, strict=True) if total <= RANKED_ROWS]
    if len(rarer) in (0, len(words)):
        return "", ()
    return f"AND +rowid IN (SELECT rowid FROM {table}_fts WHERE {table}_fts MATCH ?)", (" OR ".join(rarer),)  # noqa: S608


def marks(values: Sequence[Any]) -> str:
    """As many question marks as there are values, for a list in SQL."""
    return ",".join("?" * len(values))
