"""`legato keys`, `models`, `doctor`, `backup`, and .env.example."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from legato.settings import CLIENT_VARIABLES, Settings
from legato.storage.migrate import HEAD
from legato.storage.sqlite import SqliteDatabase
from tests.cli_process import legato
from tests.client import Client
from tests.conftest import StartServer
from tests.server import ServerProcess, free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECRET = "sk-very-secret-0123456789"
SOON_S = 60.0
"""How long anything may take on a busy machine."""


def test_the_version_is_told(tmp_path: Path) -> None:
    """`legato --version`."""
    assert re.fullmatch(r"legato \d+\.\d+\.\d+\n", legato(tmp_path, "--version").stdout)


@pytest.mark.slow
def test_keys_are_made_listed_and_revoked_before_a_server_ran(tmp_path: Path) -> None:
    """The key alone is on standard output; lists never show it; a second revocation harms nothing."""
    made = legato(tmp_path, "keys", "create", "--name", "ann \u2713", "--role", "admin")
    assert re.fullmatch(r"lk_[0-9a-f]{12}_\S{43}\n", made.stdout)
    assert "only time" in made.stderr
    assert "LEGATO_AUTH=keys" in made.stderr
    key_id, secret = made.stdout.strip().split("_", 2)[1:]
    legato(tmp_path, "keys", "create", "--name", "laptop", "--owner", "ann")
    listed = legato(tmp_path, "keys", "list").stdout
    assert len(listed.splitlines()) == 3
    assert "admin" in listed
    assert secret not in listed
    assert legato(tmp_path, "keys", "revoke", key_id).returncode == 0
    again = legato(tmp_path, "keys", "revoke", made.stdout.strip())
    assert "revoked before" in again.stdout
    assert secret not in again.stdout
    assert legato(tmp_path, "keys", "revoke", "nonesuch").returncode == 1
    assert legato(tmp_path, "keys", "create", "--name", " ").returncode == 2
    assert legato(tmp_path, "keys", "create", "--name", "a\x1b").returncode == 2


@pytest.mark.slow
def test_keys_work_on_a_running_server(start_server: StartServer, tmp_path: Path) -> None:
    """A new key is taken at once, a revoked one refused within 5 s."""
    server = start_server(auth="keys", rate_limit="off")
    place = ("--data-dir", str(server.data_dir))
    key = legato(tmp_path, "keys", "create", "--name", "ann", *place).stdout.strip()
    ask = ("chat", "--url", server.address, "--key", key, "script: tokens=1 seed=1")
    assert legato(tmp_path, *ask).returncode == 0
    assert legato(tmp_path, "keys", "revoke", key.split("_")[1], *place).returncode == 0
    until_s = time.monotonic() + SOON_S
    while (done := legato(tmp_path, *ask)).returncode == 0:
        assert time.monotonic() < until_s, "it is still taken"
    assert "revoked" in done.stderr


def test_models_are_listed_in_order(tmp_path: Path) -> None:
    """Name, kind, place, context window, readiness; no key."""
    (tmp_path / "legato.toml").write_text('[models.mine]\nbase_url = "http://10.0.0.1/v1"\napi_key = "k-1-secret"\n')
    values = {"LEGATO_MODEL": "scripted,embedded", "LEGATO_MODELS_DIR": "none", "OPENAI_API_KEY": SECRET}
    done = legato(tmp_path, "models", **values)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[1][:4] == ["1", "scripted", "scripted", "100,000"]
    assert rows[2][:3] == ["2", "embedded", "embedded"]
    assert rows[2][-1] == "no"
    assert rows[3][:4] == ["by", "name", "mine", "openai"]
    assert "http://10.0.0.1/v1" in done.stdout
    assert not any(secret in done.stdout + done.stderr for secret in (SECRET, "k-1-secret"))


@pytest.mark.parametrize("model", ["scripted", "m1"])
def test_nothing_is_fetched_where_another_model_answers(tmp_path: Path, model: str) -> None:
    """`--if-needed` then says nothing and succeeds."""
    done = legato(
        tmp_path, "models", "fetch", "--if-needed", LEGATO_MODEL=model, LEGATO_MODELS_DIR="none", OPENAI_API_KEY=SECRET
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize(("flag", "code"), [("--if-needed", 0), (None, 1)])
def test_a_fetch_that_fails_says_what_to_do(tmp_path: Path, flag: str | None, code: int) -> None:
    """With `--if-needed` the server may start all the same."""
    (tmp_path / "file").write_text("")
    arguments = ["models", "fetch", *([flag] if flag else [])]
    done = legato(tmp_path, *arguments, LEGATO_MODEL="embedded", LEGATO_MODELS_DIR=tmp_path / "file" / "x")
    assert done.returncode == code
    assert "LEGATO_MODEL=/path/to/model.gguf" in done.stderr


def doctor(folder: Path, *arguments: str, **values: str) -> tuple[int, dict[str, str], str]:
    """Return doctor's exit code, the state of each check, and all that it printed."""
    done = legato(folder, "doctor", "--json", "--port", str(free_port()), *arguments, **values)
    checks = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    return done.returncode, checks, done.stdout + done.stderr


