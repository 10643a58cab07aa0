"""Reading the audit log: pages of it, all of it, whether it is whole; and cutting off what is older than it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

from legato.runs.audit import SERVER, audit
from legato.runs.node import Node
from legato.storage.audit import Verdict, Verification, cut_page, entries_from, find_head
from legato.storage.statement import Transaction

PAGE: Final = 500
DAY_MS: Final = 86_400_000

CSV_COLUMNS: Final = ("seq", "at", "actor", "via", "keyId", "action", "subject", "owner", "detail", "hash")


async def verify(node: Node) -> Verdict:
    """Look at the whole chain, a page at a time, up to the entry that is the last one now."""
    read = node.database.read
    looked = Verification(await read(find_head))
    while not looked.done:
        looked.take(await read(partial(entries_from, after=looked.seq, limit=PAGE)))
        if looked.gap:
            looked.look_behind(await read(find_head))
    return looked.verdict()


async def all_entries(node: Node, after: int = 0) -> AsyncIterator[Any]:
    """Give the rows of all entries behind a number, the oldest first."""
    while rows := await node.database.read(partial(entries_from, after=after, limit=PAGE)):
        for row in rows:
            yield row
        after = rows[-1].seq


def verify_in(read: Callable[[Callable[[Transaction], Any]], Any], expected: dict[int, str]) -> Verdict:
    """Look at the whole chain for a command, which reads in transactions of its own."""
    looked = Verification(read(find_head), expected)
    while not looked.done:
        looked.take(read(partial(entries_from, after=looked.seq, limit=PAGE)))
        if looked.gap:
            looked.look_behind(read(find_head))
    return looked.verdict()


async def cut_off(node: Node) -> int:
    """Cut off entries that are older than LEGATO_AUDIT_KEEP_DAYS; return how many."""
    days = node.settings.audit_keep_days
    if days is None:
        return 0
    now_ms = node.clock.now_ms()
    before_ms = now_ms - days * DAY_MS

    def record(tx: Transaction, through: int, hash_: str) -> None:
        audit(
            tx,
            actor=SERVER,
            action="audit.cut",
            subject="audit",
            detail={"through": through, "hash": hash_, "before": before_ms},
            at_ms=now_ms,
        )

    cut = 0
    while count := await node.committer.write(
        lambda tx: cut_page(tx, before_ms, record), wait_s=node.settings.storage_wait_s
    ):
        cut += count
    return cut
