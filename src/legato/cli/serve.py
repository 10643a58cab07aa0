"""`legato serve`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import CONFIGURATION, FAILED, OK, UNREACHABLE, help_end
from legato.cli.terminal import size_text
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
    "LEGATO_DATABASE_URL=postgresql://… legato serve --workers 4",
    exits={
        OK: "stopped, after the running replies had ended",
        FAILED: "",
        CONFIGURATION: "a setting is wrong, the port or the data folder is in use",
        UNREACHABLE: "the database does not answer",
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
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes, each a node of its own; SQLite takes one.")
    ] = None,
    reload: Annotated[
        bool | None,
        typer.Option("--reload/--no-reload", help="Start anew when a Python file, `legato.toml` or `.env` changes."),
    ] = None,
    seat: Annotated[str | None, typer.Option(hidden=True, help="Of a worker: given by its parent.")] = None,
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
    # What is loaded from here on stays: the collector would look at it in vain, for a fifth of the start's time. It
    # runs again before the socket listens.
    gc.disable()
    from legato.settings import load_settings

    worker = None
    if seat is not None:
        from legato.cli.seat import Seat

        worker = Seat.parse(seat).take()
    bot = _bot(target)
    settings = bot.settings(**given) if bot is not None else load_settings(**given)
    from legato.telemetry import configure_logs

    configure_logs(settings.log_level, settings.log_format)
    atexit.register(leave_unsaid)
    from legato.app import check_access, run
    from legato.cli.describe import describe_models
    from legato.cli.start_lines import print_start

    check_access(settings)
    if worker is not None:
        run(settings, lambda port: worker.serves(), bot, worker.sockets)
        return
    check_workers(settings)
    models = [model for model in describe_models(settings) if model.order]

    def on_ready(port: int) -> None:
        try:
            print_start(settings, port, models, given)
        except OSError as error:
            # A full disk, or nobody who reads: it serves all the same.
            import structlog

            structlog.get_logger(__name__).warning("the lines of the start could not be printed", error=error.strerror)

    if settings.workers == 1:
        run(settings, on_ready, bot)
        return
    from legato.cli.workers import serve_with

    sys.exit(serve_with(settings, sys.argv[1:], on_ready))


def leave_unsaid() -> None:
    """Forget what could not be printed or logged: at the end it would fail once more, and become the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with Path(os.devnull).open("wb") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())


def check_workers(settings: Settings) -> None:
    """Refuse more than one process on an SQLite file, or with a model that each would load.

    Raises:
        ConfigurationError: `workers` is more than 1.
    """
    if settings.workers == 1:
        return
    from legato.cli.describe import describe_models

    if not settings.uses_postgres:
        raise ConfigurationError(
            f"{settings.workers} workers cannot be had: one process writes an SQLite file; "
            "more need PostgreSQL, LEGATO_DATABASE_URL=postgresql://…"
        )
    for model in describe_models(settings):
        if model.kind == "embedded":
            size = "" if model.size_bytes is None else f", {size_text(model.size_bytes)} and working memory each time"
            raise ConfigurationError(
                f"{settings.workers} workers would load the embedded model {model.name} as often{size}: "
                "run it once, as a server of its own that a base_url names, or take one worker"
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
