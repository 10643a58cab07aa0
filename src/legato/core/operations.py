"""What `state.update` can do to a value: set, merge, increment, decrement, append and remove, at nested paths.

Pure. A path that leads nowhere and a value of the wrong kind are errors, never silent; an operation changes what it
names and nothing else, and never what it was given: changed lists and objects are new ones.

A path is text with dots, `"stats.daily.count"`, or a list of names and indices, `["stats", "a.b", 0]`, which is how a
name with a dot in it, or one that somebody else chose, is written. No parts, `""` or `[]`, is the whole value. Digits
are an index where a list stands and a name where an object stands; an int is an index only.

Where nothing stands, `set`, `merge`, `increment`, `decrement` and `append` make it, with the objects on the way to it:
an empty object is merged into, zero is counted from, an empty list is appended to. No operation makes items of a list
but `append`: an index beyond the end is an error. `remove` needs something to remove.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from legato.core.errors import InvalidValue, OperationMisfit, ValueTooLarge
from legato.core.json_value import MAX_DEPTH, fresh_copy, json_copy, kind_of, number_fault, path_text, text_fault

Path = str | Sequence[str | int]


class _Missing:
    """Stands for the absence of a value, which null is not."""


MISSING: Final = _Missing()


class Change(NamedTuple):
    """What stood at an operation's path and what stands there now, None for nothing.

    The values may share parts with each other: read them, do not change them.
    """

    old: Any
    new: Any


class _Misfit(Exception):
    """Why an operation cannot be done; becomes an OperationMisfit that names it."""


@dataclass(frozen=True, slots=True)
class Operation(ABC):
    """One change at one path, of the whole value or within it."""

    path: Path
    name: ClassVar[str]
    creates: ClassVar[bool] = True
    """Whether the path may lead to nothing."""

    def __post_init__(self) -> None:
        self._keep("path", parse_path(self.path))

    @abstractmethod
    def result(self, old: Any) -> Any:
        """Return what stands at the path afterwards; `old` and the result may be MISSING.

        Raises:
            _Misfit: `old` is of the wrong kind.
        """

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _levels(self, below: int = 0) -> int:
        """Return how many levels are left for a value that stands `below` the path."""
        left = MAX_DEPTH - len(self.path) - below
        if left < 0:
            raise ValueTooLarge(f"{self.name} at {path_text(self.path)}: is more than {MAX_DEPTH} levels deep")
        return left


@dataclass(frozen=True, slots=True)
class Set(Operation):
    """Puts a value at the path, whatever stood there."""

    value: Any
    name: ClassVar[str] = "set"

    def __post_init__(self) -> None:
        Operation.__post_init__(self)
        self._keep("value", json_copy(self.value, levels=self._levels()))

    def result(self, old: Any) -> Any:
        # The answer holds it too: whoever changes that must not change the operation.
        return fresh_copy(self.value)


@dataclass(frozen=True, slots=True)
class Merge(Operation):
    """Sets some members of an object, one level deep, and leaves the others."""

    members: Mapping[str, Any]
    name: ClassVar[str] = "merge"

    def __post_init__(self) -> None:
        Operation.__post_init__(self)
        if type(self.members) is not dict:
            raise InvalidValue(f"merge takes an object, not {kind_of(self.members)}: use set")
        self._keep("members", json_copy(self.members, levels=self._levels()))

    def result(self, old: Any) -> Any:
        if old is MISSING:
            old = {}
        if type(old) is not dict:
            raise _Misfit(f"{kind_of(old)} stands there, which has no members to merge into")
        return old | fresh_copy(self.members)


@dataclass(frozen=True, slots=True)
class Increment(Operation):
    """Adds to a number, which stays an int or a float."""

    by: float
    name: ClassVar[str] = "increment"

    def __post_init__(self) -> None:
        Operation.__post_init__(self)
        self._levels()
        if type(self.by) not in (int, float):
            raise InvalidValue(f"{self.name} takes a number, not {kind_of(self.by)}")
        if fault := number_fault(self.by):
            raise InvalidValue(f"the number to {self.name} by {fault}")

    def result(self, old: Any) -> Any:
        by = self.by
        if old is MISSING:
            old = type(by)(0)
        if type(old) not in (int, float):
            raise _Misfit(f"{kind_of(old)} stands there, and only a number can be counted")
        if type(old) is int and type(by) is float:
            raise _Misfit("an int stands there and stays one: give an int, or set it to a float first")
        new = self._sum(old, by)
        if number_fault(new):
            kind = "64 bits" if type(new) is int else "a floating-point number"
            raise _Misfit(f"the result does not fit into {kind}")
        return new

    def _sum(self, old: float, by: float) -> float:
        return old + by


@dataclass(frozen=True, slots=True)
class Decrement(Increment):
    """Takes from a number, which stays an int or a float."""

    name: ClassVar[str] = "decrement"

    def _sum(self, old: float, by: float) -> float:
        return old - by


@dataclass(frozen=True, slots=True)
class Append(Operation):
    """Puts items behind the last of a list."""

    items: Sequence[Any]
    name: ClassVar[str] = "append"

    def __post_init__(self) -> None:
        Operation.__post_init__(self)
        if not self.items:
            raise InvalidValue("append takes one item or more")
        levels = self._levels(1)
        self._keep("items", tuple(json_copy(item, levels=levels) for item in self.items))

    def result(self, old: Any) -> Any:
        if old is MISSING:
            old = []
        if type(old) is not list:
            raise _Misfit(f"{kind_of(old)} stands there, and only a list can be appended to")
        return [*old, *map(fresh_copy, self.items)]


@dataclass(frozen=True, slots=True)
class Remove(Operation):
    """Takes a member out of its object, or an item out of its list: later items move up."""

    name: ClassVar[str] = "remove"
    creates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        Operation.__post_init__(self)
        if not self.path:
            raise InvalidValue("remove takes a path within the value: delete the key to remove all of it")

    def result(self, old: Any) -> Any:
        return MISSING


def set(path: Path, value: object) -> Set:
    """Put a value at a path, whatever stood there.

    Raises:
        InvalidValue: The path or the value is not one. So do the functions below.
        ValueTooLarge: It is nested too deeply, or too long. So do the functions below.
    """
    return Set(path, value)


def merge(path: Path, members: Mapping[str, Any]) -> Merge:
    """Set some members of an object, one level deep, and leave the others; null is a value like any other."""
    return Merge(path, members)


def increment(path: Path, by: float = 1) -> Increment:
    """Add to a number. An int takes ints alone; a float takes both and stays a float."""
    return Increment(path, by)


def decrement(path: Path, by: float = 1) -> Decrement:
    """Take from a number; as `increment`."""
    return Decrement(path, by)


def append(path: Path, *items: object) -> Append:
    """Put one or more items behind the last of a list; a list that is given is one item."""
    return Append(path, items)


def remove(path: Path) -> Remove:
    """Take a member out of its object, or an item out of its list: later items move up."""
    return Remove(path)


def apply_operations(value: Any, operations: Sequence[Operation]) -> tuple[Any, tuple[Change, ...]]:
    """Do operations one after the other, each on what the one before has left.

    Args:
        value: What stands there, or MISSING; it is not changed.
        operations: One or more.

    Returns:
        The new value, and a change for each operation.

    Raises:
        OperationMisfit: One of them cannot be done; names it, its path and what stands in its way.
    """
    changes = []
    for number, operation in enumerate(operations, 1):
        try:
            value, old, new = _at(value, operation, 0)
        except _Misfit as misfit:
            which = f" (operation {number} of {len(operations)})" if len(operations) > 1 else ""
            place = path_text(operation.path)
            raise OperationMisfit(f"{operation.name} at {place}{which}: {misfit}") from None
        changes.append(Change(None if old is MISSING else old, None if new is MISSING else new))
    return value, tuple(changes)


def parse_path(path: Path) -> tuple[str | int, ...]:
    """Return a path's parts.

    Raises:
        InvalidValue: A part is empty text between dots, no text and no index, or holds what text may not hold.
    """
    if isinstance(path, str):
        parts: Sequence[str | int] = path.split(".") if path else ()
        if "" in parts:
            raise InvalidValue(
                f"the path {path[:200]!r} has an empty part: write it as stats.daily.count, or as a list of names"
            )
    elif isinstance(path, list | tuple):
        parts = path
    else:
        raise InvalidValue(f"a path is text with dots or a list of names and indices, not {kind_of(path)}")
    for part in parts:
        if type(part) is int:
            if part < 0:
                raise InvalidValue(f"a path holds the index {part}: indices count from 0")
        elif type(part) is not str:
            raise InvalidValue(f"a part of a path is text or an index, not {kind_of(part)}")
        elif fault := text_fault(part):
            raise InvalidValue(f"a part of a path {fault}")
    return tuple(parts)


def _at(here: Any, operation: Operation, depth: int) -> tuple[Any, Any, Any]:
    """Return what is to stand here instead, and the old and new value at the operation's path."""
    assert isinstance(operation.path, tuple)
    if depth == len(operation.path):
        if here is MISSING and not operation.creates:
            raise _Misfit("nothing stands there")
        new = operation.result(here)
        return new, here, new
    part: str | int = operation.path[depth]
    if here is MISSING:
        absent = f"nothing stands at {path_text(operation.path[:depth])}" if depth else "there is no value"
        if not operation.creates:
            raise _Misfit(absent)
        if isinstance(part, int):
            raise _Misfit(f"{absent}, and no list is made for the index {part}: append to it first")
        here = {}
    if type(here) is dict:
        if isinstance(part, int):
            raise _Misfit(f"{_standing(here, operation, depth)}, whose members have names and not the index {part}")
        inner, old, new = _at(here.get(part, MISSING), operation, depth + 1)
        if inner is MISSING:
            return {name: each for name, each in here.items() if name != part}, old, new
        return {**here, part: inner}, old, new
    if type(here) is list:
        index = _index(part)
        if index is None:
            raise _Misfit(f"{_standing(here, operation, depth)}, whose items have indices and not names")
        if index >= len(here):
            hint = "" if operation.name == "remove" else ": use append for a new one"
            raise _Misfit(f"{_standing(here, operation, depth)}, which has no item {index}{hint}")
        inner, old, new = _at(here[index], operation, depth + 1)
        return [*here[:index], *(() if inner is MISSING else (inner,)), *here[index + 1 :]], old, new
    raise _Misfit(f"{_standing(here, operation, depth)}, which has nothing within it")


def _standing(here: Any, operation: Operation, depth: int) -> str:
    place = f"at {path_text(operation.path[:depth])}" if depth else "as the whole value"
    return f"{kind_of(here)} stands {place}"


def _index(part: str | int) -> int | None:
    """Return the index that a part spells, in one way only; None for a name."""
    if isinstance(part, int):
        return part
    if part.isascii() and part.isdecimal() and (part == "0" or part[0] != "0") and len(part) < 19:
        return int(part)
    return None
