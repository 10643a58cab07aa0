"""A run's log in memory: all its text in one buffer, with the boundaries of its deltas.

Pure. A list of strings would cost fifty bytes a delta; this costs four and the text itself. The same form, packed,
is what a finished run keeps in the database.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from legato.core.event import TERMINAL, Event, LogItem, Terminal

_ZERO = (0,)


class RunLog:
    """The events of one run, from seq 0 without a gap."""

    __slots__ = ("ends", "epoch_starts", "epochs", "event_seqs", "events", "text_bytes")

    def __init__(self) -> None:
        self.text_bytes = bytearray()
        """All text deltas, UTF-8, one after another."""
        self.ends = array("I")
        """Per seq, where its text ends in `text_bytes`; an event that is no text ends where the last one did."""
        self.event_seqs = array("I")
        """Seqs of the events that are no text deltas, ascending; `events` holds them in the same order."""
        self.events: list[Event] = []
        self.epoch_starts: tuple[int, ...] = ()
        """First seq of each epoch that wrote something, ascending; `epochs` holds their numbers."""
        self.epochs: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def text(self) -> str:
        """All text of the reply so far."""
        return self.text_bytes.decode()

    @property
    def terminal(self) -> Terminal | None:
        """The last event, if the run has ended."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, TERMINAL) else None

    def extend(self, items: Sequence[LogItem], epoch: int) -> None:
        """Append `items`, all written under `epoch`, which must not be lower than the last one."""
        ends, text = self.ends, self.text_bytes
        if not self.epochs or self.epochs[-1] != epoch:
            self._begin_epoch(epoch)
        for item in items:
            if type(item) is str:
                text += item.encode()
            else:
                self.event_seqs.append(len(ends))
                self.events.append(item)  # type: ignore[arg-type]
            ends.append(len(text))

    def _begin_epoch(self, epoch: int) -> None:
        if not self.epochs and epoch == 0:
            # What nearly all logs have is shared by all of them.
            self.epoch_starts = self.epochs = _ZERO
            return
        if self.epochs and self.epochs[-1] > epoch:
            raise ValueError(f"epoch {epoch} cannot follow epoch {self.epochs[-1]}")
        self.epoch_starts += (len(self.ends),)
        self.epochs += (epoch,)

    def copy(self) -> RunLog:
        """Return a log that grows on its own from here."""
        log = RunLog()
        log.text_bytes = self.text_bytes[:]
        log.ends = self.ends[:]
        log.event_seqs = self.event_seqs[:]
        log.events = self.events[:]
        log.epoch_starts = self.epoch_starts
        log.epochs = self.epochs
        return log

    def epoch_at(self, seq: int) -> int:
        """Return the epoch under which the event at `seq` was written."""
        return self.epochs[bisect_right(self.epoch_starts, seq) - 1]

    def texts_before(self, seq: int) -> int:
        """Return how many text deltas stand before `seq`."""
        return seq - bisect_left(self.event_seqs, seq)

    def slice(self, first: int, limit: int) -> tuple[LogItem, ...]:
        """Return up to `limit` items from `first` on, all of one epoch; empty at the head of the log."""
        end = min(len(self.ends), first + limit)
        following = bisect_right(self.epoch_starts, first)
        if following < len(self.epoch_starts):
            end = min(end, self.epoch_starts[following])
        return tuple(self._items(first, end))

    def _items(self, first: int, end: int) -> Iterator[LogItem]:
        ends, text = self.ends, self.text_bytes
        at = ends[first - 1] if first else 0
        index = bisect_left(self.event_seqs, first)
        next_event = self.event_seqs[index] if index < len(self.event_seqs) else -1
        for seq in range(first, end):
            if seq == next_event:
                yield self.events[index]
                index += 1
                next_event = self.event_seqs[index] if index < len(self.event_seqs) else -1
            else:
                yield text[at : ends[seq]].decode()
                at = ends[seq]
