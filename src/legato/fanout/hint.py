"""What one node tells the others: which runs to look at again, and why. It carries no data.

A message on the wire is a version, the sender and any number of hints; numbers are big-endian:

    version   1 byte
    sender    8 bytes, made at the start of a node
    hint      kind (1 byte), count (4 bytes), count keys (8 bytes each)

Nodes of different releases hear each other while they are exchanged. A kind that is not known is passed over: it is
about something that this release does not do. What else cannot be read counts as `EVERYTHING`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

VERSION: Final = 1
SENDER_BYTES: Final = 8
KEY_BYTES: Final = 8
LARGEST_KEY: Final = 2**63 - 1

_HEAD: Final = struct.Struct(f">B{SENDER_BYTES}s")
_HINT: Final = struct.Struct(">BI")


class HintKind(IntEnum):
    """Why to look again. A number is never given to another kind."""

    EVERYTHING = 0
    """Hints may have been lost: look at all that is followed or owned."""
    GROWN = 1
    """Runs have more events."""
    ENDED = 2
    """Runs have their terminal event."""
    OFFERED = 3
    """Runs have no owner."""
    STOP = 4
    """Somebody asks runs to stop, or has decided on a tool call of theirs."""
    GONE = 5
    """Runs were deleted with their conversations."""
    FORGET = 6
    """Credentials were taken back: look them up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A kind and the runs that it is about.

    Attributes:
        keys: Keys of runs, each in [0, 2^63). None at all means that any run may be meant.

    Raises:
        ValueError: A key is out of bounds.
    """

    kind: HintKind
    keys: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.keys and (min(self.keys) < 0 or max(self.keys) > LARGEST_KEY):
            raise ValueError(f"keys of a hint go from 0 to 2^63 - 1, not from {min(self.keys)} to {max(self.keys)}")


EVERYTHING: Final = Hint(kind=HintKind.EVERYTHING)
_KINDS: Final = {kind.value: kind for kind in HintKind}


def encode(hints: Sequence[Hint], sender: bytes, *, most_bytes: int) -> list[bytes]:
    """Return the messages that say these hints; one is sent wherever it fits.

    Args:
        sender: SENDER_BYTES bytes that no other node has.
        most_bytes: Of one message, at least 22; a hint with more keys is told in several.
    """
    head = _HEAD.pack(VERSION, sender)
    messages = []
    message = bytearray(head)
    for hint in hints:
        keys = tuple(hint.keys)
        told = 0
        while True:
            room = (most_bytes - len(message) - _HINT.size) // KEY_BYTES
            if room < min(1, len(keys)):
                messages.append(bytes(message))
                message = bytearray(head)
                continue
            page = keys[told : told + room]
            message += _HINT.pack(hint.kind, len(page)) + struct.pack(f">{len(page)}q", *page)
            told += len(page)
            if told == len(keys):
                break
    if len(message) > len(head):
        messages.append(bytes(message))
    return messages


def decode(message: bytes) -> tuple[bytes, list[Hint]]:
    """Return who sent a message (b"" if that cannot be read) and its hints. Never raises."""
    if len(message) < _HEAD.size or message[0] != VERSION:
        return b"", [EVERYTHING]
    _, sender = _HEAD.unpack_from(message)
    hints = []
    at = _HEAD.size
    while at < len(message):
        if at + _HINT.size > len(message):
            return sender, [EVERYTHING]
        kind, count = _HINT.unpack_from(message, at)
        at += _HINT.size
        until = at + count * KEY_BYTES
        if until > len(message):
            return sender, [EVERYTHING]
        if kind in _KINDS:
            keys = struct.unpack_from(f">{count}q", message, at)
            if min(keys, default=0) < 0:
                return sender, [EVERYTHING]
            hints.append(Hint(kind=_KINDS[kind], keys=frozenset(keys)))
        at = until
    return sender, hints
