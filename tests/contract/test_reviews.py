"""The review queue, on both databases, plain and sealed."""

from __future__ import annotations

from typing import Any

from legato.core.principal import LOCAL
from legato.runs.audit import NOBODY
from legato.runs.conversations import Conversations
from legato.runs.reviews import decide_review
from legato.storage.reviews import (
    TEXT_CHARS,
    NewReview,
    count_open,
    find_review,
    forget_owner,
    insert_reviews,
    list_reviews,
)
from legato.storage.statement import Transaction
from tests.conftest import OpenNode


def flagged(text: str) -> NewReview:
    return NewReview(stage="reply", source="reply", policy="rules", reason="odd", text=text)


async def test_a_flagged_text_waits_is_decided_once_and_goes_with_its_conversation(open_test_node: OpenNode) -> None:
    """Open ones come in their order and by pages, a decision is kept as it was, and deleting leaves nothing."""
    async with open_test_node() as node:
        conversations = Conversations(node, LOCAL)
        keys: dict[str, int] = {}

        async def put(name: str, *texts: str) -> int:
            if name not in keys:
                await conversations.create(conversation_id=name)
                keys[name] = await node.database.read(lambda tx: _key_of(tx, name))

            def write(tx: Transaction) -> int:
                return insert_reviews(
                    tx,
                    [flagged(text) for text in texts],
                    owner=LOCAL.id,
                    conversation_id=name,
                    conversation_key=keys[name],
                    run_id="r-1",
                    now_ms=1000,
                )

            return await node.committer.write(write)

        assert await put("c-1", "one", "two", "x" * (TEXT_CHARS + 1)) == 3
        assert await put("c-2", "four") == 1
        read = node.database.read
        first = await read(lambda tx: list_reviews(tx, "open", limit=2))
        rest = await read(lambda tx: list_reviews(tx, "open", limit=9, after=first[-1].key))
        assert [row.text for row in (*first, *rest)] == ["one", "two", "x" * TEXT_CHARS, "four"]

        def decide(review_id: str, note: str) -> Any:
            return node.committer.write(
                lambda tx: decide_review(tx, review_id, "fine", note=note, by="ann", actor=NOBODY, now_ms=2000)
            )

        done, row = await decide(first[1].id, "seen")
        assert (done, row.decision, row.note, row.decided_by, row.decided_at_ms) == (True, "fine", "seen", "ann", 2000)
        done, row = await decide(first[1].id, "again")
        assert (done, row.note) == (False, "seen")
        assert await decide("v-none", "") == (False, None)
        assert await read(count_open) == 3
        assert [row.id for row in await read(lambda tx: list_reviews(tx, "decided", limit=9))] == [first[1].id]
        # A text of a conversation that is gone by now is nowhere.
        await conversations.delete("c-1")
        assert await put("c-1", "late") == 0
        assert await read(lambda tx: find_review(tx, first[0].id)) is None
        assert await read(count_open) == 1
        assert await node.committer.write(lambda tx: forget_owner(tx, LOCAL.id, 100)) == 1
        assert await read(count_open) == 0


def _key_of(tx: Transaction, conversation_id: str) -> int:
    from legato.storage.conversations import find_conversation

    row = find_conversation(tx, LOCAL.id, conversation_id)
    assert row is not None
    return int(row.key)
