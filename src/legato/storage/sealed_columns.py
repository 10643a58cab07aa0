"""What is sealed: the one list of columns that hold people's text, and what each row is bound to.

Whoever adds such a column names it here; storage.sealed_transaction does the rest, or refuses statements that it cannot
seal or open. Logs (`segment`, `piece`, `run_log`) and the search index have forms of their own: storage.codec and
storage.search_words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Table

from legato.storage.review_tables import review
from legato.storage.tables import conversation, decision, message, outbox, run, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """How the texts of one table are sealed.

    Attributes:
        columns: Columns of text.
        free: Those of them that hold any text; in the others there is JSON.
        scope: `conversation_key`, or `owner`: whose data key. In a statement that writes, the parameter is called so or
            has an underscore behind it.
        place: What names a row within its scope, as tuples: a column, and what else the parameter may be called.
        number: The integer key that tells which rows were there before encryption was turned on; None: the table has
            none.
    """

    columns: tuple[str, ...]
    free: tuple[str, ...] = ()
    scope: str = "conversation_key"
    place: tuple[tuple[str, ...], ...] = ()
    number: str | None = "key"


SEALED: Final[dict[Table, Sealed]] = {
    # A conversation is the only row of its scope.
    conversation: Sealed(columns=("title", "system_prompt", "metadata"), free=("title", "system_prompt")),
    message: Sealed(columns=("parts", "metadata", "feedback"), place=(("id", "message_id"),)),
    run: Sealed(columns=("request", "error"), place=(("id", "run_id"),)),
    decision: Sealed(columns=("reason",), free=("reason",), place=(("run_key",), ("call_id",)), number=None),
    review: Sealed(columns=("text", "note"), free=("text", "note"), place=(("id", "of_id"),)),
    outbox: Sealed(columns=("payload",), scope="owner", place=(("event_id",),), number="id"),
    state: Sealed(columns=("value",), scope="owner", place=(("group", "group_"), ("key", "key_")), number=None),
}
