"""Connections cut after every byte, in three ways, and requests that arrive in pieces, twice or never."""

from __future__ import annotations

from tests.faults.client import END, Connection, chat_bytes
from tests.faults.oracle import Tally, check_calls, check_run, follow_to_end, whole
from tests.faults.reader import Reader
from tests.faults.scenario import Context
from tests.faults.server import Server

WAYS = ("fin", "rst", "half")
TOKENS = 4
LONGEST_BYTES = 1500
"""Bytes of a whole response to a reply of TOKENS, at most."""
QUICK_CUTS = 30
SHARE = 250
"""Trials on one server: the model's journal is read whole at each call."""


def response_trials(context: Context) -> list[str]:
    """Return `<way>-<bytes>` for every byte of the response."""
    step = LONGEST_BYTES * len(WAYS) // QUICK_CUTS if context.quick else 1
    names = [f"{way}-{k}" for k in range(1, LONGEST_BYTES + 1) for way in WAYS]
    return names[context.seed % step :: step]


def request_trials(context: Context) -> list[str]:
    """Return `<way>-<bytes>` for every byte of the request; `half` may well be a whole request."""
    size = len(_request(1, "request-fin-9999", "key"))
    names = [f"{way}-{k}" for k in range(1, size + 1) for way in WAYS]
    return names[:: len(names) // 12] if context.quick else names


def _request(seed: int, conversation_id: str, key: str | None = None) -> bytes:
    return chat_bytes(f"script: seed={seed} tokens={TOKENS} delay_ms=1", conversation_id, key)


def cut_responses(context: Context, trials: list[str]) -> None:
    """Cut a response after its kth byte, then go on from the cursor of the last complete event."""

    def work(share: list[str]) -> None:
        for at in range(0, len(share), SHARE):
            server = Server(context.new_folder(), {"LEGATO_LOG_LEVEL": "warning"}).start()
            allowed: dict[str, int] = {}
            try:
                for name in share[at : at + SHARE]:
                    context.attempt(name, _cut_response, context, server, name, allowed)
                tally = Tally()
                check_calls(tally, "cut-responses", server, allowed)
                context.add(tally, 0)
            finally:
                server.kill()

    context.spread(trials, work)


def _cut_response(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    way, _, k = name.rpartition("-")
    draw = context.draw(f"cut-responses/{name}")
    seed = draw.randrange(1, 1000)
    request = _request(seed, f"response-{name}", f"key-{name}")
    connection = Connection(server.port)
    connection.send(request, one_by_one=draw.random() < 0.05)
    connection.receive_exactly(int(k))
    late = connection.raw.endswith(END)
    connection.cut(way)
    reader = Reader()
    reader.take(connection)
    if reader.run_id is None:
        # Cut in the head: only a repeat with its key finds the run again.
        again = Connection(server.port)
        again.send(request)
        reader.drain(again)
        again.cut("fin")
        tally.counts["cuts in the head"] += 1
    if reader.run_id is None:
        tally.violate("lost", f"cut-responses:{name}: no run after {connection.raw!r}")
        return tally
    if reader.terminal is None:
        reader.follow(server.port, receive_bytes=1 if draw.random() < 0.1 else 65536)
    follow_to_end(server.port, reader)
    check_run(tally, f"cut-responses:{name}", server.port, reader, whole(seed, TOKENS), f"response-{name}")
    end = reader.terminal
    if end is not None and end.data["messageCount"] != 2:
        tally.violate("duplicated", f"cut-responses:{name}: {end.data['messageCount']} messages")
    allowed[reader.run_id] = 0
    tally.counts["cuts behind the end" if late else "cuts"] += 1
    return tally


def cut_requests(context: Context, trials: list[str]) -> None:
    """Cut the request after its kth byte, then repeat it with its key: one run, one message, however far it got."""

    def work(share: list[str]) -> None:
        for at in range(0, len(share), SHARE):
            server = Server(context.new_folder(), {"LEGATO_LOG_LEVEL": "warning"}).start()
            allowed: dict[str, int] = {}
            try:
                for name in share[at : at + SHARE]:
                    context.attempt(name, _cut_request, context, server, name, allowed)
                tally = Tally()
                check_calls(tally, "cut-requests", server, allowed)
                context.add(tally, 0)
            finally:
                server.kill()

    context.spread(trials, work)


def _cut_request(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    way, _, k = name.rpartition("-")
    draw = context.draw(f"cut-requests/{name}")
    seed = draw.randrange(1, 1000)
    conversation_id = f"request-{name}"
    request = _request(seed, conversation_id, f"key-{name}")
    first = Connection(server.port)
    first.send(request[: int(k)])
    first.cut(way)
    reader = Reader()
    reader.take(first)
    second, third = Connection(server.port), Connection(server.port)
    second.send(request, one_by_one=draw.random() < 0.2)
    third.send(request)
    twin = Reader()
    again = Reader()
    again.drain(second)
    twin.drain(third)
    for connection in (second, third):
        connection.cut("fin")
    if reader.run_id is None:
        reader = again
    if not reader.run_id == again.run_id == twin.run_id:
        tally.violate("duplicated", f"cut-requests:{name}: runs {reader.run_id}, {again.run_id}, {twin.run_id}")
    for each in {id(each): each for each in (reader, again, twin)}.values():
        follow_to_end(server.port, each)
        check_run(tally, f"cut-requests:{name}", server.port, each, whole(seed, TOKENS), conversation_id)
    terminal = again.terminal
    if terminal is not None and terminal.data["messageCount"] != 2:
        tally.violate("duplicated", f"cut-requests:{name}: {terminal.data['messageCount']} messages")
    if again.run_id is not None:
        allowed[again.run_id] = 0
    tally.counts["cuts of requests"] += 1
    return tally
