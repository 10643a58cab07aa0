"""`python -m bench.paired`: two or three checkouts of Legato at once, on one core, so that they have the same noise.

Rounds in turn differ by a tenth on a machine that others use too. What runs side by side meets the same caches and the
same neighbours: one checkout against itself gives 0.995 to 1.011.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.load import Load
from bench.process import Cores
from bench.progress import board
from bench.run import alone
from bench.target import TARGETS, Place, Target
from bench.throughput import START_S, Bench, Sample, Throughput, measure
from bench.toolchain import BenchError, compile_programs

TOKENS = 200
MOST = 3
"""More on one core would leave each too little of it."""


def main(
    variants: Annotated[
        list[str], typer.Argument(metavar="NAME=TREE[,VARIABLE:=VALUE]...", help="Checkouts; the first is the measure.")
    ],
    streams: Annotated[int, typer.Option(min=1, help="Of each variant.")] = 400,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure what a change costs: CPU per 1,000 chunks of each variant, and over the first one's.

    A checkout must have been built (python hatch_build.py); variables are set for its server alone.

    Examples:

      git worktree add /tmp/before HEAD && (cd /tmp/before && python hatch_build.py)

      python -m bench.paired before=/tmp/before after=.

      python -m bench.paired plain=. python=.,LEGATO_COMPILED:=0 --rounds 5
    """
    if len(variants) > MOST:
        raise typer.BadParameter(f"{len(variants)} variants: {MOST} at most share a core")
    targets = [_target(variant) for variant in variants]
    load = Load.steady(streams, tokens=TOKENS, window_s=10)
    plan = Throughput(name="paired", title="", load=load, targets=[each.name for each in targets], rounds=rounds)
    samples: list[Sample] = []
    try:
        with (
            alone(),
            tempfile.TemporaryDirectory(prefix="legato-bench-") as made,
            board(rounds * (load.expected_s + START_S)) as progress,
            ThreadPoolExecutor(len(targets)) as pool,
        ):
            bench = Bench(
                programs=compile_programs(),
                cores=Cores.split(),
                folder=Path(made),
                certificate=None,
                board=progress,
            )
            for number in range(1, rounds + 1):
                with progress.step(f"round {number}/{rounds}", load.expected_s + START_S):
                    found = [pool.submit(measure, bench, plan, target, number) for target in targets]
                    samples += [each.result() for each in found]
                progress.note(", ".join(f"{each.target} {each.cpu_ms:.2f}" for each in samples[-len(targets) :]))
    except BenchError as error:
        Console(stderr=True).print(f"bench: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error
    _show([target.name for target in targets], samples)


def _target(variant: str) -> Target:
    """Return Legato as it stands in another folder."""
    name, _, rest = variant.partition("=")
    tree, *changes = rest.split(",")
    source = Path(tree).resolve() / "src"
    if not name or not (source / "legato").is_dir():
        raise typer.BadParameter(f"{variant!r} is no NAME=TREE: a tree has src/legato in it")
    variables = dict(change.split(":=", 1) for change in changes) | {"PYTHONPATH": f"{source}:{source.parent}"}
    legato = TARGETS["legato"]

    def env(place: Place) -> dict[str, str]:
        return {**legato.env(place), **variables}

    return replace(legato, name=name, env=env)


def _show(names: Sequence[str], samples: Sequence[Sample]) -> None:
    table = Table("variant", "CPU ms/1,000", f"× {names[0]}", "from", "to", "added p50 ms", "p99")
    first = [each.cpu_ms for each in samples if each.target == names[0]]
    for name in names:
        own = [each for each in samples if each.target == name]
        ratios = [each.cpu_ms / other for each, other in zip(own, first, strict=True)]
        added = [each.result.chunk_added_us for each in own]
        cells = [f"{figure:.3f}" for figure in (median(ratios), min(ratios), max(ratios))]
        latency = [f"{median(figures) / 1e3:.1f}" for figures in ([a.p50 for a in added], [a.p99 for a in added])]
        table.add_row(name, f"{median(each.cpu_ms for each in own):.2f}", *cells, *latency)
    Console().print(table)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app(prog_name="python -m bench.paired")
