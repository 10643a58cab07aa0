"""Seals what was there before encryption was turned on: table by table, a page a transaction, beside servers at work.

How far it has come stands in the record of the root key (storage.encryption), so that it goes on where it was cut.
When a table is done, no row of it may be plain any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from sqlalchemy import Table, bindparam, exists, literal_column, or_, select, text, tuple_, update

from legato.core.errors import SealBroken
from legato.storage.codec import FLUSH_FORMAT, PACKED_FORMAT, SEGMENT_FORMAT
from legato.storage.encryption import LOGS, Record, read_record, write_record
from legato.storage.pieces import delete_orphans
from legato.storage.sealed_columns import SEALED
from legato.storage.sealed_logs import is_lost, seal_packed
from legato.storage.search_index import TITLE
from legato.storage.search_tables import search_due, search_entry
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import (
    IS_UNFINISHED,
    conversation,
    decision,
    message,
    run,
    run_log,
    segment,
    state,
)

if TYPE_CHECKING:
    from legato.storage.sealed_transaction import SealedTransaction
    from legato.storage.sealing import Sealing

log = structlog.get_logger(__name__)

PAGE: Final = 50
"""Rows that one transaction looks at."""
PAGE_CHARS: Final = 1_000_000
"""It ends behind the row with which it has come to so many: tens of milliseconds."""
STATE: Final = "state"

_NUMBERED: Final = {table: sealed.number for table, sealed in SEALED.items() if sealed.number is not None}
_PAGES: Final = {
    table: Prepared(
        select(table)
        .where(table.c[number] > bindparam("after"), table.c[number] <= bindparam("until"))
        .order_by(table.c[number])
        .limit(bindparam("most"))
        .with_for_update(key_share=True)
    )
    for table, number in _NUMBERED.items()
}
_UPDATES: Final = {
    table: Prepared(
        update(table)
        .where(table.c[number] == bindparam("of_number"))
        .values({name: bindparam(f"new_{name}") for name in SEALED[table].columns})
    )
    for table, number in _NUMBERED.items()
}
_state_place = (state.c.owner, state.c.group, state.c.key)
_STATE_PAGE = Prepared(
    select(state)
    .where(tuple_(*_state_place) > tuple_(bindparam("owner"), bindparam("group"), bindparam("key")))
    .order_by(*_state_place)
    .limit(bindparam("most"))
    .with_for_update(key_share=True)
)
_STATE_UPDATE = Prepared(
    update(state)
    .where(state.c.owner == bindparam("owner_"), state.c.group == bindparam("group_"), state.c.key == bindparam("key_"))
    .values(value=bindparam("new_value"))
)
_DELETE_WORDS = Prepared(
    search_entry.delete().where(
        search_entry.c.conversation_key == bindparam("of_conversation"),
        search_entry.c.message_key == bindparam("of_message"),
    )
)
_INSERT_DUE = insert_into(search_due, without="id")
_LOG_OF = Prepared(
    select(run_log).where(run_log.c.run_key == bindparam("run_key"), run_log.c.format == literal_column("2"))
)
_SET_LOG = Prepared(
    update(run_log)
    .where(run_log.c.run_key == bindparam("of_run"))
    .values(format=bindparam("new_format"), data=bindparam("new_data"))
)
_is_plain_segment = or_(segment.c.format == SEGMENT_FORMAT, segment.c.format == FLUSH_FORMAT)
_PLAIN_SEGMENT = Prepared(select(segment.c.id).where(_is_plain_segment).limit(1))
# What no run needs that goes on.
_DELETE_SEGMENTS = Prepared(segment.delete().where(_is_plain_segment, ~exists().where(IS_UNFINISHED)))
_PLAIN_PIECE = Prepared(text(f"SELECT run_key FROM piece WHERE format = {SEGMENT_FORMAT} LIMIT 1"))
_PLAIN_LOG = Prepared(select(run_log.c.run_key).where(run_log.c.format == PACKED_FORMAT).limit(1))
_DECISION = Prepared(select(decision.c.run_key).limit(1))


def seal_page(tx: Transaction, sealing: Sealing) -> bool:
    """Seal the next rows that may be plain; return whether there are more.

    When there are none, what is left in `read_record(...).plain` is what servers are at work on: it goes by itself.

    What does not open is left as it is, and logged.
    """
    record = read_record(tx, sealing, keep=True)
    sealed = cast("SealedTransaction", tx)
    for table, number in _NUMBERED.items():
        if table.name in record.plain:
            write_record(tx, sealing, _seal_rows(sealed, table, number, record))
            return True
    if STATE in record.plain:
        write_record(tx, sealing, _seal_state(sealed, record))
        return True
    plain = dict(record.plain)
    if LOGS in plain and not _has_plain_logs(tx):
        del plain[LOGS]
    if decision.name in plain and tx.one(_DECISION) is None:
        del plain[decision.name]
    if plain != record.plain:
        write_record(tx, sealing, Record(since_ms=record.since_ms, plain=plain))
    return False


def _seal_rows(tx: SealedTransaction, table: Table, number: str, record: Record) -> Record:
    after = record.done.get(table.name, 0)
    values = {"after": after, "until": record.plain[table.name], "most": PAGE}
    raw = tx.raw(_PAGES[table], **values)
    size = 0
    # Opened where they are sealed already, as they are where they are not; one that does not open stays as it is.
    for before, row in zip(raw, tx.readable(_PAGES[table], **values)[0], strict=True):
        if size >= PAGE_CHARS:
            break
        after, columns = getattr(row, number), SEALED[table].columns
        size += sum(len(text) for name in columns if (text := getattr(before, name)))
        try:
            if _is_plain(before, row, columns):
                place = row._asdict() | {"conversation_key": row.key} if table is conversation else row._asdict()
                new = {f"new_{name}": getattr(row, name) for name in columns}
                tx.run(_UPDATES[table], of_number=after, **place, **new)
            if table is run:
                size += _seal_log(tx, row)
        except SealBroken as error:
            if not is_lost(error):
                raise
            log.error("a row cannot be sealed", table=table.name, number=after, error=error.message)
        if table is conversation:
            _find_anew(tx, row.key, TITLE)
        if table is message:
            _find_anew(tx, row.conversation_key, row.key)
    more = len(raw) == PAGE or (raw and after != getattr(raw[-1], number))
    return record.moved(table.name, after if more else None)


def _find_anew(tx: Transaction, conversation_key: int, message_key: int) -> None:
    """Take a text's words out of the search index; it is found again when they have been written anew."""
    tx.run(_DELETE_WORDS, of_conversation=conversation_key, of_message=message_key)
    tx.insert(_INSERT_DUE, conversation_key=conversation_key, message_key=message_key)


