"""`make mutants`: plant each known bug in a copy of the tree, and fail if the tests let one live."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutants.patches import Mutant, StalePatch, read_mutants

ROOT = Path(__file__).parents[2]
TEST_S = 90
TESTS_FAILED = 1
"""pytest's exit code when tests ran and some failed; any other means that the test itself could not run."""

HELP = """Plant each known bug in a copy of the tree, and fail if the tests let one live.

    \b
    python -m tests.mutants                              all; about five minutes on two cores
    python -m tests.mutants --only cursor-one-late       one
    python -m tests.mutants --list                       what there is

Before that the same tests must pass on the tree as it is. Exit 0: every bug was found.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests said of one mutant: `killed`, `lives`, `stale`, or `broken` (they did not run)."""

    name: str
    what: str
    took_s: float
    said: str


def copy_tree(target: Path, source: Path = ROOT) -> Path:
    """Copy what the tests need; return the copy's root."""
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", ".build")
    for name in ("src", "tests", "docs"):
        shutil.copytree(source / name, target / name, ignore=skip)
    shutil.copy(source / "pyproject.toml", target)
    return target


def run_tests(root: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run tests in a copy; return pytest's exit code and its last words."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_S}"]
    command += ["--timeout-method=thread", *tests]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    process = subprocess.Popen(
        [*command, f"--basetemp={root / 'tmp'}"],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate()
    finally:
        # A test that hangs ends its process at once: what it started is in its group.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return process.returncode, said[-3000:]


def try_mutant(base: Path, mutant: Mutant) -> Outcome:
    """Plant one bug in a copy of `base` and run its tests."""
    began = time.monotonic()
    root = copy_tree(base.with_name(mutant.name), base)
    try:
        mutant.apply(root)
    except StalePatch as error:
        return Outcome(mutant.name, "stale", 0.0, str(error))
    code, said = run_tests(root, mutant.tests)
    what = {0: "lives", TESTS_FAILED: "killed"}.get(code, "broken")
    shutil.rmtree(root, ignore_errors=True)
    return Outcome(mutant.name, what, time.monotonic() - began, said)


def main(
    only: Annotated[str | None, typer.Option(help="Name of one mutant.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Mutants at once.")] = 2,
    show: Annotated[bool, typer.Option("--list", help="Name all mutants and the promises that they break.")] = False,
) -> None:
    console = Console(width=max(130, Console().width))
    mutants = [each for each in read_mutants(Path(__file__).parent) if only in (None, each.name)]
    if show:
        for each in mutants:
            console.print(f"{each.name:34} {each.promise}")
        return
    if not mutants:
        console.print(f"no mutant {only!r}: --list names all")
        raise typer.Exit(2)
    folder = Path(tempfile.mkdtemp(prefix="legato-mutants-"))
    tests = tuple(sorted({test for each in mutants for test in each.tests}))
    console.print(f"{len(tests)} tests on the tree as it is ...")
    # One state of the tree for all, whoever works on it meanwhile.
    base = copy_tree(folder / "as-it-is")
    code, said = run_tests(base, tests)
    if code != 0:
        console.print(said, markup=False)
        console.print("[red]the tests fail without any mutant: nothing can be learnt[/red]")
        raise typer.Exit(1)
    bar = Progress(TextColumn("mutants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes: list[Outcome] = []
    with bar, ThreadPoolExecutor(workers) as pool:
        task = bar.add_task("mutants", total=len(mutants))
        for outcome in pool.map(lambda each: try_mutant(base, each), mutants):
            outcomes.append(outcome)
            bar.advance(task)
    table = Table("mutant", "promise that it breaks", "outcome", "s")
    for each, outcome in zip(mutants, outcomes, strict=True):
        table.add_row(each.name, each.promise, outcome.what, f"{outcome.took_s:.0f}")
    console.print(table)
    wrong = [outcome for outcome in outcomes if outcome.what != "killed"]
    for outcome in wrong:
        console.print(f"{outcome.name} {outcome.what}: {outcome.said}", markup=False)
    shutil.rmtree(folder, ignore_errors=True)
    if wrong:
        console.print(f"[red]{len(wrong)} of {len(outcomes)} were not killed[/red]")
        raise typer.Exit(1)
    console.print(f"[green]all {len(outcomes)} killed[/green]")


main.__doc__ = HELP

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(main)
    sys.exit(app())
