"""State: what a bot's own code keeps, a JSON value under a group and a key, for one owner.

Versions count from 1 and rise with each write; 0 stands for a key that is not there. A key that was deleted, or has
expired, begins at 1 again. Every write reads what it needs in its own transaction of the one writer, so none is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from legato.core.clock import Clock
from legato.core.errors import InvalidRequest
from legato.core.json_value import encode_json, json_copy, kind_of
from legato.core.operations import Operation
from legato.storage.committer import Committer
from legato.storage.database import Database
from legato.storage.state_rows import (
    EntryPage,
    Place,
    Span,
    Updated,
    Versioned,
    change_value,
    check_name,
    clear_page,
    delete_value,
    find_value,
    list_groups,
    list_values,
    put_value,
)

MAX_OPERATIONS: Final = 100
"""Most operations of one update: the writer is held for so long."""
MAX_TTL_S: Final = 100 * 366 * 86400
"""Longest time to live: a hundred years."""


class State:
    """The state of one owner.

    Group names have 1 to 200 printable characters, keys 1 to 1,000 bytes of them. Every method may raise
    InvalidRequest (an argument is wrong; nothing was done) and StorageUnavailable (the database is away).

    Args:
        owner: Whose rows all methods see and write; nobody else's.
        wait_s: Longest wait of a write for a database that is away, in seconds; None waits for ever.
    """

    def __init__(
        self, database: Database, committer: Committer, clock: Clock, owner: str, *, wait_s: float | None = None
    ) -> None:
        check_name("owner", owner)
        self.owner = owner
        self._database = database
        self._committer = committer
        self._clock = clock
        self._wait_s = wait_s

    async def get(self, group: str, key: str) -> Any:
        """Return the value, or None where there is none; `get_versioned` tells that from a null."""
        found = await self.get_versioned(group, key)
        return None if found is None else found.value

    async def get_versioned(self, group: str, key: str) -> Versioned | None:
        """Return the value with its version, or None where there is none."""
        place = self._place(group, key)
        return await self._database.read(lambda tx: find_value(tx, place, self._clock.now_ms()))

    async def set(
        self, group: str, key: str, value: object, *, ttl_s: float | None = None, if_version: int | None = None
    ) -> int:
        """Put a value, whatever was there, and return its version.

        Args:
            value: JSON: None, bool, int of 64 bits, finite float, str, list, or dict with str keys, nested up to 64
                levels and up to 1 MiB long; it is copied at once.
            ttl_s: Seconds after which it is gone; None keeps it, also where the value before had a limit.
            if_version: Put it only over this version; 0: only where there is none.

        Raises:
            InvalidValue: It is not JSON.
            ValueTooLarge: It is too long or too deep.
            VersionConflict: There is another version.
        """
        place, text, ttl_ms = self._place(group, key), encode_json(json_copy(value)), ttl_in_ms(ttl_s)
        check_version(if_version)
        return await self._committer.write(
            lambda tx: put_value(tx, place, text, self._clock.now_ms(), ttl_ms=ttl_ms, if_version=if_version),
            wait_s=self._wait_s,
        )

    async def update(
        self,
        group: str,
        key: str,
        *operations: Operation | Sequence[Operation],
        ttl_s: float | None = None,
        if_version: int | None = None,
    ) -> Updated:
        """Do one to 100 operations, one after the other: all of them or none; make the key where it is absent.

        Args:
            operations: Of core.operations, each alone or in lists.
            ttl_s: Seconds after which it is gone, from now; None leaves the time that was set before.
            if_version: Do it only to this version; 0: only where there is none.

        Raises:
            OperationMisfit: An operation cannot be done; names it, its path and what stands in its way.
            ValueTooLarge: The value would become too long.
            VersionConflict: There is another version.
        """
        place, ttl_ms = self._place(group, key), ttl_in_ms(ttl_s)
        wanted = _operations(operations)
        check_version(if_version)
        return await self._committer.write(
            lambda tx: change_value(tx, place, wanted, self._clock.now_ms(), ttl_ms=ttl_ms, if_version=if_version),
            wait_s=self._wait_s,
        )

    async def delete(self, group: str, key: str, *, if_version: int | None = None) -> bool:
        """Delete a value; return whether there was one.

        Raises:
            VersionConflict: There is another version than `if_version`.
        """
        place = self._place(group, key)
        check_version(if_version)
        return await self._committer.write(
            lambda tx: delete_value(tx, place, self._clock.now_ms(), if_version=if_version), wait_s=self._wait_s
        )

    async def list(
        self, group: str, *, after: str | None = None, limit: int = 100, prefix: str | None = None
    ) -> EntryPage:
        """Return entries in the order of their keys (of their code points).

        Args:
            after: Begin behind this key: the `next` of the page before.
            limit: Most entries, 1 to 1,000; a page of long values may end earlier, with a `next`.
            prefix: Only keys that begin so.
        """
        check_name("group", group)
        span = Span(owner=self.owner, group=group, after=after, limit=limit, prefix=prefix)
        return await self._database.read(lambda tx: list_values(tx, span, self._clock.now_ms()))

    async def clear(self, group: str) -> int:
        """Delete all values of a group, in pages; return how many there were.

        What others set meanwhile may stay. A caller that is cut has deleted some.
        """
        check_name("group", group)
        count, least = 0, ""
        while True:
            page = partial(clear_page, owner=self.owner, group=group, least=least, now_ms=self._clock.now_ms())
            deleted, go_on = await self._committer.write(page, wait_s=self._wait_s)
            count += deleted
            if go_on is None:
                return count
            least = go_on

    async def groups(self, *, after: str | None = None, limit: int = 100, prefix: str | None = None) -> tuple[str, ...]:
        """Return the names of groups with a value in them, in order; the arguments are those of `list`."""
        span = Span(owner=self.owner, group=None, after=after, limit=limit, prefix=prefix)
        return await self._database.read(lambda tx: list_groups(tx, span, self._clock.now_ms()))

    def _place(self, group: str, key: str) -> Place:
        return Place(owner=self.owner, group=group, key=key)


def ttl_in_ms(ttl_s: object) -> int | None:
    """Return a time to live in milliseconds, at least 1; None for ever.

    Raises:
        InvalidRequest: It is no number of seconds above 0 and up to a hundred years.
    """
    if ttl_s is None:
        return None
    if type(ttl_s) not in (int, float) or not (isinstance(ttl_s, int | float) and 0 < ttl_s <= MAX_TTL_S):
        raise InvalidRequest.of("ttl_s", "is no number of seconds above 0 and up to 100 years")
    return math.ceil(ttl_s * 1000)


def check_version(if_version: object) -> None:
    """Refuse what is no version.

    Raises:
        InvalidRequest: It is neither None nor an int from 0 on.
    """
    if if_version is not None and (type(if_version) is not int or if_version < 0):
        raise InvalidRequest.of("if_version", "is no version: give the one that was read, or 0 for a key not there")


def _operations(given: Sequence[Operation | Sequence[Operation]]) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for each in given:
        found += each if isinstance(each, Sequence) else (each,)
    for operation in found:
        if not isinstance(operation, Operation):
            raise InvalidRequest.of("operations", f"hold {kind_of(operation)}: use increment() and its like")
    if not 1 <= len(found) <= MAX_OPERATIONS:
        raise InvalidRequest.of("operations", f"are {len(found)}: give 1 to {MAX_OPERATIONS}")
    return tuple(found)
