"""`legato serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from legato.settings import load_settings
from legato.telemetry import configure_logs


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the embedded database.")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///path/to/legato.db")] = None,
) -> None:
    """Start the server."""
    settings = load_settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    configure_logs(settings.log_level, settings.log_format)
    from legato.app import run

    run(settings, lambda port: typer.echo(f"listening on http://localhost:{port}"))
