"""Which events are of whom, or of what, is being erased."""

from __future__ import annotations

from typing import Any

import pytest

from legato.core.ids import is_made_id, new_id
from legato.storage.erasures import Erased

MADE = new_id("c", 1_795_345_200_000)
UNTIL_MS = 100
ERASED = Erased(
    owners=frozenset(["gone"]), conversations={("ann", "stop"): UNTIL_MS, ("ann", MADE): UNTIL_MS, ("ben", "x"): 5}
)
CHAT = "chat.message.completed"


@pytest.mark.parametrize(
    ("owner", "topic", "payload", "at_ms", "named"),
    [
        ("gone", "anything", {}, 10**15, True),
        ("ann", CHAT, {"conversationId": "stop"}, 1, True),
        ("ann", CHAT, {"conversationId": "stop"}, UNTIL_MS, False),
        ("ben", CHAT, {"conversationId": "stop"}, 1, False),
        # A chosen id may be a common word: it counts in its own field alone, and only in what the server tells.
        ("ann", CHAT, {"conversationId": "other", "finishReason": "stop"}, 1, False),
        ("ann", "machine.told", {"command": "stop"}, 1, False),
        ("ann", "machine.told", {"conversationId": "stop"}, 1, False),
        ("ann", "machine.told", "stop", 1, False),
        ("ann", CHAT, "stop", 1, False),
        # One that the server has made is nothing else, wherever it stands.
        ("ann", "lead.found", {"of": [{"place": MADE}]}, 1, True),
        ("ann", "lead.found", {"of": [{"place": MADE}]}, UNTIL_MS, False),
        ("ben", "lead.found", {"of": [{"place": MADE}]}, 1, False),
        ("ann", CHAT, {"conversationId": MADE}, 1, True),
        ("ann", "lead.found", {"of": f"see {MADE}"}, 1, False),
    ],
)
def test_an_event_is_of_what_it_names(owner: str, topic: str, payload: Any, at_ms: int, named: bool) -> None:
    """Of its owner, or of a conversation of that owner, from before another one had its id."""
    assert ERASED.names(owner, topic, payload, at_ms) is named


@pytest.mark.parametrize(
    "id",
    ["c-1", "stop", f"r{MADE[1:]}", MADE.upper(), MADE + "0", f"c-{'g' * 32}", ""],
    # Not by the id itself, which is another in each worker.
    ids=["short", "a word", "of a run", "in capitals", "too long", "no digits", "empty"],
)
def test_a_chosen_id_is_none_of_the_servers(id: str) -> None:
    """Only the form that `new_id` gives is taken for one."""
    assert is_made_id("c", MADE)
    assert not is_made_id("c", id)
