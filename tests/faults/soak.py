"""`make soak`: thousands of replies on nodes that come and go, and whether the one that stays grows.

    python -m tests.faults.soak                               30 minutes, 1,000 streams
    python -m tests.faults.soak --minutes 3 --streams 100     does it all work? The slope is printed, not judged

Memory is the anonymous pages of the node that stays. Its PSS is printed beside it; that counts a share of what it has
in common with the other nodes, which changes with each that comes or goes. The slope is the median of the slopes
between all pairs of minutes once it is warm (Theil and Sen): a rush, after a node has gone, does not bend it.

Exit 0: nothing was lost, and the memory of the node that stays grew by a megabyte in ten minutes at most.
"""

from __future__ import annotations

import random
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.cluster_checks import Checks
from tests.faults.cluster_crowd import Crowd, Pace
from tests.faults.cluster_oracle import Accounts, count_runs
from tests.faults.cluster_world import DEFAULT_LEASE_S, Cluster, Node
from tests.faults.oracle import CHECKS, Tally

MOST_MB = 1.0
"""In ten minutes, once it is warm."""
LEAST_MINUTES = 15.0
"""A slope over less is not judged."""
WARM = 1 / 3
"""Share of the time after which memory counts: caches are full, and the allocator has seen the largest load."""
CALM_S = 8.0
"""After a node has come or gone, before memory is looked at: its readers went elsewhere meanwhile."""
LOOK_S = 2.0
APART_S = (20.0, 40.0)
"""Between two nodes that come or go."""
KILLED = 0.3
"""Share of the nodes that go by SIGKILL; the others are told to end."""
PACE = Pace(tokens=(20, 110), delay_ms=500, look_s=(20.0, 60.0), within_s=300.0, twins=0.05, followed=0.05)
FILES_NEEDED = 8192
MOST_UNCHECKED = 64
"""Pages of turns that wait to be looked at."""
ROW_MINUTES = 2
BAR_CHARS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is seen of the node that stays, where all nodes are there and nothing has just happened.

    Attributes:
        minute: Since the beginning.
        own_mb: Anonymous memory: no files, nothing that others' coming and going changes.
        replies: That it makes.
        pieces_mb: Size of the database's table of pieces.
    """

    minute: float
    own_mb: float
    pss_mb: float
    replies: int
    pieces_mb: float


@dataclass(slots=True)
class Soak:
    """What has been seen so far."""

    cluster: Cluster
    crowd: Crowd
    draw: random.Random
    accounts: Accounts
    checks: Checks
    tally: Tally = field(default_factory=Tally)
    looks: list[Look] = field(default_factory=list)

    def look(self, minute: float, *, calm: bool) -> None:
        """Have the replies checked that have ended, and look at memory where nothing has just happened."""
        self.crowd.begin_trial(f"minute-{int(minute)}")
        self.accounts.take_calls(self.cluster.journals)
        self.checks.take(self.crowd.take_ended())
        self.tally.merge(self.checks.found(MOST_UNCHECKED))
        if calm:
            node = self.cluster.nodes[0]
            own_mb, pss_mb = memory_mb(node)
            ((size,),) = self.cluster.rows("SELECT pg_total_relation_size('piece')")
            replies = len(self.cluster.held_by(node))
            look = Look(minute=minute, own_mb=own_mb, pss_mb=pss_mb, replies=replies, pieces_mb=size / 2**20)
            self.looks.append(look)

    def disturb(self) -> None:
        """Have one node go and come again; the first one stays."""
        node = self.draw.choice(self.cluster.nodes[1:])
        if self.draw.random() < KILLED:
            node.up = False
            node.server.kill()
            self.cluster.start_again(node)
            self.tally.counts["node kills"] += 1
            return
        code = self.cluster.restart(node)
        self.tally.counts["nodes told to end"] += 1
        if code != 0:
            self.tally.violate("exit", f"soak: a node that was told to end ended with {code}")

    def finish(self) -> None:
        """Let the last replies end, and account for all runs and calls."""
        self.crowd.stop()
        last = Checks(self.cluster, self.accounts, "soak")
        last.take(self.crowd.take_ended())
        self.tally.merge(last.found())
        self.tally.merge(self.checks.found())
        self.accounts.close(self.tally, "soak", self.cluster.journals, count_runs(self.cluster), self.crowd.posted)

    def slope_mb(self, minutes: float) -> float | None:
        """Return how much the node that stays grows in ten minutes once it is warm; None where too little was seen."""
        warm = [look for look in by_minute(self.looks) if look.minute >= minutes * WARM]
        slope_mb = slope([(look.minute, look.own_mb) for look in warm])
        return None if slope_mb is None else slope_mb * 10


def by_minute(looks: list[Look], each: int = 1) -> list[Look]:
    """Return the medians of each minute, or of so many."""
    groups: defaultdict[int, list[Look]] = defaultdict(list)
    for look in looks:
        groups[int(look.minute) // each].append(look)
    return [
        Look(
            minute=median(look.minute for look in group),
            own_mb=median(look.own_mb for look in group),
            pss_mb=median(look.pss_mb for look in group),
            replies=round(median(look.replies for look in group)),
            pieces_mb=median(look.pieces_mb for look in group),
        )
        for group in groups.values()
    ]


def slope(points: list[tuple[float, float]]) -> float | None:
    """Return the median slope over all pairs of points; None for fewer than three.

    Source:
        https://en.wikipedia.org/wiki/Theil%E2%80%93Sen_estimator
    """
    if len(points) < 3:
        return None
    return median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))


def memory_mb(node: Node) -> tuple[float, float]:
    """Return the anonymous memory of a node, and its PSS."""
    lines = Path(f"/proc/{node.server.pid}/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return kilobytes["Anonymous:"] / 1024, kilobytes["Pss:"] / 1024


def run(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long.")] = 30.0,
    streams: Annotated[int, typer.Option(min=1, help="Replies at once.")] = 1000,
    seed: Annotated[int, typer.Option(help="All choices follow from it.")] = 1,
    redis: Annotated[bool, typer.Option(help="Hints go over Redis; over NOTIFY otherwise.")] = True,
    keep: Annotated[bool, typer.Option(help="Keep the servers' folders and logs.")] = False,
) -> None:
    """Keep replies going on nodes that come and go, and see whether the one that stays grows."""
    console = Console(width=max(130, Console().width))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = FILES_NEEDED if hard == resource.RLIM_INFINITY else min(FILES_NEEDED, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    folder = Path(tempfile.mkdtemp(prefix="legato-soak-"))
    draw = random.Random(seed)
    cluster = Cluster(folder, draw, redis=redis, lease_s=DEFAULT_LEASE_S)
    console.print(f"seed {seed}, {minutes:g} minutes, {streams:,} streams, hints over {'Redis' if redis else 'NOTIFY'}")
    accounts = Accounts()
    crowd = Crowd(cluster, "soak", streams, draw, PACE)
    # Nodes are asked for the last replies alone: what checks ask for is not to be in the memory that is looked at.
    soak = Soak(cluster, crowd, draw, accounts, Checks(cluster, accounts, "soak", full=False))
    try:
        cluster.start()
        soak.crowd.start()
        _go_on(soak, minutes)
        soak.finish()
    finally:
        soak.crowd.leave()
        soak.checks.close()
        cluster.close()
    holds = _tell(console, soak, minutes)
    if not keep and holds:
        shutil.rmtree(folder, ignore_errors=True)
    elif not holds:
        console.print(f"servers' folders: {folder}")
        raise typer.Exit(1)


def _go_on(soak: Soak, minutes: float) -> None:
    began = time.monotonic()
    calm_at = began + CALM_S
    next_at = began + soak.draw.uniform(*APART_S)
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with bar:
        task = bar.add_task("soak", total=minutes)
        while (minute := (time.monotonic() - began) / 60) < minutes:
            soak.look(minute, calm=time.monotonic() >= calm_at)
            mb = f", {soak.looks[-1].own_mb:.1f} MB" if soak.looks else ""
            bar.update(task, completed=minute, description=f"{soak.crowd.posted:,} turns{mb}")
            if time.monotonic() >= next_at:
                soak.disturb()
                calm_at = time.monotonic() + CALM_S
                next_at = time.monotonic() + soak.draw.uniform(*APART_S)
            time.sleep(LOOK_S)


def _tell(console: Console, soak: Soak, minutes: float) -> bool:
    """Print what was seen; return whether it is as it has to be."""
    tally = soak.tally
    table = Table("counted", "times")
    for name, times in sorted(tally.counts.items()):
        table.add_row(name, f"{times:,}")
    for name in CHECKS:
        table.add_row(name, f"{tally.violations[name]:,}")
    slope_mb = soak.slope_mb(minutes)
    judged = minutes >= LEAST_MINUTES and slope_mb is not None
    grows = judged and slope_mb is not None and slope_mb > MOST_MB
    if slope_mb is not None:
        verdict = ("FAIL" if grows else "holds") if judged else f"not judged under {LEAST_MINUTES:g} minutes"
        table.add_row("growth once warm", f"{slope_mb:+.2f} MB in 10 minutes (at most {MOST_MB:g}): {verdict}")
    console.print(table)
    _tell_looks(console, soak.looks)
    for note in tally.notes[:50]:
        console.print(note, markup=False, highlight=False)
    if not tally.violations:
        console.print("[green]nothing lost, repeated, reordered or changed[/green]")
    return not (tally.violations or grows)


def _tell_looks(console: Console, looks: list[Look]) -> None:
    """Print how memory went, a line for some minutes."""
    table = Table("minute", "own MB", "", "PSS MB", "replies it made", "table of pieces, MB")
    rows = by_minute(looks, ROW_MINUTES)
    least, most = min((row.own_mb for row in rows), default=0.0), max((row.own_mb for row in rows), default=0.0)
    for row in rows:
        bar = "#" * (1 + round(BAR_CHARS * (row.own_mb - least) / max(1.0, most - least)))
        cells = [f"{row.minute:.1f}", f"{row.own_mb:.1f}", bar, f"{row.pss_mb:.1f}", str(row.replies)]
        table.add_row(*cells, f"{row.pieces_mb:.0f}")
    console.print(table)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(run)
    sys.exit(app())
