"""Two nodes change one row at once: the outcome is one that doing it in turn may have too."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pytest

from legato.core import operations as op
from legato.core.errors import Conflict, NotFound, VersionConflict
from legato.core.resources import Feedback, state_group
from legato.runs.analytics import count_all
from legato.runs.feedback import WriteFeedback
from legato.storage.conversations import find_conversation, rename_by_model
from legato.storage.reply_counts import EndedReply, GivenFeedback
from legato.storage.sign_ins import IDLE_MS, MOST_OF_A_KEY, create_sign_in, renew_sign_in
from legato.storage.state_rows import (
    Place,
    change_value,
    clear_page,
    delete_expired,
    delete_value,
    find_value,
    put_value,
)
from legato.storage.statement import Transaction
from tests.contract.rival_works import NOW_MS, change, create, delete, end, expire, fork, start
from tests.contract.rivals import Rivals, Work, refusals

LATE_MS = NOW_MS + 2000
COUNTED: dict[str, Any] = {
    "session_id": "s",
    "model": None,
    "outcome": "completed",
    "input_tokens": None,
    "output_tokens": None,
    "estimated": False,
    "cost_nusd": None,
    "response_time_ms": 1,
    "first_token_ms": None,
    "at_ms": NOW_MS,
}


@pytest.mark.parametrize("kinds", ["create create", "create start", "create fork", "fork fork"])
def test_a_conversation_is_made_once(rivals: Rivals, kinds: str) -> None:
    """The second is told that it is there; a turn goes into it."""
    for trial in rivals.trials():
        rivals.do(end(rivals.do(start(f"{trial.id}-source", "0"))))
        works = {
            "create": create(trial.id),
            "start": start(trial.id, "1"),
            "fork": fork(f"{trial.id}-source", trial.id),
        }
        one, two = kinds.split()
        found = trial.meet(works[one], works[two])
        refused = refusals(found)
        assert refused in ([[Conflict], []] if two == "start" else [[Conflict]])
        assert rivals.rows("SELECT count(*) FROM conversation WHERE id = ?", trial.id) == [(1,)]


def test_a_copy_and_a_turn_of_its_source(rivals: Rivals) -> None:
    """The copy is of before the turn, or is refused because a reply is being made."""
    for trial in rivals.trials():
        rivals.do(end(rivals.do(start(trial.id, "0"))))
        copied, _ = trial.meet(fork(trial.id, f"{trial.id}-copy"), start(trial.id, "1"))
        assert copied == 2 or isinstance(copied, Conflict)


def test_a_copy_and_a_delete_of_its_source(rivals: Rivals) -> None:
    """The copy is whole, or there is none."""
    for trial in rivals.trials():
        rivals.do(end(rivals.do(start(trial.id, "0"))))
        copied, _ = trial.meet(fork(trial.id, f"{trial.id}-copy"), delete(trial.id))
        messages = rivals.rows("SELECT count(*) FROM message WHERE id LIKE ?", f"f-{trial.id}-copy-%")
        assert (messages == [(0,)] and isinstance(copied, NotFound)) or (messages == [(2,)] and copied == 2)


def test_two_changes_of_a_conversation(rivals: Rivals) -> None:
    """Each changes what it names, and nothing else."""
    for trial in rivals.trials():
        rivals.do(create(trial.id))
        trial.meet(change(trial.id, title="T", title_source="user"), change(trial.id, pinned=True))
        row = rivals.do(partial(find_conversation, owner="ann", conversation_id=trial.id))
        assert (row.title, bool(row.pinned)) == ("T", True)


def rename(rivals: Rivals, conversation_id: str) -> Work:
    row = rivals.do(partial(find_conversation, owner="ann", conversation_id=conversation_id))
    return partial(rename_by_model, owner="ann", conversation_id=conversation_id, key=row.key, title="M")


def test_a_title_of_a_person_and_one_of_a_model(rivals: Rivals) -> None:
    """The person's stays, whatever else the person changes."""
    for trial in rivals.trials():
        rivals.do(create(trial.id))

        trial.meet(change(trial.id, title="T", title_source="user"), rename(rivals, trial.id))
        assert rivals.rows("SELECT title FROM conversation WHERE id = ?", trial.id) == [("T",)]


