"""What `legato doctor` says of encryption at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legato.cli.check import Check
from legato.core.errors import ConfigurationError, StorageUnavailable

if TYPE_CHECKING:
    from legato.storage.database import Database
    from legato.storage.statement import Transaction

NAME = "encryption"


def check_encryption(database: Database | None) -> Check:
    """Look whether the keys at hand are the database's; nothing is turned on by looking.

    Args:
        database: None where something is wrong with it.
    """
    if database is None:
        return Check(name=NAME, state="skipped", found="the database cannot be used")
    from legato.storage.encryption import Record, admit, read_record
    from legato.storage.migrate import HEAD
    from legato.storage.rotation import count_by_root

    sealing = database.sealing

    def look(tx: Transaction) -> tuple[Record, set[str]] | None:
        if not admit(tx, sealing) or sealing is None:
            return None
        return read_record(tx, sealing), {*count_by_root(tx)} - {sealing.current.id}

    try:
        # One of an older version would be brought to this one's.
        revision = database.revision()
        found = database.transact(look, writes=False) if revision is not None and revision >= HEAD else None
    except StorageUnavailable:
        return Check(name=NAME, state="skipped", found="the database cannot be reached")
    except ConfigurationError as error:
        return Check(name=NAME, state="wrong", found=error.message)
    if sealing is None:
        return Check(name=NAME, state="ok", found="off: who has the disk or a backup reads what people say")
    if found is None:
        return Check(name=NAME, state="note", found=f"the next start turns it on, under {sealing.roots.first.id}")
    record, older = found
    on = f"on, under {sealing.current.id}"
    if older:
        names = ", ".join(sorted(older))
        return Check(
            name=NAME, state="note", found=f"{on}; some is under {names}", mend="legato keys encryption rotate"
        )
    if record.plain:
        return Check(
            name=NAME, state="note", found=f"{on}; what was there before is not", mend="legato keys encryption seal"
        )
    return Check(name=NAME, state="ok", found=on)
