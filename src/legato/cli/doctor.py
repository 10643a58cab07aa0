"""`legato doctor`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.exits import CONFIGURATION, FAILED, OK, help_end
from legato.cli.terminal import complain, console, neutral
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.cli.check import Check

HELP_END = help_end(
    "legato doctor",
    "legato doctor --offline        # without a look at the model's server",
    "legato doctor --json | jq '.checks[] | select(.state == \"wrong\")'",
    exits={
        OK: "the server can start and answer",
        FAILED: "it cannot; each reason is shown with what to do",
        CONFIGURATION: "",
    },
)
_SIGNS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "bold red"), "skipped": ("-", "dim")}


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Do not connect to the models' servers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    host: Annotated[str | None, typer.Option(help="As for `legato serve`.")] = None,
    port: Annotated[int | None, typer.Option(help="As for `legato serve`.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As for `legato serve`.")] = None,
    database_url: Annotated[str | None, typer.Option(help="As for `legato serve`.")] = None,
) -> None:
    """Look at what is configured, what is missing, and how to mend it. Keys are never shown."""
    from legato.cli.check import Check
    from legato.cli.checks import check_compiled, check_python, check_server
    from legato.cli.sources import shown_settings
    from legato.settings import load_settings

    rows: list[tuple[str, str, str]] = []
    checks = [check_python(), check_compiled()]
    try:
        settings = load_settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    except ConfigurationError as error:
        checks.append(Check(name="settings", state="wrong", found=error.message))
    else:
        rows = shown_settings(settings)
        checks += check_server(settings, offline=offline)
    wrong = sum(check.state == "wrong" for check in checks)
    if as_json:
        _print_json(rows, checks, wrong == 0)
    else:
        _print(rows, checks, wrong)
    raise typer.Exit(FAILED if wrong else OK)


def _print_json(rows: list[tuple[str, str, str]], checks: list[Check], can_answer: bool) -> None:
    import json

    data = {
        "canAnswer": can_answer,
        "settings": [{"name": name, "value": value, "source": source} for name, value, source in rows],
        "checks": [dataclasses.asdict(check) for check in checks],
    }
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _print(rows: list[tuple[str, str, str]], checks: list[Check], wrong: int) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    if rows:
        settings = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for style in (None, None, "dim"):
            settings.add_column(style=style, overflow="fold")
        for row in rows:
            settings.add_row(*map(neutral, row))
        out.print("Settings", style="bold")
        out.print(settings)
        out.print()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in checks:
        sign, style = _SIGNS[check.state]
        found = neutral(check.found) + (f"\n→ {neutral(check.mend)}" if check.mend else "")
        table.add_row(Text(sign, style=style), check.name, found)
    out.print("Checks", style="bold")
    out.print(table)
    out.print()
    if wrong:
        complain(f"{wrong} {'thing keeps' if wrong == 1 else 'things keep'} the server from starting or answering")
    else:
        out.print("The server can start and answer.")
