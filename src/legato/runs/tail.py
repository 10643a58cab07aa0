"""A live run's log and its readers: what is committed is rendered once per protocol and shared.

Nothing here is awaited, and nothing runs per chunk beside one append, one rendering and one write. All of it is on
the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from legato.core.event import LogItem
from legato.core.log import RunLog

SLICE = 64
"""Events that a reader which is behind takes at once, so that one long replay does not hold up the others."""


class Sink(Protocol):
    """The connection behind a reader."""

    @property
    def paused(self) -> bool:
        """Whether its write buffer is full; it calls `Reader.pull` when it has drained."""
        ...

    def write(self, frames: bytes) -> None: ...

    def finish(self) -> None:
        """End the response well."""
        ...

    def abort(self) -> None:
        """Cut the connection, so that the client takes it for no end."""
        ...


class Renderer(Protocol):
    """One protocol's view of one run. Pure: the same items at the same place give the same bytes."""

    def __init__(self, run_id: str, log: RunLog) -> None: ...

    def render(self, first: int, items: Sequence[LogItem]) -> bytes: ...


class Holder(Protocol):
    """Who appends to a log: a runs.live.LiveRun."""

    def fail(self, error: Exception) -> None:
        """Learn that the database refused what was appended."""
        ...


class Tail:
    """The committed events of one run in memory, as they grow.

    Attributes:
        key: The run's internal key.
        epoch: The epoch under which this process appends.
        pending: Appended and not yet handed to the database.
        closed: The log has its terminal event.
        holder: Who is told when the database refuses what was appended; None once the generation is over.
        lost: It can be shown no further: whoever comes with it is cut, and finds another.
    """

    __slots__ = (
        "_readers",
        "closed",
        "epoch",
        "holder",
        "key",
        "log",
        "lost",
        "owner",
        "pending",
        "run_id",
    )

    def __init__(self, *, run_id: str, owner: str, key: int = 0, epoch: int = 0, log: RunLog | None = None) -> None:
        self.run_id = run_id
        self.owner = owner
        self.key = key
        self.epoch = epoch
        self.log = log if log is not None else RunLog()
        self.closed = self.log.terminal is not None
        self.pending: list[LogItem] = []
        # Those of one protocol stand together. A tuple: it is small, and a reader that takes itself out disturbs nobody
        # who goes through it.
        self._readers: tuple[Reader, ...] = ()
        self.holder: Holder | None = None
        self.lost = False

    @property
    def end(self) -> int:
        """Seq of the next event to be committed."""
        return len(self.log.ends)

    def publish(self, items: Sequence[LogItem]) -> None:
        """Take what has been committed, one item or more, and show it to all readers."""
        log = self.log
        first = len(log.ends)
        log.extend(items, self.epoch)
        if type(items[-1]) is not str:
            self.closed = log.terminal is not None
        end = first + len(items)
        renderer, frames = None, b""
        for reader in self._readers:
            if reader.renderer is not renderer:
                renderer = reader.renderer
                frames = renderer.render(first, items)
            reader.offer(frames, first, end)

    def append_failed(self, error: Exception) -> None:
        if self.holder is not None:
            self.holder.fail(error)

    def cut(self) -> None:
        """Cut all readers without an end: the log has no terminal event that could be shown."""
        for reader in self._readers:
            reader.sink.abort()
            reader.close()

    def lose(self) -> None:
        """Cut all readers without an end, and those too that are on their way here."""
        self.lost = True
        self.cut()

    def attach(self, reader: Reader, renderer_type: type[Renderer]) -> Renderer:
        """Add a reader of a protocol; return the renderer that it shares."""
        if self.lost:
            asyncio.get_running_loop().call_soon(self.cut)
        same = [each for each in self._readers if type(each.renderer) is renderer_type]
        others = [each for each in self._readers if type(each.renderer) is not renderer_type]
        self._readers = (*others, *same, reader)
        return same[0].renderer if same else renderer_type(self.run_id, self.log)

    def detach(self, reader: Reader) -> None:
        """Remove a reader, if it is there."""
        self._readers = tuple(each for each in self._readers if each is not reader)


