"""Three nodes under a crowd: killed, stopped past their lease, told to end, with the database and Redis killed too.

One cluster, one database and one crowd go through all trials: a fault falls as soon as the one before it has been
outlived. What goes wrong is named by the trials under which the reply was made, `cluster:kill-3+kill-4`, and these
words bring them back, in this order.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.faults.cluster_breaks import (
    DATABASE,
    KILLS,
    PAUSES,
    REDIS,
    RESUME_S,
    TOLD_TO_END,
    Trial,
    end_at_seam,
    kill,
    kill_and_pause,
    kill_beside_pause,
    kill_redis,
    one_of_each,
    restart_database,
    roll,
)
from tests.faults.cluster_checks import Checks
from tests.faults.cluster_crowd import Crowd, Pace
from tests.faults.cluster_oracle import Accounts, count_runs
from tests.faults.cluster_server import LEAVING_SEAMS, SEAMS, TAKING_SEAMS
from tests.faults.cluster_world import DEFAULT_LEASE_S, LEASE_S, Cluster
from tests.faults.oracle import Tally
from tests.faults.scenario import Context

STREAMS, FEW_STREAMS = 200, 12
NEEDED = {KILLS: 500, PAUSES: 200, DATABASE: 50, REDIS: 50, TOLD_TO_END: 20}
"""Counts that a full run must reach."""
MOST_WAIT_S = 2.0
"""Between two chunks that a reader is shown, while all nodes are started anew one after another."""
MOST_UNCHECKED, LEFT_UNCHECKED = 16, 2
"""Pages of turns that may wait to be looked at when the next trial begins, and what is left of them where they are
more."""
GAP = "longest wait of a reader in a rolling restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of trial.

    Attributes:
        each: Faults of one trial.
        trials: Of a full run.
    """

    fault: Callable[[Trial], None]
    each: int
    trials: int
    lease_s: float = LEASE_S


KINDS: Mapping[str, Kind] = {
    "kill": Kind(fault=kill, each=12, trials=18),
    "pair": Kind(fault=kill_beside_pause, each=10, trials=16),
    "database": Kind(fault=restart_database, each=5, trials=10),
    "redis": Kind(fault=kill_redis, each=10, trials=5),
    "roll": Kind(fault=roll, each=2, trials=10),
    "mixed": Kind(fault=one_of_each, each=2, trials=6),
    "default": Kind(fault=kill_and_pause, each=3, trials=2, lease_s=DEFAULT_LEASE_S),
}
SEAM_FAULTS = {"kill": 4, "stop": 2}
"""How a node ends at a seam, and how often in one trial: each seam has one of both."""
QUICK_PACE = Pace(tokens=(20, 60), delay_ms=50)
QUICK = ("mixed-0", "seam-kill-adopted-before-1", "seam-stop-commit-before-1")


def trials(context: Context) -> list[str]:
    """Return `<kind>-<n>`, and `seam-<how>-<seam>-<n>`; those of even numbers have Redis, the others NOTIFY alone.

    A share has fewer trials of each kind, and all seams with fewer faults each.
    """
    if context.quick:
        return list(QUICK)
    names = [f"{name}-{n}" for name, kind in KINDS.items() for n in range(_share(context, kind.trials))]
    seams = SEAMS + TAKING_SEAMS + LEAVING_SEAMS
    return names + [f"seam-{how}-{seam}-{n % 2}" for how in SEAM_FAULTS for n, seam in enumerate(seams)]


def _share(context: Context, count: int) -> int:
    return max(1, round(count * context.share))


def _wants(name: str) -> tuple[bool, float]:
    """Return whether a trial's hints go over Redis, and its nodes' lease."""
    redis = name.startswith("redis") or int(name.rpartition("-")[2]) % 2 == 0
    return redis, KINDS[kind].lease_s if (kind := name.partition("-")[0]) in KINDS else LEASE_S


