"""What `legato doctor` looks at where the database is a file."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from legato.cli.check import Check, State
from legato.cli.describe import short_path
from legato.cli.terminal import size_text
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.storage.database import Database

_DISK_LEAST_BYTES: Final = 50_000_000
_DISK_NOTE_BYTES: Final = 1_000_000_000


def check_file(path: Path, database: Database) -> Iterator[Check]:
    """Yield what was found of the folder, the file and the disk."""
    yield _folder(path)
    yield _database(path, database)
    yield _disk(path.parent)


def is_served(path: Path) -> bool:
    """Whether a server runs on the file."""
    try:
        fd = os.open(path.with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def can_use_newer(database: Database) -> bool:
    """Whether this version may go on with a schema that a newer one has brought; it is left as it is."""
    try:
        database.migrate()
    except ConfigurationError:
        return False
    return True


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the first above it that exists."""
    folder = folder.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _folder(path: Path) -> Check:
    name, folder = "data folder", path.parent
    there = _nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = f"{short_path(folder)} cannot be {'written' if folder.exists() else 'made'}"
        return Check(name=name, state="wrong", found=found, mend="make it writable, or set LEGATO_DATA_DIR to another")
    if is_served(path):
        return Check(name=name, state="note", found=f"{short_path(folder)}, a server is running on it")
    made = "" if folder.exists() else ", made at the first start"
    return Check(name=name, state="ok", found=f"{short_path(folder)}{made}")


def _database(path: Path, database: Database) -> Check:
    from legato.storage.migrate import HEAD

    try:
        found = database.revision()
    except ConfigurationError as error:
        mend = "restore a backup over it, or set LEGATO_DATA_DIR to another folder"
        return Check(name="database", state="wrong", found=error.message, mend=mend)
    if found is None:
        return Check(name="database", state="ok", found="none yet, made at the first start")
    if found == HEAD:
        return Check(name="database", state="ok", found=f"revision {found}, {size_text(path.stat().st_size)}")
    if found < HEAD:
        return Check(name="database", state="note", found=f"revision {found}, brought to {HEAD} at the next start")
    state: State = "note" if can_use_newer(database) else "wrong"
    mend = "install the newer Legato that wrote it"
    return Check(name="database", state=state, found=f"revision {found}; this version knows {HEAD}", mend=mend)


def _disk(folder: Path) -> Check:
    free_bytes = shutil.disk_usage(_nearest(folder)).free
    state: State = "wrong" if free_bytes < _DISK_LEAST_BYTES else "note" if free_bytes < _DISK_NOTE_BYTES else "ok"
    mend = None if state == "ok" else "make room, or set LEGATO_DATA_DIR to a folder on another disk"
    return Check(name="disk", state=state, found=f"{size_text(free_bytes)} free", mend=mend)
