"""`legato keys encryption`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.database import Database
    from legato.storage.sealing import Sealing

app = typer.Typer(
    help="Encryption at rest: make root keys, change them, and seal what was there before.",
    no_args_is_help=True,
    epilog=help_end(
        "legato keys encryption new --id 2026-11",
        "legato keys encryption status",
        "legato keys encryption seal",
        "legato keys encryption rotate",
    ),
)


@app.command(
    epilog=help_end(
        "legato keys encryption new --id 2026-11 >> /etc/legato/encryption-keys",
        "export LEGATO_ENCRYPTION_KEYS=@/etc/legato/encryption-keys",
    )
)
def new(
    key_id: Annotated[
        str | None, typer.Option("--id", help="What it is called; by default the year and month.")
    ] = None,
) -> None:
    """Make a root key and print it; nothing is kept of it here. Whoever loses it loses all that it seals."""
    from legato.storage.root_keys import make_root_key

    typer.echo(make_root_key(key_id or datetime.now().strftime("%Y-%m")))
    complain("keep it where the database's backups are not, and keep it as long as they: without it they are noise")


@app.command(epilog=help_end("legato keys encryption status"))
def status(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show under which root keys the data keys are, and whether anything is left that is not sealed."""
    from legato.storage.encryption import QUEUE, list_roots, read_record
    from legato.storage.rotation import count_by_root

    database, sealing = _opened(_settings(data_dir, database_url))
    roots, counts, record = database.transact(
        lambda tx: (list_roots(tx), count_by_root(tx), read_record(tx, sealing)), writes=False
    )
    since = datetime.fromtimestamp(record.since_ms / 1000).strftime("%Y-%m-%d %H:%M")
    typer.echo(f"encrypted since {since}")
    current = next(row.id for row in roots if row.current)
    for key_id in sorted({row.id for row in roots} | counts.keys() | sealing.roots.by_id.keys()):
        number = counts.get(key_id, 0)
        notes = [f"{number} data {'key' if number == 1 else 'keys'}"]
        notes += ["current"] if key_id == current else [] if number else ["not needed"]
        notes += [] if key_id in sealing.roots.by_id else ["NOT in LEGATO_ENCRYPTION_KEYS"]
        typer.echo(f"  {key_id}: {', '.join(notes)}")
    if any(number for key_id, number in counts.items() if key_id != current):
        typer.echo("some data keys are under an older key: legato keys encryption rotate")
    if record.plain:
        names = ", ".join("jobs" if name == QUEUE else name for name in record.plain)
        typer.echo(f"older rows may be plain ({names}): legato keys encryption seal")


@app.command(epilog=help_end("legato keys encryption rotate", exits={FAILED: "a key is missing, or encryption is off"}))
def rotate(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Wrap all data keys under the first of LEGATO_ENCRYPTION_KEYS. Servers may run, and must know that key."""
    from legato.core.clock import SystemClock
    from legato.runs.audit import audit, command_actor
    from legato.storage.encryption import forget_roots
    from legato.storage.rotation import count_by_root, rewrap_page
    from legato.storage.statement import Transaction

    database, sealing = _opened(_settings(data_dir, database_url))
    now_ms = SystemClock().now_ms()
    database.encrypt()
    done = 0
    while count := database.transact(lambda tx: rewrap_page(tx, sealing), writes=True):
        done += count

    def finish(tx: Transaction) -> tuple[list[str], int]:
        gone = forget_roots(tx)
        detail = {"keys": done, "root": sealing.current.id}
        subject = sealing.current.id
        audit(tx, actor=command_actor(), action="encryption.rotate", subject=subject, at_ms=now_ms, detail=detail)
        return gone, sum(number for key_id, number in count_by_root(tx).items() if key_id != subject)

    gone, left = database.transact(finish, writes=True)
    typer.echo(f"{done} data {'key is' if done == 1 else 'keys are'} wrapped anew under {sealing.current.id}")
    if left:
        complain(f"{left} were held by others meanwhile: run it again")
        raise typer.Exit(FAILED)
    for key_id in gone:
        typer.echo(f"{key_id} is not needed by this database any more; backups of before need it still")


@app.command(epilog=help_end("legato keys encryption seal", exits={FAILED: "encryption is off"}))
def seal(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Seal what was there before encryption was turned on. Servers may run; what was cut goes on where it was."""
    from legato.steps.job_seal import JobSeal
    from legato.steps.queue_address import queue_address
    from legato.storage.encryption import QUEUE, read_record, write_record
    from legato.storage.seal_old import seal_page
    from legato.storage.statement import Transaction

    settings = _settings(data_dir, database_url)
    database, sealing = _opened(settings)
    pages = 0
    while database.transact(lambda tx: seal_page(tx, sealing), writes=True):
        pages += 1
    record = database.transact(lambda tx: read_record(tx, sealing), writes=False)
    if QUEUE in record.plain:
        from legato.steps.engine_seal import seal_jobs

        seal_jobs(queue_address(settings), JobSeal(database))

        def finish(tx: Transaction) -> None:
            write_record(tx, sealing, read_record(tx, sealing, keep=True).moved(QUEUE, None))

        database.transact(finish, writes=True)
        record = database.transact(lambda tx: read_record(tx, sealing), writes=False)
    if record.plain:
        typer.echo(f"sealed, but for what servers are at work on ({', '.join(record.plain)}): run it again later")
        return
    typer.echo("everything is sealed; servers learn it at their next start")
    compact(settings)


def compact(settings: Settings) -> None:
    """Write the files of an embedded database anew: what was plain lies in their free pages for a while."""
    from legato.steps.queue_address import queue_path
    from legato.storage.sqlite import write_anew

    if settings.uses_postgres:
        complain("PostgreSQL keeps old versions of rows until VACUUM FULL, and in its log and backups")
        return
    left = [
        path.name
        for path in (settings.database_path, queue_path(settings.database_path))
        if path.exists() and not write_anew(path)
    ]
    if left:
        complain(f"{', '.join(left)} is in use: stop the server and run this once more, so that free pages are emptied")


def _settings(data_dir: object, database_url: str | None) -> Settings:
    from legato.cli.database import settings_of

    return settings_of(data_dir, database_url)  # type: ignore[arg-type]


def _opened(settings: Settings) -> tuple[Database, Sealing]:
    """Return a database that is encrypted, and its keys.

    Raises:
        ConfigurationError: There are no keys, or they are not its own.
    """
    from legato.storage.database import open_database
    from legato.storage.encryption import admit

    database = open_database(settings)
    sealing = database.sealing
    if sealing is None:
        complain("encryption is off: set LEGATO_ENCRYPTION_KEYS (legato keys encryption new makes a key)")
        raise typer.Exit(FAILED)
    if database.revision() is None or not database.transact(lambda tx: admit(tx, sealing), writes=False):
        complain("encryption is not on yet: it is turned on by the next start of the server with these keys")
        raise typer.Exit(FAILED)
    return database, sealing
