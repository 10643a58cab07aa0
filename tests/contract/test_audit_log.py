"""The audit log: one chain that nobody can change, leave out of or put into unnoticed, over each database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from legato.core.errors import ConfigurationError
from legato.runs import audit_log
from legato.runs.audit import NOBODY, SERVER, Actor, audit, command_actor
from legato.runs.audit_log import cut_off, verify, verify_in
from legato.runs.node import Node
from legato.storage.audit import Verification, cut_page, entries_from, find_head, list_entries
from legato.storage.database import Database
from legato.storage.statement import Transaction
from tests.contract.storage_backends import PostgresStorage, Storage
from tests.service_world import LateClock
from tests.statements import execute

ANN = Actor(id="ann", via="key", key_id="k1")


@pytest.fixture
def database(storage: Storage) -> Iterator[Database]:
    """A database on which commands write."""
    found = storage.database()
    found.migrate()
    yield found
    found.close()


def add(database: Database, number: int = 1, **more: Any) -> None:
    """Add entries, each in a transaction of its own."""
    for at_ms in range(number):
        values: dict[str, Any] = {"actor": ANN, "action": "key.create", "subject": f"s{at_ms}", "at_ms": 1000 + at_ms}
        database.transact(lambda tx, values=values: audit(tx, **(values | more)), writes=True)  # type: ignore[misc]


def order(database: Database, sql: str, *parameters: object) -> None:
    """Write as an administrator of the database might."""
    database.transact(lambda tx: execute(tx, sql, *parameters), writes=True)


def fault_of(database: Database, **expected: Any) -> str | None:
    return verify_in(lambda query: database.transact(query, writes=False), expected.get("expected", {})).fault


def test_an_entry_says_who_did_what_to_whose_data(database: Database) -> None:
    """All that was given is there, in one order, with a hash of its own each."""
    add(database, owner="ben", detail={"role": "admin", "count": 3})
    add(database, actor=SERVER, action="conversation.expire", subject="-")
    add(database, actor=NOBODY, action="sign-in.failed", subject="-")
    first, second, third = database.transact(lambda tx: entries_from(tx, 0, 10), writes=False)
    assert (first.seq, first.actor, first.via, first.key_id, first.owner) == (1, "ann", "key", "k1", "ben")
    assert (first.action, first.subject, first.detail) == ("key.create", "s0", '{"count":3,"role":"admin"}')
    assert (second.actor, second.via, second.owner, second.detail) == ("app", "server", None, None)
    assert len({bytes(each.hash) for each in (first, second, third)}) == 3
    assert command_actor().via == "command"
    assert fault_of(database) is None


def test_a_list_is_found_by_owner_actor_and_action(database: Database) -> None:
    """The newest first, each page behind the last."""
    add(database, 3, owner="ben")
    add(database, 2, actor=SERVER, action="audit.export")

    def listed(**given: Any) -> list[int]:
        rows = database.transact(lambda tx: list_entries(tx, given.pop("before", 10**9), 2, **given), writes=False)
        return [row.seq for row in rows]

    assert listed() == [5, 4]
    assert listed(before=4) == [3, 2]
    assert listed(by="owner", value="ben") == [3, 2]
    assert listed(by="actor", value="app") == [5, 4]
    assert listed(by="action", value="key.create") == [3, 2]
    assert listed(by="owner", value="eve") == []


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_entry SET actor = 'eve' WHERE seq = 2",
        "DELETE FROM audit_entry WHERE seq = 2",
        "DELETE FROM audit_entry WHERE seq = 3",
        "INSERT INTO audit_entry (seq, at_ms, actor, via, action, subject, hash)"
        " SELECT 9, 1, 'eve', 'key', 'x', 'x', hash FROM audit_entry WHERE seq = 1",
        "UPDATE audit_head SET seq = 1",
        "UPDATE audit_head SET hash = (SELECT hash FROM audit_entry WHERE seq = 1)",
        "UPDATE audit_head SET cut_seq = 2",
        "DELETE FROM audit_head",
    ],
)
def test_the_database_refuses_to_change_it(database: Database, sql: str) -> None:
    """Entries are only added behind the last, and nothing is cut but by retention."""
    add(database, 3)
    with pytest.raises((ConfigurationError, Exception), match="only added to"):
        order(database, sql)
    assert fault_of(database) is None


def test_a_table_is_not_emptied_either(storage: Storage) -> None:
    """PostgreSQL's TRUNCATE fires no trigger of rows."""
    if not isinstance(storage, PostgresStorage):
        pytest.skip("SQLite has no TRUNCATE")
    with storage.connect() as connection, pytest.raises(Exception, match="only added to"):
        connection.execute("TRUNCATE audit_entry")


