"""What befalls a cluster: nodes killed, stopped past their lease and told to end; the database and Redis killed."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field

from tests.faults.cluster_crowd import Crowd
from tests.faults.cluster_server import LEAVING_SEAMS, TAKING_SEAMS
from tests.faults.cluster_world import LEASE_S, Cluster, Node
from tests.faults.oracle import Tally
from tests.faults.watcher import wait_until

TAKEN = "from a node's end until others have its replies"
SHORT_S = LEASE_S * 0.6
"""What is no pause past the lease."""
REACH_S = 6.0
"""A seam that is not passed within this, under the crowd, is not reached."""


@dataclass(slots=True)
class Trial:
    """What a fault is given."""

    name: str
    cluster: Cluster
    crowd: Crowd
    draw: random.Random
    tally: Tally
    judged: bool
    lost: list[tuple[float, set[str]]] = field(default_factory=list)
    rolled: list[tuple[float, float]] = field(default_factory=list)

    def note_loss(self, pid: int, held: set[str], at: float) -> None:
        """Wait until the replies of a process are others', and note how long that took."""
        taken_s = self.cluster.taken_after_s(pid, held, at)
        self.lost.append((at, held))
        if taken_s is None:
            return
        self.tally.samples[TAKEN].append(taken_s)


def kill(trial: Trial) -> None:
    node = trial.draw.choice(trial.cluster.nodes)
    trial.crowd.saw_more(trial.draw, 12)
    held = trial.cluster.held_by(node)
    node.up = False
    at, pid = time.monotonic(), node.server.pid
    node.server.kill()
    trial.tally.counts["node kills"] += 1
    if at_once := trial.draw.random() < 0.5:
        # As a service manager does: it is back before the lease of the one before has run out, or soon after.
        node.launch()
    trial.note_loss(pid, held, at)
    if not at_once:
        node.launch()
    node.serve()
    trial.cluster.wait_whole()


def pause(trial: Trial) -> None:
    node = trial.draw.choice(trial.cluster.nodes)
    trial.crowd.saw_more(trial.draw, 12)
    held = trial.cluster.held_by(node)
    node.up = False
    at = time.monotonic()
    node.signal(signal.SIGSTOP)
    _await_past(trial, node, held, at)


def _await_past(trial: Trial, node: Node, held: set[str], at: float) -> None:
    """Have a stopped node's replies taken over, and let it go on."""
    trial.tally.counts["pauses past the lease"] += 1
    try:
        trial.note_loss(node.server.pid, held, at)
        time.sleep(max(0.0, at + LEASE_S - time.monotonic()) + trial.draw.uniform(0.0, 0.5))
    finally:
        node.signal(signal.SIGCONT)
    trial.cluster.wait_whole()
    node.up = True


def restart_database(trial: Trial) -> None:
    trial.crowd.saw_more(trial.draw, 12)
    if trial.draw.random() < 0.5:
        trial.cluster.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE 'legato:%%' AND pid <> pg_backend_pid() AND random() < %s",
            [trial.draw.choice((0.2, 0.5, 1.0))],
        )
        trial.tally.counts["times that connections were killed"] += 1
        trial.crowd.saw_more(trial.draw, 12)
    trial.cluster.postgres.stop("immediate")
    time.sleep(trial.draw.choice((0.0, 0.0, 0.5, LEASE_S, LEASE_S + 0.5)))
    trial.cluster.postgres.start()
    trial.tally.counts["database restarts"] += 1
    trial.cluster.wait_whole()


def kill_redis(trial: Trial) -> None:
    trial.crowd.saw_more(trial.draw, 12)
    if trial.draw.random() < 0.5:
        trial.cluster.valkey.ask("FLUSHALL")
        trial.tally.counts["Redis flushes"] += 1
        trial.crowd.saw_more(trial.draw, 12)
    trial.cluster.valkey.kill()
    trial.tally.counts["Redis kills"] += 1
    trial.crowd.saw_more(trial.draw, 30)
    trial.cluster.valkey.start()
    trial.crowd.saw_more(trial.draw, 12)


def roll(trial: Trial) -> None:
    trial.crowd.saw_more(trial.draw, 12)
    began = time.monotonic()
    for node in trial.draw.sample(trial.cluster.nodes, len(trial.cluster.nodes)):
        code = trial.cluster.restart(node)
        if code != 0:
            trial.tally.violate("exit", f"{trial.name}: a node that was told to end ended with {code}")
    trial.rolled.append((began, time.monotonic()))
    trial.tally.counts["rolling restarts"] += 1


def one_of_each(trial: Trial) -> None:
    """Every kind of fault under one crowd, in any order; hints go the other way from the rolling restart on."""
    faults = [kill, pause, restart_database, kill_redis, roll]
    for fault in trial.draw.sample(faults, len(faults)):
        if fault is roll:
            trial.cluster.tell_redis(not trial.cluster.redis)
        fault(trial)


def end_at_seam(trial: Trial) -> None:
    """Have one node kill or stop itself at a place in its own work."""
    _, how, seam = trial.name.split("-", 2)
    seam = seam.rpartition("-")[0]
    cluster, (node, other, third) = trial.cluster, trial.draw.sample(trial.cluster.nodes, 3)
    often = not seam.startswith((*TAKING_SEAMS, *LEAVING_SEAMS, "start", "end", "finish", "renew"))
    fault = {"FAULT_SEAM": seam, "FAULT_AT": str(trial.draw.randrange(1, 40 if often else 4))}
    if seam in TAKING_SEAMS + LEAVING_SEAMS:
        fault["FAULT_AT"] = "1"
    cluster.restart(node, fault | {"FAULT_HOW": how, "FAULT_ARM": str(node.arm)})
    # It has just come: people come to it with their next messages.
    wait_until(lambda: len(cluster.held_by(node)) > 2, REACH_S)
    held = cluster.held_by(node)
    node.arm.touch()
    if seam in TAKING_SEAMS:
        other.up = False
        other.server.kill()
        # The third would be as quick to take them: it stands still meanwhile, for less than its lease.
        time.sleep(LEASE_S - SHORT_S / 2)
        third.signal(signal.SIGSTOP)
        cluster.await_end(node, SHORT_S)
        third.signal(signal.SIGCONT)
    elif seam in LEAVING_SEAMS:
        node.up = False
        node.signal(signal.SIGTERM)
    reached = cluster.await_end(node, REACH_S)
    at = time.monotonic()
    if not reached or (node.server.running and not node.stopped):
        trial.tally.counts["seams not reached"] += 1
        node.up = False
        node.server.kill()
    if not reached or how == "kill":
        trial.tally.counts["node kills"] += 1
        trial.note_loss(node.server.pid, held, at)
        node.launch()
        node.serve()
    else:
        trial.tally.counts["pauses past the lease"] += 1
        trial.note_loss(node.server.pid, held, at)
        node.signal(signal.SIGCONT)
        if seam in LEAVING_SEAMS:
            node.server.wait()
            node.launch()
            node.serve()
    if seam in TAKING_SEAMS:
        trial.tally.counts["node kills"] += 1
        other.launch()
        other.serve()
    cluster.wait_whole()
    node.up = True
