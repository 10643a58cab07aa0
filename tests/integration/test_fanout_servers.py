"""The servers that tests start: what a test may count on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from tests.postgres import Postgres, PostgresServer
from tests.valkey import Valkey, ValkeyServer


def _fill(postgres: Postgres, url: str) -> None:
    with postgres.connect(url) as connection:
        connection.execute("CREATE TABLE note (text text)")
        connection.execute("INSERT INTO note VALUES ('of the template')")


def _notes(postgres: Postgres, url: str) -> list[str]:
    with postgres.connect(url) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY text").fetchall()]


def test_each_database_begins_as_its_template(postgres: Postgres) -> None:
    """What a test writes is not there for the next one."""
    postgres.make_template("notes", lambda url: _fill(postgres, url))
    postgres.make_template("notes", lambda url: pytest.fail("a template is filled once"))
    first, second = postgres.make_database("notes"), postgres.make_database("notes")
    with postgres.connect(first) as connection:
        connection.execute("INSERT INTO note VALUES ('own')")
    assert _notes(postgres, first) == ["of the template", "own"]
    assert _notes(postgres, second) == ["of the template"]
    postgres.drop_database(first)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        postgres.connect(first)


def test_a_restart_keeps_what_was_committed(postgres_server: PostgresServer) -> None:
    """`-m immediate` cuts sessions and loses nothing that was committed; the address stays."""
    url = postgres_server.make_database()
    _fill(postgres_server, url)
    with postgres_server.connect(url) as held:
        postgres_server.restart("immediate")
        with pytest.raises(psycopg.OperationalError):
            held.execute("SELECT 1")
    assert _notes(postgres_server, url) == ["of the template"]


def test_a_stopped_server_refuses_connections(postgres_server: PostgresServer) -> None:
    """Between `stop` and `start` nobody is there."""
    postgres_server.stop()
    try:
        with pytest.raises(psycopg.OperationalError, match="refused"):
            postgres_server.connect()
    finally:
        postgres_server.start()


def test_sessions_are_ended_by_their_name(postgres: Postgres, postgres_url: str) -> None:
    """One application's sessions end, and no others."""
    with (
        psycopg.connect(postgres_url, application_name="ended") as ended,
        psycopg.connect(postgres_url, application_name="kept") as kept,
    ):
        assert postgres.end_sessions("ended", postgres_url) == 1
        with pytest.raises(psycopg.OperationalError):
            ended.execute("SELECT 1")
        kept.execute("SELECT 1")


def test_a_paused_server_answers_later(postgres_server: PostgresServer) -> None:
    """SIGSTOP reaches the sessions too; nothing breaks by it."""
    with postgres_server.connect() as connection, ThreadPoolExecutor(1) as thread:
        postgres_server.pause()
        answer = thread.submit(connection.execute, "SELECT 1")
        time.sleep(0.1)
        silent = not answer.done()
        postgres_server.resume()
        assert silent
        assert answer.result(10).fetchone() == (1,)


def test_redis_is_killed_restarted_and_flushed(valkey_server: ValkeyServer) -> None:
    """It is there again on the same port, with nothing in it."""
    valkey_server.ask("SET", "key", "value")
    valkey_server.kill()
    with pytest.raises(redis.ConnectionError):
        valkey_server.ask("PING")
    valkey_server.start()
    assert valkey_server.ask("GET", "key") is None
    valkey_server.ask("SET", "key", "value")
    valkey_server.ask("FLUSHALL")
    assert valkey_server.ask("GET", "key") is None


def test_redis_wants_its_password(valkey_server: ValkeyServer) -> None:
    """No other user of the machine gets in."""
    stranger = Valkey(f"redis://127.0.0.1:{valkey_server.port}")
    with pytest.raises(redis.AuthenticationError):
        stranger.ask("PING")
