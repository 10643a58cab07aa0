"""A server that cannot use its PostgreSQL says why in one sentence, and shows no password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from legato.core.errors import ConfigurationError, LegatoError, StorageUnavailable
from legato.settings import Settings
from legato.storage.database import open_database
from legato.storage.postgres import CONNECTIONS, PostgresDatabase
from tests.postgres import PostgresServer
from tests.server import free_port

SECRET = "hunter2-4711"


@pytest.fixture
def guest_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of a user who has nine connections at most."""
    url = postgres_server.make_database()
    with postgres_server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute(f"CREATE ROLE guest LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 9")
    with postgres_server.connect(url) as connection:
        connection.execute("GRANT ALL ON SCHEMA public TO guest")
    yield re.sub("://[^@]*@", f"://guest:{SECRET}@", url)
    postgres_server.drop_database(url)
    with postgres_server.connect() as connection:
        connection.execute("DROP ROLE guest")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: url.replace(SECRET, f"{SECRET}x"), "refuses the user or the password"),
        (lambda url: url.replace(f":{SECRET}", ""), "refuses the user or the password"),
        (lambda url: re.sub("/[^/]*$", "/absent", url), "no such database or user"),
        (lambda url: re.sub(r":\d+/", f":{free_port()}/", url), "cannot be reached.*Connection refused"),
        (lambda url: f"{url}?sslmod=require", "LEGATO_DATABASE_URL does not read postgresql://"),
        (lambda url: f"{url}?sslmode=yes", r"LEGATO_DATABASE_URL does not read postgresql://.*: see its sslmode"),
        (lambda url: re.sub(r":\d+/", ":99999/", url), r"LEGATO_DATABASE_URL does not read .*: see its port"),
        (lambda url: url.replace("@", f"@{SECRET}@"), r"LEGATO_DATABASE_URL does not read .*write @ as %40"),
        (lambda url: url.replace("@", f"@x:{SECRET}@"), r"LEGATO_DATABASE_URL does not read .*write @ as %40"),
        (lambda url: url, f"allows 9 connections, and this server needs {CONNECTIONS + 4}.*LEGATO_DATABASE_POOL"),
    ],
    ids=[
        "password",
        "no-password",
        "no-database",
        "no-server",
        "no-address",
        "no-option",
        "no-port",
        "at-in-password",
        "at-and-colon-in-password",
        "too-few-connections",
    ],
)
def test_what_is_wrong_with_a_database_is_said(guest_url: str, change: object, says: str) -> None:
    """With what to set; the password is in none of the sentences."""
    assert callable(change)
    database = PostgresDatabase(change(guest_url))
    with pytest.raises(LegatoError, match=says) as error:
        database.open()
    # Who starts servers tries again where it may pass by itself.
    assert type(error.value) is (StorageUnavailable if "reached" in says else ConfigurationError)
    assert SECRET not in error.value.message + database.where
    database.close()


def test_a_database_that_lets_its_user_not_in_is_said(guest_url: str, postgres_server: PostgresServer) -> None:
    """That does not pass by itself."""
    with postgres_server.connect() as connection:
        connection.execute(f"REVOKE CONNECT ON DATABASE {guest_url.rpartition('/')[2]} FROM PUBLIC")
    with pytest.raises(ConfigurationError, match=r"cannot be used: .*permission denied for database"):
        PostgresDatabase(guest_url).open()


def test_a_database_without_a_free_connection_is_said(guest_url: str) -> None:
    """Others may have them all."""
    held = [psycopg.connect(guest_url) for _ in range(9)]
    with pytest.raises(StorageUnavailable, match=r"has no connection left.*max_connections"):
        PostgresDatabase(guest_url).revision()
    for each in held:
        each.close()


def test_a_database_of_another_encoding_is_refused(postgres_server: PostgresServer) -> None:
    """It could not keep what people write."""
    url = re.sub("/[^/]*$", "/latin", postgres_server.url)
    with postgres_server.connect() as connection:
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    with pytest.raises(ConfigurationError, match=r"keeps text as LATIN1.*--encoding=UTF8"):
        PostgresDatabase(url).open()
    postgres_server.drop_database(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_setting_names_the_database(postgres_url: str, scheme: str) -> None:
    """By both of the names that libpq knows; it is empty until it is opened, and then of the newest schema."""
    database = open_database(Settings(database_url=postgres_url.replace("postgresql", scheme, 1), database_pool=3))
    assert isinstance(database, PostgresDatabase)
    assert database.revision() is None
    database.open()
    database.open()
    assert database.revision() is not None
    database.close()


@pytest.mark.parametrize("url", ["mysql://h/x", "postgresql+psycopg://h/x", "sqlite:legato.db"])
def test_another_kind_of_database_is_refused(url: str, tmp_path: Path) -> None:
    """With both forms that are right."""
    with pytest.raises(ConfigurationError, match=r"sqlite:///path/to/legato.db or postgresql://"):
        open_database(Settings(database_url=url, data_dir=tmp_path))
