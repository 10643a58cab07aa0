"""A transaction over sealed columns: what is written is sealed, what is read is opened, in one place for all storage.

It stands in front of a database's own transaction (`class SealedX(Sealing…, X)`), and is made only where encryption is
on. Storage code sees plain values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from typing import Any

import structlog

from legato.core.errors import EncryptionKeyMissing, SealBroken
from legato.storage.data_keys import find_data_key, insert_data_key, is_there
from legato.storage.sealed_statements import Opens, Writes, plan_of
from legato.storage.sealing import TAG, DataKey, Scope, Sealing, place_of
from legato.storage.statement import Prepared, Transaction, Values

log = structlog.get_logger(__name__)


class SealedTransaction(Transaction):
    """The part that seals and opens; a subclass brings the database.

    Attributes:
        sealing: The process's keys.
    """

    sealing: Sealing
    _found: dict[Scope, DataKey]
    _dropped: list[Scope]
    _seen: int

    def begin_sealing(self, sealing: Sealing) -> None:
        """Take the process's keys; once, before anything else."""
        self.sealing = sealing
        self._found = {}
        self._dropped = []
        self._seen = sealing.generation

    def settled(self, committed: bool) -> None:
        if self._dropped:
            # Also where it was rolled back: they are found again.
            self.sealing.drop(self._dropped)
            self._dropped = []
        if self._found:
            if committed:
                self.sealing.hold(self._found.items(), seen=self._seen)
            self._found = {}
        self._seen = self.sealing.generation

    def run(self, statement: Prepared, **values: Any) -> int:
        plan = plan_of(statement)
        if type(plan) is Writes:
            values = self._sealed(plan, values)
        return super().run(statement, **values)  # type: ignore[safe-super]

    def insert(self, statement: Prepared, **values: Any) -> int:
        plan = plan_of(statement)
        if type(plan) is not Writes:
            return super().insert(statement, **values)  # type: ignore[safe-super]
        if not plan.makes_scope:
            return super().insert(statement, **self._sealed(plan, values))  # type: ignore[safe-super]
        secret, data_key = self.sealing.make()
        key = super().insert(statement, **_seal_values(plan, values, data_key))  # type: ignore[safe-super]
        insert_data_key(self, key, secret, self.sealing, now_ms=_now_ms())
        self._found[key] = data_key
        return key

    def many(self, statement: Prepared, rows: Sequence[Values]) -> None:
        plan = plan_of(statement)
        if type(plan) is Writes:
            rows = [self._sealed(plan, dict(row)) for row in rows]
        super().many(statement, rows)  # type: ignore[safe-super]

    def one(self, statement: Prepared, **values: Any) -> Any:
        plan = plan_of(statement)
        if plan is None:
            return super().one(statement, **values)  # type: ignore[safe-super]
        if type(plan) is Writes:
            # What such a statement returns are figures.
            return super().one(statement, **self._sealed(plan, values))  # type: ignore[safe-super]
        rows = self.tuples(statement, **values)
        return statement.row(rows[0]) if rows else None

    def all(self, statement: Prepared, **values: Any) -> list[Any]:
        plan = plan_of(statement)
        if plan is None or type(plan) is Writes:
            return super().all(statement, **values)  # type: ignore[safe-super]
        return list(map(statement.row, self.tuples(statement, **values)))

    def tuples(self, statement: Prepared, **values: Any) -> list[tuple[Any, ...]]:
        rows = super().tuples(statement, **values)  # type: ignore[safe-super]
        plan = plan_of(statement)
        if type(plan) is tuple:
            return [self._opened(plan, row) for row in rows]
        return rows

    def readable(self, statement: Prepared, **values: Any) -> tuple[list[Any], Set[int]]:
        plan = plan_of(statement)
        assert type(plan) is tuple, "nothing of it is sealed"
        rows: list[Any] = []
        broken: set[int] = set()
        for row in super().tuples(statement, **values):  # type: ignore[safe-super]
            try:
                rows.append(statement.row(self._opened(plan, row)))
            except EncryptionKeyMissing:
                # It opens when this process has all keys.
                raise
            except SealBroken:
                broken.add(len(rows))
                rows.append(statement.row(self._opened_where_it_opens(plan, row)))
        return rows, broken

    def raw(self, statement: Prepared, **values: Any) -> list[Any]:
        """Return rows as they lie there, sealed or not."""
        return list(map(statement.row, super().tuples(statement, **values)))  # type: ignore[safe-super]

    def data_key(self, scope: Scope, *, make: bool = False, fresh: bool = False) -> DataKey | None:
        """Return the data key of a scope; None where it has none.

        Args:
            make: Something is to be sealed: one is made where there is none. That of an owner is looked up in this
                transaction, because another process may have deleted it, and made another.
            fresh: An owner's is looked up too where nothing is sealed.
        """
        key = self._found.get(scope)
        if key is None and not ((make or fresh) and isinstance(scope, str)):
            key = self.sealing.known(scope)
        if key is None:
            key = find_data_key(self, scope, self.sealing, keep=make)
            if key is None and make:
                secret, key = self.sealing.make()
                if isinstance(scope, int) and not is_there(self, scope):
                    # Its rows are gone: nothing of what is about to be sealed is written.
                    return key
                if not insert_data_key(self, scope, secret, self.sealing, now_ms=_now_ms()):
                    # Another process was faster.
                    key = find_data_key(self, scope, self.sealing, keep=True)
            if key is not None:
                self._found[scope] = key
        return key

    def seal(self, scope: Scope, place: bytes, data: bytes) -> bytes:
        """Return bytes, sealed at a place."""
        return self._key_to_seal(scope).seal(place, data)

    def open(self, scope: Scope, place: bytes, sealed: bytes) -> bytes:
        """Return what was sealed at a place.

        Raises:
            SealBroken: It does not open, or its key was deleted.
            EncryptionKeyMissing: The root key is not known here.
        """
        opened: bytes = self._with_key(scope, lambda key: key.open(place, sealed))
        return opened

    def drop_data_key(self, scope: Scope) -> None:
        """Have the process forget a data key that this transaction deletes."""
        self._found.pop(scope, None)
        self._dropped.append(scope)

    def _key_to_seal(self, scope: Scope) -> DataKey:
        key = self.data_key(scope, make=True)
        if key is None:
            raise SealBroken("there is no data key for what is to be kept")
        return key

    def _with_key(self, scope: Scope, use: Any) -> Any:
        key = self.data_key(scope)
        if key is None:
            raise SealBroken("the key of what is kept here is gone: it was deleted for good")
        try:
            return use(key)
        except SealBroken:
            # A snapshot from before a deletion, or a key that another process has made anew.
            again = find_data_key(self, scope, self.sealing)
            if again is None:
                raise
            opened = use(again)
            # From now on that one is known: what is sealed with the former is lost.
            self._found[scope] = again
            return opened

    def _sealed(self, plan: Writes, values: dict[str, Any]) -> dict[str, Any]:
        if not any(values.get(name) for name, _ in plan.values):
            return values
        return _seal_values(plan, values, self._key_to_seal(plan.scope(values)))

    def _opened(self, plan: tuple[Opens, ...], row: tuple[Any, ...]) -> tuple[Any, ...]:
        found = list(row)
        for opens in plan:
            # Empty or missing is all that a plain value may say.
            if text := row[opens.at]:
                found[opens.at] = self._open_text(opens, row, text)
        return tuple(found)

    def _opened_where_it_opens(self, plan: tuple[Opens, ...], row: tuple[Any, ...]) -> tuple[Any, ...]:
        found = list(row)
        for opens in plan:
            try:
                found[opens.at] = self._opened((opens,), row)[opens.at]
            except SealBroken as error:
                found[opens.at] = None
                number = None if opens.number is None else row[opens.number]
                log.error("a text does not open", column=opens.column, number=number, error=error.message)
        return tuple(found)

    def _open_text(self, opens: Opens, row: tuple[Any, ...], text: str) -> str:
        if not text.startswith(TAG):
            if self._is_from_before(opens, row):
                return text
            raise SealBroken("what is kept here is not sealed, and was not there before encryption was turned on")
        place = place_of(opens.column, *(row[at] for at in opens.place))
        try:
            opened: str = self._with_key(row[opens.scope], lambda key: key.open_text(place, text))
            return opened
        except SealBroken:
            if not (opens.free and self._is_from_before(opens, row)):
                raise
            # Somebody wrote what looks like a sealed text; unless it is the key that does not open.
            self.data_key(row[opens.scope], fresh=True)
            return text

    def _is_from_before(self, opens: Opens, row: tuple[Any, ...]) -> bool:
        return self.sealing.may_be_plain(opens.table, 1 if opens.number is None else row[opens.number])


def _seal_values(plan: Writes, values: dict[str, Any], key: DataKey) -> dict[str, Any]:
    sealed = dict(values)
    for name, column in plan.values:
        if text := values.get(name):
            sealed[name] = key.seal_text(plan.place(column, values), text)
    return sealed


def _now_ms() -> int:
    # Only a note for people: storage has no clock of its own.
    return time.time_ns() // 1_000_000
