"""A server that asks for keys, and clients that hold them."""

from __future__ import annotations

from pathlib import Path

from legato.core.principal import Role
from legato.storage.keys import create_key
from legato.storage.sqlite import SqliteDatabase
from legato.storage.statement import Transaction
from tests.client import Client
from tests.server import ServerProcess

PAGE = "https://chat.example"
"""A site whose pages may call."""


def make_keys(path: Path, owners: dict[str, Role]) -> dict[str, str]:
    """Make a key for each owner in a server's database; return them by owner."""

    def make(tx: Transaction) -> dict[str, str]:
        return {owner: create_key(tx, owner=owner, role=role, name=owner, now_ms=1) for owner, role in owners.items()}

    return SqliteDatabase(path).transact(make, writes=True)


class Guarded:
    """A server with keys, and clients that hold them."""

    def __init__(self, process: ServerProcess, keys: dict[str, str]) -> None:
        self.process = process
        self.keys = keys
        self._clients: list[Client] = []

    def client(self, owner: str | None, **headers: str) -> Client:
        fields = {"Authorization": f"Bearer {self.keys[owner]}"} if owner else {}
        client = Client(self.process.port, fields | headers)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.__exit__()
