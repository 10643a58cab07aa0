"""What of the search is PostgreSQL's own: a GIN index over the marked words of `search_entry`.

The vector holds no places: they end at 16,383 there. Words that are to stand one behind the other are looked for in
`search_entry.words` itself, of the few rows that have them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnClause, Text, bindparam, cast, literal_column, select, text
from sqlalchemy.dialects.postgresql import TSQUERY

from legato.core.search_text import Phrase
from legato.storage.conversations import ACTIVE_RUN
from legato.storage.search_tables import search_entry
from legato.storage.statement import Prepared
from legato.storage.tables import conversation, message

_vector: Final[ColumnClause[Any]] = literal_column(
    "array_to_tsvector(string_to_array("
    "search_entry.mark || replace(search_entry.words, ' ', ' ' || search_entry.mark), ' '))"
)
_has_rows: Final = text(
    "NOT EXISTS (SELECT FROM unnest(string_to_array(CAST(:rows_of_words AS text), chr(10))) AS row_of_words"
    " WHERE strpos(' ' || search_entry.words || ' ', row_of_words) = 0)"
)
# Made once, before any row is thrown away by its place in the order: the index is the only way to rare words.
_found = (
    select(search_entry.c.key, search_entry.c.conversation_key, search_entry.c.message_key)
    .where(
        _vector.op("@@")(cast(cast(bindparam("wanted"), Text), TSQUERY)),
        search_entry.c.owner == bindparam("owner"),
        # Not by the key's index: the planner does not know what it costs to make a vector.
        search_entry.c.key + literal_column("0") < bindparam("before_key"),
        _has_rows,
    )
    .cte("found")
    .prefix_with("MATERIALIZED")
)
FIND: Final = Prepared(
    select(
        *conversation.columns,
        ACTIVE_RUN,
        _found.c.key.label("entry_key"),
        _found.c.message_key,
        message.c.id.label("message_id"),
    )
    .select_from(_found)
    .join(conversation, conversation.c.key == _found.c.conversation_key)
    .outerjoin(message, message.c.key == _found.c.message_key)
    .order_by(_found.c.key.desc())
    .limit(bindparam("most"))
)


def spell_query(mark: str, phrases: Sequence[Phrase]) -> dict[str, str]:
    """Return the parameters of FIND that stand for phrases of an owner with this mark."""
    # Words hold letters and digits alone: nothing in them means anything to tsquery.
    wanted = [
        f"'{mark}{word}'" + (":*" if phrase.prefix and place == len(phrase.words) else "")
        for phrase in phrases
        for place, word in enumerate(phrase.words, 1)
    ]
    rows = [
        f" {' '.join(phrase.words)}" + ("" if phrase.prefix else " ") for phrase in phrases if len(phrase.words) > 1
    ]
    return {"wanted": " & ".join(wanted), "rows_of_words": "\n".join(rows)}
