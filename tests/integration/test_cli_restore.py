"""`legato restore`: what a backup has comes back whole, both files together, and nothing is ever overwritten."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from legato import Legato
from legato.cli.restore import restore
from legato.core.errors import ConfigurationError
from legato.testing import serving
from tests.cli_process import Ended, legato, legato_inside
from tests.client import Client
from tests.contract.storage_backends import SealedSqliteStorage

pytestmark = pytest.mark.slow
OTHER_KEY = "k1:" + base64.b64encode(bytes(32)).decode()
"""Of the name that the encrypted backup's has."""


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of three conversations and a queue, made beside the server that serves them."""
    folder = tmp_path_factory.mktemp("backup")
    copy = folder / "monday.db"
    with serving(Legato(), rate_limit="off", data_dir=folder / "data") as server:
        with Client(server.port) as client:
            for number in range(3):
                client.say("script: tokens=5", conversationId=f"c{number}")
        data = folder / "data"
        # The queue takes a second's events at once; its file is there before it can be copied.
        assert server.wait_for(lambda: (data / "queue.db").exists() and not outbox(data), 60.0)
        done = legato_inside(folder, "backup", str(copy))
        assert done.returncode == 0, done.stderr
    return copy


def outbox(data: Path) -> object:
    """Return how many events wait for the queue."""
    return order(data / "legato.db", "SELECT count(*) FROM outbox")


def place(tmp_path: Path, backup: Path) -> Path:
    """Return a copy of the backup that a test may harm."""
    for each in (backup, backup.with_name("monday-queue.db")):
        shutil.copy(each, tmp_path / each.name)
    return tmp_path / backup.name


def test_a_server_goes_on_from_a_restored_backup(backup: Path, tmp_path: Path) -> None:
    """With its conversations, its queue and its audit log, which says that it was restored."""
    copy, data = place(tmp_path, backup), tmp_path / "own" / "data"

    def run(*arguments: str) -> Ended:
        return legato_inside(tmp_path, *arguments, "--data-dir", str(data))

    done = run("restore", str(copy))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in data.iterdir()} == {"legato.db", "queue.db", "legato.lock"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in data.iterdir())
    with serving(Legato(), rate_limit="off", data_dir=data) as server:
        with Client(server.port) as client:
            found = client.ask("GET", "/conversations").json["conversations"]
            assert {each["id"] for each in found} == {"c0", "c1", "c2"}
            assert len(client.ask("GET", "/conversations/c1/messages").json["messages"]) == 2
            assert client.say("script: tokens=2", conversationId="c1")[-1].name == "complete"
        # In processes of their own: what the server here logs is not theirs.
        listed = legato(tmp_path, "audit", "list", "--json", "--data-dir", str(data)).stdout.splitlines()
        assert [json.loads(line)["action"] for line in listed] == ["backup.restore", "backup.create"]
        verified = legato(tmp_path, "audit", "verify", "--data-dir", str(data)).stdout
        assert verified.startswith("whole: 2 entries")
        noted = verified.split(" for --expect: ")[1].strip()
        assert run("audit", "verify", "--expect", noted).returncode == 0
        other = f"{noted.partition(':')[0]}:{'0' * 64}"
        assert run("audit", "verify", "--expect", other).returncode == 1
        refused = run("restore", str(copy))
        assert refused.returncode == 78
        assert "a legato server uses the data folder" in refused.stderr


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "set LEGATO_ENCRYPTION_KEYS"),
        ({"LEGATO_ENCRYPTION_KEYS": OTHER_KEY}, "is not the one that this database knows"),
        ({"LEGATO_ENCRYPTION_KEYS": f"k2{OTHER_KEY[2:]}"}, "is not in LEGATO_ENCRYPTION_KEYS"),
        ({"LEGATO_ENCRYPTION_KEYS": SealedSqliteStorage.KEYS}, None),
    ],
)
def test_an_encrypted_backup_wants_its_key_first(tmp_path: Path, keys: dict[str, str], said: str | None) -> None:
    """Without it nothing is put in place: what nobody can open would only stand in the way of the next try."""
    folder, data = tmp_path / "made", tmp_path / "data"
    folder.mkdir()
    SealedSqliteStorage(folder)
    done = legato_inside(
        tmp_path, "restore", str(folder / "legato.db"), "--without-queue", "--data-dir", str(data), **keys
    )
    assert (done.returncode, data.exists()) == ((78, False) if said else (0, True)), done.stderr
    assert (said or "") in done.stderr


def test_nothing_is_overwritten(backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever of either database is there, even a log alone."""
    copy = place(tmp_path, backup)
    for name in ("legato.db", "legato.db-wal", "queue.db", "queue.db-shm"):
        data = tmp_path / f"data-{name}"
        data.mkdir()
        (data / name).write_bytes(b"mine")
        code, said = put_back(capsys, copy, data_dir=data)
        assert (code, (data / name).read_bytes()) == (1, b"mine")
        assert "is there already" in said
        assert {path.name for path in data.iterdir()} <= {name, "legato.lock"}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("no file", "there is no file"),
        ("no queue", "there is no file"),
        ("cut", "is no whole copy"),
        ("garbage", "is no whole copy"),
        ("another queue", "are not of one backup"),
        ("a newer version", "is of revision 9001"),
        ("something else", "is no database of Legato's"),
    ],
)
def test_what_is_no_good_is_refused(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: str, said: str
) -> None:
    """Before anything is made; the reason is told."""
    copy, data = place(tmp_path, backup), tmp_path / "data"
    queue = copy.with_name("monday-queue.db")
    match harm:
        case "no file":
            copy.unlink()
        case "no queue":
            queue.unlink()
        case "cut":
            copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2 // 4096 * 4096])
        case "garbage":
            queue.write_bytes(b"garbage" * 1000)
        case "another queue":
            order(queue, "PRAGMA user_version = 5")
        case "a newer version":
            order(copy, "UPDATE alembic_version SET version_num = '9001'")
        case _:
            mark = order(queue, "PRAGMA user_version")
            copy.unlink()
            order(copy, f"PRAGMA user_version = {mark}", "CREATE TABLE other (id)")
    code, told = put_back(capsys, copy, data_dir=data)
    assert code == 1
    assert said in told
    assert not data.exists()


def test_a_lost_queue_can_be_done_without(backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where whoever restores says so."""
    copy, data = place(tmp_path, backup), tmp_path / "data"
    copy.with_name("monday-queue.db").unlink()
    assert put_back(capsys, copy, without_queue=True, data_dir=data)[0] == 0
    assert {path.name for path in data.iterdir()} == {"legato.db", "legato.lock"}


def test_postgres_has_programs_for_it() -> None:
    """It is named."""
    with pytest.raises(ConfigurationError, match="pg_restore"):
        restore(Path("x.db"), database_url="postgresql://localhost/none")


def put_back(capsys: pytest.CaptureFixture[str], file: Path, **options: Any) -> tuple[int, str]:
    """Call the command in this process; return how it ended, and what it said of it."""
    code = 0
    try:
        restore(file, **options)
    except typer.Exit as end:
        code = end.exit_code
    return code, " ".join(capsys.readouterr().err.split())


def order(path: Path, *sql: str) -> object:
    """Run SQL on a file; return what the first statement gave."""
    with closing(sqlite3.connect(path)) as database:
        found = [database.execute(each).fetchone() for each in sql]
        database.commit()
    return found[0][0] if found[0] else None
