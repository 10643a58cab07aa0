"""What the server needs of a database, whichever it is: the seam behind which SQLite stands.

Everything that a server writes goes through the Committer (storage.committer), which asks for one Writer a lane. Reads
run in threads of their own, on snapshots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

from legato.storage.statement import Kind, Transaction
from legato.storage.writer import Lane, Writer

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.sealing import Sealing

T = TypeVar("T")


class Database(ABC):
    """The database of a server, or of a command beside one.

    Attributes:
        kind: Which one it is.
        lanes: What the committer keeps apart. A database with one lane has it for appends and commands.
        node_key: The row in `node` under which this process writes; its writes are refused once that is fenced. None
            fences nothing: a command, or a database that one process has to itself.
        application_name: What a server of databases lists this process's connections as.
        sealing: The keys that texts are sealed with; set before it is opened, None where encryption is off.
    """

    kind: ClassVar[Kind]
    lanes: ClassVar[tuple[Lane, ...]]
    node_key: int | None = None
    application_name: str = "legato"
    sealing: Sealing | None = None

    @property
    @abstractmethod
    def where(self) -> str:
        """Where it is, in words for people; never with a password."""

    @abstractmethod
    def open(self) -> None:
        """Take it for a server, until `close`: make it if absent, and bring it to the schema of this version.

        Raises:
            ConfigurationError: It cannot be used, is another server's, or was written by a newer version.
            StorageUnavailable: It cannot be reached at present; also from `revision`, `migrate` and `transact`.
        """

    @abstractmethod
    def revision(self) -> str | None:
        """Return the revision of its schema; None where there is none yet. Makes nothing.

        Raises:
            ConfigurationError: It cannot be read.
        """

    @abstractmethod
    def migrate(self) -> None:
        """Bring it to the schema of this version, making it if absent.

        Raises:
            ConfigurationError: It cannot be written, or was written by a newer version.
        """

    @abstractmethod
    def encrypt(self) -> None:
        """Turn encryption on where there are keys, or put the first of them in front; learn where they are missing.

        Raises:
            ConfigurationError: The database is encrypted and the keys at hand are missing, wrong, or too few; or it is
                not, and servers without keys use it.
        """

    @abstractmethod
    async def read(self, query: Callable[[Transaction], T]) -> T:
        """Run `query` on a snapshot, in a reader's thread.

        Raises:
            StorageUnavailable: The database could not be read.
        """

    @abstractmethod
    def transact(self, work: Callable[[Transaction], T], *, writes: bool) -> T:
        """Run `work` in one transaction on the caller's thread, beside a server that may be running.

        The schema is brought to this version's before, where that is due.

        Raises:
            ConfigurationError: It cannot be read or written.
        """

    async def scrub(self) -> bool:
        """Leave nothing of what was deleted in the bytes of the database's files; return whether that is so.

        Someone who reads an older state just now keeps it from being done: try again. A server of databases looks after
        its files itself, and answers False never.
        """
        return True

    def give_back(self) -> None:
        """Forget what can be read again, for memory's sake; called on any thread when little is asked for."""
        return

    @abstractmethod
    def writer(self, lane: Lane) -> Writer:
        """Connect for a lane; called on the thread that writes.

        Raises:
            ConfigurationError: It cannot be reached.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all connections and give it up. Nothing is to be running on it."""


def open_database(settings: Settings) -> Database:
    """Return the database that the settings name; nothing is opened yet.

    Raises:
        ConfigurationError: `database_url` names none that this version knows, or an encryption key is malformed.
    """
    database = _named_database(settings)
    if settings.encryption_keys is not None:
        # What encrypts is not loaded where it is off.
        from legato.storage.root_keys import parse_root_keys
        from legato.storage.sealing import Sealing

        roots = parse_root_keys(settings.encryption_keys.get_secret_value())
        database.sealing = None if roots is None else Sealing(roots)
    return database


def _named_database(settings: Settings) -> Database:
    if settings.uses_postgres:
        # A server on SQLite does not pay for the driver.
        from legato.storage.postgres import PostgresDatabase

        return PostgresDatabase(settings.database_url or "", pool=settings.database_pool, lease_s=settings.lease_s)
    from legato.storage.sqlite import SqliteDatabase

    return SqliteDatabase(settings.database_path, durability=settings.durability)
