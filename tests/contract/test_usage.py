"""What was charged, added up: for its owner, for admins, as JSON, as CSV; on each database."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final, get_args
from urllib.parse import unquote

import pytest

from legato.core.errors import Forbidden, InvalidRequest
from legato.core.principal import Principal
from legato.core.usage import USAGE_COLUMNS, UsageBy, UsageFigures
from legato.http.api import create_api
from legato.runs.node import Node
from legato.runs.usage import EVERYBODY, MAX_GROUPS, report_usage
from legato.storage.charges import (
    Charge,
    forget_conversation,
    forget_owner,
    insert_charge,
    insert_charges,
    settle_charge,
)
from tests.asgi import call
from tests.conftest import OpenNode

DAY_MS: Final = 86_400_000
MONDAY_MS: Final = 20_000 * DAY_MS
ANN = Principal(id="ann", role="member")
OPS = Principal(id="ops", role="admin")


def drawn(seed: int, count: int) -> list[Charge]:
    dice = random.Random(seed)
    return [
        Charge(
            at_ms=MONDAY_MS + dice.randrange(4 * DAY_MS),
            owner=dice.choice(("ann", "ben")),
            key_id=dice.choice((None, "k-1", "k-2")),
            session_id=dice.choice(("s-1", "s-2")),
            conversation_id="c",
            run_id=f"r-{number}",
            purpose=dice.choice(("reply", "reply", "title")),
            model=dice.choice(("large", "small")),
            provider="openai",
            reason="first",
            input_tokens=dice.choice((None, dice.randrange(10**9))),
            cache_read_tokens=dice.choice((None, 7)),
            output_tokens=dice.randrange(1, 10**6),
            reasoning_tokens=dice.choice((None, 1)),
            counted=dice.choice((False, True)),
            cost_nusd=dice.choice((None, 0, dice.randrange(10**15))),
        )
        for number in range(count)
    ]


KEYS: Final[dict[UsageBy, Any]] = {
    "day": lambda each: f"2024-10-0{4 + (each.at_ms - MONDAY_MS) // DAY_MS}",
    "model": lambda each: each.model,
    "session": lambda each: each.session_id,
    "key": lambda each: each.key_id,
    "purpose": lambda each: each.purpose,
    "owner": lambda each: each.owner,
    "none": lambda each: None,
}


def summed(charges: list[Charge], by: UsageBy) -> list[UsageFigures]:
    """What a report is, reckoned one by one."""
    groups: dict[str | None, list[Charge]] = {None: []} if by == "none" else {}
    for each in charges:
        groups.setdefault(KEYS[by](each), []).append(each)
    return [
        UsageFigures(
            key=key,
            calls=len(found),
            counted=sum(each.counted for each in found),
            input_tokens=sum(each.input_tokens or 0 for each in found),
            cache_read_tokens=sum(each.cache_read_tokens or 0 for each in found),
            output_tokens=sum(each.output_tokens or 0 for each in found),
            reasoning_tokens=sum(each.reasoning_tokens or 0 for each in found),
            cost=sum((Decimal(cost).scaleb(-9) for cost in costs), Decimal(0)) if costs or not found else None,
            unpriced=len(found) - len(costs),
        )
        for key, found in sorted(groups.items(), key=lambda group: group[0] or "")
        for costs in [[each.cost_nusd for each in found if each.cost_nusd is not None]]
    ]


@pytest.fixture
async def node(open_test_node: OpenNode) -> AsyncIterator[Node]:
    async with open_test_node() as node:
        yield node


async def put(node: Node, charges: list[Charge]) -> None:
    await node.committer.write(lambda tx: insert_charges(tx, charges))


async def test_sums_are_those_of_the_charges(node: Node) -> None:
    """However they are grouped, of whomever, of whatever alone; page by page as all at once."""
    charges = drawn(3, 120)
    await put(node, charges)
    start, end = MONDAY_MS + DAY_MS // 2, MONDAY_MS + 3 * DAY_MS
    inside = [each for each in charges if start <= each.at_ms < end]
    some = [each for each in inside if each.owner == "ann"]
    for by in get_args(UsageBy):
        for principal, owner, found in ((OPS, EVERYBODY, inside), (OPS, "ann", some), (ANN, None, some)):
            if by == "owner" and principal is ANN:
                continue
            report = await report_usage(node, principal, owner=owner, from_ms=start, to_ms=end, by=by)
            assert report.total == summed(found, "none")[0]
            assert list(report.groups) == ([] if by == "none" else summed(found, by))
            assert report.next_cursor is None
            pages: list[UsageFigures] = []
            after: str | None = None
            while by != "none":
                page = await report_usage(
                    node, principal, owner=owner, from_ms=start, to_ms=end, by=by, after=after, limit=1
                )
                pages += page.groups
                after = page.next_cursor
                if after is None:
                    break
            assert pages == list(report.groups)
    only = [each for each in some if each.model == "small" and each.session_id == "s-1" and each.key_id == "k-1"]
    report = await report_usage(
        node, ANN, from_ms=start, to_ms=end, by="day", model="small", session_id="s-1", key_id="k-1"
    )
    assert list(report.groups) == summed(only, "day")


async def test_a_conversation_has_sums_of_its_own(node: Node) -> None:
    """Of its owner alone, who has to be named: another's may have the same id."""
    inside = [replace(each, conversation_id="c-2") for each in drawn(6, 12)]
    await put(node, [*drawn(4, 12), *inside])
    for by in ("none", "day"):
        report = await report_usage(node, ANN, from_ms=0, to_ms=MONDAY_MS + 4 * DAY_MS, by=by, conversation_id="c-2")
        assert report.total == summed([each for each in inside if each.owner == "ann"], "none")[0]
    assert (await report_usage(node, ANN, from_ms=0, conversation_id="c-3")).total.calls == 0
    with pytest.raises(InvalidRequest, match="conversationId"):
        await report_usage(node, OPS, owner=EVERYBODY, conversation_id="c-2")


