"""Brings a database to the schema of this version."""

from __future__ import annotations

from pathlib import Path

from legato.core.errors import ConfigurationError

HEAD = "0005"
"""The newest revision in migrations/versions; a test holds it to that."""


def upgrade(url: str, *, where: str, found: str | None) -> None:
    """Run the migrations that are missing.

    Args:
        url: The database as SQLAlchemy names it; it is there.
        where: The same in words for people.
        found: Its revision; None where it is empty.

    Raises:
        ConfigurationError: It was written by a newer version.
    """
    # Half a second of imports that a start without migrations need not pay.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy import create_engine

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except CommandError as error:
        raise ConfigurationError(
            f"the database {where} is of revision {found}, which this version does not know: "
            "it was written by a newer Legato; install that one"
        ) from error
    finally:
        engine.dispose()
