"""The life of one reply's reading: which state follows which, and what is to be done.

Pure. Every rule about reconnecting stands in TABLE, whose types demand a cell for each event in each state;
`answer_event` turns an HTTP answer into its event. protocol/reconnect.json holds the same table for every client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypedDict

State: TypeAlias = Literal[
    "idle",  # nothing was sent yet
    "posting",  # the message is being posted for the first time
    "reposting",  # it was cut before its answer, and is posted again under the same idempotency key
    "opening",  # the run is asked for with GET, from the cursor on
    "unnamed",  # the stream is open, and its run not known yet (a proxy has taken its headers away)
    "reading",  # the stream is open, and its run known: a cut loses nothing
    "waiting_to_post",
    "waiting_to_open",
    "ended",  # its `complete` or `error` was read, or the server says that nothing is missing
    "failed",
    "aborted",  # by the reader; the reply goes on
]
EventName: TypeAlias = Literal[
    "post",  # a message is to be posted
    "follow",  # a run is to be followed
    "opened",  # 200 and an event stream, of a run that is not known
    "opened_named",  # 200 and an event stream, of a run that is known
    "named",  # the first event with a cursor: the run is known
    "progress",  # an event was read
    "terminal",  # `complete` or `error` of the run
    "nothing_more",  # 204: the caller's own cursor is at the end
    "cut",  # no answer, no stream, or a stream that ended, broke or fell silent without a terminal event
    "refused_for_now",  # 429 or 503: not now
    "refused",  # any other refusal, or what is no stream
    "diverged",  # 409 cursor_diverged, or 204 to a reader that has seen no end: its cursor is no place in the log
    "exhausted",  # the server was away for too long, looked at when the next try would be waited for
    "due",  # the wait is over
    "abort",  # the reader gives up
]
Action: TypeAlias = Literal[
    "none",
    "post",  # POST the message
    "open",  # GET the run behind the cursor
    "restart",  # GET the run from its first event
    "read",  # read the stream
    "wait",  # wait, longer after each try
    "recover",  # forget the failed tries: the next wait is short again
    "end",  # end without an error
    "fail",  # end with the error that was seen
]
Step: TypeAlias = tuple[State, Action]
Cell: TypeAlias = Step | None
"""None is what cannot happen there: a fault of the program."""


class Row(TypedDict):
    """What each event leads to in one state."""

    post: Cell
    follow: Cell
    opened: Cell
    opened_named: Cell
    named: Cell
    progress: Cell
    terminal: Cell
    nothing_more: Cell
    cut: Cell
    refused_for_now: Cell
    refused: Cell
    diverged: Cell
    exhausted: Cell
    due: Cell
    abort: Cell


class Table(TypedDict):
    """A row for each state."""

    idle: Row
    posting: Row
    reposting: Row
    opening: Row
    unnamed: Row
    reading: Row
    waiting_to_post: Row
    waiting_to_open: Row
    ended: Row
    failed: Row
    aborted: Row


_FAIL: Final[Step] = ("failed", "fail")
_ABORT: Final[Step] = ("aborted", "fail")
_END: Final[Step] = ("ended", "end")
_READ: Final[Step] = ("reading", "read")
_POST_LATER: Final[Step] = ("waiting_to_post", "wait")
_OPEN_LATER: Final[Step] = ("waiting_to_open", "wait")

# fmt: off
# One row a state, the events in the order of EventName: asked, answered, read, lost, waited, given up.
TABLE: Final[Table] = {
    "idle": {
        "post": ("posting", "post"), "follow": ("opening", "open"),
        "opened": None, "opened_named": None, "named": None, "progress": None, "terminal": None, "nothing_more": None,
        "cut": None, "refused_for_now": None, "refused": None, "diverged": None,
        "exhausted": None, "due": None, "abort": _ABORT,
    },
    # A refused message was not taken: its sender is told at once, and decides.
    "posting": {
        "post": None, "follow": None,
        "opened": ("unnamed", "read"), "opened_named": _READ, "named": None, "progress": None, "terminal": None,
        "nothing_more": None,
        "cut": _POST_LATER, "refused_for_now": _FAIL, "refused": _FAIL, "diverged": None,
        "exhausted": None, "due": None, "abort": _ABORT,
    },
    # The cut post may have been taken: only the same key, later, can tell.
    "reposting": {
        "post": None, "follow": None,
        "opened": ("unnamed", "read"), "opened_named": _READ, "named": None, "progress": None, "terminal": None,
        "nothing_more": None,
        "cut": _POST_LATER, "refused_for_now": _POST_LATER, "refused": _FAIL, "diverged": None,
        "exhausted": None, "due": None, "abort": _ABORT,
    },
    "opening": {
        "post": None, "follow": None,
        "opened": None, "opened_named": _READ, "named": None, "progress": None, "terminal": None, "nothing_more": _END,
        "cut": _OPEN_LATER, "refused_for_now": _OPEN_LATER, "refused": _FAIL, "diverged": ("opening", "restart"),
        "exhausted": None, "due": None, "abort": _ABORT,
    },
    "unnamed": {
        "post": None, "follow": None,
        "opened": None, "opened_named": None, "named": ("reading", "none"), "progress": ("unnamed", "none"),
        "terminal": None, "nothing_more": None,
        "cut": _POST_LATER, "refused_for_now": _POST_LATER, "refused": _FAIL, "diverged": None,
        "exhausted": None, "due": None, "abort": _ABORT,
    },
    "reading": {
        "post": None, "follow": None,
        "opened": None, "opened_named": None, "named": None, "progress": ("reading", "recover"), "terminal": _END,
        "nothing_more": None,
        "cut": _OPEN_LATER, "refused_for_now": _OPEN_LATER, "refused": _FAIL, "diverged": None,
        "exhausted": None, "due": None, "abort": _ABORT,
    },
    "waiting_to_post": {
        "post": None, "follow": None,
        "opened": None, "opened_named": None, "named": None, "progress": None, "terminal": None, "nothing_more": None,
        "cut": None, "refused_for_now": None, "refused": None, "diverged": None,
        "exhausted": _FAIL, "due": ("reposting", "post"), "abort": _ABORT,
    },
    "waiting_to_open": {
        "post": None, "follow": None,
        "opened": None, "opened_named": None, "named": None, "progress": None, "terminal": None, "nothing_more": None,
        "cut": None, "refused_for_now": None, "refused": None, "diverged": None,
        "exhausted": _FAIL, "due": ("opening", "open"), "abort": _ABORT,
    },
    "ended": {
        "post": None, "follow": None,
        "opened": None, "opened_named": None, "named": None, "progress": None, "terminal": None, "nothing_more": None,
        "cut": None, "refused_for_now": None, "refused": None, "diverged": None,
        "exhausted": None, "due": None, "abort": ("ended", "none"),
    },
    "failed": {
        "post": None, "follow": None,
        "opened": None, "opened_named": None, "named": None, "progress": None, "terminal": None, "nothing_more": None,
        "cut": None, "refused_for_now": None, "refused": None, "diverged": None,
        "exhausted": None, "due": None, "abort": ("failed", "none"),
    },
    "aborted": {
        "post": None, "follow": None,
        "opened": None, "opened_named": None, "named": None, "progress": None, "terminal": None, "nothing_more": None,
        "cut": None, "refused_for_now": None, "refused": None, "diverged": None,
        "exhausted": None, "due": None, "abort": ("aborted", "none"),
    },
}
# fmt: on


def step(state: State, event: EventName) -> Step:
    """Return what follows an event; it must be one that can happen in the state."""
    found = TABLE[state][event]
    if found is None:
        raise AssertionError(f"{event!r} cannot happen in the state {state!r}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer, as far as the rules look at it.

    Attributes:
        is_stream: Whether its content type is `text/event-stream`.
        code: Of the error that its body tells; None where it tells none.
        is_named: Whether the run is known, from this answer or before.
        cursor: The cursor that was sent: none, the caller's own, or that of an event which this reader has read.
    """

    method: Literal["POST", "GET"]
    status: int
    is_stream: bool
    code: str | None
    is_named: bool
    cursor: Literal["none", "given", "read"]


GATEWAY: Final = frozenset({408, 425, 502, 504, 520, 521, 522, 523, 524, 530})
"""Statuses of proxies that have lost the server, or have it not yet: whether it took the request nobody knows."""


def answer_event(answer: Answer) -> EventName:
    """Return which event an HTTP answer is."""
    if answer.status == 200 and answer.is_stream:
        return "opened_named" if answer.is_named else "opened"
    if answer.status in (429, 503):
        return "refused_for_now"
    if answer.status in GATEWAY:
        return "cut"
    if answer.method == "GET" and answer.cursor != "none":
        if answer.status == 409 and answer.code == "cursor_diverged":
            return "diverged"
        if answer.status == 204:
            return "nothing_more" if answer.cursor == "given" else "diverged"
    return "refused"