class Reader:
    """One connection on one run: takes what all readers of its protocol share, or pulls its own slice when behind.

    Args:
        after: Seq of the last event that the client has; -1 for none.
        on_close: Called once, when the reader is done or gone.
    """

    __slots__ = ("_closed", "_on_close", "next", "quiet_ticks", "renderer", "sink", "stalled_ticks", "tail", "wrote")

    def __init__(
        self,
        sink: Sink,
        tail: Tail,
        renderer_type: type[Renderer],
        *,
        after: int,
        on_close: Callable[[Reader], object],
    ) -> None:
        self.sink = sink
        self.tail = tail
        self.next = after + 1
        self.wrote = False
        # Counted in ticks: a small number is no object of its own.
        self.quiet_ticks = 0
        self.stalled_ticks = 0
        self._closed = False
        self._on_close = on_close
        self.renderer = tail.attach(self, renderer_type)

    def offer(self, frames: bytes, first: int, end: int) -> None:
        """Take the frames of [first, end) if they are next and the connection takes more; else catch up later."""
        sink = self.sink
        if first == self.next and not sink.paused:
            if frames:
                sink.write(frames)
                self.wrote = True
            self.next = end
            if self.tail.closed:
                self._finish()

    def pull(self) -> None:
        """Write what is missing, slice by slice, until the connection is full or the head is reached."""
        tail, sink = self.tail, self.sink
        while not self._closed and self.next < tail.end and not sink.paused:
            items = tail.log.slice(self.next, SLICE)
            if frames := self.renderer.render(self.next, items):
                sink.write(frames)
                self.wrote = True
            self.next += len(items)
        if tail.closed and self.next >= tail.end:
            self._finish()

    def close(self) -> None:
        """Forget the connection; the run goes on."""
        if not self._closed:
            self._closed = True
            self.tail.detach(self)
            self._on_close(self)

    def _finish(self) -> None:
        if not self._closed:
            self.close()
            self.sink.finish()


class Readers:
    """All readers of this process: their number, heartbeats, and the end of those that take nothing.

    Args:
        heartbeat_s: Silence after which a comment is written.
        send_timeout_s: Time after which a connection that takes nothing is cut; resuming makes that safe.
    """

    COMMENT = b": ping\n\n"

    def __init__(self, *, heartbeat_s: float, send_timeout_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        # Where there are thousands a dict is a third of a set's size.
        self._readers: dict[Reader, None] = {}
        self._forget = self._readers.pop

    def __len__(self) -> int:
        return len(self._readers)

    def open(self, sink: Sink, tail: Tail, renderer_type: type[Renderer], *, after: int) -> Reader:
        """Attach a connection to a run; the caller begins with `pull`."""
        reader = Reader(sink, tail, renderer_type, after=after, on_close=self._forget)
        self._readers[reader] = None
        return reader

    def tick(self, elapsed_s: float) -> None:
        """Look after all readers; called every `elapsed_s`."""
        for reader in tuple(self._readers):
            if reader.sink.paused:
                reader.stalled_ticks += 1
                if reader.stalled_ticks * elapsed_s >= self._send_timeout_s:
                    reader.sink.abort()
                    reader.close()
                continue
            reader.stalled_ticks = 0
            if reader.wrote:
                reader.wrote = False
                reader.quiet_ticks = 0
                continue
            reader.quiet_ticks += 1
            if reader.quiet_ticks * elapsed_s >= self._heartbeat_s:
                reader.quiet_ticks = 0
                reader.sink.write(self.COMMENT)

    def cut_all(self) -> None:
        """Cut every connection without an end."""
        for reader in tuple(self._readers):
            reader.sink.abort()
            reader.close()