def _seal_log(tx: SealedTransaction, row: Any) -> int:
    """Seal the log of a run; return how long it is."""
    found = tx.one(_LOG_OF, run_key=row.key)
    if found is None:
        return 0
    form, data = seal_packed(tx, row.key, row.conversation_key, found.count, found.data)
    tx.run(_SET_LOG, of_run=row.key, new_format=form, new_data=data)
    return len(data)


def _seal_state(tx: SealedTransaction, record: Record) -> Record:
    owner, group, key = record.state_place
    values = {"owner": owner, "group": group, "key": key, "most": PAGE}
    raw = tx.raw(_STATE_PAGE, **values)
    for before, row in zip(raw, tx.readable(_STATE_PAGE, **values)[0], strict=True):
        if _is_plain(before, row, ("value",)):
            tx.run(_STATE_UPDATE, owner_=row.owner, group_=row.group, key_=row.key, new_value=row.value)
    if len(raw) < PAGE:
        return record.moved(STATE, None)
    last = raw[-1]
    return Record(
        since_ms=record.since_ms,
        plain=record.plain,
        done=record.done,
        state_place=(last.owner, last.group, last.key),
    )


def _has_plain_logs(tx: Transaction) -> bool:
    if tx.database == "postgresql":
        while delete_orphans(tx):
            pass
    else:
        tx.run(_DELETE_SEGMENTS)
    growing = _PLAIN_PIECE if tx.database == "postgresql" else _PLAIN_SEGMENT
    return tx.one(growing) is not None or tx.one(_PLAIN_LOG) is not None


def _is_plain(before: Any, row: Any, columns: Sequence[str]) -> bool:
    """Whether a text of a row is plain; not where one of them does not open, which would be sealed as it is."""
    texts = [(getattr(before, name), getattr(row, name)) for name in columns]
    return all(opened is not None for stored, opened in texts if stored is not None) and any(
        stored and stored == opened for stored, opened in texts
    )