def test_a_change_and_a_title_of_a_model(rivals: Rivals) -> None:
    """What is not named is not written back as it was."""
    for trial in rivals.trials():
        rivals.do(create(trial.id))

        trial.meet(change(trial.id, pinned=True), rename(rivals, trial.id))
        assert rivals.rows("SELECT title FROM conversation WHERE id = ?", trial.id) == [("M",)]


def test_two_pages_of_conversations_whose_time_is_over(rivals: Rivals) -> None:
    """Each is deleted by one of them."""
    for trial in rivals.trials():
        for number in range(3):
            rivals.do(create(f"{trial.id}-{number}", owner=trial.id))
        assert sum(trial.meet(expire(trial.id), expire(trial.id))) == 3


def test_idle_conversations_are_deleted_while_their_replies_are_counted(rivals: Rivals) -> None:
    """In the one order and in the other: what is being counted is passed over, and nobody waits in a circle."""
    for trial in rivals.trials():
        names = [f"{trial.id}-{letter}" for letter in "ba"]
        for name in names:
            rivals.do(end(rivals.do(start(name, "0", owner=trial.id))))
        changes = [(trial.id, EndedReply(run_id=f"r-{name}-0", conversation_id=name, **COUNTED)) for name in names]
        trial.meet(expire(trial.id), partial(count_all, changes=changes))
        assert trial.waited != 0


def test_a_conversation_is_deleted_and_made_again(rivals: Rivals) -> None:
    """A delete takes along the state of the conversation that it has found, and of no later one."""

    def make_again(name: str) -> Work:
        def made(tx: Transaction) -> None:
            delete(name)(tx)
            create(name)(tx)
            put(state_group(name), "1")(tx)

        return made

    for trial in rivals.trials():
        rivals.do(create(trial.id))
        trial.meet(delete(trial.id), make_again(trial.id))
        found = rivals.rows("SELECT count(*) FROM conversation WHERE id = ?", trial.id)
        assert rivals.rows('SELECT count(*) FROM state WHERE "group" = ?', state_group(trial.id)) == found


def test_the_same_feedback_twice(rivals: Rivals) -> None:
    """One event tells of it."""

    def give(name: str) -> Work:
        return WriteFeedback(
            owner="ann",
            message_id=f"m-{name}-0",
            feedback=Feedback(thumb="up", reason=None, at_ms=NOW_MS),
            event_id=name,
            trace_id=None,
            now_ms=NOW_MS,
        ).apply

    for trial in rivals.trials():
        rivals.do(start(trial.id, "0"))
        trial.meet(give(trial.id), give(trial.id))
        assert rivals.rows("SELECT count(*) FROM outbox WHERE event_id = ?", trial.id) == [(1,)]


def test_replies_are_counted_once(rivals: Rivals) -> None:
    """By whichever of two comes first, in whatever order the events came: neither waits in a circle."""
    for trial in rivals.trials():
        names = [f"{trial.id}-{number}" for number in range(2)]
        changes: list[tuple[str, EndedReply | GivenFeedback]] = []
        for name in names:
            rivals.do(start(name, "0"))
            changes.append(("ann", EndedReply(run_id=f"r-{name}-0", conversation_id=name, **COUNTED)))
            changes.append(("ann", GivenFeedback(message_id=f"m-{name}-0", thumb="up", at_ms=NOW_MS)))
        trial.meet(partial(count_all, changes=changes), partial(count_all, changes=changes[::-1]))
        found = rivals.rows("SELECT outcome, thumb FROM reply_count WHERE run_id LIKE ?", f"r-{trial.id}-%")
        assert found == [("completed", "up")] * 2


def put(group: str, text: str, **values: Any) -> Work:
    at = Place(owner="ann", group=group, key=values.pop("key", "k"))
    given = {"now_ms": NOW_MS, "ttl_ms": None, "if_version": None} | values
    return lambda tx: put_value(tx, at, text, **given)


def count(group: str) -> Work:
    at = Place(owner="ann", group=group, key="k")
    return lambda tx: change_value(tx, at, [op.increment(())], NOW_MS, ttl_ms=None, if_version=None)


