"""`make soak`: thousands of replies on nodes that come and go, and whether the one that stays grows.

    python -m tests.faults.soak                               30 minutes, 1,000 streams
    python -m tests.faults.soak --minutes 3 --streams 100     does it all work? The slope is printed, not judged

Exit 0: nothing was lost, and the memory of the node that stays grew by a megabyte in ten minutes at most.
"""

from __future__ import annotations

import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.cluster_crowd import Crowd, Pace
from tests.faults.cluster_oracle import check_runs, read_runs, take_calls
from tests.faults.cluster_world import Cluster, Node
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
LEASE_S = 5.0
KILLED = 0.3
"""Share of the nodes that go by SIGKILL; the others are told to end."""
PACE = Pace(tokens=(20, 110), delay_ms=500, look_s=(20.0, 60.0), twins=0.05, followed=0.05)
FILES_NEEDED = 8192


@dataclass(slots=True)
class Soak:
    """What has been seen so far.

    Attributes:
        memory: Time in minutes and anonymous memory in MB of the node that stays, while all nodes are there.
        pieces_mb: Size of the table of pieces, at each look.
    """

    cluster: Cluster
    crowd: Crowd
    draw: random.Random
    tally: Tally = field(default_factory=Tally)
    made: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    pieces_mb: list[float] = field(default_factory=list)

    def look(self, minute: float, *, calm: bool) -> None:
        """Check the replies that have ended, and look at memory where nothing has just happened."""
        self.made += take_calls(self.cluster.journals)
        self.tally.merge(self.crowd.check_shown(self.crowd.take_ended(), "soak"))
        if calm:
            self.memory.append((minute, anonymous_mb(self.cluster.nodes[0])))
            ((size,),) = self.cluster.rows("SELECT pg_total_relation_size('piece')")
            self.pieces_mb.append(size / 2**20)

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
        rows = read_runs(self.cluster, 0)
        self.tally.merge(self.crowd.check(rows, "soak"))
        for _ in range(2):
            self.made += take_calls(self.cluster.journals)
        check_runs(self.tally, "soak", rows, self.made, self.crowd.posted)

    def slope_mb(self, minutes: float) -> float | None:
        """Return how much the node that stays grows in ten minutes once it is warm; None where too little was seen."""
        warm = [(minute, mb) for minute, mb in self.memory if minute >= minutes * WARM]
        if len(warm) < 3:
            return None
        return linear_regression(*zip(*warm, strict=True)).slope * 10


def anonymous_mb(node: Node) -> float:
    """Return the memory that is a node's own: no files, nothing that it shares with the nodes that come and go."""
    lines = Path(f"/proc/{node.server.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


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
    cluster = Cluster(folder, draw, redis=redis, settings={"LEGATO_LEASE_S": f"{LEASE_S:g}"})
    console.print(f"seed {seed}, {minutes:g} minutes, {streams:,} streams, hints over {'Redis' if redis else 'NOTIFY'}")
    try:
        cluster.start()
        soak = Soak(cluster, Crowd(cluster, "soak", streams, draw, PACE), draw)
        soak.crowd.start()
        _go_on(soak, minutes)
        soak.finish()
    finally:
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
            mb = f", {soak.memory[-1][1]:.1f} MB" if soak.memory else ""
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
    if soak.memory:
        sizes = [mb for _, mb in soak.memory]
        told = f"{sizes[0]:.1f} at first, {sizes[-1]:.1f} at last, at most {max(sizes):.1f} MB of {len(sizes)} looks"
        table.add_row("memory of the node that stays", told)
        table.add_row("table of pieces", f"p50 {median(soak.pieces_mb):.0f}, at most {max(soak.pieces_mb):.0f} MB")
    slope_mb = soak.slope_mb(minutes)
    judged = minutes >= LEAST_MINUTES and slope_mb is not None
    grows = judged and slope_mb is not None and slope_mb > MOST_MB
    if slope_mb is not None:
        verdict = ("FAIL" if grows else "holds") if judged else f"not judged under {LEAST_MINUTES:g} minutes"
        table.add_row("growth once warm", f"{slope_mb:+.2f} MB in 10 minutes (at most {MOST_MB:g}): {verdict}")
    console.print(table)
    for note in tally.notes[:50]:
        console.print(note, markup=False, highlight=False)
    if not tally.violations:
        console.print("[green]nothing lost, repeated, reordered or changed[/green]")
    return not (tally.violations or grows)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(run)
    sys.exit(app())
