"""What a step may do: its own owner's state and conversations, its declared topics, and nothing of anybody else."""

from __future__ import annotations

import pytest

from legato import Legato, increment
from legato.core.errors import Forbidden, InvalidRequest, InvalidValue, UndeclaredTopic
from legato.core.principal import APP, Principal
from legato.runs.node import Node
from legato.steps.context import Context, principal_of
from legato.steps.triggers import Occasion
from legato.storage.outbox import OutboxEvent, first_events

ANN = Principal(id="ann", role="member")
BEN = Principal(id="ben", role="member")


async def _nothing(ctx: Context) -> None: ...


def _context(node: Node, principal: Principal, *, seed: str | None = None) -> Context:
    app = Legato()
    app.cron("0 0 * * *", name="mine", enqueues=["mine.happened"])(_nothing)
    return Context(
        node,
        app.registry().by_name["mine"],
        trigger=Occasion(kind="queue", name="x", at_ms=1),
        principal=principal,
        trace_id="a" * 32,
        seed=seed,
    )


async def _events(node: Node) -> list[OutboxEvent]:
    return [event for _, event in await node.database.read(lambda tx: first_events(tx, 100))]


async def test_state_is_the_owners_and_shared_is_the_apps(node: Node) -> None:
    """One owner never sees another's; what is shared is one for all."""
    ann, ben, app = _context(node, ANN), _context(node, BEN), _context(node, APP)
    await ann.state.set("group", "key", 1)
    await ann.shared.set("group", "key", 2)
    assert await ben.state.get("group", "key") is None
    assert await ben.shared.get("group", "key") == 2
    assert await app.state.get("group", "key") == 2


async def test_only_the_app_acts_for_others(node: Node) -> None:
    """A step that acts for somebody in particular acts for nobody else."""
    await _context(node, APP).acting_for("ann").state.update("group", "key", increment("n"))
    assert await _context(node, ANN).state.get("group", "key") == {"n": 1}
    with pytest.raises(Forbidden):
        _context(node, ANN).acting_for("ben")
    with pytest.raises(Forbidden):
        _context(node, Principal(id="app", role="member")).acting_for("ben")
    with pytest.raises(InvalidRequest):
        _context(node, APP).acting_for("")


async def test_only_declared_topics_are_enqueued(node: Node) -> None:
    """The nearest one is named; nothing is recorded."""
    context = _context(node, ANN)
    with pytest.raises(UndeclaredTopic, match=r"did you mean 'mine.happened'\?"):
        await context.enqueue("mine.hapened", {})
    with pytest.raises(UndeclaredTopic, match=r"enqueues=\['something.else'\]"):
        await context.enqueue("something.else", {})
    with pytest.raises(InvalidValue):
        await context.enqueue("mine.happened", {"when": object()})
    assert await _events(node) == []


async def test_an_event_is_recorded_for_the_owner_with_the_trace(node: Node) -> None:
    """As it was given; changing it afterwards changes nothing."""
    payload = {"n": [1]}
    event_id = await _context(node, ANN).enqueue("mine.happened", payload)
    payload["n"].append(2)
    (event,) = await _events(node)
    assert (event.id, event.owner, event.topic, event.payload) == (event_id, "ann", "mine.happened", {"n": [1]})
    assert event.trace_id == "a" * 32


async def test_ids_of_enqueued_events_come_of_what_is_handled(node: Node) -> None:
    """A repeated attempt gives the same ids in the same order; another event, other ones; a request, new ones."""

    async def two(seed: str | None, principal: Principal = ANN) -> list[str]:
        context = _context(node, principal, seed=seed)
        return [await context.enqueue("mine.happened", n) for n in range(2)]

    assert await two("mine/e-1") == await two("mine/e-1")
    first, second = await two("mine/e-1")
    assert len({first, second, *await two("mine/e-2"), *await two(None), *await two(None)}) == 8
    app = _context(node, APP, seed="mine/e-3")
    owners = ("ann", "ben", "ann", "app")
    ids = [await app.acting_for(owner).enqueue("mine.happened", 1) for owner in owners]
    assert len(set(ids)) == 4
    again = _context(node, APP, seed="mine/e-3")
    # Another order of the owners changes nothing: each counts for itself.
    assert [await again.acting_for(owner).enqueue("mine.happened", 1) for owner in sorted(owners)] == [
        ids[0],
        ids[2],
        ids[3],
        ids[1],
    ]