CHANGES = {
    "an actor": ("UPDATE audit_entry SET actor = 'eve' WHERE seq = 3", "entry 3"),
    "a time": ("UPDATE audit_entry SET at_ms = 7 WHERE seq = 1", "entry 1"),
    "an owner": ("UPDATE audit_entry SET owner = NULL WHERE seq = 5", "entry 5"),
    "one left out": ("DELETE FROM audit_entry WHERE seq = 4", "entry 4"),
    "the last left out": ("DELETE FROM audit_entry WHERE seq = 6", "entry 6"),
    "the first left out": ("DELETE FROM audit_entry WHERE seq = 1", "entry 1"),
    "a cut by hand": (
        "DELETE FROM audit_entry WHERE seq <= 2; UPDATE audit_head SET cut_seq = 2, cut_hash = (SELECT hash FROM gone)",
        "no entry says",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_behind_the_triggers_is_found(storage: Storage, database: Database, change: str) -> None:
    """Whoever may switch triggers off is found by the chain."""
    add(database, 6, owner="ben")
    sql, said = CHANGES[change]
    hash_ = database.transact(lambda tx: bytes(entries_from(tx, 1, 1)[0].hash).hex(), writes=False)
    literal = f"'\\x{hash_}'" if isinstance(storage, PostgresStorage) else f"x'{hash_}'"
    if isinstance(storage, PostgresStorage):
        with storage.connect() as connection:
            connection.execute("SET session_replication_role = replica")
            for each in sql.replace("(SELECT hash FROM gone)", literal).split("; "):
                connection.execute(each)
    else:
        for name in ("entry_kept", "entry_not_cut", "entry_follows", "head_moves_on"):
            order(database, f"DROP TRIGGER audit_{name}")
        for each in sql.replace("(SELECT hash FROM gone)", literal).split("; "):
            order(database, each)
    fault = fault_of(database)
    assert fault is not None
    assert said in fault


def test_a_chain_that_was_made_anew_differs_from_what_was_noted(database: Database) -> None:
    """Whoever can write everything can compute everything: only a hash that is kept elsewhere tells."""
    add(database, 3)
    noted = {2: database.transact(lambda tx: bytes(entries_from(tx, 1, 1)[0].hash).hex(), writes=False)}
    assert fault_of(database, expected=noted) is None
    assert "was rewritten" in str(fault_of(database, expected={2: "00" * 32}))
    assert "is not any more" in str(fault_of(database, expected={4: "00" * 32}))


async def test_what_is_old_is_cut_off_and_the_rest_stays_verifiable(node: Node) -> None:
    """An entry says what was cut; cuts follow each other; the last entry always stays."""
    clock = LateClock()
    node.clock = clock

    async def write(subject: str) -> None:
        await node.committer.write(
            lambda tx: audit(tx, actor=ANN, action="key.create", subject=subject, at_ms=clock.now_ms())
        )

    for subject in ("a", "b", "c"):
        await write(subject)
    assert await cut_off(node) == 0
    days = node.settings.audit_keep_days
    assert days == 365
    clock.pass_h(24 * (days + 1))
    await write("d")
    assert await cut_off(node) == 3
    head = await node.database.read(find_head)
    assert (head.cut_seq, head.seq) == (3, 5)
    verdict = await verify(node)
    assert (verdict.fault, verdict.entries, verdict.cut_seq) == (None, 2, 3)
    clock.pass_h(24 * (days + 1))
    await write("e")
    assert await cut_off(node) == 2
    verdict = await verify(node)
    assert (verdict.fault, verdict.cut_seq, verdict.head_seq) == (None, 5, 7)
    assert [row.action for row in await node.database.read(lambda tx: entries_from(tx, 0, 9))] == [
        "key.create",
        "audit.cut",
    ]


def test_what_is_cut_off_meanwhile_is_not_missing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at the chain while retention cuts goes on behind the cut; what nobody cut off is missed still."""
    monkeypatch.setattr(audit_log, "PAGE", 2)
    add(database, 9, owner="ben")

    def cut(tx: Transaction) -> None:
        def record(tx: Transaction, through: int, hash_: str) -> None:
            detail = {"through": through, "hash": hash_}
            audit(tx, actor=SERVER, action="audit.cut", subject="audit", detail=detail, at_ms=2000)

        cut_page(tx, 1006, record)

    looks = 0

    def read(query: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            # The head and the first two entries were read.
            database.transact(cut, writes=True)
        return database.transact(query, writes=False)

    verdict = verify_in(read, {})
    assert (verdict.fault, verdict.cut_seq, verdict.head_seq, verdict.entries) == (None, 6, 10, 6)
    missing = Verification(database.transact(find_head, writes=False))
    missing.take(database.transact(lambda tx: entries_from(tx, 7, 9), writes=False))
    assert missing.gap
    missing.look_behind(database.transact(find_head, writes=False))
    assert missing.verdict().fault == "entry 7 is missing"


async def test_many_at_once_are_one_chain(node: Node, storage: Storage) -> None:
    """A server and commands beside it write at the same time; no entry is lost, none has another's number."""
    beside, now_ms = storage.database(), node.clock.now_ms()

    def several() -> None:
        for number in range(20):
            beside.transact(
                lambda tx, number=number: audit(  # type: ignore[misc]
                    tx, actor=command_actor(), action="key.revoke", subject=f"x{number}", at_ms=now_ms
                ),
                writes=True,
            )

    async def one(number: int) -> None:
        def work(tx: Transaction) -> None:
            audit(tx, actor=ANN, action="key.create", subject=f"n{number}", at_ms=now_ms + number)

        await node.committer.write(work)

    before = (await node.database.read(find_head)).seq
    await asyncio.gather(asyncio.to_thread(several), *(one(number) for number in range(40)))
    beside.close()
    verdict = await verify(node)
    assert (verdict.fault, verdict.head_seq - before) == (None, 60)
    rows = await node.database.read(lambda tx: entries_from(tx, before, 100))
    assert {row.subject for row in rows} == {f"x{n}" for n in range(20)} | {f"n{n}" for n in range(40)}
    assert all(a.at_ms <= b.at_ms for a, b in pairwise(rows))
