"""Whether a database is encrypted, and whether the keys at hand are its own: asked whenever it is opened.

Encryption is turned on by the first server, or command that writes, that has keys; while nothing else serves. From
then on every row is sealed. Which rows may be plain, because they were there before, stands in `encryption_root`,
itself sealed under the root key. It is turned off by nobody: without keys the database is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import bindparam, func, select, text, update

from legato.core.errors import ConfigurationError
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
    .where(encryption_root.c.id == bindparam("root_id"))
    .values(record=bindparam("new_record"), current=bindparam("yes"))
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
_CURRENT = Prepared(select(encryption_root.c.id).where(encryption_root.c.current))
_SERVING = Prepared(text("SELECT id FROM node WHERE fenced_at IS NULL AND until > clock_timestamp() LIMIT 1"))


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
            names = ", ".join(roots)
            raise ConfigurationError(
                f"the database is encrypted (encryption keys: {names}): set LEGATO_ENCRYPTION_KEYS; "
                "it cannot be used without, nor turned back"
            )
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


def take(tx: Transaction, sealing: Sealing, now_ms: int) -> None:
    """Turn encryption on, or make the first of the keys the one that new data keys are wrapped under.

    The caller has seen to it that no server without keys is running, or learns it afterwards (`others_serve`).

    Raises:
        ConfigurationError: As `admit`.
    """
    if not admit(tx, sealing):
        plain = {table.name: _greatest(tx, table.name) for table in SEALED} | {QUEUE: 1}
        plain[LOGS] = plain[run.name]
        # A new database has nothing that could be plain.
        if not any(plain[name] for name in _GREATEST) and not _has_state(tx):
            plain = {}
        _make_current(tx, sealing.roots.first, Record(since_ms=now_ms, plain=plain), now_ms)
    elif not any(row.id == sealing.roots.first.id for row in tx.all(_ROOTS)):
        # An older one, put in front again, is not gone back to.
        _make_current(tx, sealing.roots.first, read_record(tx, sealing), now_ms)
    else:
        return
    admit(tx, sealing)


def undo(tx: Transaction, sealing: Sealing) -> None:
    """Turn encryption off again that was turned on a moment ago; nothing is sealed yet."""
    tx.run(_DELETE_ROOT, root_id=sealing.current.id)
    sealing.ready = False


def others_serve(tx: Transaction) -> bool:
    """Return whether servers are running on this database; PostgreSQL alone has several."""
    return tx.database == "postgresql" and tx.one(_SERVING) is not None


def read_record(tx: Transaction, sealing: Sealing) -> Record:
    """Return what is known of the database's encryption, which is on."""
    for row in tx.all(_ROOTS):
        if row.current and (found := sealing.roots.named(row.id).open_record(row.record)) is not None:
            return msgspec.json.decode(found, type=Record)
    raise ConfigurationError("the database says nothing of its encryption keys: it was damaged")


def write_record(tx: Transaction, sealing: Sealing, record: Record) -> None:
    """Write the record under the current root key."""
    sealed = sealing.current.seal_record(msgspec.json.encode(record))
    tx.run(_SET_RECORD, root_id=sealing.current.id, new_record=sealed, yes=True)
    sealing.plain = record.plain


def forget_root(tx: Transaction, root_id: str) -> None:
    """Forget a root key under which nothing is wrapped any more."""
    tx.run(_DELETE_ROOT, root_id=root_id)


def current_root(tx: Transaction, sealing: Sealing) -> RootKey:
    """Return the root key that a data key is to be wrapped under now: another server may have changed it.

    Raises:
        EncryptionKeyMissing: It is not known here.
    """
    row = tx.one(_CURRENT)
    if row is not None and row.id != sealing.current.id:
        sealing.current = sealing.roots.named(row.id)
    return sealing.current


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


def _has_state(tx: Transaction) -> bool:
    return tx.one(_SOME_STATE) is not None


def _greatest(tx: Transaction, table: str) -> int:
    if table not in _GREATEST:
        return 1
    return tx.one(_GREATEST[table]).number or 0


def _missing(root_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"the encryption key {root_id!r}, which this database is sealed under, is not in LEGATO_ENCRYPTION_KEYS: add "
        "it behind the others, and take it out only when `legato keys encryption status` says that nothing needs it"
    )