@pytest.mark.parametrize("group", ["conversations", "session-stats", "rate-limits"])
async def test_views_are_read_only(node: Node, group: str) -> None:
    """What the server keeps is changed through its services alone."""
    state = _context(node, ANN).state
    for write in (state.set(group, "k", 1), state.update(group, "k", increment("n")), state.delete(group, "k")):
        with pytest.raises(InvalidRequest, match="cannot be written"):
            await write
    with pytest.raises(InvalidRequest, match="cannot be written"):
        await state.clear(group)
    assert (await state.list(group)).entries == () or group == "rate-limits"


@pytest.mark.parametrize("group", ["conversations", "session-stats", "rate-limits"])
async def test_a_view_takes_what_any_group_takes(node: Node, group: str) -> None:
    """A wrong argument is named, and not looked up."""
    state = _context(node, ANN).state
    for key in ("", "\ud800", 5):
        with pytest.raises(InvalidRequest, match="key"):
            await state.get(group, key)  # type: ignore[arg-type]
    for field in ("after", "prefix"):
        with pytest.raises(InvalidRequest, match=field):
            await state.list(group, **{field: 5})  # type: ignore[arg-type]


async def test_a_view_is_a_group_where_it_has_something(node: Node) -> None:
    """As any group is: what `groups` names, `list` has."""
    state = _context(node, ANN).state
    assert await state.groups() == ()
    await _context(node, ANN).conversations.create("c-1")
    await state.set("mine", "k", 1)
    assert await state.groups() == ("conversations", "mine")


async def test_a_page_of_a_view_is_as_long_as_it_is_asked_for(node: Node) -> None:
    """By prefix too; what is no length is refused."""
    ann = _context(node, ANN)
    for name in ("a", "b", "b-1", "b-2", "c"):
        await ann.conversations.create(name)
    first = await ann.state.list("conversations", prefix="b", limit=2)
    assert [entry.key for entry in first.entries] == ["b", "b-1"]
    assert first.next == "b-1"
    rest = await ann.state.list("conversations", prefix="b", limit=2, after=first.next)
    assert ([entry.key for entry in rest.entries], rest.next) == (["b-2"], None)
    for limit in (0, -1, 10**30):
        with pytest.raises(InvalidRequest):
            await ann.state.list("conversations", limit=limit)
    for since_ms in (-1, 2**70):
        with pytest.raises(InvalidRequest):
            await ann.conversations.log(since_ms=since_ms)


async def test_conversations_are_the_owners(node: Node) -> None:
    """The services of the HTTP layer, within the step's rights; the view lists them in the order of their ids."""
    ann, ben = _context(node, ANN), _context(node, BEN)
    for name in ("c-2", "c-1", "c-3"):
        await ann.conversations.create(name)
    page = await ann.state.list("conversations", limit=2)
    assert [entry.key for entry in page.entries] == ["c-1", "c-2"]
    assert [entry.key for entry in (await ann.state.list("conversations", after=page.next)).entries] == ["c-3"]
    assert (await ben.state.list("conversations")).entries == ()
    assert await ben.state.get("conversations", "c-1") is None


def test_the_principals_of_rows_are_known() -> None:
    """An owner called `app` in a row is the app; every other is a member."""
    assert principal_of("app") is APP
    assert principal_of("local").role == "admin"
    assert principal_of("ann") == ANN
