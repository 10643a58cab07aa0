"""A model's server that is cut, stalls or answers nonsense at every stage; and one that nobody needs any more."""

from __future__ import annotations

import time

from tests.faults.client import call
from tests.faults.mock_upstream import FAULTS, MockUpstream
from tests.faults.oracle import Expected, Tally, logged_calls, whole
from tests.faults.reader import Reader
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher, wait_until

TOKENS = 20
MOST_CLOSE_S = 1.0
"""From a stop, or any end, to the close of the upstream's connection."""
QUICK = ("refuse-rst", "http-429", "html-200", "cut-rst@7", "stall@7", "error@7", "overlap@9")
LIMITS = {
    "LEGATO_FIRST_TOKEN_TIMEOUT_S": "1",
    "LEGATO_TOKEN_TIMEOUT_S": "1",
    "LEGATO_RETRY_BASE_S": "0.05",
    "LEGATO_RUN_TIMEOUT_S": "8",
    "LEGATO_MAX_REPLY_BYTES": "2048",
}
CLOSES = ("stop", "time", "length", "delete", "drop")


def fault_trials(context: Context) -> list[str]:
    """Return `<fault>-once` (the next call goes well) and `<fault>-always` for each fault."""
    faults = QUICK if context.quick else FAULTS
    return [f"{fault}-once" for fault in faults] + [
        f"{fault}-always" for fault in (faults[3:5] if context.quick else faults)
    ]


def close_trials(context: Context) -> list[str]:
    """Return `<way>-<n>`: ways in which a run comes to need its upstream no longer."""
    return [f"{way}-{n}" for way in CLOSES for n in range(1 if context.quick else 5)]


def _start(context: Context, upstream: MockUpstream) -> Server:
    settings = {
        "LEGATO_MODEL": "mock",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream.port}/v1",
        "OPENAI_API_KEY": "sk-test",
    }
    return Server(context.new_folder(), settings | LIMITS).start()


def break_upstream(context: Context, trials: list[str]) -> None:
    """Break the upstream at a stage: the reader has one whole reply or one explicit error, and never a repeat."""
    upstream = MockUpstream()
    server = _start(context, upstream)

    def work(share: list[str]) -> None:
        for name in share:
            context.attempt(name, _break, context, server, upstream, name)

    workers, context.workers = context.workers, 8
    try:
        context.spread(trials, work)
    finally:
        context.workers = workers
        server.kill()
        upstream.close()


def _break(context: Context, server: Server, upstream: MockUpstream, name: str) -> Tally:
    tally = Tally()
    fault, _, how = name.rpartition("-")
    seed = context.draw(f"upstream/{name}").randrange(1, 1000)
    times = 1 if how == "once" else 99
    words = f"seed={seed} tokens={TOKENS} delay_ms=5 id={name} fault={fault} times={times}"
    watcher = Watcher(server, f"script: {words}", f"c-{name}", f"k-{name}", within_s=40)
    watcher.start()
    watcher.finish()
    right = whole(seed, TOKENS)
    end = watcher.reader.terminal
    must_pass = how == "once" and not fault.startswith(("html", "json", "garbage", "bytes", "error"))
    if end is not None and end.name == b"error" and not must_pass:
        # Nonsense is not asked for again: the reader is told, once, and keeps what it has.
        right = Expected(text=None, of=right.text or "", last=b"error", code=end.data["code"])
        tally.counts["explicit errors"] += 1
        if not str(end.data["code"]).startswith(("upstream_", "interrupted")):
            tally.violate("terminals", f"upstream:{name}: {end.raw!r}")
    else:
        tally.counts["whole replies"] += 1
    watcher.check(tally, f"upstream:{name}", right)
    logged = logged_calls(server.database).get(watcher.reader.run_id or "", [])
    # A call that was given up may not have been read by then.
    wait_until(lambda: upstream.calls[name] >= len(logged), 5.0)
    # A kept connection that is closed before a byte of its answer was, as likely, idle: the request is sent again.
    resent = upstream.calls[name] - len(logged)
    tally.counts["requests sent again"] += resent
    if not 0 <= resent <= len(logged) * fault.startswith("refuse") or logged[:1] != ["first"]:
        tally.violate("calls", f"upstream:{name}: {upstream.calls[name]} calls came, logged are {logged}")
    tally.counts["upstream faults"] += min(times, len(logged))
    tally.counts["calls"] += len(logged)
    tally.counts["retries"] += max(0, len(logged) - 1)
    return tally


def close_upstream(context: Context, trials: list[str]) -> None:
    """Stop a reply, or let it reach a limit: its upstream is closed in a second; a reader's going changes nothing."""
    upstream = MockUpstream()
    server = _start(context, upstream)

    def work(share: list[str]) -> None:
        for name in share:
            context.attempt(name, _close, context, server, upstream, name)

    workers, context.workers = context.workers, 8
    try:
        context.spread(trials, work)
    finally:
        context.workers = workers
        server.kill()
        upstream.close()


def _close(context: Context, server: Server, upstream: MockUpstream, name: str) -> Tally:
    tally = Tally()
    way = name.partition("-")[0]
    seed = context.draw(f"close/{name}").randrange(1, 1000)
    tokens, delay_ms = (40, 20) if way == "drop" else (2000, 2 if way == "length" else 80)
    words = f"seed={seed} tokens={tokens} delay_ms={delay_ms} id={name}"
    watcher = Watcher(server, f"script: {words}", f"c-{name}", f"k-{name}", within_s=30)
    watcher.start()
    watcher.saw(5)
    run_id = watcher.reader.run_id
    if way == "drop":
        # The watcher reads on; another reader of the same run comes and goes.
        for _ in range(3):
            Reader(run_id=run_id).follow(server.port, until=time.monotonic() + 0.05)
        watcher.finish()
        watcher.check(tally, f"close:{name}", whole(seed, tokens))
        if upstream.calls[name] != 1:
            tally.violate("calls", f"close:{name}: {upstream.calls[name]} calls")
        tally.counts["readers dropped"] += 3
        return tally
    asked_at = time.monotonic()
    if way == "stop":
        for _ in range(2):
            if call(server.port, "POST", f"/chat/stream/{run_id}/stop").status != 202:
                tally.violate("lost", f"close:{name}: the stop was refused")
    elif way == "delete":
        call(server.port, "DELETE", f"/conversations/c-{name}")
        wait_until(lambda: name in upstream.closed_at, 5.0)
    if way != "delete":
        watcher.finish()
        asked_at = asked_at if way == "stop" else time.monotonic()
        wait_until(lambda: name in upstream.closed_at, 5.0)
        reason = "length" if way == "length" else "stopped"
        right = Expected(text=None, of=whole(seed, tokens).text or "", finish_reason=reason)
        watcher.check(tally, f"close:{name}", right)
    took_s = upstream.closed_at.get(name, asked_at + 99.0) - asked_at
    if took_s > MOST_CLOSE_S:
        tally.violate("slow close", f"close:{name}: the upstream was closed after {took_s:.1f} s")
    tally.counts["upstreams closed"] += 1
    return tally
