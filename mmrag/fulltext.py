"""Search by words in the ledger's full text (FTS5): what a question matches, ranked by BM25.

Knows the tables of `mmrag.rows` by name, and nothing of vectors or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from mmrag.text import query_phrases, query_tokens, tokens

RANKED_ROWS = 10_000
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
    if not (terms := [*words, *phrases]):
        return []
    only, values = "", documents or ()
    if documents is None:
        sought, times = _narrowed(rows, table, words, terms)
    else:
        sought, times = " OR ".join(terms), 1
        only = f"AND +f.rowid IN (SELECT rowid FROM {table} WHERE document_id IN ({marks(documents)}))"  # noqa: S608
    phrase, count = _verbatim(query)
    # The rows themselves are looked up last: for every row that matches, it would take four times as long.
    sql = f"""WITH verbatim AS MATERIALIZED (SELECT rowid, bm25({table}_fts) AS score FROM {table}_fts
                                             WHERE {table}_fts MATCH ?)
              SELECT {columns}, -found.score
              FROM (SELECT f.rowid, bm25({table}_fts) / {times} + coalesce(verbatim.score, 0) * {count} AS score
                    FROM {table}_fts f LEFT JOIN verbatim ON verbatim.rowid = f.rowid
                    WHERE {table}_fts MATCH ? {only} ORDER BY score, f.rowid LIMIT ?) AS found
              JOIN {table} t ON t.rowid = found.rowid ORDER BY found.score, found.rowid"""  # noqa: S608  # constants only
    return rows(sql, (phrase, sought, *values, top_k))


def _verbatim(query: str) -> tuple[str, int]:
    """The whole question as a phrase, and how often that counts: as often as it has words; empty for one or two.

    Whoever types words of a document one after the other wants the page that has them so, however often other pages
    have each of them.
    """
    found = tokens(query)
    if len(found) < 3:
        found = []  # no row has an empty phrase, and none is looked for
    return f'"{" ".join(found)}"', len(found)


def _narrowed(rows: Rows, table: str, words: Sequence[str], terms: Sequence[str]) -> tuple[str, int]:
    """What finds the rows that have one of the rarer words, all rows where none is rarer; and how often terms count."""
    whole = " OR ".join(terms), 1
    if (rows(f"SELECT max(rowid) FROM {table}", ())[0][0] or 0) <= RANKED_ROWS:  # noqa: S608
        return whole
    some = f"SELECT count(*) FROM (SELECT 1 FROM {table}_fts WHERE {table}_fts MATCH ? LIMIT {RANKED_ROWS + 1})"  # noqa: S608
    counted = sorted((rows(some, (word,))[0][0], word) for word in words)
    sums = accumulate(count for count, _ in counted)
    rarer = [word for (_, word), total in zip(counted, sums, strict=True) if total <= RANKED_ROWS]
    if len(rarer) in (0, len(words)):
        return whole
    # A term counts as often as it is named, which for the rarer ones is twice.
    rest = [term for term in terms if term not in rarer]
    return f"({' OR '.join([*rarer, *rest, *rest])}) AND ({' OR '.join(rarer)})", 2


def marks(values: Sequence[Any]) -> str:
    """As many question marks as there are values, for a list in SQL."""
    return ",".join("?" * len(values))
