"""Stops that race with kills, ends and the turn before: the intent is durable, and the end is one."""

from __future__ import annotations

from legato.providers.scripted import reply
from tests.faults.client import call
from tests.faults.kills import close_books
from tests.faults.oracle import Expected, Tally
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher, wait_until

WAYS = ("running", "killed", "queued", "queued-killed", "late")
TOKENS = 30


def trials(context: Context) -> list[str]:
    """Return `<way>-<n>`: what is stopped, and whether the server is killed right after it said yes."""
    return [f"{way}-{n}" for way in WAYS for n in range(1 if context.quick else 8)]


def stop(context: Context, names: list[str]) -> None:
    """Stop a reply, or a turn that waits; the turn behind it is answered all the same."""

    def work(share: list[str]) -> None:
        server = Server(context.new_folder()).start()
        allowed: dict[str, int] = {}
        try:
            for name in share:
                context.attempt(name, _stop, context, server, name, allowed)
            close_books(context, "stop", server, allowed)
        finally:
            server.kill()

    context.spread(names, work)


def _stop(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    way = name.rpartition("-")[0]
    draw = context.draw(f"stop/{name}")
    seed = draw.randrange(1, 1000)
    watchers: list[Watcher] = []
    for n in range(3):
        message = f"script: seed={seed + n} tokens={TOKENS} {_pace(way) if n == 0 else 'delay_ms=10'}"
        watchers.append(Watcher(server, message, f"c-{name}", f"k-{name}-{n}", within_s=20))
        watchers[-1].start()
        wait_until(lambda: watchers[-1].reader.run_id is not None, 20.0)
    stopped = watchers[1] if way.startswith("queued") else watchers[0]
    if way == "late":
        # Near its end: whichever is committed first decides.
        watchers[0].saw(TOKENS - draw.randrange(0, 3))
    else:
        watchers[0].saw(draw.randrange(1, 10))
    said = call(server.port, "POST", f"/chat/stream/{stopped.reader.run_id}/stop")
    if said.status != 202:
        tally.violate("lost", f"stop:{name}: a stop got {said.status}")
    tally.counts["stops"] += 1
    if way.endswith("killed"):
        server.kill()
        tally.counts["kills"] += 1
        server.start()
    for watcher in watchers:
        watcher.finish()
    for n, watcher in enumerate(watchers):
        text = reply(seed + n, TOKENS)
        right = Expected(text=text)
        end = watcher.reader.terminal
        if watcher is stopped:
            over = way == "late" and end is not None and end.data.get("finishReason") == "stop"
            right = Expected(text=None, of=text, finish_reason="stop" if over else "stopped")
            tally.counts["replies stopped"] += not over
        watcher.check(tally, f"stop:{name}", right)
        if watcher.reader.run_id is not None and not (watcher is stopped and way.startswith("queued")):
            allowed[watcher.reader.run_id] = int(way.endswith("killed"))
    if way.startswith("queued") and stopped.chunks:
        tally.violate("calls", f"stop:{name}: a turn that was stopped while it waited was answered")
    return tally


def _pace(way: str) -> str:
    """Return how the first reply is made: it must not end before the stop comes, however late that is."""
    match way:
        case "late":
            return "delay_ms=10"
        case "queued":
            # Nothing but time ends it.
            return "delay_ms=100"
        case _:
            return f"delay_ms=10 stall={TOKENS // 2}@1"
