"""What PostgreSQL's errors mean to the server, by their SQLSTATE.

A connection that is lost says nothing but a sentence: an error without SQLSTATE is one of the connection.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import psycopg

from legato.core.errors import ConfigurationError, StorageUnavailable


class Meaning(Enum):
    """What is to be done about an error.

    AWAY: the database as a whole takes nothing now; the same may pass later.
    AGAIN: the transaction met another; it may pass at once when it is run anew.
    DATA: this piece or command is at fault, and no other.
    MISTAKE: of the program or of how the database is set up; as DATA, but nobody's data explains it.
    """

    AWAY = "away"
    AGAIN = "again"
    DATA = "data"
    MISTAKE = "mistake"


_STATES: Final = {
    # A failover's former primary takes no writes.
    "25006": Meaning.AWAY,
    # The session was too long idle inside its transaction: it is gone.
    "25P03": Meaning.AWAY,
    "23505": Meaning.AGAIN,
    # What it refers to was deleted meanwhile: it finds that out.
    "23503": Meaning.AGAIN,
    "40001": Meaning.AGAIN,
    "40P01": Meaning.AGAIN,
    # It waited too long for a lock, or ran too long.
    "55P03": Meaning.AGAIN,
    "57014": Meaning.AGAIN,
    # Prepared for a table that a migration has changed since, or by a session that a pooler has swapped.
    "0A000": Meaning.AGAIN,
    "26000": Meaning.AGAIN,
}
_CLASSES: Final = {
    "08": Meaning.AWAY,
    "22": Meaning.DATA,
    "23": Meaning.DATA,
    "53": Meaning.AWAY,
    "57": Meaning.AWAY,
    "58": Meaning.AWAY,
    "XX": Meaning.AWAY,
}

WAITED: Final = frozenset({"55P03", "57014"})
"""Errors of a transaction that has waited for seconds already: again and again would hold up all others."""
STALE: Final = frozenset({"0A000", "26000"})
"""Errors that pass only on a new connection."""
_SPLIT: Final = re.compile(r"resolve host '[^']*@|Servname not supported")
"""A password with an @ in it: what stands behind the first one was taken for host and port."""
_OPTION: Final = re.compile(r'invalid (\w+) (?:value|number): |for connection option "(\w+)"$')


def meaning_of(error: psycopg.Error) -> Meaning:
    """Return what an error means."""
    state = error.sqlstate
    if state is None:
        # psycopg's own refusals to work have classes of their own.
        return Meaning.AWAY if type(error) in (psycopg.OperationalError, psycopg.DatabaseError) else Meaning.MISTAKE
    return _STATES.get(state) or _CLASSES.get(state[:2]) or Meaning.MISTAKE


def refused(what: str, error: psycopg.Error) -> ConfigurationError | StorageUnavailable:
    """Return the error that says why a database could not be connected to, and what to set.

    A server that refuses a connection gives a sentence alone, no SQLSTATE. What may pass by itself is no
    ConfigurationError: whoever starts servers is to try again.

    Args:
        what: The database and where it is, without a password.
    """
    said = " ".join(str(error).split())
    is_unread = isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None
    if is_unread or said.startswith("connection is bad") or _SPLIT.search(said):
        # What is said of an address would repeat a part of it, perhaps of the password.
        option = _OPTION.search(said)
        return ConfigurationError(
            f"{what} cannot be used: LEGATO_DATABASE_URL does not read "
            "postgresql://user:password@host:port/database?option=value"
            + (f": see its {option[1] or option[2]}" if option else "")
            + " (in a password write @ as %40, : as %3A, / as %2F)"
        )
    if "authentication failed" in said or "no password supplied" in said:
        return ConfigurationError(f"{what} refuses the user or the password: see LEGATO_DATABASE_URL")
    if "does not exist" in said:
        return ConfigurationError(
            f"{what} cannot be used: there is no such database or user; make it with createdb, "
            "or see LEGATO_DATABASE_URL"
        )
    if "too many" in said or "remaining connection slots" in said:
        return StorageUnavailable(
            f"{what} has no connection left: raise its max_connections or the limit of its user, "
            "or lower LEGATO_DATABASE_POOL"
        )
    if meaning_of(error) is not Meaning.AWAY or "permission denied" in said or "pg_hba.conf" in said:
        return ConfigurationError(f"{what} cannot be used: {said.removeprefix('connection failed: ')}")
    return StorageUnavailable(f"{what} cannot be reached: {said.removeprefix('connection failed: ')}")


def failed(where: str, error: psycopg.Error, *, writes: bool) -> ConfigurationError | StorageUnavailable:
    """Return the error of a command whose transaction failed."""
    kind = StorageUnavailable if meaning_of(error) is Meaning.AWAY else ConfigurationError
    return kind(f"the database {where} cannot be {'written' if writes else 'read'}: {' '.join(str(error).split())}")
