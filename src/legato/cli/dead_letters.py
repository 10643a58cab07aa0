"""`legato dead-letters`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, neutral, one_line
from legato.core.errors import NotFound

if TYPE_CHECKING:
    from legato.steps.engine_letters import Letters
    from legato.steps.jobs import DeadLetter

app = typer.Typer(
    help="Jobs of queue and cron steps that were given up: read, redrive and discard them. "
    "The server may run or not; a running one takes redriven jobs within seconds.",
    no_args_is_help=True,
    epilog=help_end(
        "legato dead-letters list",
        "legato dead-letters show find_lead:e-1f2e3d",
        "legato dead-letters redrive find_lead:e-1f2e3d",
        "legato dead-letters redrive --step find_lead",
        "legato dead-letters discard find_lead:e-1f2e3d",
    ),
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="From `legato dead-letters list`.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
_PAGE = 500
NO_SUCH = {FAILED: "there is no such dead letter"}


@app.command(
    "list",
    epilog=help_end("legato dead-letters list", "legato dead-letters list --step find_lead --limit 500 --json"),
)
def list_all(
    step: Annotated[str | None, typer.Option(help="Only those of this step.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many first.")] = 0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List dead letters, the oldest jobs first."""
    from rich.table import Table

    with _letters(data_dir, database_url) as letters:
        # One more than is shown tells whether there are more.
        found = [] if letters is None else letters.list(step, limit=limit + 1, offset=offset)
    shown, more = found[:limit], len(found) > limit
    if as_json:
        for letter in shown:
            typer.echo(json.dumps(_fields(letter)))
        return
    if not shown:
        complain("there is no dead letter" + (f" of step {one_line(step)}" if step else ""))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "step", "topic", "tries", "last tried", "error"):
        table.add_column(title, overflow="fold")
    for letter in shown:
        words = (letter.id, letter.step, letter.topic, str(letter.attempts), _day(letter.last_ms), letter.error_type)
        table.add_row(*(one_line(word) for word in words))
    console().print(table)
    if more:
        complain(f"there are more: --offset {offset + limit}")


@app.command(epilog=help_end("legato dead-letters show find_lead:e-1f2e3d", exits=NO_SUCH))
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="From `legato dead-letters list`.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print one with its input and its error: they may hold what people wrote."""
    with _letters(data_dir, database_url) as letters:
        if letters is None:
            raise NotFound(f"there is no dead letter {letter_id!r}")
        letter = letters.get(letter_id)
    if as_json:
        typer.echo(json.dumps(_fields(letter)))
        return
    lines = {
        "id": letter.id,
        "step": f"{letter.step} ({letter.kind})",
        "topic": letter.topic,
        "error": f"{letter.error_type}: {letter.error}",
        "tries": str(letter.attempts),
        "first tried": _day(letter.first_ms),
        "last tried": _day(letter.last_ms),
    }
    if letter.tick is not None:
        lines["for the time"] = _day(letter.tick.at_ms)
    for name, value in lines.items():
        typer.echo(f"{name:12} {neutral(value)}")
    for event in _fields(letter)["events"]:
        typer.echo(neutral(json.dumps(event, indent=2, ensure_ascii=False)))


@app.command(
    epilog=help_end(
        "legato dead-letters redrive find_lead:e-1f2e3d",
        "legato dead-letters redrive --step find_lead",
        exits=NO_SUCH,
    )
)
def redrive(
    ids: Ids = None,
    step: Annotated[str | None, typer.Option(help="All of this step.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make them jobs again, with all their attempts before them."""
    _each("redriven", ids, step, data_dir, database_url)


@app.command(
    epilog=help_end(
        "legato dead-letters discard find_lead:e-1f2e3d",
        "legato dead-letters discard --step find_lead",
        exits=NO_SUCH,
    )
)
def discard(
    ids: Ids = None,
    step: Annotated[str | None, typer.Option(help="All of this step.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Delete them with their input; they cannot be had back."""
    _each("discarded", ids, step, data_dir, database_url)


def _each(done: str, ids: list[str] | None, step: str | None, data_dir: Path | None, url: str | None) -> None:
    if bool(ids) == (step is not None):
        raise typer.BadParameter("give ids, or --step")
    count = 0
    missing = False
    with _letters(data_dir, url) as letters:
        chosen = ids or ([] if letters is None else _all(letters, str(step)))
        for letter_id in chosen:
            try:
                if letters is None:
                    raise NotFound(f"there is no dead letter {letter_id!r}")
                (letters.redrive if done == "redriven" else letters.discard)(letter_id)
            except NotFound as error:
                complain(error.message)
                missing = True
            else:
                count += 1
    if not chosen:
        complain(f"there is no dead letter of step {one_line(str(step))}")
    typer.echo(f"{count} {done}")
    if missing:
        raise typer.Exit(FAILED)


def _all(letters: Letters, step: str) -> list[str]:
    """Return the ids of all of a step, read to the end before any is changed: that would move those behind it up."""
    ids: list[str] = []
    while page := letters.list(step, limit=_PAGE, offset=len(ids)):
        ids += [letter.id for letter in page]
    return ids


@contextmanager
def _letters(data_dir: Path | None, database_url: str | None) -> Iterator[Letters | None]:
    from legato.cli.database import settings_of
    from legato.steps.engine_letters import open_letters
    from legato.steps.job_seal import seal_of
    from legato.steps.queue_address import queue_address
    from legato.storage.database import open_database

    settings = settings_of(data_dir, database_url)
    try:
        with open_letters(queue_address(settings), seal_of(open_database(settings))) as letters:
            yield letters
    except NotFound as error:
        complain(f"{error.message}: `legato dead-letters list` shows all")
        raise typer.Exit(FAILED) from None


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "kind": letter.kind,
        "step": letter.step,
        "topic": letter.topic,
        "error_type": letter.error_type,
        "error": letter.error,
        "attempts": letter.attempts,
        "first_ms": letter.first_ms,
        "last_ms": letter.last_ms,
        "tick_ms": letter.tick.at_ms if letter.tick else None,
        "events": [
            {
                "id": event.id,
                "topic": event.topic,
                "owner": event.owner,
                "payload": event.payload,
                "trace_id": event.trace_id,
                "at_ms": event.at_ms,
            }
            for event in letter.events
        ],
    }


def _day(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
