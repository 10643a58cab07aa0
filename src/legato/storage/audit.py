"""The audit log as rows: each has the hash of itself and the one before, so that none can be changed, left out or
put in unnoticed.

One chain for all nodes. Who adds to it holds the row of its head until the end of the transaction: entries are rare,
and so are two at a time. It is the last row that a transaction takes, so that no two wait for each other.

What retention cuts off leaves its last hash behind (`cut_seq`, `cut_hash`), and an entry of the chain that says so:
the rest stays verifiable, and a cut that no entry speaks of is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, literal_column, select, update

from legato.storage.audit_tables import audit_entry, audit_head
from legato.storage.statement import Prepared, Transaction, insert_into

CUT: Final = "audit.cut"
"""The action of the entry that says what retention has cut off."""
START: Final = bytes(32)
"""The hash before the first entry."""
CUT_ROWS: Final = 500
"""Entries that one transaction cuts off."""

_is_head = audit_head.c.id == literal_column("1")
_HEAD = Prepared(select(*audit_head.columns).where(_is_head))
_HEAD_LOCKED = Prepared(select(*audit_head.columns).where(_is_head).with_for_update())
_INSERT = insert_into(audit_entry)
_MOVE_HEAD = Prepared(
    update(audit_head)
    .where(_is_head)
    .values(seq=bindparam("new_seq"), at_ms=bindparam("new_at_ms"), hash=bindparam("new_hash"))
)
_MOVE_CUT = Prepared(
    update(audit_head).where(_is_head).values(cut_seq=bindparam("new_seq"), cut_hash=bindparam("new_hash"))
)
_FROM = Prepared(
    select(*audit_entry.columns)
    .where(audit_entry.c.seq > bindparam("after"))
    .order_by(audit_entry.c.seq)
    .limit(bindparam("most"))
)
_OLD = Prepared(
    select(audit_entry.c.seq, audit_entry.c.hash)
    .where(audit_entry.c.at_ms < bindparam("before_ms"), audit_entry.c.seq < bindparam("head_seq"))
    .order_by(audit_entry.c.at_ms, audit_entry.c.seq)
    .limit(bindparam("most"))
)
_DELETE = Prepared(
    delete(audit_entry).where(audit_entry.c.seq > bindparam("after"), audit_entry.c.seq <= bindparam("through"))
)


def _newest(*conditions: Any) -> Prepared:
    return Prepared(
        select(*audit_entry.columns)
        .where(audit_entry.c.seq < bindparam("before"), *conditions)
        .order_by(audit_entry.c.seq.desc())
        .limit(bindparam("most"))
    )


_LISTS: Final[dict[str | None, Prepared]] = {
    None: _newest(),
    "owner": _newest(audit_entry.c.owner == bindparam("value")),
    "actor": _newest(audit_entry.c.actor == bindparam("value")),
    "action": _newest(audit_entry.c.action == bindparam("value")),
}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """What is to be written.

    Attributes:
        detail: JSON text, or None.
    """

    at_ms: int
    actor: str
    via: str
    key_id: str | None
    action: str
    subject: str
    owner: str | None
    detail: str | None


def append_entry(tx: Transaction, entry: NewEntry) -> int:
    """Add an entry to the chain and return its number; call it last in a transaction.

    The time of an entry is never before that of the one in front of it.
    """
    head = tx.one(_HEAD_LOCKED)
    seq: int = head.seq + 1
    at_ms: int = max(head.at_ms, entry.at_ms)
    values = {
        "seq": seq,
        "at_ms": at_ms,
        "actor": entry.actor,
        "via": entry.via,
        "key_id": entry.key_id,
        "action": entry.action,
        "subject": entry.subject,
        "owner": entry.owner,
        "detail": entry.detail,
    }
    hash_ = hash_of(values, head.hash)
    tx.insert(_INSERT, **values, hash=hash_)
    tx.run(_MOVE_HEAD, new_seq=seq, new_at_ms=at_ms, new_hash=hash_)
    return seq


_FIELDS: Final = ("seq", "at_ms", "actor", "via", "key_id", "action", "subject", "owner", "detail")


def hash_of(values: dict[str, Any], before: bytes) -> bytes:
    """Return the SHA-256 of an entry: over the hash before it and its fields, as one JSON list."""
    return hashlib.sha256(_encode([before.hex(), *(values[name] for name in _FIELDS)])).digest()


def find_head(tx: Transaction) -> Any:
    """Return the row of the chain's head."""
    return tx.one(_HEAD)


def list_entries(tx: Transaction, before: int, limit: int, *, by: str | None = None, value: str = "") -> list[Any]:
    """Return up to `limit` entries, the newest first.

    Args:
        before: Only those with a smaller number.
        by: None for all, or which column is to have `value`: owner, actor or action.
    """
    values: dict[str, Any] = {"before": before, "most": limit}
    return tx.all(_LISTS[by], **values, **({"value": value} if by is not None else {}))


