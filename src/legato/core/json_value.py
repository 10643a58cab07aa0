"""What may be kept: JSON, read back as it was set.

Pure. A value is null, a boolean, a number, text, a list, or an object whose members are named by text; of Python's
own types, not of types derived from them. Ints stay ints and floats floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from legato.core.errors import InvalidValue, ValueTooLarge

MAX_DEPTH: Final = 64
"""Most lists and objects around a value, one within the other."""
MAX_VALUE_BYTES: Final = 1_048_576
"""Longest value, in bytes of its JSON."""
MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
"""Ints have 64 bits, as other languages and databases have them."""
MAX_SHOWN_CHARS: Final = 80
"""Of somebody's own words, such as a member's name, in a message."""

_ADVICE: Final = {
    "tuple": "give a list",
    "set": "give a sorted list",
    "frozenset": "give a sorted list",
    "bytes": "give text, such as base64",
    "bytearray": "give text, such as base64",
    "datetime": "give its isoformat(), or milliseconds",
    "date": "give its isoformat()",
    "Decimal": "give a float, or text where every digit counts",
    "UUID": "give its text",
}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Fault(Exception):
    """Why something within a value may not be kept; `place` grows on the way out."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.place: list[str | int] = []


class _Copier:
    """Copies a value; `room_bytes` is what its JSON may still take at least."""

    __slots__ = ("room_bytes",)

    def __init__(self) -> None:
        self.room_bytes = MAX_VALUE_BYTES

    def copy(self, value: Any, levels: int) -> Any:
        kind = type(value)
        # Counted here: a few lists that stand in each other many times over are endless as JSON.
        self._take(len(value) + 2 if kind is str else 2)
        if value is None or kind is bool:
            return value
        if kind is str:
            _refuse(text_fault(value))
            return value
        if kind is int or kind is float:
            _refuse(number_fault(value))
            return value
        if kind is not list and kind is not dict:
            raise _Fault(f"is of type {kind.__name__}, which is not JSON: {_advice(kind)}")
        if levels == 0:
            raise ValueTooLarge(f"the value is nested more than {MAX_DEPTH} levels deep")
        return self._list(value, levels - 1) if kind is list else self._object(value, levels - 1)

    def _list(self, value: list[Any], levels: int) -> list[Any]:
        copied: list[Any] = []
        try:
            for each in value:
                copied.append(self.copy(each, levels))  # noqa: PERF401 — its length is the place of a fault
        except _Fault as fault:
            fault.place.append(len(copied))
            raise
        return copied

    def _object(self, value: dict[Any, Any], levels: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for name, each in value.items():
            if type(name) is not str:
                raise _Fault(f"has a member whose name is of type {type(name).__name__}: give text")
            if fault_of_name := text_fault(name):
                raise _Fault(f"has a member whose name {fault_of_name}")
            self._take(len(name) + 2)
            try:
                copied[name] = self.copy(each, levels)
            except _Fault as fault:
                fault.place.append(name)
                raise
        return copied

    def _take(self, size_bytes: int) -> None:
        self.room_bytes -= size_bytes
        if self.room_bytes < 0:
            raise ValueTooLarge(f"the value has more than {MAX_VALUE_BYTES} bytes as JSON: no more are taken")


def json_copy(value: object, *, levels: int = MAX_DEPTH) -> Any:
    """Return a copy of a value that shares nothing changeable with it.

    Args:
        value: What is to be kept.
        levels: How many lists and objects it may still be nested in each other.

    Raises:
        InvalidValue: It holds something that is not JSON; names the place.
        ValueTooLarge: It is nested too deeply, or cannot fit into MAX_VALUE_BYTES.
    """
    try:
        return _Copier().copy(value, levels)
    except _Fault as fault:
        place = path_text(fault.place[::-1]) if fault.place else "the value"
        raise InvalidValue(f"{place} {fault.words}") from None


def fresh_copy(value: Any) -> Any:
    """Return a copy of a value that json_copy has made: faster, because nothing is left to be checked."""
    return _decode(_encode(value)) if type(value) in (list, dict) else value


def encode_json(value: Any) -> str:
    """Return the JSON text of a value that json_copy has made.

    Raises:
        ValueTooLarge: It has more than MAX_VALUE_BYTES.
    """
    data = _encode(value)
    if len(data) > MAX_VALUE_BYTES:
        raise ValueTooLarge(f"the value has {len(data)} bytes as JSON: no more than {MAX_VALUE_BYTES} are taken")
    return data.decode()


def decode_json(text: str) -> Any:
    """Return the value of a text that encode_json has made."""
    return _decode(text)


def parse_json(text: str) -> Any:
    """Return the value that somebody's text spells, if it may be kept.

    Raises:
        InvalidValue: It is no JSON.
        ValueTooLarge: It is nested too deeply or too long.
    """
    if fault := text_fault(text):
        raise InvalidValue(f"the value {fault}")
    try:
        value = _decode(text)
    except RecursionError:
        raise ValueTooLarge(f"the value is nested more than {MAX_DEPTH} levels deep") from None
    except msgspec.DecodeError as error:
        said = str(error).removeprefix("JSON is ")[:200].lower()
        raise InvalidValue(f"the value is not JSON: {said}") from None
    return json_copy(value)


def text_fault(text: str) -> str | None:
    """Return why a text may not be kept, or None."""
    if "\x00" in text:
        return "holds a NUL character, which no database takes"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which is no character"
    return None


def number_fault(number: float) -> str | None:
    """Return why a number may not be kept, or None."""
    if type(number) is int:
        return None if MIN_INT <= number <= MAX_INT else "is an int of more than 64 bits: give text"
    return None if math.isfinite(number) else f"is {number}, which is not JSON: give null or text"


def kind_of(value: object) -> str:
    """Return what a value is in words, with its size but without what it says."""
    match value:
        case None:
            return "null"
        case bool():
            return "a bool"
        case int():
            return "an int"
        case float():
            return "a float"
        case str():
            return "text"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)}"
        case _:
            return f"a {type(value).__name__}"


def path_text(path: Sequence[str | int]) -> str:
    """Return a path as it is written: with dots where that is clear, otherwise as a list."""
    if not path:
        return "the whole value"
    shown = [part if isinstance(part, int) else shown_name(part) for part in path]
    if any(isinstance(part, str) and (not part or "." in part) for part in path):
        return str(shown)
    return ".".join(map(str, shown))


def shown_name(name: str) -> str:
    """Return a name as a message shows it: as it is, or in ASCII and cut where it is long or cannot be printed."""
    return name if name.isprintable() and len(name) <= MAX_SHOWN_CHARS else ascii(name[:MAX_SHOWN_CHARS])


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise _Fault(fault)


def _advice(kind: type) -> str:
    for base in kind.__mro__[:-1]:
        if base in (bool, int, float, str, list, dict):
            return f"give a plain {base.__name__}"
        if base.__name__ in _ADVICE:
            return _ADVICE[base.__name__]
    return "give null, a boolean, a number, text, a list or a dict"