def kept(rivals: Rivals, group: str, now_ms: int = NOW_MS) -> Any:
    return rivals.do(lambda tx: find_value(tx, Place(owner="ann", group=group, key="k"), now_ms)).value


@pytest.mark.parametrize("there", [True, False])
def test_two_counts_of_a_value(rivals: Rivals, there: bool) -> None:
    """Both count, also where neither found anything."""
    for trial in rivals.trials():
        if there:
            rivals.do(put(trial.id, "0"))
        trial.meet(count(trial.id), count(trial.id))
        assert kept(rivals, trial.id) == 2


@pytest.mark.parametrize("version", [1, 0])
def test_two_puts_on_one_version(rivals: Rivals, version: int) -> None:
    """The second is told of the first; version 0 is that of nothing."""
    for trial in rivals.trials():
        if version:
            rivals.do(put(trial.id, "0"))
        found = trial.meet(*(put(trial.id, text, if_version=version) for text in ("1", "2")))
        assert refusals(found) == [VersionConflict]


def test_a_delete_and_a_count(rivals: Rivals) -> None:
    """The count begins anew behind the delete, or the delete finds another version."""
    for trial in rivals.trials():
        rivals.do(put(trial.id, "5"))
        at = Place(owner="ann", group=trial.id, key="k")
        deleted, _ = trial.meet(partial(delete_value, place=at, now_ms=NOW_MS, if_version=1), count(trial.id))
        assert kept(rivals, trial.id) == (6 if isinstance(deleted, VersionConflict) else 1)


def test_a_value_that_is_renewed_does_not_expire(rivals: Rivals) -> None:
    """Whether it was found before or after."""
    for trial in rivals.trials():
        rivals.do(put(trial.id, "1", ttl_ms=1000))
        trial.meet(put(trial.id, "2", ttl_ms=1000, now_ms=LATE_MS), partial(delete_expired, now_ms=LATE_MS))
        assert kept(rivals, trial.id, LATE_MS) == 2
        assert trial.waited != 1


def test_two_clear_a_group(rivals: Rivals) -> None:
    """Each entry is deleted once."""

    def clear(group: str, least: str) -> Work:
        return lambda tx: clear_page(tx, "ann", group, least, NOW_MS)[0]

    for trial in rivals.trials():
        for key in "abc":
            rivals.do(put(trial.id, "1", key=key))
        found = trial.meet(clear(trial.id, "a"), clear(trial.id, "b"))
        assert found in [(3, 0), (1, 2)]


def test_a_group_is_cleared_while_it_expires(rivals: Rivals) -> None:
    """One goes by the keys, the other by the time: nobody waits in a circle."""
    for trial in rivals.trials():
        for place, key in enumerate("cba"):
            rivals.do(put(trial.id, "1", key=key, ttl_ms=place + 1))
        trial.meet(
            partial(clear_page, owner="ann", group=trial.id, least="a", now_ms=NOW_MS),
            partial(delete_expired, now_ms=LATE_MS),
        )
        assert rivals.rows('SELECT 1 FROM state WHERE "group" = ?', trial.id) == []


def test_two_sign_ins_with_one_key(rivals: Rivals) -> None:
    """What is over is forgotten, what is above the most is crowded out, and what is being renewed stays."""

    def sign_in(key_id: str, now_ms: int) -> Work:
        return lambda tx: create_sign_in(tx, now_ms, owner="ann", key_id=key_id)

    late_ms = NOW_MS + IDLE_MS + 5
    for trial in rivals.trials():
        for number in range(MOST_OF_A_KEY):
            rivals.do(sign_in(trial.id, NOW_MS + 10 * (number > 2)))
        renewed = rivals.do(sign_in(trial.id, NOW_MS + 20))
        row_hash = hashlib.sha256(renewed.encode()).digest()
        rivals.do(partial(renew_sign_in, row_hash=row_hash, until_ms=late_ms + 1, now_ms=NOW_MS + 30))
        trial.meet(sign_in(trial.id, late_ms), sign_in(trial.id, late_ms))
        assert trial.waited is None
        rivals.do(sign_in(trial.id, late_ms))
        assert rivals.rows("SELECT count(*) FROM sign_in WHERE key_id = ?", trial.id) == [(MOST_OF_A_KEY,)]
