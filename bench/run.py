"""The command: choose a plan, run it, show the figures, judge them."""

import fcntl
import resource
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.figure import Figure
from bench.machine import describe_machine, file_system
from bench.memory import measure_memory
from bench.nginx import find_nginx
from bench.plan import ON_DEMAND, SCENARIOS, TARGET_NAMES, Plan, full_plan, quick_plan
from bench.postgres import measure_postgres
from bench.process import Cores
from bench.products import PRODUCTS, installed
from bench.progress import board
from bench.queue import measure_queue
from bench.report import print_tables, write_json, write_page
from bench.state import measure_state
from bench.throughput import (
    START_S,
    Bench,
    figures_of,
    floor_figures,
    measure_floor,
    run_rounds,
    spread_percent,
)
from bench.toolchain import BUILD_DIR, HERE, BenchError, compile_programs, make_certificate
from bench.turns import measure_turns

PAGE = HERE.parent / "docs" / "benchmarks.md"
FILES_NEEDED = 12_000
"""5,000 streams are two sockets each in the server, and a margin."""

DISTURBED_PERCENT = 10.0
"""Past this share of the server's core taken by other programs a warning is printed."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="One short round of everything, a minute or two.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"A scenario, repeatable: {', '.join((*SCENARIOS, *ON_DEMAND))}."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help=f"A server, repeatable: {', '.join(TARGET_NAMES)}."),
    ] = None,
    products: Annotated[
        bool,
        typer.Option("--products", help="LiteLLM and Open WebUI too, in environments of their own (gigabytes)."),
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are shown.")] = 3,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into docs/benchmarks.md.")] = False,
    json_path: Annotated[
        Path,
        typer.Option("--json", help="Where the JSON goes.", show_default="bench/.build/result.json"),
    ] = BUILD_DIR / "result.json",
    work_dir: Annotated[
        Path | None,
        typer.Option(help="Where servers keep their data; a disk, not a RAM disk."),
    ] = None,
) -> None:
    """Measure Legato beside nginx, a raw relay and the tutorials' stack.

    A mock upstream numbers and stamps every token, a load client verifies each; nothing leaves
    127.0.0.1. The server under test has one core, mock and client the others. Exit status: 0 all
    bars hold, 1 one does not (with --quick: not judged), 2 it could not be measured.

    Examples:

      python -m bench                                  everything, 50 minutes

      python -m bench --quick                          does it all work?

      python -m bench --only main --target legato --target nginx --rounds 5

      python -m bench --only products                  beside LiteLLM and Open WebUI

      python -m bench --write                          and write the page
    """
    # A terminated bench still ends what it started: contexts unwind on SystemExit.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    known = {"scenario": (only, (*SCENARIOS, *ON_DEMAND)), "target": (target, TARGET_NAMES)}
    for what, (given, names) in known.items():
        for name in given or ():
            if name not in names:
                raise typer.BadParameter(f"no {what} {name!r}; there are {', '.join(names)}")
    plan = (quick_plan() if quick else full_plan(rounds)).but(
        scenarios=(*(only or SCENARIOS), *(ON_DEMAND if products else ())), targets=target or TARGET_NAMES
    )
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    try:
        figures, machine = _run(plan, work_dir)
    except BenchError as error:
        Console(stderr=True).print(f"bench: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error
    console = Console(width=None if sys.stdout.isatty() else 200)
    for label, text in machine.items():
        console.print(f"{label}: {text}", highlight=False, markup=False)
    print_tables(console, plan.titles, figures)
    others = max((max(f.rounds) for f in figures if f.name == "others_percent"), default=0.0)
    if others > DISTURBED_PERCENT:
        console.print(
            f"warning: other programs took up to {others:.0f} % of the server's core: latencies grow, "
            "and a server that falls behind batches more; run again on a quiet machine",
            style="yellow",
            highlight=False,
        )
    console.print(f"figures as JSON: {json_path}", highlight=False, markup=False)
    write_json(json_path, machine=machine, command=command, figures=figures)
    if write:
        write_page(PAGE, machine=machine, command=command, titles=plan.titles, figures=figures)
    _judge(console, figures, quick=quick)


def _run(plan: Plan, work_dir: Path | None) -> tuple[list[Figure], dict[str, str]]:
    cores = Cores.split()
    _allow_files()
    programs = compile_programs()
    throughput = [part for part in plan.throughput if programs.tls or not part.tls]
    names = {name for part in plan.throughput for name in part.targets}
    names |= set(plan.memory.targets if plan.memory else ())
    names |= {"legato"} if plan.turns or plan.queue or plan.state else set()
    names |= {"legato", "nginx"} if plan.postgres else set()
    nginx = find_nginx() if "nginx" in names else None
    for name in sorted(names & PRODUCTS.keys()):
        installed(name)
    if "legato" in names and find_spec("legato") is None:
        raise BenchError("legato is not installed in this environment; see make bench")
    figures: list[Figure] = []
    with (
        alone(),
        tempfile.TemporaryDirectory(prefix="legato-bench-", dir=work_dir) as made,
        board(plan.expected_s) as progress,
    ):
        folder = Path(made)
        if file_system(folder) in ("tmpfs", "ramfs"):
            progress.note("warning: data goes to a RAM disk, fsync costs nothing; see --work-dir")
        certificate = make_certificate(folder) if any(part.tls for part in throughput) else None
        bench = Bench(
            programs=programs,
            cores=cores,
            folder=folder,
            certificate=certificate,
            board=progress,
        )
        for part in plan.throughput:
            if part not in throughput:
                progress.note(f"{part.name}: left out: the mock has no TLS; install libssl-dev")
                continue
            if part.name == "main":
                with progress.step("main, no server between", part.load.expected_s + START_S):
                    figures += floor_figures(part, measure_floor(bench, part))
            samples = run_rounds(bench, part)
            figures += figures_of(part, samples)
            if part.rounds > 1:
                progress.note(f"{part.name}: rounds within {spread_percent(samples):.0f} %")
        if plan.memory:
            figures += measure_memory(bench, plan.memory)
        if plan.turns:
            figures += measure_turns(bench, plan.turns)
        if plan.queue:
            figures += measure_queue(bench, plan.queue)
        if plan.state:
            figures += measure_state(bench, plan.state)
        if plan.postgres:
            figures += measure_postgres(bench, plan.postgres)
        machine = describe_machine(nginx=nginx, compiler=programs.compiler, cores=cores, data=folder)
    return figures, machine


@contextmanager
def alone() -> Iterator[None]:
    """Refuse to run beside another bench of this checkout: each would spoil the other's figures."""
    with (BUILD_DIR / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchError("another bench is running in this checkout: wait for its end") from error
        yield


def _allow_files() -> None:
    """Raise the limit of open files, for this process and what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_NEEDED:
        if hard != resource.RLIM_INFINITY and hard < FILES_NEEDED:
            raise BenchError(f"the limit of open files is {hard}; raise it: ulimit -Hn 20000")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(FILES_NEEDED, min(hard, 20_000)), hard))


def _judge(console: Console, figures: list[Figure], *, quick: bool) -> None:
    judged = [figure for figure in figures if figure.bar]
    failed = [figure for figure in judged if figure.verdict == "FAIL"]
    if quick:
        console.print("quick: every stream was whole; small loads are not judged", highlight=False)
        return
    console.print(f"{len(judged) - len(failed)} of {len(judged)} bars hold", highlight=False)
    if failed:
        raise typer.Exit(1)
