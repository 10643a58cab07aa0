"""What a streaming step says, as server-sent events. Pure.

Like the native stream: LF, `event:` first, `id:`, one line of `data:`. A stream always ends with `complete` or `error`:
the end of the connection alone never means success.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from legato.core.errors import InvalidValue
from legato.wire.native import encode_json

_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
TERMINAL: Final = ("complete", "error")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a step's stream.

    Attributes:
        name: 1 to 100 of letters, digits, `_ . : -`; `complete` or `error` end the stream.
        data: A JSON value.
    """

    name: str
    data: Any = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidValue(f"{self.name[:100]!r} is no name for an event: use letters, digits, _ . : and -")


def render(event: Event, number: int) -> bytes:
    """Return an event's frame.

    Args:
        number: Its place in the stream, from 0; its id.

    Raises:
        TypeError, ValueError: Its data is not JSON.
    """
    return b"event: %b\nid: %d\ndata: %b\n\n" % (event.name.encode(), number, encode_json(event.data))
