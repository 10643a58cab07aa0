"""`legato audit`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import CONFIGURATION, FAILED, help_end
from legato.cli.terminal import complain, console, one_line

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.statement import Transaction

T = TypeVar("T")
app = typer.Typer(
    help="The audit log: who did what to whose data. List it, give it out, and look whether it is whole.",
    no_args_is_help=True,
    epilog=help_end("legato audit list --owner ann", "legato audit export > audit.jsonl", "legato audit verify"),
)
PAGE = 500


@app.command("list", epilog=help_end("legato audit list", "legato audit list --action key.create --limit 10"))
def list_entries(
    owner: Annotated[str | None, typer.Option(help="About the data of this principal alone.")] = None,
    actor: Annotated[str | None, typer.Option(help="Of what this one has done alone.")] = None,
    action: Annotated[str | None, typer.Option(help="Of this kind alone, as `key.create`.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most entries.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List entries, the newest first; by owner, by actor or by action, not by several."""
    from rich.table import Table

    from legato.cli.database import read, settings_of
    from legato.runs.personal_export import entry_json
    from legato.storage import audit

    given = [(name, each) for name, each in (("owner", owner), ("actor", actor), ("action", action)) if each]
    if len(given) > 1:
        raise typer.BadParameter("give one of --owner, --actor and --action")
    by, value = given[0] if given else (None, "")
    query = partial(audit.list_entries, before=2**62, limit=limit, by=by, value=value)
    rows = read(settings_of(data_dir, database_url), query) or []
    if as_json:
        for row in rows:
            typer.echo(json.dumps(entry_json(row)))
        return
    if not rows:
        complain("there is no such entry")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("number", "at (UTC)", "who", "by", "did", "to", "whose", "detail"):
        table.add_column(title, overflow="fold")
    for row in rows:
        at = datetime.fromtimestamp(row.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        shown = [row.actor, row.via, row.action, row.subject, row.owner or "", row.detail or ""]
        table.add_row(str(row.seq), at, *(one_line(each) for each in shown))
    console().print(table)


@app.command(epilog=help_end("legato audit export > audit.jsonl", "legato audit export --as csv --after 12000"))
def export(
    as_: Annotated[Literal["jsonl", "csv"], typer.Option("--as", help="JSON lines, or CSV.")] = "jsonl",
    after: Annotated[int, typer.Option(min=0, help="Only entries behind this number.")] = 0,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write all entries to the standard output, the oldest first; the log notes that it was given out."""
    from legato.cli.database import settings_of, write
    from legato.core.clock import SystemClock
    from legato.http.audit import csv_line
    from legato.runs.audit import audit, command_actor
    from legato.runs.audit_log import CSV_COLUMNS
    from legato.runs.personal_export import entry_json

    settings = settings_of(data_dir, database_url)
    now_ms = SystemClock().now_ms()
    write(
        settings,
        lambda tx: audit(
            tx, actor=command_actor(), action="audit.export", subject="audit", detail={"after": after}, at_ms=now_ms
        ),
    )
    out = sys.stdout
    if as_ == "csv":
        out.write(csv_line(CSV_COLUMNS).decode())
    for row in _rows(settings, after):
        shown = entry_json(row)
        if as_ == "csv":
            shown["detail"] = row.detail
            out.write(csv_line([shown[name] for name in CSV_COLUMNS]).decode())
        else:
            out.write(json.dumps(shown) + "\n")


@app.command(
    epilog=help_end(
        "legato audit verify",
        "legato audit verify --expect 4711:9f86d081…   # as it was noted elsewhere",
        exits={FAILED: "the log is not whole", CONFIGURATION: "there is no database, or a setting is wrong"},
    )
)
def verify(
    expect: Annotated[
        list[str] | None,
        typer.Option(
            help="NUMBER:HASH of an entry, as an earlier `verify` has printed it; may be repeated. Who may write the "
            "database could compute the whole chain anew: only what was noted elsewhere tells."
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Look at the whole log: whether an entry was changed, left out or put in."""
    from legato.cli.database import settings_of
    from legato.runs.audit_log import verify_in

    expected: dict[int, str] = {}
    for each in expect or []:
        number, _, hash_ = each.partition(":")
        if not number.isdecimal() or len(hash_) != 64:
            raise typer.BadParameter("give NUMBER:HASH, as `legato audit verify` prints it", param_hint="--expect")
        expected[int(number)] = hash_.lower()
    settings = settings_of(data_dir, database_url)
    found = verify_in(lambda query: _read(settings, query), expected)
    if found.fault is not None:
        complain(f"the audit log is not whole: {found.fault}")
        raise typer.Exit(FAILED)
    cut = f"; entries up to {found.cut_seq} were cut off when their time was over" if found.cut_seq else ""
    typer.echo(f"whole: {found.entries} entries{cut}")
    typer.echo(f"note elsewhere, for --expect: {found.head_seq}:{found.head_hash}")


def _read(settings: Settings, query: Callable[[Transaction], T]) -> T:
    from legato.cli.database import read
    from legato.core.errors import ConfigurationError

    found = read(settings, query)
    if found is None:
        raise ConfigurationError("there is no database yet: start the server once")
    return found


def _rows(settings: Settings, after: int) -> Iterator[Any]:
    from legato.storage.audit import entries_from

    while rows := _read(settings, partial(entries_from, after=after, limit=PAGE)):
        yield from rows
        after = rows[-1].seq
