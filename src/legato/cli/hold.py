"""`legato hold`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, one_line

if TYPE_CHECKING:
    from legato.storage.statement import Transaction

app = typer.Typer(
    help="Legal hold: what nobody may delete, neither its owner nor time nor an erasure, until it is let go.",
    no_args_is_help=True,
    epilog=help_end("legato hold set ann", "legato hold set ann --conversation c-1", "legato hold list"),
)
Person = Annotated[str, typer.Argument(metavar="PERSON", help="Id of a principal: the owner of a key or an account.")]
Conversation = Annotated[
    str | None, typer.Option(metavar="ID", help="One conversation of theirs; without it all that they have.")
]
PAGE = 500


@app.command(
    "set",
    epilog=help_end(
        "legato hold set ann",
        "legato hold set ann --conversation c-1",
        exits={FAILED: "there is no such conversation"},
    ),
)
def set_(
    person: Person, conversation: Conversation = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Hold all that a person has, also what they write from now on, or one conversation. A server may run."""
    _change(person, conversation, True, data_dir, database_url)


@app.command(
    epilog=help_end(
        "legato hold clear ann",
        "legato hold clear ann --conversation c-1",
        exits={FAILED: "there is no such conversation"},
    )
)
def clear(
    person: Person, conversation: Conversation = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Let go; what is held otherwise stays held, and an erasure that waited for it goes on."""
    _change(person, conversation, False, data_dir, database_url)


@app.command("list", epilog=help_end("legato hold list", "legato hold list --json"))
def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List who is held, and which conversations are held by themselves."""
    from rich.table import Table

    from legato.cli.database import read, settings_of

    rows = read(settings_of(data_dir, database_url), _held) or []
    if as_json:
        for owner, conversation, since_ms in rows:
            typer.echo(json.dumps({"owner": owner, "conversation": conversation, "heldAtMs": since_ms}))
        return
    if not rows:
        complain("nothing is held")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("whose", "conversation", "since (UTC)"):
        table.add_column(title, overflow="fold")
    for owner, conversation, since_ms in rows:
        since = datetime.fromtimestamp(since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(one_line(owner), "all" if conversation is None else one_line(conversation), since)
    console().print(table)


def _held(tx: Transaction) -> list[tuple[str, str | None, int]]:
    from legato.storage.keeping import list_held, list_kept

    found: list[tuple[str, str | None, int]] = []
    after = ""
    while rows := list_kept(tx, after, PAGE):
        found += [(row.owner, None, row.held_at_ms) for row in rows if row.held_at_ms is not None]
        after = rows[-1].owner
    place = ("", 0)
    while rows := list_held(tx, place, PAGE):
        found += [(row.owner, row.id, row.held_at_ms) for row in rows]
        place = (rows[-1].owner, rows[-1].key)
    return found


def _change(person: str, conversation: str | None, held: bool, data_dir: Path | None, database_url: str | None) -> None:
    from legato.cli.database import settings_of, write
    from legato.core.clock import SystemClock
    from legato.core.ids import id_fault
    from legato.runs.audit import command_actor
    from legato.runs.keeping import change_hold, change_hold_of_one
    from legato.storage.keeping import mark_page

    if (fault := id_fault(person)) is not None:
        raise typer.BadParameter(fault, param_hint="PERSON")
    settings = settings_of(data_dir, database_url)
    by: dict[str, Any] = {"actor": command_actor(), "owner": person, "held": held, "now_ms": SystemClock().now_ms()}
    done = "is held" if held else "may be deleted again"
    if conversation is not None:
        is_new = write(settings, partial(change_hold_of_one, conversation_id=conversation, **by))
        what = f"conversation {one_line(conversation)} of {one_line(person)}"
    else:
        is_new = write(settings, partial(change_hold, **by))
        what = f"all that {one_line(person)} has"
        # As after the same over HTTP: also where it was so, should a command have been cut in between.
        place: str | None = ""
        while place is not None:
            place = write(settings, partial(mark_page, owner=person, after=place))
    typer.echo(f"{what} {done}" + ("" if is_new else ", as before"))
