"""`legato review`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, neutral, one_line

if TYPE_CHECKING:
    from legato.storage.statement import Transaction

app = typer.Typer(
    help="Texts that policies of moderation have flagged: read them, and decide. The server may run or not.",
    no_args_is_help=True,
    epilog=help_end(
        "legato review list",
        "legato review show v-01a2b3c4",
        'legato review decide v-01a2b3c4 violation --note "sells drugs"',
    ),
)

Id = Annotated[str, typer.Argument(metavar="ID", help="From `legato review list`.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
NO_SUCH = {FAILED: "there is no such text, or it was decided about already"}
_FIELDS = (
    *("id", "owner", "conversation_id", "run_id", "at_ms", "stage", "source", "policy", "reason"),
    *("decision", "note", "decided_by", "decided_at_ms"),
)


@app.command("list", epilog=help_end("legato review list", "legato review list --decided --json"))
def list_all(
    decided: Annotated[
        bool, typer.Option("--decided", help="Those that were decided about, the latest first.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List flagged texts, without the texts; the oldest that wait first."""
    from rich.table import Table

    from legato.cli.database import read, settings_of
    from legato.storage.reviews import list_reviews

    state: Literal["open", "decided"] = "decided" if decided else "open"
    rows = read(settings_of(data_dir, database_url), lambda tx: list_reviews(tx, state, limit=limit + 1)) or []
    if as_json:
        for row in rows[:limit]:
            typer.echo(json.dumps(_fields(row)))
        return
    if not rows:
        complain("nothing was decided yet" if decided else "nothing waits for a decision")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "at", "policy", "reason", "what", "owner", "decision", "by"):
        table.add_column(title, overflow="fold")
    for row in rows[:limit]:
        words = (row.id, _day(row.at_ms), row.policy, row.reason, row.source, row.owner, row.decision, row.decided_by)
        table.add_row(*(one_line(word or "") for word in words))
    console().print(table)
    if len(rows) > limit:
        complain(f"there are more: --limit {min(500, 2 * limit)}")


@app.command(epilog=help_end("legato review show v-01a2b3c4", exits=NO_SUCH))
def show(review_id: Id, as_json: AsJson = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Print one with its text; that it was read is noted in the audit log."""
    from legato.cli.database import settings_of, write_if_there
    from legato.core.clock import SystemClock
    from legato.runs.audit import audit, command_actor
    from legato.storage.reviews import find_review

    now_ms = SystemClock().now_ms()

    def look(tx: Transaction) -> Any | None:
        row = find_review(tx, review_id)
        if row is not None:
            audit(tx, actor=command_actor(), action="admin.read", subject=row.id, at_ms=now_ms, owner=row.owner)
        return row

    row = write_if_there(settings_of(data_dir, database_url), look)
    if row is None:
        complain(f"there is no flagged text {one_line(review_id)[:60]}: `legato review list` shows all")
        raise typer.Exit(FAILED)
    if as_json:
        typer.echo(json.dumps(_fields(row) | {"text": row.text}))
        return
    for name, value in _fields(row).items():
        if value is not None:
            typer.echo(f"{name:16} {neutral(_day(value) if name.endswith('at_ms') else str(value))}")
    typer.echo(f"\n{neutral(row.text)}")


@app.command("decide", epilog=help_end("legato review decide v-01a2b3c4 fine", exits=NO_SUCH))
def decide_one(
    review_id: Id,
    decision: Annotated[Literal["fine", "violation"], typer.Argument(help="`violation`: the policy was right.")],
    note: Annotated[str | None, typer.Option(help="Why; kept with the decision.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Decide about one, once; the decision is kept, and stands in the audit log."""
    from legato.cli.database import settings_of, write_if_there
    from legato.core.clock import SystemClock
    from legato.runs.audit import command_actor
    from legato.runs.reviews import decide_review

    actor, now_ms = command_actor(), SystemClock().now_ms()
    found = write_if_there(
        settings_of(data_dir, database_url),
        lambda tx: decide_review(tx, review_id, decision, note=note, by=actor.id, actor=actor, now_ms=now_ms),
    )
    done, row = found or (False, None)
    if row is None:
        complain(f"there is no flagged text {one_line(review_id)[:60]}: `legato review list` shows all")
        raise typer.Exit(FAILED)
    if not done:
        complain(f"{one_line(row.decided_by)} has decided about it already: {row.decision}")
        raise typer.Exit(FAILED)
    typer.echo(f"{review_id}: {decision}")


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FIELDS}


def _day(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M")
