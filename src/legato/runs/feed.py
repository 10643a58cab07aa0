"""Follows runs that other nodes make: their logs, read from the database as they grow, into tails like those of here.

Each POLL_S one read asks for what is new of all followed runs, and at every hint for what it is about; there is one in
flight. What is read is committed, in order and without a gap, and the log is the truth: an ended run is read from its
packed one. So a reader gets the same bytes on every node, and losing hints costs time and nothing else.

A tail is followed while it has readers, and for LINGER_S after the last. All of it is on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog

from legato.core.errors import NotFound, StorageUnavailable
from legato.core.event import LogItem
from legato.core.log import RunLog
from legato.fanout.hint import Hint, HintKind
from legato.runs.tail import Reader, Renderer, Tail
from legato.storage.followed import Growth, Piece

log = structlog.get_logger(__name__)

POLL_S: Final = 0.25
"""How late a reader is where no hint comes."""
LINGER_S: Final = 5.0
"""Whoever comes back within it finds the log still in memory."""
MOST_RUNS: Final = 500
"""In one read; what is due beyond them is read next."""
SLICE: Final = 1024
"""Items of an ended log that are shown at once."""

Read = Callable[[Mapping[int, int], AbstractSet[int]], Awaitable[Growth]]
"""Reads what is new: see `read_followed`, of which it has the arguments."""


class FollowedTail(Tail):
    """The log of a run that another node makes; knows how many read it."""

    __slots__ = ("__weakref__", "_feed", "idle_since_s", "readers", "waiting")

    def __init__(self, feed: Feed, *, run_id: str, owner: str, key: int) -> None:
        super().__init__(run_id=run_id, owner=owner, key=key)
        self._feed = feed
        self.readers = 0
        self.idle_since_s = 0.0
        self.waiting: list[asyncio.Future[None]] = []
        """Who waits for a read that has not begun yet."""

    def attach(self, reader: Reader, renderer_type: type[Renderer]) -> Renderer:
        self.readers += 1
        if not self.lost:
            # It may have been let go of while its reader was on the way.
            self._feed.keep(self)
        return super().attach(reader, renderer_type)

    def detach(self, reader: Reader) -> None:
        self.readers -= 1
        self._feed.release(self)
        super().detach(reader)


class Feed:
    """The runs that this process follows, and the task that reads them.

    Args:
        read: Asks the database.
        patience_s: How long the database may be away before readers are cut: they find another node, or wait there.
    """

    def __init__(self, read: Read, *, patience_s: float, poll_s: float = POLL_S, linger_s: float = LINGER_S) -> None:
        self._read = read
        self._patience_s = patience_s
        self._poll_s = poll_s
        self._linger_s = linger_s
        self._followed: dict[int, FollowedTail] = {}
        # One tail a run, for as long as anybody holds it.
        self._known: WeakValueDictionary[str, FollowedTail] = WeakValueDictionary()
        # In the order in which they became due: none waits for ever behind those that grow all the time.
        self._due: dict[int, None] = {}
        self._asked: set[int] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._away_since_s: float | None = None

    def __len__(self) -> int:
        """How many runs are followed."""
        return len(self._followed)

    def find(self, owner: str, run_id: str) -> FollowedTail | None:
        """Return the tail of a run of this owner's that is followed already, as it is."""
        tail = self._known.get(run_id)
        return tail if tail is not None and tail.owner == owner else None

    async def follow(self, row: Any) -> Tail:
        """Return the tail of a run, by its row, with all that is committed now and whatever comes.

        Raises:
            NotFound: It is gone.
            StorageUnavailable: The database cannot be read.
        """
        tail = self._known.get(row.id)
        if tail is None:
            tail = self._known[row.id] = FollowedTail(self, run_id=row.id, owner=row.owner, key=row.key)
        return await self.catch_up(tail)

    async def catch_up(self, tail: FollowedTail) -> Tail:
        """Return a tail once it has all that is committed now; as `follow`."""
        if not tail.closed:
            if self._closed:
                raise _closing()
            self.keep(tail)
            future = asyncio.get_running_loop().create_future()
            tail.waiting.append(future)
            self._mark({tail.key})
            await future
        return tail

    def hear(self, hint: Hint) -> None:
        """Look at runs again: another node, or this one, says that something has happened to them."""
        if hint.kind not in (HintKind.GROWN, HintKind.ENDED, HintKind.GONE, HintKind.EVERYTHING) or not self._followed:
            return
        keys = self._followed.keys() & hint.keys if hint.keys else set(self._followed)
        if hint.kind is not HintKind.GROWN:
            self._asked |= keys
        self._mark(keys)

    def keep(self, tail: FollowedTail) -> None:
        """Go on following a tail."""
        tail.idle_since_s = asyncio.get_running_loop().time()
        if self._closed or tail.closed or tail.key in self._followed:
            return
        self._followed[tail.key] = tail
        self._mark({tail.key})
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def release(self, tail: FollowedTail) -> None:
        """Learn that a reader has left."""
        tail.idle_since_s = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Follow nothing any more. Readers are cut by whoever ends the server."""
        self._closed = True
        for tail in tuple(self._followed.values()):
            self._drop(tail, _closing())
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _mark(self, keys: AbstractSet[int]) -> None:
        if keys:
            self._due.update(dict.fromkeys(keys))
            self._woken.set()

    async def _run(self) -> None:
        """Read what is due until nothing is followed."""
        loop = asyncio.get_running_loop()
        poll_at_s = loop.time() + self._poll_s
        while self._followed:
            if not self._due:
                try:
                    async with asyncio.timeout_at(poll_at_s):
                        await self._woken.wait()
                except TimeoutError:
                    pass
            self._woken.clear()
            if (now_s := loop.time()) >= poll_at_s:
                poll_at_s = now_s + self._poll_s
                self._sweep(now_s)
                self._due.update(dict.fromkeys(self._followed))
                self._asked.update(self._followed)
            if self._due and not await self._look():
                # What was due still is.
                await asyncio.sleep(self._poll_s)
        self._task = None

    def _sweep(self, now_s: float) -> None:
        for tail in tuple(self._followed.values()):
            if not tail.readers and not tail.waiting and now_s - tail.idle_since_s >= self._linger_s:
                self._drop(tail)

    async def _look(self) -> bool:
        """Read what is due, and show it; return whether the database answered."""
        due = list(islice(self._due, MOST_RUNS))
        for key in due:
            del self._due[key]
        tails = {key: self._followed[key] for key in due if key in self._followed}
        asked = self._asked & tails.keys()
        self._asked.difference_update(due)
        # Whoever comes while it is read waits for the next one.
        waiting = {key: tail.waiting for key, tail in tails.items() if tail.waiting}
        for key in waiting:
            tails[key].waiting = []
        try:
            found = await self._read({key: tail.end for key, tail in tails.items()}, asked)
        except Exception as error:  # noqa: BLE001 - the boundary of a task that must not end: it tries again
            self._due.update(dict.fromkeys(tails))
            self._asked |= asked
            self._fail(error, waiting)
            return False
        if self._away_since_s is not None:
            self._away_since_s = None
            log.info("followed replies can be read again")
        for key, tail in tails.items():
            self._take(tail, found, waiting.get(key, []))
        return True

    def _take(self, tail: FollowedTail, found: Growth, waiting: list[asyncio.Future[None]]) -> None:
        """Show what was read of a run, and wake who waited for it."""
        key = tail.key
        try:
            if key in found.gone:
                self._lose(tail, NotFound("there is no run with this id"), waiting)
                return
            if key in found.unreadable:
                self._lose(tail, StorageUnavailable("a newer node makes the reply: try again in a moment"), waiting)
                return
            if (whole := found.logs.get(key)) is not None:
                finish(tail, whole)
            elif pieces := found.pieces.get(key):
                extend(tail, pieces)
        # The boundary of a run: the others go on.
        except Exception:
            log.exception("a reply cannot be followed", run_id=tail.run_id)
            self._lose(tail, StorageUnavailable("the reply cannot be followed here: try again in a moment"), waiting)
            return
        if tail.closed:
            self._drop(tail)
        elif key in found.more:
            tail.waiting += waiting
            self._due[key] = None
            return
        _wake(waiting, None)

    def _lose(self, tail: FollowedTail, why: Exception, waiting: list[asyncio.Future[None]]) -> None:
        """Forget a tail that cannot be shown any further; who comes back begins with a new one."""
        tail.lost = True
        self._known.pop(tail.run_id, None)
        self._drop(tail, why)
        _wake(waiting, why)
        tail.cut()

    def _drop(self, tail: FollowedTail, why: Exception | None = None) -> None:
        if self._followed.get(tail.key) is tail:
            del self._followed[tail.key]
        self._due.pop(tail.key, None)
        self._asked.discard(tail.key)
        waiting, tail.waiting = tail.waiting, []
        _wake(waiting, why)

    def _fail(self, error: Exception, waiting: Mapping[int, list[asyncio.Future[None]]]) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._away_since_s is None:
            self._away_since_s = now_s
            if isinstance(error, StorageUnavailable):
                log.warning("followed replies cannot be read", error=str(error))
            else:
                log.exception("followed replies cannot be read")
        known = error if isinstance(error, StorageUnavailable) else StorageUnavailable("the reply cannot be read now")
        for futures in waiting.values():
            _wake(futures, known)
        if now_s - self._away_since_s >= self._patience_s:
            for tail in tuple(self._followed.values()):
                tail.cut()


class Gap(Exception):
    """What was read does not go on where the tail ends."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"the log goes on at {found} where {expected} was expected")


