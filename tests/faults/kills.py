"""kill -9 at every token and at every seam between append, commit, show and end; the same folder is started again."""

from __future__ import annotations

from pathlib import Path

from legato.providers.scripted import reply
from tests.faults.crashing_server import BOOT_SEAMS, SEAMS
from tests.faults.oracle import Expected, Tally, check_calls, whole
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.watcher import Watcher, wait_until

CRASHING = "tests.faults.crashing_server"
MOST_RESTART_S = 2.0
"""From the listening socket to the first new chunk of a reply that was cut."""
ONCE = ("end-", "start-", "finish-")
"""Seams that a reply passes once."""


def count_restart(tally: Tally, name: str, server: Server, watchers: list[Watcher], unfinished: set[str]) -> None:
    """Note how long after the listening socket each cut reply went on."""
    for watcher in watchers:
        terminal_at = watcher.reader.arrivals[-1] if watcher.reader.terminal is not None else None
        # What ended between the look and the kill has nothing to go on with.
        if watcher.key not in unfinished or (terminal_at is not None and terminal_at < server.listening_at):
            continue
        later = [at for at in list(watcher.reader.arrivals) if at > server.listening_at]
        waited = (later[0] if later else server.listening_at + 99.0) - server.listening_at
        tally.restart_s.append(waited)
        if waited > MOST_RESTART_S:
            tally.violate("slow restart", f"{name} {watcher.key}: {waited:.1f} s to the first new event")


def unfinished(watchers: list[Watcher]) -> set[str]:
    """Return the keys of those that are still being answered."""
    return {watcher.key for watcher in watchers if watcher.reader.terminal is None}


def close_books(context: Context, name: str, server: Server, allowed: dict[str, int]) -> None:
    """Compare all calls of a server's folder with its logs, and end it."""
    tally = Tally()
    check_calls(tally, name, server, allowed)
    context.add(tally, 0)
    server.kill()


def token_trials(context: Context) -> list[str]:
    """Return `token-<k>` for each token of a reply of 40."""
    return [f"token-{k}" for k in (range(1, 41, 13) if context.quick else range(1, 41))]


def kill_at_tokens(context: Context, trials: list[str]) -> None:
    """Kill the server when the kth token was shown, and once more while it makes up for that."""

    def work(share: list[str]) -> None:
        prefill = context.draw(share[0]).random() < 0.5
        server = Server(context.new_folder(), prefill=prefill).start()
        allowed: dict[str, int] = {}
        try:
            for name in share:
                context.attempt(name, _kill_at_token, context, server, name, allowed)
            close_books(context, "kill-tokens", server, allowed)
        finally:
            server.kill()

    context.spread(trials, work)