@pytest.mark.slow
def test_doctor_finds_a_good_set_up_good(tmp_path: Path) -> None:
    """Exit 0, and nothing was made by looking."""
    (tmp_path / ".env").write_text("LEGATO_DRAIN_S=3\n")
    (tmp_path / "legato.toml").write_text("max_readers = 7\n")
    code, checks, text = doctor(tmp_path, LEGATO_MODEL="scripted", OPENAI_API_KEY=SECRET)
    assert code == 0
    assert set(checks.values()) <= {"ok", "note", "skipped"}
    sources = {each["name"]: each["source"] for each in json.loads(text)["settings"]}
    assert (
        sources
        | {
            "model": "environment",
            "port": "command line",
            "drain_s": ".env",
            "max_readers": "legato.toml",
            "host": "default",
        }
        == sources
    )
    assert SECRET not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "legato.toml"]
    shown = legato(tmp_path, "doctor", LEGATO_MODEL="scripted", LEGATO_PORT=free_port(), OPENAI_API_KEY=SECRET)
    assert "The server can start and answer." in shown.stdout
    assert SECRET not in shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "check", "mend"),
    [
        ({"LEGATO_AUTH": "keys"}, "keys", "legato keys create"),
        ({"LEGATO_HOST": "0.0.0.0"}, "server", "LEGATO_AUTH=keys"),
        ({"LEGATO_WORKERS": "2"}, "server", "PostgreSQL"),
        ({"LEGATO_DATA_DIR": "garbage/legato.db/x"}, "data folder", "LEGATO_DATA_DIR"),
        ({"LEGATO_DATA_DIR": "garbage"}, "database", "restore a backup"),
        ({"LEGATO_MODEL": "gpt-5"}, "model", "OPENAI_API_KEY"),
        ({"LEGATO_MODEL": "embedded", "LEGATO_MODELS_DIR": "none"}, "model", "legato models fetch"),
        ({"LEGATO_MODEL": "m", "OPENAI_BASE_URL": f"http://127.0.0.1:{free_port()}/v1"}, "model", "OPENAI_BASE_URL"),
        ({"LEGATO_PROT": "1"}, "settings", "LEGATO_PORT"),
    ],
)
def test_doctor_says_what_is_wrong_and_how_to_mend_it(
    tmp_path: Path, values: dict[str, str], check: str, mend: str
) -> None:
    """Exit 1, that check alone is wrong."""
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "legato.db").write_bytes(b"no database at all" * 400)
    code, checks, text = doctor(tmp_path, **{"LEGATO_MODEL": "scripted"} | values)
    assert code == 1
    assert [name for name, state in checks.items() if state == "wrong"] == [check]
    assert mend in text


