"""The thread side of the group commit: what one batch is, and how it is written so that bad data harms only itself.

A Writer is one connection, used on one thread. It is given a batch at a time. A batch that fails for a reason of its
data is done again piece by piece; one that fails because the database is away is handed back with its `fault`.
"""

from __future__ import annotations

import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar

from legato.storage.codec import SegmentPiece
from legato.storage.statement import Transaction


class NodeFenced(Exception):
    """Another node has fenced this one: nothing of its runs may be written here any more."""


class Lane(Enum):
    """What may be written side by side: pieces of logs, and commands."""

    APPEND = "append"
    COMMAND = "command"


@dataclass(slots=True, kw_only=True)
class Unit:
    """A command on its way: `done` once it was tried on its own, with its `value` or its `error`.

    Attributes:
        unsure: It was committed or not: the answer was lost. The writer finds out once the database is back.
        wanted: Somebody waits for it; an unsure one that nobody wants is not written again.
    """

    apply: Callable[[Transaction], Any]
    value: Any = None
    error: BaseException | None = None
    done: bool = False
    unsure: bool = False
    wanted: bool = True


U = TypeVar("U", bound=Unit)


@dataclass(slots=True, kw_only=True)
class Batch(Generic[U]):
    """What is written together.

    Attributes:
        node_key: Of the node that the pieces are of (Database.node_key).
        fault: Why the database took nothing; None where it answered.
        rings: Something was put into the outbox.
        elapsed_s: How long writing it took.
        written, refused: By place in `pieces`; filled when it is done piece by piece.
    """

    pieces: list[SegmentPiece] = field(default_factory=list)
    units: list[U] = field(default_factory=list)
    node_key: int | None = None
    fault: Exception | None = None
    rings: bool = False
    elapsed_s: float = 0.0
    written: set[int] = field(default_factory=set)
    refused: dict[int, Exception] = field(default_factory=dict)


class Writer(ABC):
    """One connection that writes.

    Attributes:
        tx: What commands are given.
    """

    tx: Transaction

    @abstractmethod
    def append(self, pieces: Sequence[SegmentPiece]) -> None:
        """Write pieces in one transaction."""

    @abstractmethod
    def both(self, pieces: Sequence[SegmentPiece], units: Sequence[Unit]) -> None:
        """Write pieces and commands in one transaction, and give the commands their values.

        A command that refuses before it has written anything gets its `error`, and the others are committed.
        """

    @abstractmethod
    def is_away(self, error: Exception) -> bool:
        """Whether the database as a whole takes no writes, so that the same batch may pass later."""

    def command(self, unit: Unit) -> None:
        """Write one command in a transaction of its own."""
        self.both((), (unit,))

    def write(self, batch: Batch[Any]) -> None:
        """Write a batch, or what is left of it.

        Raises:
            Exception: The database is away; what was written until then is noted in the batch.
        """
        self.tx.node_key = batch.node_key
        if batch.written or batch.refused or any(unit.done for unit in batch.units):
            # It was begun piece by piece before the database went away.
            self._write_pieces(batch)
            return
        try:
            if batch.units:
                self.both(batch.pieces, batch.units)
            elif batch.pieces:
                self.append(batch.pieces)
        except Exception as error:
            if self.is_away(error):
                raise
            # A fault of one piece's data: find out whose.
            self._write_pieces(batch)

    def _write_pieces(self, batch: Batch[Any]) -> None:
        for place, piece in enumerate(batch.pieces):
            if place in batch.written or place in batch.refused:
                continue
            try:
                self.append([piece])
                batch.written.add(place)
            except Exception as error:
                if self.is_away(error):
                    raise
                batch.refused[place] = error
        for unit in batch.units:
            if unit.done:
                continue
            try:
                self.command(unit)
            except Exception as error:
                if self.is_away(error):
                    raise
                unit.error = error
            unit.done = True


Batches: TypeAlias = "queue.SimpleQueue[Batch[Any] | None]"


def write_batches(batches: Batches, connect: Callable[[], Writer], report: Callable[[Any], object]) -> None:
    """Write what comes until None comes, and report each batch; the whole life of a lane's thread.

    Args:
        connect: Makes the writer, when the first batch comes; again for the next one where it fails.
        report: Called on this thread.
    """
    writer: Writer | None = None
    while (batch := batches.get()) is not None:
        try:
            if writer is None:
                writer = connect()
            began_s = time.monotonic()
            writer.write(batch)
            batch.elapsed_s = time.monotonic() - began_s
            # A ring for what was rolled back would only be a look too many.
            batch.rings, writer.tx.rings = writer.tx.rings, False
        except Exception as fault:  # noqa: BLE001 - whatever it was, the batch is kept and tried again
            batch.fault = fault
        report(batch)
