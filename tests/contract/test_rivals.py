"""Two nodes work on the turns of one conversation at once: the outcome is one that doing it in turn may have too.

Each pair meets at every statement of either: one is halted there until the other is done, or waits for it.
"""

from __future__ import annotations

from functools import partial

import pytest

from legato.core.errors import Conflict, ConversationBusy, KeyReused
from legato.core.run import RunState
from legato.storage.request_keys import REQUEST_KEY_MS, keep_key
from legato.storage.runs import Fenced, stop_run
from legato.storage.statement import Transaction
from legato.storage.turns import KnownTurn, StartedTurn
from tests.contract.rival_works import NOW_MS, change, create, delete, end, expire, start, states
from tests.contract.rivals import PostgresRivals, Rivals, SqliteRivals, Work, refusals


@pytest.mark.parametrize("new", [True, False])
def test_two_turns_of_a_conversation(rivals: Rivals, new: bool) -> None:
    """They are numbered one behind the other; one runs, the other waits, and follows its reply."""
    for trial in rivals.trials():
        if not new:
            rivals.do(create(trial.id))
        one, two = sorted(trial.meet(start(trial.id, "1"), start(trial.id, "2")), key=lambda each: each.turn)
        assert (one.turn, one.ahead, two.turn, two.ahead) == (1, 0, 2, 1)
        assert states(rivals, trial.id) == ["running", "queued"]
        parents = rivals.rows("SELECT parent_id, depth FROM message WHERE id = ?", two.user_message_id)
        assert parents == [(one.message_id, 3)]


def test_as_many_turns_wait_as_may(rivals: Rivals) -> None:
    """The second of two that come for the last place is refused."""
    for trial in rivals.trials():
        rivals.do(start(trial.id, "0"))
        found = trial.meet(start(trial.id, "1", max_waiting=1), start(trial.id, "2", max_waiting=1))
        assert refusals(found) == [ConversationBusy]
        assert states(rivals, trial.id) == ["running", "queued"]


@pytest.mark.parametrize(("before", "max_waiting"), [(0, 5), (1, 5), (1, 1)])
def test_one_key_begins_one_turn(rivals: Rivals, before: int, max_waiting: int) -> None:
    """The other post is told of it: in a new conversation, in an old one, and where no second turn may wait."""
    for trial in rivals.trials():
        for number in range(before):
            rivals.do(start(trial.id, f"before{number}"))
        one, two = trial.meet(*(start(trial.id, name, key=trial.id, max_waiting=max_waiting) for name in ("1", "2")))
        started, known = (one, two) if isinstance(one, StartedTurn) else (two, one)
        assert isinstance(started, StartedTurn)
        assert known == KnownTurn(run_id=started.message_id.replace("m-", "r-"))


def test_one_key_with_two_bodies(rivals: Rivals) -> None:
    """The later post is refused, also where the two are of different conversations."""
    for trial in rivals.trials():
        other = start(f"{trial.id}-b", "2", key=trial.id, body_hash=b"other")
        found = trial.meet(start(trial.id, "1", key=trial.id), other)
        assert refusals(found) == [KeyReused]


def test_two_forget_old_keys(rivals: Rivals) -> None:
    """Neither waits in a circle, though each takes again a key that the other is about to forget."""
    late_ms = NOW_MS + REQUEST_KEY_MS + 1

    def keep(key: str, now_ms: int) -> Work:
        return lambda tx: keep_key(tx, "ann", key, body_hash=b"", run_id="r", now_ms=now_ms)

    for trial in rivals.trials():
        first, *between, last = (f"{trial.id}-{number}" for number in range(4))
        for key in (first, *between, last):
            rivals.do(keep(key, NOW_MS))
        trial.meet(keep(last, late_ms), keep(first, late_ms))
        found = rivals.rows("SELECT key, created_at_ms FROM request_key WHERE key LIKE ?", f"{trial.id}-%")
        assert set(found) == {(first, late_ms), (last, late_ms)}


def test_an_end_and_a_start(rivals: Rivals) -> None:
    """The turn runs at once, or the end lets it run: none waits for nobody."""
    for trial in rivals.trials():
        running = rivals.do(start(trial.id, "0"))
        following, started = trial.meet(end(running), start(trial.id, "1"))
        assert states(rivals, trial.id) == ["finished", "running"]
        assert following == (None if started.ahead == 0 else f"r-{trial.id}-1")


def test_a_run_ends_once(rivals: Rivals) -> None:
    """Whoever comes second is told that the run is not its own any more; the turn behind it begins once."""
    for trial in rivals.trials():
        running = rivals.do(start(trial.id, "0"))
        rivals.do(start(trial.id, "1"))
        found = trial.meet(end(running), end(running, RunState.FAILED))
        assert sorted(type(each).__name__ for each in found) == ["Fenced", "str"]
        assert states(rivals, trial.id)[1:] == ["running"]
        # Two of the first turn, one of the second, whose question counts since it runs.
        assert rivals.rows("SELECT message_count FROM conversation WHERE id = ?", trial.id) == [(3,)]


def test_a_stop_and_an_end(rivals: Rivals) -> None:
    """A stop that was there before the end decides; one that comes later changes nothing."""
    for trial in rivals.trials():
        running = rivals.do(start(trial.id, "0"))
        stop = partial(stop_run, owner="ann", run_id=f"r-{trial.id}-0", cause="user")
        found = trial.meet(end(running), stop)
        assert found in [("user", True), (None, False)]
        assert states(rivals, trial.id) == ["running" if found[1] else "finished"]


