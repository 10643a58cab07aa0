"""`legato budgets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from legato.core.budget import Budget
    from legato.runs.budget_admin import BudgetState
    from legato.storage.statement import Transaction

app = typer.Typer(
    help="Spending limits: set, list and remove them. Those of legato.toml are fixed.",
    no_args_is_help=True,
    epilog=help_end(
        "legato budgets list",
        "legato budgets set --per server --period month 200",
        "legato budgets set --per principal --period day 1.50      # each principal has as much",
        "legato budgets set --per principal --name ann --period day 10",
        "legato budgets remove --per principal --name ann --period day",
    ),
)

PerOption = Annotated[
    Literal["server", "principal", "key", "session", "model"],
    typer.Option(help="Whose it is: everything together, who posts, an API key, a session, a model."),
]
NameOption = Annotated[str, typer.Option(help="Which one, a key by its id; `*`: each has as much for itself.")]
PeriodOption = Annotated[Literal["day", "month", "all"], typer.Option(help="Of UTC; `all`: it never begins anew.")]


@app.command("list", epilog=help_end("legato budgets list"))
def list_all(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """List all budgets, with what is spent of them in the present period."""
    from rich.table import Table

    from legato.cli.database import read, settings_of
    from legato.core.clock import SystemClock
    from legato.core.money import from_nusd, usd_text
    from legato.policies.budget import fixed_budgets
    from legato.runs.budget_admin import list_budgets

    settings, now_ms = settings_of(data_dir, database_url), SystemClock().now_ms()
    fixed = fixed_budgets(settings)
    found = read(settings, lambda tx: list_budgets(tx, fixed, now_ms))
    if found is None:
        found = [_unused(each) for each in fixed]
    if not found:
        complain("there is no budget: legato budgets set --per server --period month 200")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("per", "name", "period", "limit $", "who", "spent $", "reserved $", "set in"):
        table.add_column(title, overflow="fold", justify="right" if title.endswith("$") else "left")
    for state in found:
        budget = state.budget
        row = (budget.per, one_line(budget.name), budget.period, budget.limit)
        where = "legato.toml" if budget.fixed else "overridden by legato.toml" if state.overridden else "here"
        style = "dim" if state.overridden else None
        if not state.uses:
            table.add_row(*row, "", "0", "0", where, style=style)
        for place, use in enumerate(state.uses):
            sums = (usd_text(from_nusd(use.spent_nusd)), usd_text(from_nusd(use.reserved_nusd)))
            who = "" if use.subject is None else one_line(use.subject)
            if place == 0:
                table.add_row(*row, who, *sums, where, style=style)
            else:
                table.add_row("", "", "", "", who, *sums, "", style=style)
    console().print(table)


@app.command(
    "set",
    epilog=help_end(
        "legato budgets set --per server --period month 200",
        "legato budgets set --per model --name gpt-5 --period day 20 --warn 50",
        exits={FAILED: "it stands in legato.toml, or there can be none of this name"},
    ),
)
def set_one(
    limit: Annotated[str, typer.Argument(metavar="USD", help="US dollars, such as 12.50; 0 lets nothing be spent.")],
    per: PerOption,
    period: PeriodOption,
    name: NameOption = "*",
    warn: Annotated[int, typer.Option(min=1, max=100, help="Percent of it that are told when they are spent.")] = 80,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Set a budget, or set it anew. A running server holds to it within two seconds."""
    from legato.cli.database import settings_of
    from legato.core.budget import Budget
    from legato.core.clock import SystemClock
    from legato.core.money import parse_usd, to_nusd
    from legato.policies.budget import fixed_budgets
    from legato.runs.audit import command_actor
    from legato.runs.budget_admin import put_budget

    usd = parse_usd(limit)
    if usd is None:
        raise typer.BadParameter(f"{one_line(limit)[:40]!r} is no amount of US dollars: write 12.50", param_hint="USD")
    settings, now_ms = settings_of(data_dir, database_url), SystemClock().now_ms()
    new = Budget(per=per, name=name, period=period, limit_nusd=to_nusd(usd), warn_percent=warn)
    fixed = fixed_budgets(settings)
    _change(data_dir, database_url, lambda tx: put_budget(tx, fixed, new, command_actor(), now_ms))
    typer.echo(f"{new.per} {one_line(new.name)} may spend {new.limit} US dollars ({new.period})")


@app.command(
    "remove",
    epilog=help_end(
        "legato budgets remove --per server --period month",
        exits={FAILED: "there is none, or it stands in legato.toml"},
    ),
)
def remove_one(
    per: PerOption,
    period: PeriodOption,
    name: NameOption = "*",
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Remove a budget; what was spent of it counts if it is set again."""
    from legato.cli.database import settings_of
    from legato.core.clock import SystemClock
    from legato.policies.budget import fixed_budgets
    from legato.runs.audit import command_actor
    from legato.runs.budget_admin import delete_budget

    settings, now_ms = settings_of(data_dir, database_url), SystemClock().now_ms()
    fixed = fixed_budgets(settings)
    _change(data_dir, database_url, lambda tx: delete_budget(tx, fixed, per, name, period, command_actor(), now_ms))
    typer.echo(f"{per} {one_line(name)} has no budget any more ({period})")


def _change(data_dir: DataDir, database_url: DatabaseUrl, change: Callable[[Transaction], None]) -> None:
    from legato.cli.database import settings_of, write
    from legato.core.errors import Refused

    try:
        write(settings_of(data_dir, database_url), change)
    except Refused as error:
        complain(error.message)
        raise typer.Exit(FAILED) from None


def _unused(budget: Budget) -> BudgetState:
    from legato.runs.budget_admin import BudgetState

    return BudgetState(budget=budget, overridden=False, since_ms=0, until_ms=None, uses=())