async def test_what_was_charged_in_advance_is_settled_once(node: Node) -> None:
    """The row stays the same, with what was really used; another owner cannot settle it."""
    first, used = drawn(5, 2)
    key = await node.committer.write(lambda tx: insert_charge(tx, first))
    for owner, expected in (("eve", first), (first.owner, used)):
        values = {name: getattr(used, name) for name in Charge.__slots__} | {"owner": owner}
        await node.committer.write(partial(settle_charge, key=key, used=Charge(**values)))
        report = await report_usage(node, OPS, owner=first.owner, from_ms=first.at_ms, to_ms=first.at_ms + 1)
        found = report.total
        assert (found.calls, found.output_tokens) == (1, expected.output_tokens)
        # A span ends before its end.
        report = await report_usage(node, OPS, owner=first.owner, from_ms=first.at_ms, to_ms=first.at_ms)
        assert report.total.calls == 0


async def test_the_sums_stay_when_names_are_forgotten(node: Node) -> None:
    """A deleted conversation takes its name with it, an erased person all that names them; the money was spent."""
    charges = drawn(9, 40)
    await put(node, charges)
    span: dict[str, Any] = {"from_ms": MONDAY_MS, "to_ms": MONDAY_MS + 4 * DAY_MS}
    before = await report_usage(node, OPS, owner=EVERYBODY, **span)
    anns = sum(each.owner == "ann" for each in charges)
    assert await node.committer.write(lambda tx: forget_conversation(tx, "ann", "c")) == anns
    assert await node.committer.write(lambda tx: forget_conversation(tx, "ann", "c")) == 0
    assert await node.committer.write(lambda tx: forget_owner(tx, "ann", 3)) == 3
    assert await node.committer.write(lambda tx: forget_owner(tx, "ann", 1000)) == anns - 3
    after = await report_usage(node, OPS, owner=EVERYBODY, by="owner", **span)
    assert after.total == before.total
    assert [each.key for each in after.groups] == [None, "ben"]
    assert (await report_usage(node, ANN, **span)).total.calls == 0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"owner": "ben"}, Forbidden),
        ({"owner": EVERYBODY}, Forbidden),
        ({"by": "owner"}, Forbidden),
        ({"by": "moon"}, InvalidRequest),
        ({"from_ms": 2, "to_ms": 1}, InvalidRequest),
        ({"from_ms": -1}, InvalidRequest),
        ({"limit": 0}, InvalidRequest),
        ({"limit": MAX_GROUPS + 1}, InvalidRequest),
        ({"after": "yesterday"}, InvalidRequest),
    ],
)
async def test_what_may_not_be_asked_is_refused(node: Node, arguments: dict[str, Any], fault: type[Exception]) -> None:
    """Others' usage is for admins; the rest names what is wrong."""
    with pytest.raises(fault):
        await report_usage(node, ANN, **arguments)


async def test_the_route_tells_ones_own_usage(node: Node) -> None:
    """As JSON with all fields, and as CSV that no spreadsheet takes for formulas."""
    models = ("=cmd()", " +1", "-2", "@a", "plain", 'quo"te,d', "日本")
    charges = [
        Charge(**{name: getattr(each, name) for name in Charge.__slots__} | {"model": model, "owner": "local"})
        for model, each in zip(models, drawn(7, len(models)), strict=True)
    ]
    await put(node, charges)
    span = f"from={MONDAY_MS}&to={MONDAY_MS + 4 * DAY_MS}"
    answer = await call(create_api(node), "GET", f"/usage?{span}&by=model&limit=3")
    assert answer.status == 200
    told = answer.json
    first = summed(charges, "model")[0]
    assert told["groups"][0] == {
        "key": first.key,
        "calls": 1,
        "counted": first.counted,
        "inputTokens": first.input_tokens,
        "cacheReadTokens": first.cache_read_tokens,
        "outputTokens": first.output_tokens,
        "reasoningTokens": first.reasoning_tokens,
        "cost": None if first.cost is None else {"usd": f"{first.cost:f}".rstrip("0").rstrip(".") or "0"},
        "unpriced": first.unpriced,
    }
    assert (told["owner"], told["by"], told["from"], told["total"]["calls"]) == ("local", "model", MONDAY_MS, 7)
    assert told["nextCursor"] == sorted(models)[2]
    rows: list[list[str]] = []
    after = ""
    while True:
        answer = await call(create_api(node), "GET", f"/usage?{span}&by=model&limit=3&format=csv{after}")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"].startswith("attachment")
        page = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
        assert page[0] == ["model", *USAGE_COLUMNS]
        rows += page[1:]
        if "x-next-cursor" not in answer.headers:
            break
        assert unquote(answer.headers["x-next-cursor"]) in models
        after = f"&after={answer.headers['x-next-cursor']}"
    guarded = {model: f"'{model}" if model.lstrip()[0] in "=+-@" else model for model in models}
    assert [row[0] for row in rows] == [guarded[model] for model in sorted(models)]
    assert [int(row[5]) for row in rows] == [each.output_tokens for each in summed(charges, "model")]
