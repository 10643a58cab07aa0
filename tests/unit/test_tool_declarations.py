"""Functions that are no tools: what is wrong with each is said when it is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from legato.core.errors import ConfigurationError
from legato.tools.schema import tool_from

if TYPE_CHECKING:
    from legato.core.principal import Principal as Unknown


class Holder:
    """Neither a model nor a dataclass."""


class Callee:
    """Can be called, and is no function."""

    def __call__(self, query: str) -> str:
        """Search."""
        return query


def search(query: str) -> str:
    """Search."""
    return query


def bare(query: str) -> None: ...


def untyped(query) -> None:  # type: ignore[no-untyped-def]
    """Search."""


def starred(*queries: str) -> None:
    """Search."""


def keyworded(**queries: str) -> None:
    """Search."""


def positional(query: str, /) -> None:
    """Search."""


def yields(query: str) -> Iterator[str]:
    """Search."""
    yield query


def uncallable(query: Callable[[int], int]) -> None:
    """Search."""


def opaque(query: Holder) -> None:
    """Search."""


def hidden(query: Unknown) -> None:
    """Search."""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (bare, "no docstring"),
        (untyped, "argument query has no type: write `query: str`"),
        (starred, "argument queries must be an ordinary one"),
        (keyworded, "argument queries must be an ordinary one"),
        (positional, "argument query must be an ordinary one"),
        (yields, "it yields"),
        (uncallable, "a type that JSON cannot say"),
        (opaque, "a type that JSON cannot say"),
        (hidden, "argument query has a type that cannot be read"),
        (lambda: None, "no docstring"),
        (Callee(), "it is no function but a Callee"),
    ],
)
def test_a_function_that_is_no_tool_is_refused_when_it_is_declared(function: Any, said: str) -> None:
    """The error names the tool and the argument, and says what to write."""
    with pytest.raises(ConfigurationError, match=r"^tool .*") as caught:
        tool_from(function)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "söarch"}, "'söarch' is no name for a tool"),
        ({"name": "x" * 65}, "is no name for a tool"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
        ({"needs_approval": "yes"}, "needs_approval is 'yes'"),
        ({"max_output_chars": 10}, "max_output_chars is 10"),
    ],
)
def test_a_tools_limits_are_checked(changed: dict[str, Any], said: str) -> None:
    """A name or limit that cannot work is refused when the tool is declared."""
    with pytest.raises(ConfigurationError) as caught:
        tool_from(search, **changed)
    assert said in caught.value.message