def _kill_at_token(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    draw = context.draw(f"kill-tokens/{name}")
    seed = draw.randrange(1, 1000)
    message = f"script: seed={seed} tokens=40 delay_ms=20"
    watcher = Watcher(server, message, f"c-{name}-{seed}", f"k-{name}-{seed}")
    watcher.start()
    watcher.saw(int(name.rpartition("-")[2]))
    unmade = 0
    for wait_s in (draw.uniform(0.0, 0.8), None):
        left = unfinished([watcher])
        server.kill()
        tally.counts["kills"] += 1
        server.start()
        seen, epoch = watcher.chunks, watcher.epoch
        if wait_s is None:
            watcher.finish()
        else:
            watcher.saw(seen + 1, within_s=wait_s)
            # Before a chunk of the new epoch the kill may fall between the logged call and the call. One of the old
            # epoch proves nothing: it was written by the server before, and not yet shown.
            unmade += watcher.epoch == epoch
        if wait_s is None or watcher.chunks > seen:
            count_restart(tally, name, server, [watcher], left)
    watcher.check(tally, f"kill-tokens:{name}", whole(seed, 40))
    if watcher.reader.run_id is not None:
        allowed[watcher.reader.run_id] = unmade
    return tally


def seam_trials(context: Context) -> list[str]:
    """Return `<seam>-<k>`: the kth pass of a seam; `boot-<seam>-<k>` in the server that takes up what was left."""
    most = 2 if context.quick else 14
    names = [
        f"{seam}-{k}"
        for seam in SEAMS
        for k in range(1, (min(3, most) if seam.startswith(ONCE) else most) + 1)
        if not context.quick or k == 1 + context.seed % 2
    ]
    boots = [f"boot-{seam}-{k}" for seam in BOOT_SEAMS for k in range(1, 2 if context.quick else 5)]
    return names + (boots[:2] if context.quick else boots)


def kill_at_seams(context: Context, trials: list[str]) -> None:
    """Have the server kill itself at a seam while it makes three replies; each trial starts it once."""

    def work(share: list[str]) -> None:
        prefill = context.draw(share[0]).random() < 0.5
        server = Server(context.new_folder(), module=CRASHING, prefill=prefill)
        allowed: dict[str, int] = {}
        try:
            server.start(_fault(share[0], server))
            for name, following in zip(share, [*share[1:], ""], strict=True):
                context.attempt(name, _kill_at_seam, context, server, name, following, allowed)
            close_books(context, "kill-seams", server, allowed)
        finally:
            server.kill()

    context.spread(trials, work)


def _arm(server: Server) -> Path:
    return server.folder / "armed"


def _fault(name: str, server: Server) -> dict[str, str]:
    """Return the environment of a server that is to end at a trial's seam, once it is armed."""
    _arm(server).unlink(missing_ok=True)
    if not name:
        return {}
    seam, _, at = ("publish-after-6" if name.startswith("boot-") else name).rpartition("-")
    return {"FAULT_SEAM": seam, "FAULT_AT": at, "FAULT_ARM": str(_arm(server))}


def _kill_at_seam(context: Context, server: Server, name: str, following: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    if not server.running:
        # The trial before this one could not be brought to its end.
        server.start(_fault(name, server))
    draw = context.draw(f"kill-seams/{name}")
    seeds = [draw.randrange(1, 1000) for _ in range(3)]
    watchers = [
        Watcher(server, f"script: seed={seed} tokens=12 delay_ms=8", f"c-{name}-{n}", f"k-{name}-{n}")
        for n, seed in enumerate(seeds)
    ]
    _arm(server).touch()
    for watcher in watchers:
        watcher.start()
    kills = 0
    if wait_until(lambda: not server.running or not unfinished(watchers), 20.0) and not server.running:
        kills += 1
        if name.startswith("boot-"):
            seam, _, at = name.removeprefix("boot-").rpartition("-")
            server.launch({"FAULT_SEAM": seam, "FAULT_AT": at})
            if wait_until(lambda: not server.running, 5.0):
                kills += 1
            else:
                server.kill()
                tally.counts["seams not reached"] += 1
    else:
        server.kill()
        tally.counts["seams not reached"] += 1
    left = unfinished(watchers)
    tally.counts["kills"] += kills
    server.start(_fault(following, server))
    for watcher in watchers:
        watcher.finish()
    if any(watcher.reader.terminal is None for watcher in watchers):
        tally.notes.append(f"{name}: {server.log_end()[-600:]}")
    count_restart(tally, name, server, watchers, left)
    for seed, watcher in zip(seeds, watchers, strict=True):
        watcher.check(tally, f"kill-seams:{name}", whole(seed, 12))
        if watcher.reader.run_id is not None:
            allowed[watcher.reader.run_id] = kills
    return tally


def crowd_trials(context: Context) -> list[str]:
    """Return names of trials with several conversations and a queue of turns."""
    return [f"crowd-{n}" for n in range(1 if context.quick else 12)]


def kill_a_crowd(context: Context, trials: list[str]) -> None:
    """Kill twice while four conversations are answered and four more turns wait in one of them."""

    def work(share: list[str]) -> None:
        server = Server(context.new_folder()).start()
        allowed: dict[str, int] = {}
        try:
            for name in share:
                context.attempt(name, _kill_a_crowd, context, server, name, allowed)
            close_books(context, "kill-crowds", server, allowed)
        finally:
            server.kill()

    context.spread(trials, work)


def _kill_a_crowd(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    draw = context.draw(f"kill-crowds/{name}")
    seeds = [draw.randrange(1, 1000) for _ in range(8)]
    homes = [f"c-{name}-{n if n < 4 else 0}" for n in range(8)]
    watchers: list[Watcher] = []
    for n, (seed, home) in enumerate(zip(seeds, homes, strict=True)):
        message = f"turn {n} script: seed={seed} tokens=25 delay_ms=10"
        watchers.append(Watcher(server, message, home, f"k-{name}-{n}"))
        watchers[-1].start()
        # The order of turns is the order of posts: each is known before the next is sent.
        wait_until(lambda: watchers[-1].reader.run_id is not None, 20.0)
    wait_until(lambda: False, draw.uniform(0.0, 0.4))
    server.kill()
    if draw.random() < 0.5:
        # The second one falls while it starts, at any place from the first import to the listening socket.
        server.launch()
        wait_until(lambda: False, draw.uniform(0.3, 1.5))
    else:
        server.start()
        wait_until(lambda: False, draw.uniform(0.1, 0.6))
    server.kill()
    tally.counts["kills"] += 2
    server.start()
    for watcher in watchers:
        watcher.finish()
    for seed, watcher in zip(seeds, watchers, strict=True):
        watcher.check(tally, f"kill-crowds:{name}", whole(seed, 25))
        if watcher.reader.run_id is not None:
            allowed[watcher.reader.run_id] = 2
    ends = [watcher.reader.terminal for watcher in watchers if watcher.conversation_id == homes[0]]
    counts = [end.data["messageCount"] for end in ends if end is not None]
    if counts != [2, 4, 6, 8, 10]:
        tally.violate("transcript", f"kill-crowds:{name}: message counts {counts} in a conversation of five turns")
    return tally


def third_trials(context: Context) -> list[str]:
    """Return names of trials that kill three servers under one reply."""
    return [f"third-{n}" for n in range(1 if context.quick else 8)]


def kill_thrice(context: Context, trials: list[str]) -> None:
    """A reply whose process was killed three times ends with the error `interrupted`, once, and keeps its text."""

    def work(share: list[str]) -> None:
        server = Server(context.new_folder()).start()
        allowed: dict[str, int] = {}
        try:
            for name in share:
                context.attempt(name, _kill_thrice, context, server, name, allowed)
            close_books(context, "kill-thrice", server, allowed)
        finally:
            server.kill()

    context.spread(trials, work)


def _kill_thrice(context: Context, server: Server, name: str, allowed: dict[str, int]) -> Tally:
    tally = Tally()
    draw = context.draw(f"kill-thrice/{name}")
    seed = draw.randrange(1, 1000)
    # It must not end between two kills, however late they fall.
    message = f"script: seed={seed} tokens=200 delay_ms=40"
    watcher = Watcher(server, message, f"c-{name}", f"k-{name}")
    watcher.start()
    watcher.saw(1)
    behind = Watcher(server, f"script: seed={seed} tokens=15 delay_ms=15", f"c-{name}", f"b-{name}")
    behind.start()
    wait_until(lambda: behind.reader.run_id is not None, 20.0)
    epoch = -1
    for _ in range(3):
        # Only then was the call made that its log names.
        watcher.saw_later(epoch)
        watcher.saw(watcher.chunks + draw.randrange(1, 5))
        left = unfinished([watcher])
        server.kill()
        tally.counts["kills"] += 1
        epoch = watcher.epoch
        server.start()
    watcher.finish()
    behind.finish()
    count_restart(tally, name, server, [watcher], left)
    ended = Expected(text=None, of=reply(seed, 200), last=b"error", code="interrupted")
    watcher.check(tally, f"kill-thrice:{name}", ended)
    behind.check(tally, f"kill-thrice:{name}", whole(seed, 15))
    for each in (watcher, behind):
        if each.reader.run_id is not None:
            allowed[each.reader.run_id] = 0
    return tally
