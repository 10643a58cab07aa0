"""`legato backup`."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import CONFIGURATION, FAILED, help_end
from legato.cli.terminal import complain, console, size_text
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.settings import Settings

HELP_END = "To put it back: `legato restore FILE`.\n\n" + help_end(
    "legato backup legato-monday.db",
    "legato backup --force /mnt/backup/legato.db",
    exits={
        FAILED: "it could not be written, or its check failed",
        CONFIGURATION: "there is no database, or a setting is wrong",
    },
)
_STEP_PAGES = 512
PAIR = "user_version"
"""Where both copies of a backup have the same number, so that two that do not belong together are not put back."""


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it is there.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Copy the SQLite database to a file while the server runs, and the queue of its steps to another beside it.

    Each copy is the state of one moment, whole and checked; it appears under its name only then. The queue's is taken
    last: a job may be in both copies and run twice, never in none. PostgreSQL has `pg_dump` for this.
    """
    from legato.cli.database import settings_of
    from legato.steps.queue_address import queue_path

    settings = settings_of(data_dir, database_url)
    if settings.uses_postgres:
        raise ConfigurationError(
            "this copies an SQLite file; PostgreSQL has a program for it, and copies both schemas, the conversations' "
            'and the queue\'s: pg_dump --format=custom --file=FILE "$LEGATO_DATABASE_URL"'
        )
    source = settings.database_path
    _check(source, file, force)
    copies = [(source, file)]
    if queue_path(source).is_file():
        copies.append((queue_path(source), queue_path(file)))
        _check(*copies[-1], force)
    mark = 1 + secrets.randbelow(2**31 - 2)
    _note(settings)
    for each, target in copies:
        _make(each, target, force, mark)


def _note(settings: Settings) -> None:
    """Tell the audit log first, so that the copy says that it was made; an older database is not migrated by it."""
    from legato.cli.database import write
    from legato.core.clock import SystemClock
    from legato.runs.audit import audit, command_actor
    from legato.storage.migrate import HEAD
    from legato.storage.sqlite import read_revision

    try:
        if read_revision(settings.database_path) != HEAD:
            return
        now_ms = SystemClock().now_ms()
        write(
            settings,
            lambda tx: audit(tx, actor=command_actor(), action="backup.create", subject="database", at_ms=now_ms),
        )
    except (ConfigurationError, sqlite3.Error) as error:
        # A database that cannot be written can be copied all the same.
        complain(f"the audit log was not told: {str(error).lower()}")


def _make(source: Path, file: Path, force: bool, mark: int) -> None:
    begun_s = time.monotonic()
    try:
        size_bytes = _copy(source, file, force, mark)
    except FileExistsError:
        complain(f"{file} is there already: give another name, or --force")
        raise typer.Exit(FAILED) from None
    except (sqlite3.Error, OSError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        complain(f"the backup was not made: {said.lower()}")
        raise typer.Exit(FAILED) from None
    typer.echo(f"{file}: {size_text(size_bytes)}, whole and checked, {time.monotonic() - begun_s:.1f} s")


def _check(source: Path, file: Path, force: bool) -> None:
    if not source.is_file():
        raise ConfigurationError(f"there is no database {source}: give its folder with --data-dir")
    if file.is_dir():
        complain(f"{file} is a folder: give a file")
    elif not file.absolute().parent.is_dir():
        complain(f"there is no folder {file.absolute().parent}: make it first")
    elif file.exists() and any(file.samefile(each) for each in _parts(source)):
        complain(f"{file} is the database itself: give another name")
    elif file.exists() and not force:
        complain(f"{file} is there already: give another name, or --force")
    else:
        return
    raise typer.Exit(FAILED)


def _parts(source: Path) -> list[Path]:
    names = [source, *(source.with_name(source.name + end) for end in ("-wal", "-shm")), source.with_suffix(".lock")]
    return [path for path in names if path.exists()]


def _copy(source: Path, file: Path, force: bool, mark: int) -> int:
    """Write the copy beside `file`, check it, and give it its name; return its size in bytes."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.absolute().parent)
    part = Path(name)
    try:
        copy_database(source, part, mark=mark)
        os.fsync(handle)
        size_bytes = part.stat().st_size
        if force:
            part.replace(file)
        else:
            # A link, unlike a rename, does not overwrite what came there meanwhile.
            os.link(part, file)
    finally:
        os.close(handle)
        for left in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm", "-journal"))):
            left.unlink(missing_ok=True)
    folder = os.open(file.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size_bytes


def copy_database(source: Path, part: Path, *, mark: int) -> None:
    """Copy a database, as it is at one moment, into a file; check the copy and mark it (PAIR).

    Raises:
        sqlite3.Error: It cannot be read, or the copy is not whole.
    """
    with contextlib.closing(sqlite3.connect(part)) as copy, _bar() as progress:
        _copy_pages(source, copy, progress)
        copy.execute(f"PRAGMA {PAIR} = {mark}")


def _copy_pages(source: Path, copy: sqlite3.Connection, progress: Callable[[int, int], None]) -> None:
    with contextlib.closing(sqlite3.connect(source, isolation_level=None, timeout=10)) as origin:
        # The snapshot is held: without it, each write of the server would make the copy begin anew.
        origin.execute("BEGIN")
        origin.execute("SELECT count(*) FROM sqlite_master").fetchone()
        origin.backup(copy, pages=_STEP_PAGES, progress=lambda status, left, total: progress(total - left, total))
        origin.execute("ROLLBACK")
    # One file, without a log beside it.
    copy.execute("PRAGMA journal_mode=DELETE")
    found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(f"the copy did not pass its check ({found})")


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    out = console(err=True)
    if not out.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("copying", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
