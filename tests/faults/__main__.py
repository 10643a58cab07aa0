"""`make faults`: every fault, counted; exit 1 if anything was lost, repeated, reordered or changed."""

from __future__ import annotations

import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults import cluster, cuts, disk, drains, embedded, kills, stalls, steps_kills, stops, tools, upstream
from tests.faults.oracle import CHECKS
from tests.faults.scenario import Context, Scenario

SCENARIOS = (
    Scenario("cut-responses", "after every byte of a response", cuts.response_trials, cuts.cut_responses),
    Scenario("cut-requests", "after every byte of a request", cuts.request_trials, cuts.cut_requests),
    Scenario("stall", "a reader that takes nothing", stalls.trials, stalls.stall),
    Scenario("kill-tokens", "kill -9 at every token", kills.token_trials, kills.kill_at_tokens),
    Scenario("kill-seams", "kill -9 at every seam", kills.seam_trials, kills.kill_at_seams),
    Scenario("kill-crowds", "kill -9 under many and queued turns", kills.crowd_trials, kills.kill_a_crowd),
    Scenario("kill-tools", "kill -9 in a round of tools", tools.trials, tools.kill_in_rounds),
    Scenario("kill-thrice", "three kills of one reply", kills.third_trials, kills.kill_thrice),
    Scenario("stop", "stops that race", stops.trials, stops.stop),
    Scenario("terminate", "SIGTERM in mid-reply", drains.trials, drains.terminate),
    Scenario("upstream", "the model's server breaks", upstream.fault_trials, upstream.break_upstream),
    Scenario("close", "the model's server is let go", upstream.close_trials, upstream.close_upstream),
    Scenario("disk", "a full disk", disk.trials, disk.fill),
    Scenario("clock", "a clock that jumps", drains.clock_trials, drains.jump_clock),
    Scenario("steps", "kill -9 under a bot's steps", steps_kills.trials, steps_kills.kill_under_steps),
    Scenario("cluster", "three nodes under a crowd", cluster.trials, cluster.break_cluster),
    Scenario("embedded", "kill -9 under the embedded model", embedded.trials, embedded.kill_embedded),
)
NEEDED = {"kills": 300, "cuts": 3000}
"""Counts that a full run must reach."""
TELL_S = 60.0
"""Between two lines about how far a run is, where there is no terminal."""

HELP = """Kill, cut and starve real servers, and count what a reader lost.

    \b
    python -m tests.faults                              everything; hours, on two cores
    python -m tests.faults --only cluster               three nodes over PostgreSQL; an hour or two
    python -m tests.faults --only cluster --share 0.1   a tenth of the trials of three nodes over PostgreSQL
    python -m tests.faults --quick                      a few of each; two minutes
    python -m tests.faults --only kill-seams            one scenario
    python -m tests.faults --seed 7 --only kill-seams:commit-after-3    one trial, as it was
    python -m tests.faults --seed 7 --only cluster:kill-3+roll-0        two that one reply went through

Exit 0: nothing was lost. Exit 1: something was; each case is named with the words that bring it back.
"""


