"""A disk that is full: a limit on the size of the server's files, set from outside while replies stream.

SQLite sees EFBIG where it would see ENOSPC: a write that fails. Python ignores SIGXFSZ, so nothing else happens.
"""

from __future__ import annotations

import resource
import time

from tests.faults.client import call
from tests.faults.kills import close_books
from tests.faults.oracle import Tally, whole
from tests.faults.reader import Reader
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher, wait_until

WAIT_S = 1.0
SOON_S = 10.0
MOST_GROWTH_BYTES = 60 * 2**20
TOKENS = 150


def trials(context: Context) -> list[str]:
    """Return names of trials: the disk is full for a while, or the server is killed while it is."""
    return ["wait-0"] if context.quick else [f"{way}-{n}" for n in range(6) for way in ("wait", "kill")]


def fill(context: Context, names: list[str]) -> None:
    """Fill the disk in mid-reply: readers are cut without an end, posts are refused, and each run ends once later."""

    def work(share: list[str]) -> None:
        server = Server(context.new_folder(), {"LEGATO_STORAGE_WAIT_S": f"{WAIT_S}"}).start()
        allowed: dict[str, int] = {}
        try:
            # A disk that is full while the queue is opened ends the server: that is another trial than these.
            if not wait_until(lambda: call(server.port, "GET", "/health/ready").status == 200, 10.0):
                raise RuntimeError(f"the server is not ready: {server.log_end()}")
            for name in share:
                context.attempt(name, _fill, context, server, name, allowed)
            close_books(context, "disk", server, allowed)
        finally:
            server.kill()

    context.spread(names, work)


def _limit(server: Server, size: int) -> None:
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _fill(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    draw = context.draw(f"disk/{name}")
    seeds = [draw.randrange(1, 1000) for _ in range(3)]
    watchers = [
        Watcher(
            server,
            f"script: seed={seed} tokens={TOKENS} delay_ms=30",
            f"c-{name}-{n}",
            f"k-{name}-{n}",
            within_s=20,
        )
        for n, seed in enumerate(seeds)
    ]
    for watcher in watchers:
        watcher.start()
        watcher.saw(draw.randrange(1, 10))
    rss_before = server.rss_bytes()
    _limit(server, 4096)
    tally.counts["full disks"] += 1
    # Its log may be full too.
    if not wait_until(lambda: call(server.port, "GET", "/health/ready").status == 503, 3.0):
        tally.violate("disk", f"{name}: the limit was not noticed")
    _check_refused(tally, name, server)
    time.sleep(WAIT_S + 0.5)
    # Who is cut has read all that was written before.
    wait_until(lambda: all(watcher.statuses[200] for watcher in watchers), SOON_S)
    cut_at = [len(watcher.reader.frames) for watcher in watchers]
    late = Reader(run_id=watchers[0].reader.run_id)
    late.follow(server.port, until=time.monotonic() + 0.5)
    if any(watcher.reader.terminal is not None for watcher in watchers):
        tally.violate("terminals", f"disk:{name}: a reply was ended while nothing could be written")
    if [len(watcher.reader.frames) for watcher in watchers] != cut_at or len(late.frames) > cut_at[0]:
        tally.violate("changed", f"disk:{name}: something was shown that could not be written")
    if sum(watcher.statuses[200] for watcher in watchers) == 0:
        tally.violate("disk", f"{name}: no reader was cut")
    if (grown := server.rss_bytes() - rss_before) > MOST_GROWTH_BYTES:
        tally.violate("memory", f"disk:{name}: {grown >> 20} MiB more while the disk was full")
    if name.startswith("kill"):
        server.kill()
        tally.counts["kills"] += 1
        server.start()
    else:
        _limit(server, resource.RLIM_INFINITY)
    for watcher in watchers:
        watcher.finish()
    for seed, watcher in zip(seeds, watchers, strict=True):
        watcher.check(tally, f"disk:{name}", whole(seed, TOKENS))
        if watcher.reader.run_id is not None:
            allowed[watcher.reader.run_id] = int(name.startswith("kill"))
    return tally


def _check_refused(tally: Tally, name: str, server: Server) -> None:
    for n in range(3):
        began = time.monotonic()
        refused = call(server.port, "POST", "/chat/stream", {"message": f"script: tokens={n}"})
        if refused.status != 503 or "retry-after" not in refused.headers:
            tally.violate("disk", f"{name}: with a full disk a post got {refused.status} {refused.headers}")
        if time.monotonic() - began > WAIT_S + 2:
            tally.violate("disk", f"{name}: a post was refused after {time.monotonic() - began:.1f} s")
        tally.counts["posts refused"] += 1
