"""State as rows: what finds, puts, changes, lists and deletes them inside a transaction.

The transaction is the committer's, or that of a command line beside it. A row that has expired is absent to every
reader and writer, whether or not it has been deleted yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, or_, select, update

from legato.core.errors import InvalidRequest, VersionConflict
from legato.core.ids import id_fault
from legato.core.json_value import decode_json, encode_json, kind_of
from legato.core.operations import MISSING, Change, Operation, apply_operations
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import state

MAX_KEY_BYTES: Final = 1000
"""Longest key, in UTF-8. With owner and group it must fit into an entry of PostgreSQL's index, 2,700 bytes."""
MAX_LIMIT: Final = 1000
"""Most entries of a page."""
PAGE_BYTES: Final = 4_194_304
"""A page ends early behind the entry with which its values have come to this length."""
DELETE_ROWS: Final = 100
"""Rows that one transaction deletes of many."""

_SLICE_ROWS: Final = 16
# Keys hold printable characters alone: these sort before and behind all that may follow within one.
_FIRST: Final = "\x01"
_LAST: Final = "\U0010ffff"

_is_at = (
    state.c.owner == bindparam("owner"),
    state.c.group == bindparam("group"),
    state.c.key == bindparam("key"),
)
_is_live = or_(state.c.expires_at_ms.is_(None), state.c.expires_at_ms > bindparam("now_ms"))
# Where it stands goes with a value: it is bound to that where it is sealed.
_found = select(state.c.owner, state.c.group, state.c.key, state.c.value, state.c.version, state.c.expires_at_ms).where(
    *_is_at
)
_FIND = Prepared(_found)
# For whoever writes: two nodes change a value one after the other.
_FIND_LOCKED = Prepared(_found.with_for_update())
_FIND_VERSION = Prepared(select(state.c.version, state.c.expires_at_ms).where(*_is_at).with_for_update())
_INSERT = insert_into(state)
_UPDATE = Prepared(
    update(state)
    .where(state.c.owner == bindparam("owner_"), state.c.group == bindparam("group_"), state.c.key == bindparam("key_"))
    .values(
        value=bindparam("value"),
        version=bindparam("version"),
        expires_at_ms=bindparam("expires_at_ms"),
        updated_at_ms=bindparam("updated_at_ms"),
    )
)
_DELETE = Prepared(delete(state).where(*_is_at))
_SLICE = Prepared(
    select(state.c.owner, state.c.group, state.c.key, state.c.value, state.c.version, state.c.expires_at_ms)
    .where(
        state.c.owner == bindparam("owner"),
        state.c.group == bindparam("group"),
        state.c.key >= bindparam("least"),
        state.c.key < bindparam("beyond"),
        _is_live,
    )
    .order_by(state.c.key)
    .limit(bindparam("most"))
)
_NEXT_GROUP = Prepared(
    select(state.c.group)
    .where(
        state.c.owner == bindparam("owner"),
        state.c.group >= bindparam("least"),
        state.c.group < bindparam("beyond"),
        _is_live,
    )
    .order_by(state.c.group)
    .limit(1)
)
_KEYS = Prepared(
    select(state.c.owner, state.c.group, state.c.key, state.c.expires_at_ms)
    .where(state.c.owner == bindparam("owner"), state.c.group == bindparam("group"), state.c.key >= bindparam("least"))
    .order_by(state.c.key)
    .limit(bindparam("most"))
    .with_for_update()
)
_EXPIRED = Prepared(
    select(state.c.owner, state.c.group, state.c.key)
    .where(state.c.expires_at_ms <= bindparam("now_ms"))
    .order_by(state.c.expires_at_ms)
    .limit(bindparam("most"))
    # What somebody else holds is being renewed, or deleted.
    .with_for_update(skip_locked=True)
)
_DELETE_EXPIRED = Prepared(
    delete(state).where(
        state.c.owner == bindparam("owner"),
        state.c.group == bindparam("group"),
        state.c.key == bindparam("key"),
        state.c.expires_at_ms <= bindparam("now_ms"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value is.

    Raises:
        InvalidRequest: Owner or group is not 1 to 200 printable characters, the key not 1 to MAX_KEY_BYTES bytes of
            them.
    """

    owner: str
    group: str
    key: str

    def __post_init__(self) -> None:
        check_name("owner", self.owner)
        check_name("group", self.group)
        _check_key("key", self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which part of a list is wanted: of a group's keys, or with no group of an owner's groups.

    Attributes:
        after: Begin behind this name.
        limit: Most names, 1 to MAX_LIMIT.
        prefix: Only names that begin so.

    Raises:
        InvalidRequest: One of them is wrong.
    """

    owner: str
    group: str | None
    after: str | None = None
    limit: int = 100
    prefix: str | None = None

    def __post_init__(self) -> None:
        check_name("owner", self.owner)
        if self.group is not None:
            check_name("group", self.group)
        if self.after is not None:
            _check_key("after", self.after)
        if self.prefix:
            _check_key("prefix", self.prefix)
        if type(self.limit) is not int or not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidRequest.of("limit", f"is not from 1 to {MAX_LIMIT}")

    @property
    def least(self) -> str:
        """The least name that it may hold."""
        return max(self.prefix or "", "" if self.after is None else self.after + _FIRST)

    @property
    def beyond(self) -> str:
        """What lies behind every name that it may hold."""
        return (self.prefix or "") + _LAST


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """A value and its version, which the next write may name in `if_version`."""

    value: Any
    version: int
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key with what is kept under it."""

    key: str
    value: Any
    version: int
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """Entries in the order of their keys; `next` is where the next page begins (`after`), None at the end."""

    entries: tuple[Entry, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """What an update did: a change for each operation, in their order, and the new version."""

    changes: tuple[Change, ...]
    version: int


def find_value(tx: Transaction, place: Place, now_ms: int) -> Versioned | None:
    """Return the value with its version, or None."""
    row = tx.one(_FIND, **_columns(place))
    if not _live(row, now_ms):
        return None
    return Versioned(value=decode_json(row.value), version=row.version, expires_at_ms=row.expires_at_ms)


def put_value(
    tx: Transaction, place: Place, text: str, now_ms: int, *, ttl_ms: int | None, if_version: int | None
) -> int:
    """Put a value's JSON text and return its version; as State.set."""
    row = tx.one(_FIND_VERSION, **_columns(place))
    version = _check_found(row, now_ms, if_version) + 1
    _write(tx, place, row, text, version, None if ttl_ms is None else now_ms + ttl_ms, now_ms)
    return version


def change_value(
    tx: Transaction,
    place: Place,
    operations: Sequence[Operation],
    now_ms: int,
    *,
    ttl_ms: int | None,
    if_version: int | None,
) -> Updated:
    """Do operations to a value; as State.update."""
    row = tx.one(_FIND_LOCKED, **_columns(place))
    version = _check_found(row, now_ms, if_version) + 1
    live = version > 1
    value, changes = apply_operations(decode_json(row.value) if live else MISSING, operations)
    # Nothing is written before this has passed: what is refused leaves no trace.
    text = encode_json(value)
    kept = row.expires_at_ms if live else None
    _write(tx, place, row, text, version, kept if ttl_ms is None else now_ms + ttl_ms, now_ms)
    return Updated(changes=changes, version=version)


def delete_value(tx: Transaction, place: Place, now_ms: int, *, if_version: int | None) -> bool:
    """Delete a value; as State.delete."""
    found = _check_found(tx.one(_FIND_VERSION, **_columns(place)), now_ms, if_version)
    return tx.run(_DELETE, **_columns(place)) == 1 and found > 0


def list_values(tx: Transaction, span: Span, now_ms: int) -> EntryPage:
    """Return a page of a group; as State.list."""
    entries: list[Entry] = []
    size_bytes = 0
    least = span.least
    while True:
        rows = tx.all(
            _SLICE,
            owner=span.owner,
            group=span.group,
            least=least,
            beyond=span.beyond,
            now_ms=now_ms,
            most=_SLICE_ROWS,
        )
        for row in rows:
            if len(entries) == span.limit or size_bytes >= PAGE_BYTES:
                return EntryPage(entries=tuple(entries), next=entries[-1].key)
            value = decode_json(row.value)
            entries.append(Entry(key=row.key, value=value, version=row.version, expires_at_ms=row.expires_at_ms))
            size_bytes += len(row.value)
        if len(rows) < _SLICE_ROWS:
            return EntryPage(entries=tuple(entries), next=None)
        least = rows[-1].key + _FIRST


def list_groups(tx: Transaction, span: Span, now_ms: int) -> tuple[str, ...]:
    """Return names of groups; as State.groups."""
    names: list[str] = []
    least = span.least
    # From one group to the next by the index, however many keys they have.
    while len(names) < span.limit:
        row = tx.one(_NEXT_GROUP, owner=span.owner, least=least, beyond=span.beyond, now_ms=now_ms)
        if row is None:
            break
        names.append(row.group)
        least = row.group + _FIRST
    return tuple(names)


def clear_page(tx: Transaction, owner: str, group: str, least: str, now_ms: int) -> tuple[int, str | None]:
    """Delete up to DELETE_ROWS rows from the key `least` on; return how many were live, and where to go on or None."""
    rows = tx.all(_KEYS, owner=owner, group=group, least=least, most=DELETE_ROWS)
    tx.many(_DELETE, [{"owner": row.owner, "group": row.group, "key": row.key} for row in rows])
    live = sum(_live(row, now_ms) for row in rows)
    return live, rows[-1].key + _FIRST if len(rows) == DELETE_ROWS else None


def delete_expired(tx: Transaction, now_ms: int, limit: int = DELETE_ROWS) -> int:
    """Delete up to `limit` rows of any owner that have expired, the longest ago first; return how many.

    Fewer than `limit` means that none is left.
    """
    rows = tx.all(_EXPIRED, now_ms=now_ms, most=limit)
    # A value that was renewed meanwhile stays.
    tx.many(_DELETE_EXPIRED, [{**row._asdict(), "now_ms": now_ms} for row in rows])
    return len(rows)


def check_name(field: str, name: object) -> None:
    """Refuse what is no name of an owner or a group.

    Raises:
        InvalidRequest: It is not 1 to 200 printable characters.
    """
    if not isinstance(name, str):
        raise InvalidRequest.of(field, f"is {kind_of(name)}, not text")
    if fault := id_fault(name):
        raise InvalidRequest.of(field, fault)


def _check_key(field: str, key: object) -> None:
    if not isinstance(key, str):
        raise InvalidRequest.of(field, f"is {kind_of(key)}, not text")
    if not key:
        raise InvalidRequest.of(field, f"is empty: give 1 to {MAX_KEY_BYTES} bytes of printable characters")
    if not key.isprintable():
        raise InvalidRequest.of(field, "holds a character that is not printable")
    if (size := len(key.encode())) > MAX_KEY_BYTES:
        raise InvalidRequest.of(field, f"has {size} bytes in UTF-8: at most {MAX_KEY_BYTES} are taken")


def _columns(place: Place) -> dict[str, str]:
    return {"owner": place.owner, "group": place.group, "key": place.key}


def _live(row: Any, now_ms: int) -> bool:
    return row is not None and (row.expires_at_ms is None or row.expires_at_ms > now_ms)


def _check_found(row: Any, now_ms: int, if_version: int | None) -> int:
    """Return the version that is there, 0 for none.

    Raises:
        VersionConflict: It is not `if_version`.
    """
    found: int = row.version if _live(row, now_ms) else 0
    if if_version is not None and if_version != found:
        wanted = f"version {if_version} was asked for" if if_version else "the key was to be absent"
        there = f"version {found} is there" if found else "there is none"
        raise VersionConflict(f"{wanted}, {there}: read it again", wanted=if_version, found=found)
    return found


def _write(
    tx: Transaction, place: Place, row: Any, text: str, version: int, expires_at_ms: int | None, now_ms: int
) -> None:
    values = {"value": text, "version": version, "expires_at_ms": expires_at_ms, "updated_at_ms": now_ms}
    if row is None:
        tx.insert(_INSERT, **_columns(place), **values)
    else:
        tx.run(_UPDATE, owner_=place.owner, group_=place.group, key_=place.key, **values)