def main(
    quick: Annotated[bool, typer.Option(help="A small count of each fault.")] = False,
    seed: Annotated[int, typer.Option(help="All choices follow from it.")] = 1,
    only: Annotated[
        str | None, typer.Option(help="One scenario, or trials of it: NAME, NAME:TRIAL, NAME:TRIAL+TRIAL.")
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Part of the cluster's trials.")] = 1.0,
    streams: Annotated[int | None, typer.Option(min=1, help="Replies at once in the cluster; 200, quick 12.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Servers at once.")] = 2,
    keep: Annotated[bool, typer.Option(help="Keep the servers' folders and logs.")] = False,
) -> None:
    console = Console(width=max(130, Console().width))
    chosen = [scenario for scenario in SCENARIOS if not only or scenario.name == only.partition(":")[0]]
    if not chosen:
        console.print(f"no scenario {only!r}: there are {', '.join(scenario.name for scenario in SCENARIOS)}")
        raise typer.Exit(2)
    folder = Path(tempfile.mkdtemp(prefix="legato-faults-"))
    console.print(f"seed {seed}")
    table = Table("fault", "trials", "s", *CHECKS, "other")
    total = Context(folder)
    was_ended = False
    # Also where a shell has a background job ignore it: servers are ended, and what was counted is printed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _end_once)
    bar = Progress(TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with bar:
        for scenario in chosen:
            context = Context(folder / scenario.name, seed=seed, quick=quick, only=only, workers=workers)
            context.share, context.streams = share, streams
            trials = context.chosen(scenario.trials(context))
            if not trials:
                console.print(f"no trial {only!r}")
                raise typer.Exit(2)
            steps = _Steps(console, bar, scenario.name, len(trials))
            context.step = steps.done
            try:
                scenario.run(context, trials)
            except KeyboardInterrupt:
                was_ended = True
            tally = context.tally
            other = sum(times for kind, times in tally.violations.items() if kind not in CHECKS)
            cells = [str(tally.violations[kind]) for kind in CHECKS]
            table.add_row(scenario.name, steps.text, f"{steps.spent_s:.0f}", *cells, str(other))
            total.tally.merge(tally)
            if was_ended:
                break
    console.print(table)
    _print_counts(console, total)
    if not quick and not only and not was_ended:
        for kind, count in NEEDED.items():
            if total.tally.counts[kind] < count:
                total.tally.violate("count", f"{total.tally.counts[kind]} {kind}, fewer than {count}")
    for note in total.tally.notes[:50]:
        console.print(note, markup=False, highlight=False)
    if total.tally.violations:
        console.print(f"[red]{total.tally.violations.total()} violations[/red]; servers' folders: {folder}")
        console.print(f"again: python -m tests.faults --seed {seed} --only NAME:TRIAL")
        raise typer.Exit(1)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    console.print("[green]nothing lost, repeated, reordered or changed[/green]")
    if was_ended:
        console.print("ended before all trials were done")
        raise typer.Exit(130)


def _end_once(number: int, frame: FrameType | None) -> None:
    # `timeout` sends it to the process and then to its group: the second would cut the end short.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


class _Steps:
    """How far a scenario is: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console, bar: Progress, name: str, trials: int) -> None:
        self._console = console
        self._bar = bar
        self._name = name
        self._trials = trials
        self._task = bar.add_task(name, total=trials)
        self._done = 0
        self._began_s = self._told_s = time.monotonic()

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self._began_s

    @property
    def text(self) -> str:
        """Trials that are done, and of how many where that is not all."""
        return str(self._trials) if self._done >= self._trials else f"{self._done} of {self._trials}"

    def done(self, trials: int) -> None:
        self._done += trials
        self._bar.advance(self._task, trials)
        if not self._console.is_terminal and time.monotonic() - self._told_s >= TELL_S:
            self._told_s = time.monotonic()
            self._console.print(f"{self._name}: {self.text} trials in {self.spent_s:.0f} s")


def _print_counts(console: Console, total: Context) -> None:
    tally = total.tally
    counts = Table("counted", "times")
    for name, times in sorted(tally.counts.items()):
        counts.add_row(name, f"{times:,}")
    for name, figure in tally.figures.items():
        counts.add_row(name, figure)
    restarts = {"from the listening socket to the first new event": tally.restart_s}
    for name, durations in (restarts | tally.samples).items():
        if found := sorted(durations):
            cut = statistics.quantiles(found, n=100, method="inclusive") if len(found) > 1 else found * 99
            counts.add_row(name, f"p50 {cut[49]:.2f}, p99 {cut[98]:.2f}, max {found[-1]:.2f} s of {len(found)}")
    console.print(counts)


main.__doc__ = HELP

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(main)
    sys.exit(app())
