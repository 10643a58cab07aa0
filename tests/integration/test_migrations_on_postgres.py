"""PostgreSQL's schema: the one that storage.tables describes, made once however many nodes start."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from legato.core.errors import ConfigurationError
from legato.storage import locks, migrate
from legato.storage.migrate import HEAD, upgrade
from legato.storage.postgres_tables import postgres_metadata
from legato.storage.schema import metadata
from tests.migrations import REVISIONS, differences, engine_of, former_tables, upgrade_to, use
from tests.postgres import Postgres

LOCK = f"({locks.SPACE}, {locks.MIGRATION})"
MIGRATE = "import sys; from legato.storage.migrate import upgrade; upgrade(sys.argv[1], where='it')"


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_a_database_of_any_revision_is_brought_to_the_tables(
    postgres: Postgres, postgres_url: str, revision: str | None
) -> None:
    """Also what PostgreSQL alone has; and all text is in the order of its bytes, whatever the database's language."""
    if revision is not None:
        upgrade_to(postgres_url, revision)
    upgrade(postgres_url, where="it")
    assert differences(postgres_url, metadata, postgres_metadata) == []
    with postgres.connect(postgres_url) as connection:
        others = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND data_type IN ('text', 'character varying') AND collation_name IS DISTINCT FROM 'C'"
        ).fetchall()
        (unlogged,) = connection.execute("SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'")
    assert others == [("alembic_version", "version_num")]
    assert unlogged == ("rate_window",)


@pytest.mark.parametrize("revision", REVISIONS[4:-1])
def test_what_knows_an_older_schema_can_use_the_newest(postgres: Postgres, revision: str) -> None:
    """Nodes of an older version go on while the newer ones start."""
    old, new = postgres.make_database(), postgres.make_database()
    upgrade_to(old, revision)
    upgrade(new, where="it")
    engine = engine_of(new)
    use(engine, former_tables(old))
    engine.dispose()
    for url in (old, new):
        postgres.drop_database(url)


def test_of_nodes_that_start_together_one_migrates(postgres: Postgres, postgres_url: str) -> None:
    """The others wait for it, and find it done."""
    with postgres.connect(postgres_url) as holder:
        holder.execute(f"SELECT pg_advisory_lock{LOCK}")
        command = [sys.executable, "-W", "error", "-c", MIGRATE, postgres_url]
        nodes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
        until = time.monotonic() + 60
        while _waiting(holder) < len(nodes):
            assert time.monotonic() < until, "they do not wait for the lock"
            time.sleep(0.01)
        assert holder.execute("SELECT to_regclass('node')").fetchone() == (None,)
        holder.execute(f"SELECT pg_advisory_unlock{LOCK}")
        ends = [(node.communicate()[1], node.returncode) for node in nodes]
        assert ends == [(b"", 0)] * len(nodes)
        assert holder.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        assert holder.execute("SELECT count(*) FROM search_place").fetchone() == (1,)


def _waiting(connection: psycopg.Connection) -> int:
    found = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND NOT granted", [locks.SPACE]
    ).fetchone()
    assert found is not None
    return int(found[0])


def test_the_patience_with_another_migration_ends(
    postgres: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is stopped in the midst of one does not hold the others for ever."""
    monkeypatch.setattr(migrate, "PATIENCE_S", 0.05)
    with postgres.connect(postgres_url) as holder:
        holder.execute(f"SELECT pg_advisory_lock{LOCK}")
        with pytest.raises(ConfigurationError, match=r"the database it cannot be migrated: .* lock timeout"):
            upgrade(postgres_url, where="it")


def test_a_migration_that_waits_for_a_table_holds_nobody_up_for_long(
    postgres: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the table again and again, and nodes that are serving write in between."""
    monkeypatch.setattr(migrate, "TABLE_S", 0.2)
    monkeypatch.setattr(migrate, "PAUSE_S", 0.1)
    upgrade_to(postgres_url, "0005")
    with (
        postgres.connect(postgres_url) as reader,
        postgres.connect(postgres_url) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM run")
        migrating = threads.submit(upgrade, postgres_url, where="it")
        other.execute("SET statement_timeout = '2s'")
        tables = "SELECT count(*) FROM pg_locks WHERE relation = 'run'::regclass AND NOT granted"
        for _ in range(3):
            until = time.monotonic() + 30
            while other.execute(tables).fetchone() == (0,):
                assert time.monotonic() < until, "the migration does not wait for the table"
                time.sleep(0.01)
            other.execute("SELECT count(*) FROM run")
        assert not migrating.done()
        reader.execute("ROLLBACK")
        migrating.result(60)
        assert other.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


@pytest.mark.parametrize(("floor", "refused"), [(HEAD, False), ("9000", True)])
def test_a_newer_database_is_used_as_far_as_it_allows(
    postgres: Postgres, postgres_url: str, floor: str, refused: bool
) -> None:
    """A rolling upgrade begins with nodes that know more; what they leave as it was, the others go on using."""
    upgrade(postgres_url, where="it")
    with postgres.connect(postgres_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9001'")
        connection.execute("UPDATE schema_floor SET least_revision = %s", [floor])
        if refused:
            with pytest.raises(ConfigurationError, match="of revision 9001, which this version does not know"):
                upgrade(postgres_url, where="it")
        else:
            upgrade(postgres_url, where="it")
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9001",)]
