"""What befalls a cluster: nodes killed, stopped past their lease and told to end; the database and Redis killed."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field

from tests.faults.cluster_crowd import Crowd
from tests.faults.cluster_server import LEAVING_SEAMS, TAKING_SEAMS
from tests.faults.cluster_world import Cluster, Node
from tests.faults.oracle import Tally
from tests.faults.watcher import wait_until

SHORT = 0.6
"""Share of a lease for which a node may stand still and lose nothing."""
REACH_S = 6.0
"""A seam that is not passed within this, under the crowd, is not reached."""
RESUME_S = 10.0
"""After a fault, for readers of lost replies to be shown more; the oracle says what it means if they are not."""
MOST_TOKENS = 4
"""After a fault and before the next one, of one reader: at any token of the others."""
KILLS, PAUSES, TOLD_TO_END = "node kills", "pauses past the lease", "rolling restarts"
DATABASE, REDIS = "database restarts", "Redis kills"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A node's end, as its readers know it.

    Attributes:
        held: The replies that it made.
        at: Monotonic time of its end.
        taken_s: From then until others had them; None where it had none.
        most_s: What that may take.
        two: Whether another of the three was gone too.
    """

    held: set[str]
    at: float
    taken_s: float | None
    most_s: float
    two: bool


@dataclass(slots=True)
class Trial:
    """What a fault is given."""

    name: str
    cluster: Cluster
    crowd: Crowd
    draw: random.Random
    tally: Tally
    losses: list[Loss] = field(default_factory=list)
    rolled: list[tuple[float, float]] = field(default_factory=list)

    def note_loss(self, pid: int, held: set[str], at: float, *, two: bool = False) -> None:
        """Wait until the replies of a process are others', and note how long that took.

        Args:
            two: Two of the three are gone at once. The one that is left gives both one more lease: it is likelier
                that the database was away.
        """
        taken_s = self.cluster.taken_after_s(pid, held, at)
        most_s = self.cluster.lease_s * (2 if two else 1) + 1.0
        self.losses.append(Loss(held=held, at=at, taken_s=taken_s, most_s=most_s, two=two))

    def see_more(self) -> None:
        """Let a reader be shown some more tokens."""
        self.crowd.saw_more(self.draw, MOST_TOKENS)


def kill(trial: Trial) -> None:
    node = trial.draw.choice(trial.cluster.nodes)
    at_once = trial.draw.random() < 0.5
    trial.see_more()
    pid, held, at = _kill(trial, node)
    if at_once:
        # As a service manager does: it is back before the lease of the one before has run out, or soon after.
        node.launch()
    trial.note_loss(pid, held, at)
    if not at_once:
        node.launch()
    node.serve()
    trial.cluster.wait_whole()


def _kill(trial: Trial, node: Node) -> tuple[int, set[str], float]:
    """Kill a node; return its process, what it made, and when that was."""
    held = trial.cluster.held_by(node)
    node.up = False
    at, pid = time.monotonic(), node.server.pid
    node.server.kill()
    trial.tally.counts[KILLS] += 1
    return pid, held, at


def pause(trial: Trial) -> None:
    node = trial.draw.choice(trial.cluster.nodes)
    trial.see_more()
    held, at = _stop(trial, node)
    try:
        trial.note_loss(node.server.pid, held, at)
        _outlast(trial, at)
    finally:
        node.signal(signal.SIGCONT)
    trial.cluster.wait_whole()
    node.up = True


def _stop(trial: Trial, node: Node) -> tuple[set[str], float]:
    """Have a node stand still for longer than its lease; return what it made, and when that was."""
    held = trial.cluster.held_by(node)
    node.up = False
    at = time.monotonic()
    node.signal(signal.SIGSTOP)
    trial.tally.counts[PAUSES] += 1
    return held, at


def _outlast(trial: Trial, at: float) -> None:
    """Wait until the lease of a node that stopped at a time is over, and a moment more."""
    time.sleep(max(0.0, at + trial.cluster.lease_s - time.monotonic()) + trial.draw.uniform(0.0, 0.5))


def kill_beside_pause(trial: Trial) -> None:
    """Two of three are gone at once, in any order; the one that was stopped comes back among what others took over."""
    cluster, draw = trial.cluster, trial.draw
    stopped, killed = draw.sample(cluster.nodes, 2)
    stops_first, at_once = draw.random() < 0.5, draw.random() < 0.5
    apart_s = draw.uniform(0.0, cluster.lease_s)
    trial.see_more()
    if stops_first:
        held_by_stopped, stopped_at = _stop(trial, stopped)
        time.sleep(apart_s)
    pid, held, killed_at = _kill(trial, killed)
    if not stops_first:
        time.sleep(apart_s)
        held_by_stopped, stopped_at = _stop(trial, stopped)
    try:
        if at_once:
            killed.launch()
        ends = [(stopped_at, stopped.server.pid, held_by_stopped), (killed_at, pid, held)]
        for at, gone, lost in sorted(ends, key=lambda end: end[0]):
            trial.note_loss(gone, lost, at, two=True)
        if not at_once:
            killed.launch()
        _outlast(trial, stopped_at)
    finally:
        stopped.signal(signal.SIGCONT)
    killed.serve()
    cluster.wait_whole()
    stopped.up = True


