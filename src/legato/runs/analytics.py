"""What is counted of replies: taking their events, and telling the figures of one principal.

Each reply counts once however often its event is delivered, and feedback counts as it was given last, in whatever
order events come: any number of consumers may deliver at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec

from legato.core.errors import Forbidden, InvalidJob, InvalidRequest, NotFound
from legato.core.figures import BY, By, Figures, SessionFigures
from legato.core.money import parse_usd, to_nusd
from legato.core.principal import Principal
from legato.core.resources import Thumb
from legato.runs.events import COMPLETED, FAILED, STOPPED
from legato.runs.feedback import GIVEN
from legato.runs.inputs import LATEST_MS
from legato.runs.node import Node
from legato.settings import nearest
from legato.storage.reply_counts import EndedReply, GivenFeedback, Outcome, count_feedback, count_reply
from legato.storage.reply_figures import Span, find_figures
from legato.storage.session_figures import find_session, list_sessions
from legato.storage.statement import Transaction

OUTCOMES: Final[dict[str, Outcome]] = {COMPLETED: "completed", FAILED: "failed", STOPPED: "stopped"}
UNITS_A_TOKEN: Final = 4
"""UTF-16 units of text that are taken for a token where the model's server told none."""
MOST_COUNT: Final = 10**12
"""More than any reply costs, or has of anything: sums stay far below 64 bits."""
MOST_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""

MOST_FAULTS: Final = 3
"""Named in one error."""
MAX_LIMIT: Final = 10_000
"""Most entries of a page."""
_MISSING: Final = re.compile("Object missing required field `(.+)`")

T = TypeVar("T", bound=msgspec.Struct)
_Id = Annotated[str, msgspec.Meta(min_length=1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNT)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=MOST_MS)]


