"""Whether a database is encrypted, and whether the keys at hand are its own: asked whenever it is opened.

Encryption is turned on by the first server, or command that writes, that has keys; while nothing else serves. From
then on every row is sealed. Which rows may be plain, because they were there before, stands in `encryption_root`,
itself sealed under the root key. It is turned off by nobody: without keys the database is refused.

On PostgreSQL whoever changes the root key in use holds an advisory lock (`hold_roots`), and whoever is about to write
without having looked holds it shared (`keep_roots`): a node that registers, a command. So nobody who found the
database plain writes behind the moment at which it is encrypted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import bindparam, func, select, text, update

from legato.core.errors import ConfigurationError
from legato.storage import locks
from legato.storage.encryption_tables import data_key, encryption_root
from legato.storage.sealed_columns import SEALED
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import run, state

if TYPE_CHECKING:
    from legato.storage.root_keys import RootKey
    from legato.storage.sealing import Sealing

QUEUE: Final = "queue"
"""Stands among the tables in `Record.plain`: jobs that were handed over before may be plain."""
LOGS: Final = "log"
"""Stands there for the logs of runs, with a run's key."""
_ALL: Final = 2**63 - 1

_ROOTS = Prepared(select(encryption_root).order_by(encryption_root.c.id))
_INSERT_ROOT = insert_into(encryption_root)
_NO_CURRENT = Prepared(update(encryption_root).where(encryption_root.c.current).values(current=bindparam("no")))
_SET_RECORD = Prepared(
    update(encryption_root)
    .where(encryption_root.c.id == bindparam("root_id"), encryption_root.c.current)
    .values(record=bindparam("new_record"))
)
_DELETE_ROOT = Prepared(encryption_root.delete().where(encryption_root.c.id == bindparam("root_id")))
# From root to root by the index.
_NEXT_ROOT_ID = Prepared(
    select(func.min(data_key.c.root_id).label("id")).where(data_key.c.root_id > bindparam("after"))
)
_GREATEST: Final = {
    table.name: Prepared(select(func.max(table.c[sealed.number]).label("number")))
    for table, sealed in SEALED.items()
    if sealed.number is not None
}
_SOME_STATE = Prepared(select(state.c.owner).limit(1))
_current = select(encryption_root.c.id).where(encryption_root.c.current)
_CURRENT = Prepared(_current)
_CURRENT_KEPT = Prepared(_current.with_for_update(read=True, key_share=True))
# Data keys may be made under it meanwhile: they keep its row, not what stands in it.
_RECORD = Prepared(select(encryption_root).where(encryption_root.c.current))
_RECORD_KEPT = Prepared(select(encryption_root).where(encryption_root.c.current).with_for_update(key_share=True))
# Waits for whoever wraps a data key under one of them.
_FORMER_ROOTS = Prepared(
    select(encryption_root.c.id).where(~encryption_root.c.current).order_by(encryption_root.c.id).with_for_update()
)
_HOLD = Prepared(text("SELECT CAST(pg_advisory_xact_lock(CAST(:family AS integer), CAST(:number AS integer)) AS text)"))
_KEEP = Prepared(
    text("SELECT CAST(pg_advisory_xact_lock_shared(CAST(:family AS integer), CAST(:number AS integer)) AS text)")
)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a database's encryption; sealed, so that nobody else can widen it.

    Attributes:
        since_ms: When it was turned on, epoch milliseconds.
        plain: By table, the greatest integer key that a row had then: so far rows may be plain. 1 where a table has no
            such key. Empty once all is sealed.
        done: By table, up to which key its rows have been sealed since (storage.seal_old).
        state_place: The same of `state`: owner, group, key.
    """

    since_ms: int
    plain: dict[str, int]
    done: dict[str, int] = {}
    state_place: tuple[str, str, str] = ("", "", "")

    def moved(self, table: str, to: int | None) -> Record:
        """Return it with a table's rows sealed up to a key, or with None all of them."""
        if to is not None:
            return Record(
                since_ms=self.since_ms, plain=self.plain, done=self.done | {table: to}, state_place=self.state_place
            )
        plain = {name: number for name, number in self.plain.items() if name != table}
        return Record(since_ms=self.since_ms, plain=plain, done=self.done, state_place=self.state_place)


def admit(tx: Transaction, sealing: Sealing | None) -> bool:
    """Return whether the database is encrypted, and have `sealing` know what is under which key.

    Raises:
        ConfigurationError: It is, and the keys at hand are missing, wrong, or too few.
    """
    roots = {row.id: row for row in tx.all(_ROOTS)}
    if sealing is None:
        if roots:
            raise _no_keys(roots)
        return False
    if not roots:
        # Nothing is sealed yet, and nothing is written before that has changed.
        sealing.plain = {table.name: _ALL for table in SEALED} | {QUEUE: 1, LOGS: _ALL}
        return False
    for row in roots.values():
        key = sealing.roots.by_id.get(row.id)
        record = None if key is None else key.open_record(row.record)
        if key is not None and record is None:
            raise ConfigurationError(
                f"the encryption key {row.id!r} of LEGATO_ENCRYPTION_KEYS is not the one that this database knows by "
                "that name: give the one that it was encrypted with"
            )
        if not row.current:
            continue
        if key is None or record is None:
            raise _missing(row.id)
        sealing.current = key
        sealing.plain = msgspec.json.decode(record, type=Record).plain
    for used in root_ids(tx):
        if used not in sealing.roots.by_id:
            raise _missing(used)
    sealing.ready = True
    return True


