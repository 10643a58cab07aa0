"""The `legato` command: parses and prints, nothing else."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from legato.cli import (
    accounts,
    audit,
    backup,
    budgets,
    chat,
    dead_letters,
    doctor,
    erase,
    hold,
    keys,
    models,
    new,
    restore,
    review,
    serve,
    state,
    steps,
    usage,
)
from legato.cli.exits import CONFIGURATION, FAILED, STOPPED, UNREACHABLE, help_end
from legato.cli.terminal import complain
from legato.core.errors import ConfigurationError, Refused, StorageUnavailable

app = typer.Typer(
    name="legato",
    help="A streaming chat server: a reply that has begun reaches its reader whole.\n\n"
    "Settings come from the command line, then the environment (`LEGATO_…`), then `.env`, then `legato.toml`.",
    epilog=help_end(
        "legato serve                     # on http://localhost:3111",
        "legato chat                      # talk to it, in this terminal",
        "legato doctor                    # what is missing, and how to mend it",
        "legato new my-bot                # a bot of your own, to begin with",
        exits={
            UNREACHABLE: "no server answers, or no database",
            CONFIGURATION: "a setting is wrong or missing",
            STOPPED: "stopped by Ctrl-C",
        },
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=serve.HELP_END)(serve.serve)
app.command(epilog=chat.HELP_END)(chat.chat)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(accounts.app, name="accounts")
app.add_typer(state.app, name="state")
app.command(epilog=steps.HELP_END)(steps.steps)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(review.app, name="review")
app.command(epilog=usage.HELP_END)(usage.usage)
app.add_typer(budgets.app, name="budgets")
app.command(epilog=new.HELP_END)(new.new)
app.command(epilog=doctor.HELP_END)(doctor.doctor)
app.command(epilog=backup.HELP_END)(backup.backup)
app.command(epilog=restore.HELP_END)(restore.restore)
app.add_typer(hold.app, name="hold")
app.command(epilog=erase.HELP_END)(erase.erase)
app.add_typer(audit.app, name="audit")


def _print_version(wanted: bool) -> None:
    if wanted:
        from legato.version import __version__

        typer.echo(f"legato {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line; cli.exits lists how it may end."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character must not end a command; lone surrogates have no bytes at all.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app()
    except ConfigurationError as error:
        complain(error.message)
        sys.exit(CONFIGURATION)
    except StorageUnavailable as error:
        # Another code: it may be there when it is asked again.
        complain(error.message)
        sys.exit(UNREACHABLE)
    except Refused as error:
        # As a request of the same would be.
        complain(error.message)
        sys.exit(FAILED)