def break_cluster(context: Context, names: list[str]) -> None:
    """Run the trials on one cluster under one crowd: those with Redis first, and alike leases together."""
    ordered = sorted(names, key=lambda name: (not _wants(name)[0], _wants(name)[1]))
    redis, lease_s = _wants(ordered[0])
    cluster = Cluster(context.new_folder(), context.draw("cluster"), redis=redis, lease_s=lease_s)
    accounts = Accounts()
    checks = Checks(cluster, accounts, "cluster")
    streams = context.streams or (FEW_STREAMS if context.quick else STREAMS)
    pace = QUICK_PACE if context.quick else None
    crowd = Crowd(cluster, ordered[0], streams, context.draw(f"crowd/{ordered[0]}"), pace)
    try:
        cluster.start()
        crowd.start()
        for name in ordered:
            context.attempt(name, _try, context, cluster, crowd, name)
            checks.take(crowd.take_ended())
            accounts.take_calls(cluster.journals)
            if checks.pages_left > MOST_UNCHECKED:
                crowd.hold()
                context.add(checks.found(LEFT_UNCHECKED), 0)
                crowd.go_on()
        _repair(cluster)
        crowd.stop()
        checks.take(crowd.take_ended())
        tally = checks.found()
        accounts.close(tally, "cluster", cluster.journals, count_runs(cluster), crowd.posted)
        tally.counts["starts repeated"] = sum(node.starts_repeated for node in cluster.nodes)
        context.add(tally, 0)
    finally:
        crowd.leave()
        checks.close()
        cluster.close()
    if not context.quick and context.share >= 1 and set(names) == set(trials(context)):
        tally = Tally()
        for kind, least in NEEDED.items():
            if (count := context.tally.counts[kind]) < least:
                tally.violate("count", f"cluster: {count} {kind}, fewer than {least}")
        context.add(tally, 0)


def _try(context: Context, cluster: Cluster, crowd: Crowd, name: str) -> Tally:
    """Have one kind of fault fall under the crowd, again and again."""
    tally = Tally()
    _repair(cluster)
    if (cluster.redis, cluster.lease_s) != _wants(name):
        redis, lease_s = _wants(name)
        cluster.switch(redis=redis, lease_s=lease_s)
    crowd.begin_trial(name)
    trial = Trial(f"cluster:{name}", cluster, crowd, context.draw(f"cluster/{name}"), tally)
    words = name.split("-")
    each = SEAM_FAULTS[words[1]] if words[0] == "seam" else KINDS[words[0]].each
    fault = end_at_seam if words[0] == "seam" else KINDS[words[0]].fault
    for _ in range(1 if context.quick else max(1, round(each * context.share))):
        began = time.monotonic()
        fault(trial)
        tally.samples[f"from one fault to the next: {words[0]}"].append(time.monotonic() - began)
    _count_times(trial, judged=not context.quick)
    return tally


def _repair(cluster: Cluster) -> None:
    """Have everything at work again, whatever a trial has left that did not come to its end."""
    cluster.postgres.resume()
    if not cluster.valkey_runs:
        cluster.valkey.start()
    for node in cluster.nodes:
        if node.server.running and node.stopped:
            node.signal(signal.SIGCONT)
        elif not node.server.running:
            node.launch()
    for node in cluster.nodes:
        node.arm.unset()
        node.serve()
    cluster.wait_whole()


def _count_times(trial: Trial, *, judged: bool) -> None:
    """Note how long readers waited, and judge it in a full run."""
    tally, lease = trial.tally, f"lease {trial.cluster.lease_s:g} s"
    for loss in trial.losses:
        gone = "two of three nodes" if loss.two else "a node"
        trial.crowd.await_resumed(loss.held, loss.at, RESUME_S)
        resumed_s = trial.crowd.resumed_after_s(loss.held, loss.at)
        tally.samples[f"from the end of {gone} to a reader's next chunk ({lease})"] += resumed_s
        if loss.taken_s is None:
            continue
        tally.samples[f"from the end of {gone} until others have its replies ({lease})"].append(loss.taken_s)
        if judged and loss.taken_s > loss.most_s:
            note = f"{trial.name}: others had a node's replies after {loss.taken_s:.2f} s, not {loss.most_s:g}"
            tally.violate("slow", note)
    for began, ended in trial.rolled:
        gap_s, whose = trial.crowd.longest_gap(began, ended)
        tally.samples[GAP].append(gap_s)
        if judged and gap_s > MOST_WAIT_S:
            tally.violate("slow", f"{trial.name}: {whose} waited {gap_s:.2f} s in a rolling restart")
