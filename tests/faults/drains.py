"""SIGTERM while replies are being made: short ones end, long ones are handed over, new ones are refused meanwhile."""

from __future__ import annotations

import time

from tests.faults.client import call
from tests.faults.kills import close_books, count_restart, unfinished
from tests.faults.oracle import Tally, check_run, follow_to_end, whole
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher, wait_until

DRAIN_S = 3.0
"""In which a post is to come, on a busy machine too."""
SOON_S = 20.0
MOST_EXIT_S = 3.0
"""Beyond the drain."""


def trials(context: Context) -> list[str]:
    """Return names: one long reply under many SIGTERMs, and several rounds of short beside long ones."""
    return ["ten-1", *(f"mixed-{n}" for n in range(1 if context.quick else 10))]


def terminate(context: Context, names: list[str]) -> None:
    """SIGTERM in mid-reply."""

    def work(share: list[str]) -> None:
        server = Server(context.new_folder(), {"LEGATO_DRAIN_S": f"{DRAIN_S}"}).start()
        allowed: dict[str, int] = {}
        try:
            for name in share:
                run = _many if name.startswith("ten") else _mixed
                context.attempt(name, run, context, server, name, allowed)
            close_books(context, "terminate", server, allowed)
        finally:
            server.kill()

    context.spread(names, work)


def _terminate(tally: Tally, name: str, server: Server) -> None:
    server.terminate()
    tally.counts["SIGTERMs"] += 1
    _await_exit(tally, name, server)


def _await_exit(tally: Tally, name: str, server: Server) -> None:
    began = time.monotonic()
    code = server.wait()
    took_s = time.monotonic() - began
    if code != 0 or took_s > float(server.settings["LEGATO_DRAIN_S"]) + MOST_EXIT_S:
        tally.violate("exit", f"{name}: ended with {code} after {took_s:.1f} s: {server.log_end()[-400:]}")


def _many(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    """Ten hand-overs of one reply are no ten crashes: it ends well."""
    tally = Tally()
    times = 3 if context.quick else 10
    server.settings["LEGATO_DRAIN_S"] = "0"
    server.kill()
    server.start()
    seed = context.draw(f"terminate/{name}").randrange(1, 1000)
    tokens = times * 20
    watcher = Watcher(server, f"script: seed={seed} tokens={tokens} delay_ms=20", f"c-{name}", f"k-{name}")
    watcher.start()
    for _ in range(times):
        watcher.saw(watcher.chunks + 2)
        left = unfinished([watcher])
        _terminate(tally, name, server)
        epoch = watcher.epoch
        server.start()
        watcher.saw_later(epoch)
        count_restart(tally, name, server, [watcher], left)
    watcher.finish()
    watcher.check(tally, f"terminate:{name}", whole(seed, tokens))
    if watcher.reader.run_id is not None:
        allowed[watcher.reader.run_id] = 0
    server.settings["LEGATO_DRAIN_S"] = f"{DRAIN_S}"
    server.kill()
    server.start()
    return tally


def _mixed(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    """A short reply ends before the server does; a long one goes on after; between, posts get 503."""
    tally = Tally()
    if not server.running:
        # The trial before this one could not be brought to its end.
        server.start()
    draw = context.draw(f"terminate/{name}")
    seeds = [draw.randrange(1, 1000) for _ in range(3)]
    # The long one cannot end before the server does: its first call says no more than the tokens before the last ones.
    shapes = [(10, "delay_ms=30"), (150, "delay_ms=20 stall=140@1"), (30, "delay_ms=20")]
    watchers = [
        Watcher(server, f"script: seed={seed} tokens={tokens} {pace}", f"c-{name}-{n}", f"k-{name}-{n}")
        for n, (seed, (tokens, pace)) in enumerate(zip(seeds, shapes, strict=True))
    ]
    short, long, late = watchers
    short.start()
    long.start()
    short.saw(2)
    long.saw(2)
    server.terminate()
    tally.counts["SIGTERMs"] += 1
    wait_until(lambda: _is_draining(server), DRAIN_S)
    refused = call(server.port, "POST", "/chat/stream", {"message": "script: seed=1 tokens=1"})
    if refused.status != 503 or "retry-after" not in refused.headers:
        tally.violate("drain", f"{name}: while draining a post got {refused.status} {refused.headers}")
    late.start()
    _await_exit(tally, name, server)
    # It may have been sent, and not read yet.
    if not wait_until(lambda: short.reader.terminal is not None, SOON_S):
        tally.violate("drain", f"{name}: a short reply did not end before the server did")
    if long.reader.terminal is not None:
        tally.violate("drain", f"{name}: the long reply has ended: {long.reader.frames[-1].raw!r}")
    left = unfinished([long])
    server.start()
    for watcher in watchers:
        watcher.finish()
    count_restart(tally, name, server, [long], left)
    for seed, (tokens, _), watcher in zip(seeds, shapes, watchers, strict=True):
        watcher.check(tally, f"terminate:{name}", whole(seed, tokens))
        if watcher.reader.run_id is not None:
            allowed[watcher.reader.run_id] = 0
    if late.statuses[503] + late.statuses[0] == 0:
        tally.violate("drain", f"{name}: a post was taken while draining: {late.statuses}")
    return tally


def _is_draining(server: Server) -> bool:
    return bool(call(server.port, "GET", "/health/ready").json()["server"] == "draining")


def jump_clock(context: Context, names: list[str]) -> None:
    """The wall clock jumps by hours, at every look: streams are whole, durations sane, keys are known."""
    server = Server(context.new_folder(), {"FAULT_CLOCK": "6"}, module="tests.faults.crashing_server").start()
    allowed: dict[str, int] = {}
    try:
        for name in names:
            context.attempt(name, _jump, context, server, name, allowed)
        close_books(context, "clock", server, allowed)
    finally:
        server.kill()


def _jump(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    seed = context.draw(f"clock/{name}").randrange(1, 1000)
    message = f"script: seed={seed} tokens=12 delay_ms=10"
    watcher = Watcher(server, message, f"c-{name}", f"k-{name}")
    again = Watcher(server, message, f"c-{name}", f"k-{name}")
    watcher.start()
    watcher.saw(2)
    again.start()
    if name.endswith("kill"):
        server.kill()
        tally.counts["kills"] += 1
        server.start()
    watcher.finish()
    again.finish()
    watcher.check(tally, f"clock:{name}", whole(seed, 12))
    if watcher.reader.run_id is not None:
        allowed[watcher.reader.run_id] = 0
        follow_to_end(server.port, again.reader)
    _check_times(tally, name, watcher)
    if again.reader.run_id == watcher.reader.run_id:
        check_run(tally, f"clock:{name}", server.port, again.reader, whole(seed, 12), f"c-{name}")
    else:
        tally.violate("duplicated", f"clock:{name}: a repeat with its key began another run")
    tally.counts["clock trials"] += 1
    return tally


def _check_times(tally: Tally, name: str, watcher: Watcher) -> None:
    end = watcher.reader.terminal
    # A reply that changes processes has only the wall clock to measure by.
    longest_ms = 60_000 if name.endswith("stay") else 48 * 3_600_000
    if end is not None and not 0 <= end.data["responseTimeMs"] < longest_ms:
        tally.violate("clock", f"{name}: responseTimeMs {end.data['responseTimeMs']}")


def clock_trials(context: Context) -> list[str]:
    """Return names of trials under a jumping clock, every other one with a kill."""
    return [f"{n}-{'kill' if n % 2 else 'stay'}" for n in range(2 if context.quick else 12)]
