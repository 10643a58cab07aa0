"""A reader that takes nothing beside readers that do: it costs no memory, holds nobody up, and is cut in time."""

from __future__ import annotations

import time

from tests.faults.client import Connection, call, chat_bytes
from tests.faults.kills import close_books
from tests.faults.oracle import Tally, check_run, follow_to_end, whole
from tests.faults.reader import Reader
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher, wait_until

SEND_TIMEOUT_S = 1
TOKENS = 5500
LONG_ID = "🎵" * 180
"""With an id of 720 bytes in each event a reply fills every buffer (4 MB) on the way to who does not read."""
BUFFER_BYTES = 4096
MOST_GROWTH_BYTES = 60 * 2**20
MOST_LAG_S = 3.0
GONE_S = SEND_TIMEOUT_S + 1.5


def trials(context: Context) -> list[str]:
    """Return names of trials with one stalled reader among four."""
    return [f"stall-{n}" for n in range(1 if context.quick else 6)]


def stall(context: Context, names: list[str]) -> None:
    """Stall one reader of a long reply; the others read it to the end at the model's pace."""

    def work(share: list[str]) -> None:
        settings = {"LEGATO_SEND_TIMEOUT_S": f"{SEND_TIMEOUT_S}"}
        server = Server(context.new_folder(), settings).start()
        allowed: dict[str, int] = {}
        try:
            for name in share:
                context.attempt(name, _stall, context, server, name, allowed)
            close_books(context, "stall", server, allowed)
        finally:
            server.kill()

    context.spread(names, work)


def _stall(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    seed = context.draw(f"stall/{name}").randrange(1, 1000)
    # The pace leaves the stalled reader behind for longer than the send timeout.
    message = f"script: seed={seed} tokens={TOKENS} delay_ms=1"
    body = {"maxTokens": TOKENS + 1}
    conversation_id = f"c-{name}{LONG_ID}"
    fast = [Watcher(server, message, conversation_id, f"k-{name}", body=body) for _ in range(3)]
    rss_before = server.rss_bytes()
    for watcher in fast:
        watcher.start()
    fast[0].saw(3)
    slow = Connection(server.port, receive_buffer_bytes=BUFFER_BYTES)
    slow.send(chat_bytes(message, conversation_id, f"k-{name}", body))
    reader = Reader()
    while reader.run_id is None and slow.receive(512):
        reader.take(slow)
    began = time.monotonic()
    # What it could read of its buffers is left there until the server has given it up.
    for watcher in fast:
        watcher.finish()
    fast_s = time.monotonic() - began
    grown = server.rss_bytes() - rss_before
    wait_until(lambda: _open_streams(server) == 0, GONE_S)
    while slow.receive():
        pass
    cut = reader.take(slow)
    slow.cut("fin")
    if cut is None or cut.ended or reader.terminal is not None:
        tally.violate("stall", f"{name}: a reader that took nothing was not cut")
    tally.counts["readers stalled"] += 1
    follow_to_end(server.port, reader)
    check_run(tally, f"stall:{name}", server.port, reader, whole(seed, TOKENS), conversation_id)
    for watcher in fast:
        watcher.check(tally, f"stall:{name}", whole(seed, TOKENS))
    ends = [watcher.reader.arrivals[-1] for watcher in fast if watcher.reader.arrivals]
    if max(ends) - min(ends) > MOST_LAG_S:
        tally.violate("stall", f"{name}: fast readers ended {max(ends) - min(ends):.1f} s apart")
    if grown > MOST_GROWTH_BYTES:
        tally.violate("memory", f"stall:{name}: {grown >> 20} MiB more with a stalled reader")
    if reader.run_id is not None:
        allowed[reader.run_id] = 0
    tally.figures["stalled reader: memory grown by"] = f"{grown / 2**20:.1f} MiB over {fast_s:.0f} s"
    return tally


def _open_streams(server: Server) -> int:
    """Return how many readers the server has."""
    figures = bytes(call(server.port, "GET", "/metrics").body).decode().splitlines()
    return int(float(next(line for line in figures if line.startswith("legato_readers ")).split()[1]))
