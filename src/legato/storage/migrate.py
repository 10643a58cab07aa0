"""Brings a database to the schema of this version.

A newer version only adds at first (expand), so that nodes of this one go on beside it; what it takes away goes with a
later one (contract), which says in `schema_floor` what a node has to know from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from legato.core.errors import ConfigurationError
from legato.storage import locks

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

HEAD: Final = "0013"
"""The newest revision in migrations/versions; a test holds it to that."""
PATIENCE_S: Final = 60
"""How long a node waits for another that migrates, and a migration for a table that is in use."""
TABLE_S: Final = 2
"""At a time: while a migration waits for a table, all others wait behind it."""
PAUSE_S: Final = 0.5
LOCK_NOT_AVAILABLE: Final = "55P03"


def upgrade(url: str, *, where: str) -> None:
    """Run the migrations that are missing; on PostgreSQL one node at a time, and the others find it done.

    A newer schema that this version can use is left as it is.

    Args:
        url: sqlite:///… or postgresql://…; the database is there.
        where: The same in words for people.

    Raises:
        ConfigurationError: It was written by a newer version whose schema this one cannot use, or it cannot be
            changed.
    """
    # Half a second of imports that a start without migrations need not pay.
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                _lock(connection)
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and found > HEAD:
                _check_floor(connection, where, found)
                return
            config.attributes["connection"] = connection
            _patiently(connection, lambda: command.upgrade(config, HEAD))
    except DBAPIError as error:
        raise ConfigurationError(f"the database {where} cannot be migrated: {error.orig}") from error
    finally:
        # Closes the connection, and with it gives up the lock.
        engine.dispose()


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine

    if url.startswith("sqlite:"):
        return create_engine(url)
    import psycopg

    # libpq's own addresses are more than SQLAlchemy's: several hosts, a service, sockets.
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))


def _lock(connection: Connection) -> None:
    """Wait for whoever migrates, at most PATIENCE_S; the lock is the connection's."""
    connection.exec_driver_sql(f"SET lock_timeout = {round(PATIENCE_S * 1000)}")
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({locks.SPACE}, {locks.MIGRATION})")
    connection.exec_driver_sql(f"SET lock_timeout = {round(TABLE_S * 1000)}")
    # What is read next is to be what the other has committed.
    connection.commit()


def _patiently(connection: Connection, migrate: Callable[[], None]) -> None:
    """Migrate in one transaction, anew where a table was in use for too long."""
    from sqlalchemy.exc import DBAPIError

    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            migrate()
        except DBAPIError as error:
            connection.rollback()
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE or time.monotonic() >= until_s:
                raise
            time.sleep(PAUSE_S)
        else:
            connection.commit()
            return


def _check_floor(connection: Connection, where: str, found: str) -> None:
    from sqlalchemy import inspect, select

    from legato.storage.tables import schema_floor

    known = inspect(connection).has_table(schema_floor.name)
    least = connection.execute(select(schema_floor.c.least_revision)).scalar() if known else None
    if least is None or least > HEAD:
        raise ConfigurationError(
            f"the database {where} is of revision {found}, which this version does not know: "
            "it was written by a newer Legato; install that one"
        )