def hold_roots(tx: Transaction) -> None:
    """Have the root key in use to oneself until the transaction's end, first of all; SQLite has one writer."""
    if tx.database == "postgresql":
        tx.tuples(_HOLD, family=locks.SPACE, number=locks.ENCRYPTION)


def keep_roots(tx: Transaction) -> None:
    """Have encryption neither turned on nor put under another root key until the transaction's end, first of all."""
    if tx.database == "postgresql":
        tx.tuples(_KEEP, family=locks.SPACE, number=locks.ENCRYPTION)


def refuse_clear(tx: Transaction) -> None:
    """Refuse who has no keys where the database is encrypted.

    Raises:
        ConfigurationError: It is.
    """
    if tx.sealing is None and (roots := tx.all(_ROOTS)):
        raise _no_keys([row.id for row in roots])


def is_taken(tx: Transaction, sealing: Sealing) -> bool:
    """Return whether `take` would change nothing.

    Raises:
        ConfigurationError: As `admit`.
    """
    return admit(tx, sealing) and _knows_first(tx, sealing)


def take(tx: Transaction, sealing: Sealing, now_ms: int) -> None:
    """Turn encryption on, or make the first of the keys the one that new data keys are wrapped under.

    The caller has seen to it that nobody without keys writes, and that nobody else does this (`hold_roots`).

    Raises:
        ConfigurationError: As `admit`.
    """
    encrypted = admit(tx, sealing)
    if encrypted and _knows_first(tx, sealing):
        # An older one, put in front again, is not gone back to.
        return
    if encrypted:
        _make_current(tx, sealing.roots.first, read_record(tx, sealing), now_ms)
    else:
        plain = {table.name: _greatest(tx, table.name) for table in SEALED} | {QUEUE: 1}
        plain[LOGS] = plain[run.name]
        # A new database has nothing that could be plain.
        if not any(plain[name] for name in _GREATEST) and not _has_state(tx):
            plain = {}
        _make_current(tx, sealing.roots.first, Record(since_ms=now_ms, plain=plain), now_ms)
    admit(tx, sealing)


def read_record(tx: Transaction, sealing: Sealing, *, keep: bool = False) -> Record:
    """Return what is known of the database's encryption, which is on.

    Args:
        keep: It is about to be written anew: nobody else does so before the transaction's end.
    """
    row = tx.one(_RECORD_KEPT if keep else _RECORD)
    if row is not None and (found := sealing.roots.named(row.id).open_record(row.record)) is not None:
        return msgspec.json.decode(found, type=Record)
    raise ConfigurationError("the database says nothing of its encryption keys: it was damaged")


def write_record(tx: Transaction, sealing: Sealing, record: Record) -> None:
    """Write the record anew, which this transaction has read and keeps."""
    current = current_root(tx, sealing)
    tx.run(_SET_RECORD, root_id=current.id, new_record=current.seal_record(msgspec.json.encode(record)))
    sealing.plain = record.plain


def current_root(tx: Transaction, sealing: Sealing, *, keep: bool = False) -> RootKey:
    """Return the root key that a data key is to be wrapped under now: another process may have changed it.

    Args:
        keep: It is not forgotten before the transaction's end.

    Raises:
        EncryptionKeyMissing: It is not known here.
    """
    # Nothing is found where another one is made current in between: then that one is.
    statement = _CURRENT_KEPT if keep else _CURRENT
    row = tx.one(statement) or tx.one(statement)
    if row is not None and row.id != sealing.current.id:
        sealing.current = sealing.roots.named(row.id)
    return sealing.current


def forget_roots(tx: Transaction) -> list[str]:
    """Forget root keys that are neither current nor wrap anything; return their ids."""
    former = [row.id for row in tx.all(_FORMER_ROOTS)]
    # Read only now: what was being wrapped under one of them is committed.
    used = root_ids(tx)
    gone = [root_id for root_id in former if root_id not in used]
    for root_id in gone:
        tx.run(_DELETE_ROOT, root_id=root_id)
    return gone


def list_roots(tx: Transaction) -> list[Any]:
    """Return the root keys that the database knows: id, current, record, created_at_ms."""
    return tx.all(_ROOTS)


def root_ids(tx: Transaction) -> list[str]:
    """Return the ids of the root keys under which data keys are wrapped."""
    found: list[str] = []
    after = ""
    while (after := tx.one(_NEXT_ROOT_ID, after=after).id) is not None:
        found.append(after)
    return found


def _make_current(tx: Transaction, key: RootKey, record: Record, now_ms: int) -> None:
    tx.run(_NO_CURRENT, no=False)
    sealed = key.seal_record(msgspec.json.encode(record))
    tx.insert(_INSERT_ROOT, id=key.id, current=True, record=sealed, created_at_ms=now_ms)


def _knows_first(tx: Transaction, sealing: Sealing) -> bool:
    return any(row.id == sealing.roots.first.id for row in tx.all(_ROOTS))


def _has_state(tx: Transaction) -> bool:
    return tx.one(_SOME_STATE) is not None


def _greatest(tx: Transaction, table: str) -> int:
    if table not in _GREATEST:
        return 1
    return tx.one(_GREATEST[table]).number or 0


def _no_keys(root_ids: Iterable[str]) -> ConfigurationError:
    return ConfigurationError(
        f"the database is encrypted (encryption keys: {', '.join(root_ids)}): set LEGATO_ENCRYPTION_KEYS; "
        "it cannot be used without, nor turned back"
    )


def _missing(root_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"the encryption key {root_id!r}, which this database is sealed under, is not in LEGATO_ENCRYPTION_KEYS: add "
        "it behind the others, and take it out only when `legato keys encryption status` says that nothing needs it"
    )
