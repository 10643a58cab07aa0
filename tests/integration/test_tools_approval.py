"""Which tool calls a person is asked about."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest

from legato.tools.run import prepare
from legato.tools.schema import tool_from


async def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def big(arguments: Mapping[str, Any]) -> bool:
    return bool(arguments["a"] > 10)


async def bigger(arguments: Mapping[str, Any]) -> bool:
    return bool(arguments["a"] > 10)


def fails(arguments: Mapping[str, Any]) -> bool:
    raise ValueError(arguments)


def leaves(arguments: Mapping[str, Any]) -> bool:
    sys.exit(1)


@pytest.mark.parametrize(
    ("rule", "arguments", "needs"),
    [
        (False, '{"a": 11}', False),
        (True, '{"a": 1}', True),
        (big, '{"a": 1}', False),
        (big, '{"a": 11}', True),
        (bigger, '{"a": 1}', False),
        (bigger, '{"a": "11"}', True),
        (fails, '{"a": 1}', True),
        (leaves, '{"a": 1}', True),
        (True, "{}", False),
    ],
)
async def test_a_person_is_asked_by_rule(rule: Any, arguments: str, needs: bool) -> None:
    """A rule sees the checked arguments; one that fails asks; a call that is refused anyway does not."""
    assert await prepare({"add": tool_from(add, needs_approval=rule)}, "add", arguments).needs_approval() is needs