def restart_database(trial: Trial) -> None:
    lease_s = trial.cluster.lease_s
    trial.see_more()
    if trial.draw.random() < 0.5:
        trial.cluster.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE 'legato:%%' AND pid <> pg_backend_pid() AND random() < %s",
            [trial.draw.choice((0.2, 0.5, 1.0))],
        )
        trial.tally.counts["times that connections were killed"] += 1
        trial.see_more()
    trial.cluster.postgres.stop("immediate")
    time.sleep(trial.draw.choice((0.0, 0.0, 0.5, lease_s, lease_s + 0.5)))
    trial.cluster.postgres.start()
    trial.tally.counts[DATABASE] += 1
    trial.cluster.wait_whole()


def kill_redis(trial: Trial) -> None:
    trial.see_more()
    if trial.draw.random() < 0.5:
        trial.cluster.valkey.ask("FLUSHALL")
        trial.tally.counts["Redis flushes"] += 1
        trial.see_more()
    trial.cluster.valkey.kill()
    trial.tally.counts[REDIS] += 1
    trial.crowd.saw_more(trial.draw, 3 * MOST_TOKENS)
    trial.cluster.valkey.start()
    trial.see_more()


def roll(trial: Trial) -> None:
    trial.see_more()
    # Who still waits because of another fault would count as one who waits for this.
    trial.crowd.await_flow(RESUME_S)
    began = time.monotonic()
    for node in trial.draw.sample(trial.cluster.nodes, len(trial.cluster.nodes)):
        code = trial.cluster.restart(node)
        if code != 0:
            trial.tally.violate("exit", f"{trial.name}: a node that was told to end ended with {code}")
    trial.rolled.append((began, time.monotonic()))
    trial.tally.counts[TOLD_TO_END] += 1


def one_of_each(trial: Trial) -> None:
    """Every kind of fault under one crowd, in any order; hints go the other way from the rolling restart on."""
    faults = [kill, pause, restart_database, kill_redis, roll]
    for fault in trial.draw.sample(faults, len(faults)):
        if fault is roll:
            trial.cluster.tell(redis=not trial.cluster.redis)
        fault(trial)


def kill_and_pause(trial: Trial) -> None:
    """One after the other."""
    kill(trial)
    pause(trial)


def end_at_seam(trial: Trial) -> None:
    """Have one node kill or stop itself at a place in its own work."""
    how, seam = seam_of(trial.name)
    cluster, (node, other, third) = trial.cluster, trial.draw.sample(trial.cluster.nodes, 3)
    often = not seam.startswith((*TAKING_SEAMS, *LEAVING_SEAMS, "start", "end", "finish", "renew"))
    at_pass = trial.draw.randrange(1, 40 if often else 4)
    if seam in TAKING_SEAMS + LEAVING_SEAMS:
        at_pass = 1
    # It may have just come: people come to it with their next messages.
    wait_until(lambda: len(cluster.held_by(node)) > 2, REACH_S)
    held = cluster.held_by(node)
    if seam in TAKING_SEAMS:
        _kill(trial, other)
        # The third would be as quick to take them: it stands still meanwhile, for less than its lease.
        time.sleep(cluster.lease_s * (1 - SHORT / 2))
        node.arm.set(seam, at_pass, how)
        third.signal(signal.SIGSTOP)
        cluster.await_end(node, cluster.lease_s * SHORT)
        third.signal(signal.SIGCONT)
    elif seam in LEAVING_SEAMS:
        node.arm.set(seam, at_pass, how)
        node.up = False
        node.signal(signal.SIGTERM)
    else:
        node.arm.set(seam, at_pass, how)
    reached = cluster.await_end(node, REACH_S)
    at, pid = time.monotonic(), node.server.pid
    if not reached:
        trial.tally.counts["seams not reached"] += 1
        node.up = False
        node.server.kill()
    stands = reached and how == "stop"
    trial.tally.counts[PAUSES if stands else KILLS] += 1
    trial.note_loss(pid, held, at, two=seam in TAKING_SEAMS)
    if stands:
        node.arm.unset()
        node.signal(signal.SIGCONT)
        if seam in LEAVING_SEAMS:
            node.server.wait()
    if not node.server.running:
        node.launch()
        node.serve()
    if seam in TAKING_SEAMS:
        other.launch()
        other.serve()
    cluster.wait_whole()
    node.up = True


def seam_of(name: str) -> tuple[str, str]:
    """Return how a node ends, and where, from `…seam-<how>-<seam>-<n>`."""
    how, _, rest = name.partition("seam-")[2].partition("-")
    return how, rest.rpartition("-")[0]
