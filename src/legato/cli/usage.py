"""`legato usage`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import help_end
from legato.cli.terminal import complain, console, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legato.core.usage import UsageFigures
    from legato.storage.statement import Transaction

HELP_END = help_end(
    "legato usage                              # of everybody, by day, of the last 30 days",
    "legato usage --by model --from 2026-11-01",
    "legato usage --owner ann --by session",
    "legato usage --by owner --csv > usage.csv",
)
_DAYS = 30
_PAGE = 1000


def usage(
    by: Annotated[
        Literal["day", "model", "session", "key", "purpose", "owner"], typer.Option(help="What groups it.")
    ] = "day",
    since: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC; by default 30 days ago.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, UTC; by default today.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Of this owner alone.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model alone.")] = None,
    session: Annotated[str | None, typer.Option(help="Of this session alone.")] = None,
    key: Annotated[str | None, typer.Option(help="Of this API key alone, by its id.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """What calls of models have used and cost."""
    from legato.cli.database import read, settings_of
    from legato.storage.usage_figures import Charged, find_usage

    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=_DAYS) if since is None else since.replace(tzinfo=UTC)
    last = today if until is None else until.replace(tzinfo=UTC)
    charged = Charged(
        owner=owner,
        since_ms=max(0, int(first.timestamp() * 1000)),
        until_ms=max(0, int((last + timedelta(days=1)).timestamp() * 1000)),
        model=model,
        session_id=session,
        key_id=key,
    )

    def find(tx: Transaction) -> tuple[UsageFigures, list[UsageFigures]]:
        groups: list[UsageFigures] = []
        after: str | None = None
        while True:
            page = find_usage(tx, charged, by, after=after, limit=_PAGE)
            groups += page
            if len(page) < _PAGE:
                return find_usage(tx, charged, "none", after=None, limit=1)[0], groups
            after = page[-1].key or ""

    found = read(settings_of(data_dir, database_url), find)
    if as_csv:
        from legato.core.csv_text import csv_text
        from legato.core.usage import USAGE_COLUMNS, usage_cells

        typer.echo(csv_text([by, *USAGE_COLUMNS], map(usage_cells, found[1] if found else ())), nl=False)
        return
    if found is None or not found[1]:
        complain("nothing was used in this time")
        return
    _print(by, found[1], found[0])


def _print(by: str, groups: Sequence[UsageFigures], total: UsageFigures) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(by, overflow="fold")
    for title in ("calls", "input", "of it cached", "output", "of it reasoning", "US dollars", "without price"):
        table.add_column(title, justify="right", overflow="fold")
    for each in groups:
        table.add_row(one_line(each.key or "-"), *_cells(each))
    table.add_section()
    table.add_row("all", *_cells(total))
    console().print(table)
    if total.unpriced:
        calls = "1 call" if total.unpriced == 1 else f"{total.unpriced:,} calls"
        complain(f"the cost of {calls} is not known: `legato models` shows which models lack a price")


def _cells(each: UsageFigures) -> list[str]:
    tokens = (each.input_tokens, each.cache_read_tokens, each.output_tokens, each.reasoning_tokens)
    cost = "unknown" if each.cost is None else f"{each.cost:,.6f}"
    return [f"{each.calls:,}", *(f"{count:,}" for count in tokens), cost, f"{each.unpriced:,}"]
