"""kill -9 under a bot's steps, at every place of a job's way: what was accepted is done, and how often is counted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from legato.steps.engine_letters import open_letters
from legato.steps.jobs import JobCounts
from legato.steps.queue_address import queue_path
from tests.faults.client import Connection, Response, call, chat_bytes
from tests.faults.oracle import Tally
from tests.faults.scenario import Context
from tests.faults.server import Server
from tests.faults.steps_oracle import (
    ACCEPTED,
    EFFECTS,
    JOBS,
    Posted,
    check_effects,
    check_figures,
    check_order,
    check_ticks,
    ended_runs,
    query,
    read_lines,
)
from tests.faults.steps_server import SEAMS
from tests.faults.watcher import wait_until

MODULE = "tests.faults.steps_server"
POSTED, ANY = "posted", ""
DECK = (*SEAMS * 2, *(POSTED,) * 4, *(ANY,) * 6)
"""Where the servers of one trial end, in any order: at seams, when the last post was answered, at any moment."""
NEEDED = {"kills": 200, ACCEPTED: 1000}
"""Counts that a full run must reach."""
QUICK_DECK = ("hand-over-before", "enqueue-after", POSTED)
HOUR_S = 3600
REACH_S = 12.0
"""A seam that is not passed within this, with posts and ticks, is not reached in this life."""
DRAIN_S = 240.0
"""Jobs that lost several processes are tried again after a minute at most."""


def trials(context: Context) -> list[str]:
    """Return the trials: kills under jobs, times that were missed, and a job that ends its process."""
    return [*(f"jobs-{n}" for n in range(1 if context.quick else 4)), "times", "poison"]


def kill_under_steps(context: Context, names: list[str]) -> None:
    """Run the trials, each on a server of its own."""

    def work(share: list[str]) -> None:
        for name in share:
            trial = {"times": _miss_times, "poison": _poison}.get(name, _kill_under_jobs)
            context.attempt(name, trial, context, name)

    context.spread(names, work)
    if not context.quick and set(names) == set(trials(context)):
        tally = Tally()
        check_counts(tally, context.tally.counts)
        context.add(tally, 0)


def check_counts(tally: Tally, counts: Mapping[str, int]) -> None:
    """Look whether a full run has done what it is for: so many kills, so many jobs, and as many effects as jobs."""
    for kind, least in NEEDED.items():
        if counts.get(kind, 0) < least:
            tally.violate("count", f"steps: {counts.get(kind, 0)} {kind}, fewer than {least}")
    accepted, effects = counts.get(ACCEPTED, 0), counts.get(EFFECTS, 0)
    if accepted != effects:
        tally.violate("count", f"steps: {accepted} jobs accepted, and the effects of {effects}")


def _kill_under_jobs(context: Context, name: str) -> Tally:
    tally = Tally()
    draw = context.draw(f"steps/{name}")
    jobs, deck = (24, QUICK_DECK) if context.quick else (250, tuple(draw.sample(DECK, len(DECK))))
    server = Server(context.new_folder(), module=MODULE)
    posted = Posted()
    try:
        for life, end in enumerate(deck):
            _live(tally, server, posted, draw, end, share=(jobs - posted.accepted) // (len(deck) - life))
        server.start()
        while posted.accepted < jobs and server.running:
            _post(server.port, posted, draw, jobs - posted.accepted)
        if not wait_until(lambda: _is_done(server), DRAIN_S):
            tally.violate("lost", f"{name}: jobs that are never done: {counts_of(server)}, {server.log_end()[-900:]}")
        runs = ended_runs(server.database)
        check_figures(tally, name, server.port, runs)
        tally.counts += check_effects(tally, name, server.database, posted, runs)
        lines = read_lines(server.folder / "runs.log")
        check_order(tally, name, lines)
        check_ticks(tally, name, lines)
        if letters := {step: count for step, count in counts_of(server).items() if count.dead}:
            tally.violate("lost", f"{name}: dead letters: {letters}", sum(count.dead for count in letters.values()))
    finally:
        server.kill()
    return tally


def _live(tally: Tally, server: Server, posted: Posted, draw: random.Random, end: str, *, share: int) -> None:
    """Start the server, post a share of the jobs to it, and kill it where `end` says."""
    server.launch({"FAULT_SEAM": end, "FAULT_AT": str(draw.randint(1, 2))} if end in SEAMS else {})
    tally.counts["kills"] += 1
    moment_s = draw.uniform(-1.0, 1.5)
    if end == ANY and moment_s < 0:
        # Before it listens, or hardly later.
        time.sleep(1.0 + moment_s)
        server.kill()
    elif server.listen():
        with ThreadPoolExecutor(1) as pool:
            posting = pool.submit(_post, server.port, posted, draw, share)
            if end == POSTED:
                posting.result()
            elif end == ANY:
                time.sleep(moment_s)
            elif wait_until(lambda: not server.running, REACH_S):
                tally.counts["kills at seams of a job"] += 1
            else:
                tally.counts["seams not reached"] += 1
            server.kill()
            posting.result()
    server.wait()


def _post(port: int, posted: Posted, draw: random.Random, share: int) -> None:
    """Post jobs, messages, judgements and nonsense, one after the other, until the server is gone."""
    for _ in range(share):
        number = posted.sent = posted.sent + 1
        kind = draw.random()
        try:
            if kind < 0.6:
                _post_job(port, posted, number, JOBS[number % len(JOBS)])
            elif kind < 0.9:
                _post_message(port, posted, draw, number)
            elif kind < 0.95 and posted.messages:
                body = {"thumb": draw.choice(("up", "down", None))}
                call(port, "PUT", f"/messages/{draw.choice(posted.messages)}/feedback", body)
            else:
                _post_job(port, posted, number, "nameless")
        except OSError:
            # Its answer was lost: it may have been accepted, or not.
            return


def _post_job(port: int, posted: Posted, number: int, kind: str) -> None:
    body = {"kind": kind, "number": number, "lane": f"lane-{number % 4}"}
    answer = _whole(call(port, "POST", "/work", body))
    if answer.status == 200:
        posted.jobs[answer.json()["id"]] = number
    else:
        posted.refused.add(number)


def _post_message(port: int, posted: Posted, draw: random.Random, number: int) -> None:
    how = draw.choice(("", "", "", "usage=0", "fail=400@1", "stop"))
    words = "tokens=400 delay_ms=10" if how == "stop" else f"tokens={draw.randint(1, 9)} delay_ms=5 {how}"
    more = {"sessionId": f"s-{number % 5}"}
    connection = Connection(port)
    try:
        # In fours: a conversation has several replies, and may have those of several sessions.
        connection.send(chat_bytes(f"script: seed={number} {words}", f"c-{number // 4}", more=more))
        while (response := connection.response()) is None:
            if not connection.receive():
                raise ConnectionError("the connection ended before a response began")
    finally:
        connection.cut("fin")
    if response.status != 200:
        return
    run_id = response.headers["x-run-id"]
    posted.replies.add(run_id)
    posted.messages.append(response.headers["x-message-id"])
    if how == "stop":
        call(port, "POST", f"/chat/stream/{run_id}/stop")


def _whole(answer: Response) -> Response:
    if not answer.ended:
        raise ConnectionError("the answer was cut")
    return answer


def counts_of(server: Server) -> dict[str, JobCounts]:
    """Return how many jobs each step of a server has, dead letters among them."""
    with open_letters(queue_path(server.database)) as letters:
        return {} if letters is None else letters.counts()


def _is_done(server: Server) -> bool:
    database = server.database
    left = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM run WHERE ended_at_ms IS NULL)"
    if query(database, left) != [(0,)]:
        time.sleep(0.2)
        return False
    counts = counts_of(server)
    # Of every second's step there is one most of the time.
    return not any(count.waiting or count.taken for step, count in counts.items() if step != "tick")


def _miss_times(context: Context, name: str) -> Tally:
    """Be away for some hours: the last time that was missed is made up for once, through a kill in the midst of it."""
    tally = Tally()
    server = Server(context.new_folder(), module=MODULE)
    log, held = server.folder / "runs.log", server.folder / "held"
    # Half past an hour: no time comes while this runs.
    ahead_s = 4 * HOUR_S - time.time() % HOUR_S + HOUR_S / 2
    missed = f"{int(time.time() + ahead_s) // HOUR_S * HOUR_S:012d}"

    def seen(step: str) -> list[str]:
        return [line.event for line in read_lines(log) if line.step == step]

    def ticked_since(step: str) -> bool:
        steps = [line.step for line in read_lines(log)]
        if step not in steps or steps[steps.index(step) :].count("tick") < 2:
            return False
        # The queue has to know that it is complete.
        count = counts_of(server).get(step)
        return count is None or not (count.waiting or count.taken)

    def life(ahead_s: float, until: Callable[[], bool]) -> None:
        server.start({"FAULT_AHEAD_S": str(ahead_s)})
        if not wait_until(until, 20.0):
            tally.violate("lost", f"{name}: {read_lines(log)[-9:]}; {server.log_end()[-600:]}")
        server.kill()
        tally.counts["kills"] += 1

    try:
        life(0.0, lambda: bool(seen("tick")))
        before = len(seen("tick"))
        # It cannot end before the kill, however late that falls.
        held.touch()
        life(ahead_s, lambda: bool(seen("hourly-begun")))
        held.unlink()
        life(ahead_s, lambda: ticked_since("hourly"))
        # And a moment later, when nothing is due.
        after = len(seen("tick"))
        life(ahead_s + 60, lambda: len(seen("tick")) >= after + 2)
    finally:
        server.kill()
    runs = {step: seen(step) for step in ("hourly-begun", "hourly", "skipped")}
    if len(runs["hourly"]) != 1 or len(runs["hourly-begun"]) != 2 or runs["skipped"]:
        tally.violate("duplicated", f"{name}: not made up for once: {runs}")
    elif not runs["hourly"][0].endswith(missed):
        tally.violate("changed", f"{name}: made up for {runs['hourly'][0]}, not for {missed}")
    if len(seen("tick")) - before > 60:
        tally.violate("duplicated", f"{name}: {len(seen('tick'))} ticks of every second's step")
    check_ticks(tally, name, [line for line in read_lines(log) if line.step.startswith("tick")])
    return tally


def _poison(context: Context, name: str) -> Tally:
    """A job that ends its process is given up after a few deaths; the jobs beside it are done."""
    tally = Tally()
    server = Server(context.new_folder(), {"FAULT_MOST_CUTS": "2"}, module=MODULE)
    posted = Posted()
    try:
        server.start()
        for number in range(1, 13):
            _post_job(server.port, posted, number, JOBS[number % len(JOBS)])
        body = {"kind": "plain", "number": 99, "lane": "-", "poison": True}
        poison: str = call(server.port, "POST", "/work", body).json()["id"]
        deaths = 0
        while wait_until(lambda: not server.running or _is_done(server), 20.0) and not server.running and deaths < 6:
            deaths += 1
            server.start()
        tally.counts["kills"] += deaths
        if deaths != 3:
            tally.violate("lost", f"{name}: given up after {deaths} deaths, not 3: {counts_of(server)}")
        with open_letters(queue_path(server.database)) as letters:
            found = letters.list() if letters is not None else []
        if [(letter.events[0].id, letter.error_type) for letter in found] != [(poison, "Interrupted")]:
            tally.violate("lost", f"{name}: dead letters {found}")
        check_effects(tally, name, server.database, posted, ended_runs(server.database))
    finally:
        server.kill()
    return tally