class Counted(Protocol):
    """An event of a reply, as a queue step is given it."""

    @property
    def topic(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def payload(self) -> Any: ...


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    input_tokens: _Count | None
    output_tokens: _Count | None
    counted: bool = False


class _Ended(msgspec.Struct, frozen=True, rename="camel"):
    """What is needed of the payload of a reply's end; unknown is null, and never left out."""

    run_id: _Id
    conversation_id: _Id
    session_id: _Id
    model: str | None
    usage: _Usage | None
    cost: str | None
    response_length: _Count
    response_time_ms: _Count
    first_token_ms: _Count | None
    timestamp: _Time


class _Given(msgspec.Struct, frozen=True, rename="camel"):
    """What is needed of the payload of feedback."""

    message_id: _Id
    thumb: Thumb | None
    timestamp: _Time


class Analytics:
    """The figures of one principal. Every method may raise StorageUnavailable."""

    def __init__(self, node: Node, principal: Principal) -> None:
        self._node = node
        self._principal = principal
        self._owner = principal.id

    async def record(self, events: Sequence[Counted]) -> None:
        """Count replies that have ended and feedback that was given, in one transaction.

        What was counted before, and what belongs to a deleted conversation, changes nothing.

        Args:
            events: Of the chat topics, in any order; the app's may be of any owners.

        Raises:
            Forbidden: An event is of another owner, and this is not the app; none is counted.
            InvalidJob: A payload cannot be counted; names the event, and the field at fault. All others are counted.
        """
        for event in events:
            if self._principal.role != "app" and event.owner != self._owner:
                raise Forbidden("an event of another owner cannot be counted here")
        changes: list[tuple[str, EndedReply | GivenFeedback]] = []
        faults: list[str] = []
        for place, event in enumerate(events):
            try:
                changes.append((event.owner, _read(event)))
            except InvalidRequest as error:
                faults.append(f"event {place} ({event.topic}): {error.message}")
        if changes:
            await self._node.committer.write(
                lambda tx: count_all(tx, changes), wait_s=self._node.settings.storage_wait_s
            )
        if faults:
            more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
            raise InvalidJob("; ".join(faults[:MOST_FAULTS]) + more)

    async def session(self, session_id: str) -> SessionFigures:
        """Return the figures of one session; all 0 where it has a message, and no reply that is counted yet.

        Raises:
            NotFound: Nothing of this owner's is of this session.
        """
        found = await self._node.database.read(lambda tx: find_session(tx, self._owner, session_id))
        if found is None:
            raise NotFound("there is no session with this id")
        return found

    async def sessions(self, after: str | None = None, limit: int = 100) -> tuple[str, ...]:
        """Return ids of sessions with counted replies, in their order, from behind `after` on.

        Args:
            limit: 1 to 10,000; a page that is full may not be the last.
        """
        _check_limit(limit)
        return await self._node.database.read(lambda tx: list_sessions(tx, self._owner, after or "", limit))

    async def report(
        self,
        since_ms: int,
        until_ms: int,
        *,
        by: By = "day",
        session_id: str | None = None,
        model: str | None = None,
        after: str | None = None,
        limit: int = 1000,
    ) -> tuple[Figures, ...]:
        """Return the figures of a span of time, in the order of their keys; the one without a key comes first.

        Args:
            since_ms: Of replies that ended at this time, epoch milliseconds, or later.
            until_ms: Of replies that ended before this time.
            by: What groups them; `none` gives one group, also where there is nothing in it.
            session_id: Of this session alone.
            model: Of this model alone.
            after: Only groups behind this key: the last of the page before.
            limit: Most groups, 1 to 10,000; a page that is full may not be the last.

        Raises:
            InvalidRequest: An argument is wrong.
        """
        for name, time_ms in (("since_ms", since_ms), ("until_ms", until_ms)):
            if type(time_ms) is not int or not 0 <= time_ms <= LATEST_MS:
                raise InvalidRequest.of(name, "is no time: give milliseconds since the Unix epoch")
        if until_ms < since_ms:
            raise InvalidRequest.of("until_ms", "is before since_ms: a span ends where it begins, or later")
        if by not in BY:
            raise InvalidRequest.of("by", f"is none of {', '.join(BY)}", nearest=nearest(str(by), list(BY)))
        _check_limit(limit)
        span = Span(owner=self._owner, since_ms=since_ms, until_ms=until_ms, session_id=session_id, model=model)
        return await self._node.database.read(lambda tx: find_figures(tx, span, by, after=after, limit=limit))


def count_all(tx: Transaction, changes: Sequence[tuple[str, EndedReply | GivenFeedback]]) -> None:
    """Count what is not counted yet."""
    # In one order at every node, so that none waits for one that waits for it.
    for owner, change in sorted(changes, key=lambda each: _place(each[1])):
        if isinstance(change, EndedReply):
            count_reply(tx, owner, change)
        else:
            count_feedback(tx, owner, change)


def _place(change: EndedReply | GivenFeedback) -> tuple[int, str]:
    return (0, change.run_id) if isinstance(change, EndedReply) else (1, change.message_id)


def _read(event: Counted) -> EndedReply | GivenFeedback:
    """Return what is counted of an event.

    Raises:
        InvalidRequest: It cannot be counted; names the field.
    """
    if event.topic == GIVEN:
        given = _convert(event.payload, _Given)
        return GivenFeedback(message_id=given.message_id, thumb=given.thumb, at_ms=given.timestamp)
    outcome = OUTCOMES.get(event.topic)
    if outcome is None:
        raise InvalidRequest.of("topic", f"is none of {', '.join([*OUTCOMES, GIVEN])}")
    ended = _convert(event.payload, _Ended)
    inputs, outputs = (ended.usage.input_tokens, ended.usage.output_tokens) if ended.usage else (None, None)
    unknown = inputs is None and outputs is None
    return EndedReply(
        run_id=ended.run_id,
        conversation_id=ended.conversation_id,
        session_id=ended.session_id,
        model=ended.model,
        outcome=outcome,
        input_tokens=inputs,
        output_tokens=-(-ended.response_length // UNITS_A_TOKEN) if unknown else outputs,
        estimated=unknown or (ended.usage is not None and ended.usage.counted),
        cost_nusd=None if ended.cost is None else _nusd(ended.cost),
        response_time_ms=ended.response_time_ms,
        first_token_ms=ended.first_token_ms,
        at_ms=ended.timestamp,
    )


def _convert(payload: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError as error:
        # "Object missing required field `runId`", "Expected `int`, got `str` - at `$.usage.inputTokens`".
        words, _, path = str(error).partition(" - at `$")
        missing = _MISSING.match(words)
        names = [*path.rstrip("`").split("."), *([missing[1]] if missing else [])]
        field = ".".join(filter(None, names)) or "payload"
        raise InvalidRequest.of(field, "is missing" if missing else words[:1].lower() + words[1:]) from None


def _nusd(text: str) -> int:
    """Return a decimal of US dollars in billionths of one."""
    usd = parse_usd(text)
    if usd is None:
        raise InvalidRequest.of("cost", "is no decimal of US dollars, such as 0.0021")
    return to_nusd(usd)


def _check_limit(limit: int) -> None:
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest.of("limit", f"is not from 1 to {MAX_LIMIT}")