def entries_from(tx: Transaction, after: int, limit: int) -> list[Any]:
    """Return up to `limit` entries behind a number, the oldest first."""
    return tx.all(_FROM, after=after, most=limit)


def cut_page(tx: Transaction, before_ms: int, record: Callable[[Transaction, int, str], object]) -> int:
    """Cut off the oldest entries, of before a time; return how many.

    The last entry always stays.

    Args:
        record: Writes the entry that says so, given the number and the hash of the last entry that goes.
    """
    head = tx.one(_HEAD_LOCKED)
    rows = tx.all(_OLD, before_ms=before_ms, head_seq=head.seq, most=CUT_ROWS)
    if not rows:
        return 0
    last = rows[-1]
    tx.run(_MOVE_CUT, new_seq=last.seq, new_hash=last.hash)
    tx.run(_DELETE, after=head.cut_seq, through=last.seq)
    record(tx, last.seq, bytes(last.hash).hex())
    return len(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a look at the whole chain has found.

    Attributes:
        entries: How many were looked at.
        cut_seq: Number of the last that retention has cut off; 0 where there is none.
        head_seq, head_hash: Of the last entry: noted elsewhere, they prove later that nothing before was rewritten.
        fault: What is wrong, in words; None where nothing is.
    """

    entries: int
    cut_seq: int
    head_seq: int
    head_hash: str
    fault: str | None


class Verification:
    """A look at the chain, a page at a time, against the head that it began with.

    Args:
        head: The row of the chain's head.
        expected: Numbers and hashes (hex) of entries, as they were noted elsewhere.

    Attributes:
        seq: The last entry that was looked at.
        gap: The next one is not there: retention may have cut it off meanwhile (`look_behind`).
    """

    def __init__(self, head: Any, expected: dict[int, str] | None = None) -> None:
        self._expected = dict(expected or {})
        self._said_cut: tuple[int, str] | None = None
        self.entries = 0
        self.fault: str | None = None
        self._begin(head)

    def _begin(self, head: Any) -> None:
        self._head, self._hash = head, bytes(head.cut_hash)
        self.seq: int = head.cut_seq
        self.gap = False
        self._expect(head.cut_seq, self._hash)

    def look_behind(self, head: Any) -> None:
        """Go on behind what retention has cut off since, as the head says now; what it does not say is a fault."""
        if head.cut_seq > self.seq:
            self._begin(head)
        else:
            self.fault = f"entry {self.seq + 1} is missing"

    @property
    def done(self) -> bool:
        """Whether there is nothing more to look at."""
        return self.fault is not None or self.seq >= self._head.seq

    def take(self, rows: Iterable[Any]) -> None:
        """Look at the next entries, as entries_from returns them behind `seq`."""
        found = False
        for row in rows:
            found = True
            if self.done or self.gap:
                return
            self._look(row)
        if not found and not self.done:
            self.gap = True

    def verdict(self) -> Verdict:
        """Return what was found, once it is done."""
        head = self._head
        fault = self.fault
        if fault is None and self._hash != bytes(head.hash):
            fault = f"the head does not have the hash of entry {head.seq}"
        if fault is None and head.cut_seq:
            said = (head.cut_seq, bytes(head.cut_hash).hex())
            if self._said_cut != said:
                fault = f"entries up to {head.cut_seq} are gone, and no entry says that retention has cut them off"
        if fault is None and (left := [seq for seq in self._expected if seq > head.seq]):
            fault = f"entry {min(left)} was there once, and is not any more"
        return Verdict(
            entries=self.entries,
            cut_seq=head.cut_seq,
            head_seq=head.seq,
            head_hash=bytes(head.hash).hex(),
            fault=fault,
        )

    def _look(self, row: Any) -> None:
        if row.seq != self.seq + 1:
            self.gap = True
            return
        hash_ = hash_of(row._asdict(), self._hash)
        if hash_ != bytes(row.hash):
            self.fault = f"entry {row.seq} does not have the hash that it should: it, or the one before, was changed"
            return
        self.seq, self._hash = row.seq, hash_
        self.entries += 1
        self._expect(row.seq, hash_)
        if row.action == CUT and row.detail is not None:
            said = msgspec.json.decode(row.detail)
            self._said_cut = (said.get("through"), said.get("hash"))

    def _expect(self, seq: int, hash_: bytes) -> None:
        noted = self._expected.pop(seq, None)
        if noted is not None and noted != hash_.hex():
            self.fault = f"entry {seq} is not the one that was noted: the chain was rewritten"