def test_doctor_offline_reaches_for_nobody(tmp_path: Path) -> None:
    """The model's server is not tried."""
    code, _, text = doctor(tmp_path, "--offline", LEGATO_MODEL="m", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert code == 0
    assert "not tried" in text


def test_doctor_beside_a_running_server_is_content(server: ServerProcess, tmp_path: Path) -> None:
    """A folder and a port that are in use by the server itself are no fault."""
    done = legato(
        tmp_path, "doctor", "--data-dir", str(server.data_dir), "--port", str(server.port), LEGATO_MODEL="scripted"
    )
    assert done.returncode == 0
    assert "a server is running" in done.stdout


def outbox(path: Path) -> int:
    """Return how many events wait for the queue."""
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])


@pytest.mark.slow
def test_a_backup_of_a_server_that_writes_is_whole(start_server: StartServer, tmp_path: Path) -> None:
    """The copy passes its check, has all that was there when it began, and a server runs on it."""
    server = start_server()
    for number in range(5):
        legato(tmp_path, "chat", "--url", server.address, f"script: tokens=5 seed={number}")
    until_s = time.monotonic() + SOON_S
    # Until the queue has what was said so far its file may not be there.
    while outbox(server.database) or not server.database.with_name("queue.db").exists():
        assert time.monotonic() < until_s, server.log
        time.sleep(0.05)
    stop = threading.Event()

    def write() -> None:
        with Client(server.port) as client:
            while not stop.is_set():
                client.say("script: tokens=30 delay_ms=1 seed=3")

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        copy = tmp_path / "copy" / "legato.db"
        copy.parent.mkdir()
        place = ("--data-dir", str(server.data_dir))
        done = legato(tmp_path, "backup", str(copy), *place)
        refused = legato(tmp_path, "backup", str(copy), *place)
        forced = legato(tmp_path, "backup", str(copy), "--force", *place)
        itself = legato(tmp_path, "backup", str(server.database), "--force", *place)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert done.returncode == 0, done.stderr
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert forced.returncode == 0
    assert itself.returncode == 1
    assert "the database itself" in itself.stderr
    assert sorted(path.name for path in copy.parent.iterdir()) == ["legato.db", "queue.db"]
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM message").fetchone()[0] >= 10
    assert SqliteDatabase(copy).revision() == HEAD
    other = ServerProcess(tmp_path / "other")
    shutil.copytree(copy.parent, other.data_dir)
    try:
        other.start()
        with Client(other.port) as client:
            assert client.say("script: tokens=2 seed=1")
    finally:
        other.kill()


@pytest.mark.parametrize(("file", "said"), [("none/x.db", "there is no folder"), (".", "is a folder")])
def test_a_backup_that_cannot_be_written_says_why(server: ServerProcess, tmp_path: Path, file: str, said: str) -> None:
    """One sentence, and nothing is left behind."""
    done = legato(tmp_path, "backup", file, "--data-dir", str(server.data_dir))
    assert done.returncode == 1
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_backup_of_nothing_is_a_wrong_setting(tmp_path: Path) -> None:
    """Exit 78."""
    assert legato(tmp_path, "backup", "x.db").returncode == 78


@pytest.mark.slow
def test_the_env_example_works(tmp_path: Path) -> None:
    """Copied, it changes nothing; every name in it is known, every value shown is taken."""
    text = (ROOT / ".env.example").read_text("utf-8")
    assert all(line.startswith("#") or not line for line in text.splitlines())
    (tmp_path / ".env").write_text(text)
    assert doctor(tmp_path, LEGATO_MODEL="scripted")[0] == 0
    names = re.findall(r"^#([A-Z_]+)=", text, re.MULTILINE)
    known = {f"LEGATO_{name.upper()}" for name in Settings.model_fields} | set(CLIENT_VARIABLES)
    assert set(names) <= known | {"OPENAI_API_KEY", "OPENAI_BASE_URL"}
    settings = dict(re.findall(r"^#([A-Z_]+)=(.+)$", text, re.MULTILINE))
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    listed = legato(tmp_path, "models")
    assert listed.returncode == 0, listed.stderr
    assert "gpt-5-mini" in listed.stdout