def test_a_turn_that_waits_ends_while_it_is_let_run(rivals: Rivals) -> None:
    """It is ended as one that waits, or as one that runs."""
    for trial in rivals.trials():
        running = rivals.do(start(trial.id, "0"))
        waiting = rivals.do(start(trial.id, "1"))
        promoted, stopped = trial.meet(end(running), end(waiting, RunState.STOPPED))
        assert promoted in (None, f"r-{trial.id}-1")
        assert stopped is None
        assert states(rivals, trial.id) == ["finished", "stopped"]
        assert rivals.rows("SELECT message_count FROM conversation WHERE id = ?", trial.id) == [(4,)]


def test_an_end_and_a_delete(rivals: Rivals) -> None:
    """The run ends while it is there, or is found gone; neither waits for ever."""
    for trial in rivals.trials():
        running = rivals.do(start(trial.id, "0"))
        ended, deleted = trial.meet(end(running), delete(trial.id))
        assert ended is None or isinstance(ended, Fenced)
        assert deleted == running.conversation_key
        assert rivals.rows("SELECT 1 FROM run WHERE id LIKE ?", f"r-{trial.id}-%") == []


def test_a_start_and_a_delete(rivals: Rivals) -> None:
    """What was saved is deleted with the conversation, or begins a new one."""
    for trial in rivals.trials():
        rivals.do(create(trial.id))
        started, _ = trial.meet(start(trial.id, "1"), delete(trial.id))
        assert isinstance(started, StartedTurn)
        there = rivals.rows("SELECT key FROM conversation WHERE id = ?", trial.id)
        assert rivals.rows("SELECT conversation_key FROM run WHERE id = ?", f"r-{trial.id}-1") == there
        assert rivals.rows("SELECT count(*) FROM message WHERE id LIKE ?", f"%-{trial.id}-1") == [(2 * len(there),)]


def test_a_start_and_the_end_of_a_conversation_s_time(rivals: Rivals) -> None:
    """A turn that was saved is not deleted as idle: the conversation is passed over, or made anew."""
    for trial in rivals.trials():
        rivals.do(create(trial.id, owner=trial.id))
        turn = start(trial.id, "1", owner=trial.id, now_ms=NOW_MS + 1000)
        started, expired = trial.meet(turn, expire(trial.id))
        assert isinstance(started, StartedTurn)
        assert expired in (0, 1)
        assert states(rivals, trial.id) == ["running"]
        assert rivals.rows("SELECT 1 FROM message WHERE id = ?", started.message_id) == [(1,)]


def test_a_change_of_the_branch_and_a_turn(rivals: Rivals) -> None:
    """The turn goes on behind the reply that was chosen, or the choice is refused while it is being answered."""
    for trial in rivals.trials():
        first = rivals.do(start(trial.id, "0"))
        rivals.do(end(first))
        rivals.do(end(rivals.do(start(trial.id, "1", parent=None))))
        chosen, started = trial.meet(change(trial.id, first.message_id), start(trial.id, "2"))
        parents = rivals.rows("SELECT parent_id FROM message WHERE id = ?", started.user_message_id)
        assert parents == [(f"m-{trial.id}-1" if isinstance(chosen, Conflict) else first.message_id,)]
        assert rivals.rows("SELECT leaf_id FROM conversation WHERE id = ?", trial.id) == [(started.message_id,)]


def test_the_end_of_a_run_that_was_deleted_ends_no_other(rivals: Rivals) -> None:
    """In one batch a conversation is deleted, another's turn begins, in whose run's place the first one ends."""
    gone = rivals.do(start("gone", "0"))

    def in_one(tx: Transaction) -> StartedTurn:
        delete("gone")(tx)
        begun: StartedTurn = start("new", "0", owner="bob")(tx)
        with pytest.raises(Fenced):
            end(gone)(tx)
        return begun

    begun = rivals.do(in_one)
    assert (begun.key == gone.key) == isinstance(rivals, SqliteRivals), "SQLite gives a key anew"
    assert states(rivals, "new") == ["running"]
    assert rivals.rows("SELECT 1 FROM run_log WHERE run_key = ?", begun.key) == []


def test_a_run_is_its_node_s_alone(rivals: Rivals) -> None:
    """What a node starts, or lets run, is its own to end; what waits is nobody's."""
    if not isinstance(rivals, PostgresRivals):
        pytest.skip("SQLite has one process, whose all runs are")
    insert = (
        "INSERT INTO node (id, host, pid, executor_id, lease_ms, beat_at, until, version)"
        " VALUES (?, 'h', 1, 'e', 5000, now(), now(), 'v') RETURNING key"
    )
    keys = [rivals.rows(insert, name)[0][0] for name in ("one", "two")]

    def owners(*started: StartedTurn) -> list[int | None]:
        return [rivals.rows("SELECT node_key FROM run WHERE key = ?", each.key)[0][0] for each in started]

    with rivals.as_nodes(*keys):
        for trial in rivals.trials():
            found = trial.meet(start(trial.id, "1"), start(trial.id, "2"))
            running, waiting = sorted(found, key=lambda each: int(each.ahead))
            mine = found.index(running)
            assert (running.node_key, waiting.node_key) == (keys[mine], None)
            assert owners(running, waiting) == [keys[mine], None]
            # Both try to end what one of them has begun.
            ends = trial.meet(end(running), end(running))
            assert ends[mine] == f"r-{trial.id}-{2 - mine}"
            assert isinstance(ends[1 - mine], Fenced)
            assert owners(running, waiting) == [None, keys[mine]]
