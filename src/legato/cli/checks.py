"""What `legato doctor` looks at. Nothing is changed by looking."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from legato.cli.describe import ModelView, describe_models, short_path
from legato.cli.serve import check_workers
from legato.cli.terminal import size_text
from legato.core.compiled import plain_texts
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.settings import Settings

State = Literal["ok", "note", "wrong", "skipped"]

CONNECT_S: Final = 3.0
_DISK_LEAST_BYTES: Final = 50_000_000
_DISK_NOTE_BYTES: Final = 1_000_000_000
_FILES_NOTE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. `wrong` keeps the server from starting or answering; `note` does not."""

    name: str
    state: State
    found: str
    mend: str | None = None


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
    try:
        path = settings.database_path
    except ConfigurationError as error:
        yield Check(name="data folder", state="wrong", found=error.message)
        return
    runs = _is_locked(path)
    yield _data_folder(path, runs)
    yield _database(path)
    yield _disk(path.parent)
    yield _open_files()
    yield _address(settings)
    yield _port(settings, runs)
    yield _keys(settings, path)
    yield from _models(settings, offline=offline)


def _is_locked(path: Path) -> bool:
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


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the first above it that exists."""
    folder = folder.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _data_folder(path: Path, runs: bool) -> Check:
    name, folder = "data folder", path.parent
    there = _nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = f"{short_path(folder)} cannot be {'written' if folder.exists() else 'made'}"
        return Check(name=name, state="wrong", found=found, mend="make it writable, or set LEGATO_DATA_DIR to another")
    if runs:
        return Check(name=name, state="note", found=f"{short_path(folder)}, a server is running on it")
    made = "" if folder.exists() else ", made at the first start"
    return Check(name=name, state="ok", found=f"{short_path(folder)}{made}")


def _database(path: Path) -> Check:
    from legato.storage.migrate import HEAD
    from legato.storage.sqlite import read_revision

    try:
        found = read_revision(path)
    except sqlite3.Error as error:
        mend = "restore a backup over it, or set LEGATO_DATA_DIR to another folder"
        return Check(name="database", state="wrong", found=f"{short_path(path)}: {error}", mend=mend)
    if found is None:
        return Check(name="database", state="ok", found="none yet, made at the first start")
    if found == HEAD:
        return Check(name="database", state="ok", found=f"revision {found}, {size_text(path.stat().st_size)}")
    if found < HEAD:
        return Check(name="database", state="note", found=f"revision {found}, brought to {HEAD} at the next start")
    mend = "install the newer Legato that wrote it"
    return Check(name="database", state="wrong", found=f"revision {found}; this version knows {HEAD}", mend=mend)


def _disk(folder: Path) -> Check:
    free_bytes = shutil.disk_usage(_nearest(folder)).free
    state: State = "wrong" if free_bytes < _DISK_LEAST_BYTES else "note" if free_bytes < _DISK_NOTE_BYTES else "ok"
    mend = None if state == "ok" else "make room, or set LEGATO_DATA_DIR to a folder on another disk"
    return Check(name="disk", state=state, found=f"{size_text(free_bytes)} free", mend=mend)


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

    try:
        check_workers(settings)
        check_access(settings)
        create_limits(settings, SystemClock())
        create_visitor_limits(settings, SystemClock())
    except ConfigurationError as error:
        return Check(name="server", state="wrong", found=error.message)
    who = "this machine only, no key needed" if settings.auth == "none" else "whoever has a key"
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


def _keys(settings: Settings, path: Path) -> Check:
    from legato.storage.migrate import HEAD
    from legato.storage.sqlite import read_revision

    name = "keys"
    if settings.auth == "none":
        return Check(name=name, state="skipped", found="not asked for")
    good = 0
    try:
        if read_revision(path) == HEAD:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                good = connection.execute("SELECT count(*) FROM api_key WHERE revoked_at_ms IS NULL").fetchone()[0]
            finally:
                connection.close()
    except sqlite3.Error:
        return Check(name=name, state="wrong", found="they cannot be read")
    if good:
        return Check(name=name, state="ok", found=f"{good} good {'key' if good == 1 else 'keys'}")
    return Check(
        name=name, state="wrong", found="there is none: nobody could call", mend="legato keys create --name me"
    )


def _models(settings: Settings, *, offline: bool) -> Iterator[Check]:
    """Yield a check for each model; it is wrong only if no other of the list can answer instead."""
    try:
        views = describe_models(settings)
    except ConfigurationError as error:
        yield Check(name="model", state="wrong", found=error.message)
        return
    reached: dict[str, str | None] = {}
    for view in views:
        if view.base_url is not None and view.order and not offline and view.base_url not in reached:
            reached[view.base_url] = _connect_fault(view.base_url, _proxy(view, settings))
    answers = any(view.order and _fault(view, reached) is None for view in views)
    for view in views:
        name = "model" if view.order == 1 else f"model {view.order}" if view.order else "model by name"
        fault = _fault(view, reached)
        if fault is None:
            how = ", not tried" if view.base_url is not None and view.base_url not in reached else ""
            key = ", it has a key" if view.has_key else ""
            yield Check(name=name, state="ok", found=f"{view.name} ({view.kind}), {view.where}{key}{how}")
            continue
        bad: State = "note" if answers or not view.order else "wrong"
        yield Check(name=name, state=bad, found=f"{view.name}: {fault[0]}", mend=fault[1])


def _fault(view: ModelView, reached: dict[str, str | None]) -> tuple[str, str | None] | None:
    """Return what keeps a model from answering and how to mend it, or None."""
    if view.missing is not None:
        other = "set OPENAI_API_KEY, OPENAI_BASE_URL or LEGATO_MODEL=/path/to/model.gguf"
        return view.missing, f"{view.mend}, or {other}" if view.mend and view.kind == "embedded" else view.mend or other
    if view.base_url is not None and (why := reached.get(view.base_url)) is not None:
        return f"{view.where} cannot be reached ({why})", "check OPENAI_BASE_URL or base_url, and the network"
    return None


def _proxy(view: ModelView, settings: Settings) -> str | None:
    """Return the proxy that calls go through, as providers.openai_settings has it."""
    table = settings.models.get(view.name)
    if table is not None and table.proxy is not None:
        return table.proxy or None
    parts = urlsplit(view.base_url or "")
    if parts.hostname in ("localhost", "127.0.0.1", "::1") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = getproxies_environment().get(parts.scheme)
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _connect_fault(base_url: str, proxy: str | None) -> str | None:
    """Open a connection to a server, or to the proxy before it, and close it; return what went wrong, or None."""
    parts = urlsplit(proxy or base_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S) as plain:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                    pass
    except TimeoutError:
        return f"no answer within {CONNECT_S:.0f} s"
    except ssl.SSLCertVerificationError:
        return "its TLS certificate is not trusted; SSL_CERT_FILE names others to trust"
    except socket.gaierror:
        return f"the name {host} is not known"
    except OSError as error:
        return (error.strerror or "no connection").lower()
    return None