def extend(tail: Tail, pieces: Sequence[Piece]) -> None:
    """Show pieces that begin where the tail ends: those of one epoch at once.

    Raises:
        Gap: One does not begin where the one before it ends; nothing from it on is shown.
    """
    items: list[LogItem] = []
    try:
        for first_seq, epoch, more in pieces:
            if first_seq != tail.end + len(items):
                raise Gap(tail.end + len(items), first_seq)
            if items and epoch != tail.epoch:
                tail.publish(items)
                items = []
            tail.epoch = epoch
            items += more
    finally:
        if items:
            tail.publish(items)


def finish(tail: Tail, whole: RunLog) -> None:
    """Show the rest of a log that has ended.

    Raises:
        Gap: The log is shorter than what was shown, or has no end.
    """
    if len(whole) < tail.end or whole.terminal is None:
        raise Gap(tail.end, len(whole))
    while items := whole.slice(tail.end, SLICE):
        tail.epoch = whole.epoch_at(tail.end)
        tail.publish(items)


def _wake(waiting: Sequence[asyncio.Future[None]], why: Exception | None) -> None:
    for future in waiting:
        if future.done():
            continue
        if why is None:
            future.set_result(None)
        else:
            future.set_exception(why)


def _closing() -> StorageUnavailable:
    return StorageUnavailable("the server is shutting down: try again in a moment")
