"""`legato restore`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.backup import PAIR, copy_database
from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import CONFIGURATION, FAILED, help_end
from legato.cli.terminal import complain, size_text
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.settings import Settings

HELP_END = help_end(
    "legato restore legato-monday.db",
    "legato restore --data-dir /srv/legato /mnt/backup/legato.db",
    exits={
        FAILED: "the copies are not whole, not of one backup, or something is there already",
        CONFIGURATION: "a server is running on the folder, a setting is wrong, or an encryption key is missing",
    },
)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `legato backup` has made.")],
    without_queue: Annotated[
        bool,
        typer.Option("--without-queue", help="Where the queue's copy beside it is lost: jobs that waited are, too."),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Put a backup into an empty data folder: the database, and the queue of its steps that fits it.

    Both copies are checked first: that they are whole, of one backup, of a version that this one knows, and that the
    configured keys open what is encrypted. Nothing is ever overwritten: move what is there away. An older one is
    brought to this version when the server starts.
    Whoever was erased after the backup was made is in it: erase them again.
    """
    from legato.cli.database import settings_of
    from legato.steps.queue_address import queue_path

    settings = settings_of(data_dir, database_url)
    if settings.uses_postgres:
        raise ConfigurationError(
            "this puts an SQLite file back; PostgreSQL has a program for it: "
            'pg_restore --dbname "$LEGATO_DATABASE_URL" FILE'
        )
    target = settings.database_path
    pairs = [(file, target)]
    if not without_queue:
        pairs.insert(0, (queue_path(file), queue_path(target)))
    marks = {_check(source) for source, _ in pairs}
    if len(marks) > 1:
        _refuse(f"{file} and {queue_path(file)} are not of one backup: take two that were made together")
    _check_revision(file)
    _check_keys(settings, file)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(target):
        for left in (target, queue_path(target)):
            for path in (left, *(left.with_name(left.name + end) for end in ("-wal", "-shm", "-journal"))):
                if path.exists():
                    _refuse(f"{path} is there already: move it away first, nothing is overwritten")
        made: list[Path] = []
        try:
            for source, to in pairs:
                made.append(_put(source, to))
        except BaseException:
            # A database without the queue that fits it would lose jobs.
            for path in made:
                path.unlink(missing_ok=True)
            raise
    _note(settings)


def _check(path: Path) -> int:
    """Look whether a copy is whole; return the mark that both copies of a backup have."""
    if not path.is_file():
        _refuse(f"there is no file {path}" + ("" if path.suffix != ".queue" else ": the queue's copy belongs to it"))
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            broken = copy.execute("PRAGMA foreign_key_check").fetchone()
            mark: int = copy.execute(f"PRAGMA {PAIR}").fetchone()[0]
    except sqlite3.Error as error:
        _refuse(f"{path} is no whole copy: {error}")
    if found != "ok" or broken is not None:
        _refuse(f"{path} is no whole copy: {found if found != 'ok' else f'a row of {broken[0]} refers to nothing'}")
    return mark


def _check_revision(file: Path) -> None:
    from legato.storage.migrate import HEAD
    from legato.storage.sqlite import read_revision

    found = read_revision(file)
    if found is None:
        _refuse(f"{file} is no database of Legato's")
    elif found > HEAD:
        _refuse(f"{file} is of revision {found}, which this version does not know: install the Legato that made it")


def _check_keys(settings: Settings, file: Path) -> None:
    """Look whether the configured keys open what is sealed in a copy.

    Raises:
        ConfigurationError: They do not.
    """
    from legato.storage.database import open_database
    from legato.storage.encryption import admit
    from legato.storage.sqlite import SqliteTransaction

    with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as copy:
        # A backup of before encryption was known has no such table.
        if copy.execute("SELECT name FROM sqlite_master WHERE name = 'encryption_root'").fetchone() is not None:
            admit(SqliteTransaction(copy.cursor()), open_database(settings).sealing)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep every server from the folder meanwhile."""
    fd = os.open(target.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"a legato server uses the data folder {target.parent}: stop it, or give another with --data-dir"
            ) from error
        yield
    finally:
        os.close(fd)


def _put(source: Path, to: Path) -> Path:
    begun_s = time.monotonic()
    handle, name = tempfile.mkstemp(prefix=f".{to.name}.", suffix=".part", dir=to.parent)
    part = Path(name)
    try:
        copy_database(source, part, mark=0)
        os.fsync(handle)
        os.link(part, to)
    except FileExistsError:
        _refuse(f"{to} is there already: move it away first, nothing is overwritten")
    except (sqlite3.Error, OSError) as error:
        _refuse(f"{to} was not made: {error}")
    finally:
        os.close(handle)
        for left in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm", "-journal"))):
            left.unlink(missing_ok=True)
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    typer.echo(f"{to}: {size_text(to.stat().st_size)}, whole and checked, {time.monotonic() - begun_s:.1f} s")
    return to


def _note(settings: Settings) -> None:
    """Tell the restored audit log; an older one is told nothing: it would be migrated by it."""
    from legato.cli.database import write
    from legato.core.clock import SystemClock
    from legato.runs.audit import audit, command_actor
    from legato.storage.migrate import HEAD
    from legato.storage.sqlite import read_revision

    if read_revision(settings.database_path) == HEAD:
        now_ms = SystemClock().now_ms()
        write(
            settings,
            lambda tx: audit(tx, actor=command_actor(), action="backup.restore", subject="database", at_ms=now_ms),
        )


def _refuse(text: str) -> None:
    complain(text)
    raise typer.Exit(FAILED)
