"""Brings a database to the schema of this version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from legato.core.errors import ConfigurationError

HEAD = "0005"
"""The newest revision in migrations/versions; a test holds it to that."""


def migrate(path: Path) -> None:
    """Upgrade the SQLite file at `path`, making it if absent.

    Raises:
        ConfigurationError: It is no database, cannot be written, or was written by a newer version.
    """
    try:
        version = _version(path)
    except sqlite3.Error as error:
        raise ConfigurationError(f"the database {path} cannot be used: {error}") from error
    if version == HEAD:
        return
    # Half a second of imports that a start without migrations need not pay.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy import create_engine

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except CommandError as error:
        raise ConfigurationError(
            f"the database {path} is of revision {version}, which this version does not know: "
            "it was written by a newer Legato; install that one"
        ) from error
    finally:
        engine.dispose()


def _version(path: Path) -> str | None:
    if not path.exists():
        return None
    connection = sqlite3.connect(path)
    try:
        row = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
        ).fetchone()
        if not row[0]:
            return None
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return found[0] if found else None
    finally:
        connection.close()
