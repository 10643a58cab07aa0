"""What `legato doctor` looks at. Nothing is changed by looking."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from legato.cli.check import Check
from legato.cli.check_access import check_comers
from legato.cli.check_budgets import check_budgets
from legato.cli.check_encryption import check_encryption
from legato.cli.check_file import check_file, is_served
from legato.cli.check_models import check_models, check_prices
from legato.cli.describe import short_path
from legato.cli.serve import check_workers
from legato.core.compiled import plain_texts
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.settings import Settings

_FILES_NOTE: Final = 4096


def check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", state="ok", found=f"{version}, {short_path(Path(sys.executable))}")


def check_compiled() -> Check:
    name = "compiled"
    if plain_texts is not None:
        return Check(name=name, state="ok", found="what happens to every chunk is compiled")
    if os.environ.get("LEGATO_COMPILED") == "0":
        return Check(name=name, state="ok", found="no, as LEGATO_COMPILED=0 says")
    mend = "where thousands stream at once: install a C compiler and Python's headers, then install legato again"
    return Check(name=name, state="note", found="no: chunks are handled in Python", mend=mend)


def check_server(settings: Settings, *, offline: bool) -> Iterator[Check]:
    """Yield what was found, in the order in which a start needs it."""
    from legato.storage.database import open_database

    try:
        database = open_database(settings)
    except ConfigurationError as error:
        yield Check(name="data folder", state="wrong", found=error.message)
        return
    if settings.uses_postgres:
        from legato.cli.check_postgres import check_postgres, is_served_here
        from legato.cli.check_redis import check_redis
        from legato.storage.postgres import PostgresDatabase

        assert isinstance(database, PostgresDatabase)
        found = [*check_postgres(settings, database)]
        yield from found
        yield check_redis(settings, offline=offline)
        runs = is_served_here(database)
    else:
        found = [*check_file(settings.database_path, database)]
        yield from found
        runs = is_served(settings.database_path)
    yield check_encryption(None if any(check.state == "wrong" for check in found) else database)
    yield _open_files()
    yield _address(settings)
    yield _port(settings, runs)
    yield from check_comers(settings, database, offline=offline)
    yield from check_models(settings, offline=offline)
    yield from check_prices(settings)
    yield from check_budgets(settings, database)


def _open_files() -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _FILES_NOTE:
        found = "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard:,}"
        return Check(name="open files", state="ok", found=found)
    return Check(
        name="open files",
        state="note",
        found=f"at most {hard:,}, and each open stream takes one",
        mend="raise the limit (ulimit -Hn, or LimitNOFILE= of the service)",
    )


def _address(settings: Settings) -> Check:
    from legato.app import check_access
    from legato.core.clock import SystemClock
    from legato.policies.rate_limit import create_limits, create_visitor_limits
    from legato.policies.windows import MemoryWindows

    try:
        check_workers(settings)
        check_access(settings)
        windows = MemoryWindows(SystemClock().monotonic_s)
        create_limits(settings, windows)
        create_visitor_limits(settings, windows)
    except ConfigurationError as error:
        return Check(name="server", state="wrong", found=error.message)
    who = {"none": "this machine only, no key needed", "keys": "whoever has a key"}.get(
        settings.auth, "whoever has an account, or a key"
    )
    return Check(name="server", state="ok", found=f"LEGATO_AUTH={settings.auth}: {who}")


def _port(settings: Settings, runs: bool) -> Check:
    from legato.http.server import listen

    try:
        for sock in listen(settings.host, settings.port):
            sock.close()
    except ConfigurationError as error:
        if runs:
            return Check(name="port", state="note", found=f"{settings.port}, in use while that server runs")
        return Check(name="port", state="wrong", found=error.message)
    return Check(name="port", state="ok", found=f"{settings.port} on {settings.host} is free")
