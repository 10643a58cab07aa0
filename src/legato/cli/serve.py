"""`legato serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli.exits import CONFIGURATION, FAILED, OK, help_end
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.app import Legato
    from legato.settings import Settings

HELP_END = help_end(
    "legato serve",
    "legato serve bot.py --reload         # your own bot",
    "legato serve mybot.app:app --port 8080",
    "LEGATO_MODEL=/path/to/model.gguf legato serve",
    "LEGATO_AUTH=keys legato serve --host 0.0.0.0",
    exits={
        OK: "stopped, after the running replies had ended",
        FAILED: "",
        CONFIGURATION: "a setting is wrong, the port or the data folder is in use",
    },
)


def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            help="`bot.py` or `module:app`: a `legato.Legato` object, with its tools, steps and settings. The "
            "`legato.toml` and the `.env` beside the file are read where the working directory has none."
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; `localhost`, IPv4 and IPv6, by default.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 3111 by default; 0 picks a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the embedded database, `data` by default.")] = None,
    database_url: Annotated[str | None, typer.Option(help="`sqlite:///path/to/legato.db`, instead.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; SQLite takes one.")] = None,
    reload: Annotated[
        bool | None,
        typer.Option("--reload/--no-reload", help="Start anew when a Python file, `legato.toml` or `.env` changes."),
    ] = None,
) -> None:
    """Start the server.

    Each option is also `LEGATO_…` in the environment or in `.env`, and a line of `legato.toml`.
    `LEGATO_MODEL` picks the model. Ctrl-C lets the running replies end, a second one does not wait.
    """
    options = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "database_url": database_url,
        "workers": workers,
        "reload": reload,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if _wants_reload(target, given):
        from legato.cli.reload import supervise
        from legato.cli.target import folder_of

        supervise(sys.argv[1:], folder_of(target))
        return
    from legato.settings import load_settings

    bot = _bot(target)
    settings = bot.settings(**given) if bot is not None else load_settings(**given)
    check_workers(settings)
    from legato.telemetry import configure_logs

    configure_logs(settings.log_level, settings.log_format)
    from legato.app import check_access, run
    from legato.cli.describe import describe_models
    from legato.cli.start_lines import print_start

    check_access(settings)
    models = [model for model in describe_models(settings) if model.order]
    run(settings, lambda bound: print_start(settings, bound, models, given), bot)


def check_workers(settings: Settings) -> None:
    """Refuse more than one process on an SQLite file.

    Raises:
        ConfigurationError: `workers` is more than 1.
    """
    if settings.workers > 1:
        raise ConfigurationError(
            f"{settings.workers} workers cannot be had: one process writes an SQLite file; "
            "more need PostgreSQL, which comes in a later version"
        )


def _wants_reload(target: str | None, given: dict[str, Any]) -> bool:
    if "reload" in given:
        return bool(given["reload"])
    from legato.cli.target import folder_of
    from legato.settings import load_settings

    return load_settings(folder_of(target), **given).reload


def _bot(target: str | None) -> Legato | None:
    if target is None:
        return None
    from legato.cli.target import load_target

    return load_target(target)
