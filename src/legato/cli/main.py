"""The `legato` command: parses and prints, nothing else."""

from __future__ import annotations

import sys

import typer

from legato import __version__
from legato.cli.serve import serve
from legato.core.errors import ConfigurationError

EXIT_CONFIGURATION = 78
"""sysexits.h EX_CONFIG: it cannot run as it is configured."""

app = typer.Typer(
    name="legato",
    help="A streaming chat server: a reply that has begun reaches its reader whole.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
app.command()(serve)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(f"legato {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; exit 0 for success, 78 for a configuration that cannot work, 2 for wrong usage."""
    try:
        app()
    except ConfigurationError as error:
        typer.echo(f"legato: {error.message}", err=True)
        sys.exit(EXIT_CONFIGURATION)
