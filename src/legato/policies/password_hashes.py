"""Passwords as hashes: argon2id, a bounded number at once, off the event loop.

A hash takes 64 MiB and some 60 ms of a core, so that guessing is dear. For the same reason only WORKERS are made at
once, and few may wait: past that a sign-in is refused rather than the server slowed down.

Source:
    https://www.rfc-editor.org/rfc/rfc9106#section-4
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from legato.core.errors import Overloaded
from legato.policies.passwords import normal_password

# Imported where it is used: a server without accounts does without it.
if TYPE_CHECKING:
    from pwdlib import PasswordHash

T = TypeVar("T")

MEMORY_KIB: Final = 65_536
ROUNDS: Final = 3
LANES: Final = 1
WORKERS: Final = 2
"""Hashes made at once: 128 MiB and two cores at most."""
MOST_WAITING: Final = 32
"""Further ones that may wait, some two seconds for the last of them."""


@cache
def _hasher() -> PasswordHash:
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    return PasswordHash((Argon2Hasher(time_cost=ROUNDS, memory_cost=MEMORY_KIB, parallelism=LANES),))


@cache
def _nobodys() -> str:
    """A hash that no password is known of: what is compared for a name that is not there."""
    import secrets

    return _hasher().hash(secrets.token_urlsafe(32))


def hash_password(password: str) -> str:
    """Return what is stored of a password."""
    return _hasher().hash(normal_password(password))


def verify_password(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Return whether a password is right, and its hash anew where the stored one has weaker parameters.

    Args:
        stored: None where there is none: it takes as long, and is never right.
    """
    right, newer = _hasher().verify_and_update(normal_password(password), stored or _nobodys())
    return (right, newer) if stored is not None else (False, None)


class PasswordHashes:
    """Makes and compares hashes for a server, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="legato-password")
        self._at_once = 0
        # The first name that is not there is to take no longer than the next.
        self._threads.submit(_nobodys)

    async def hash(self, password: str) -> str:
        """As hash_password.

        Raises:
            Overloaded: Too many wait already.
        """
        return await self._run(lambda: hash_password(password))

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """As verify_password.

        Raises:
            Overloaded: Too many wait already.
        """
        return await self._run(lambda: verify_password(password, stored))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._at_once >= WORKERS + MOST_WAITING:
            raise Overloaded("too many are signing in at this moment: try again in a few seconds")
        self._at_once += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._done)
        # Who goes away meanwhile stops no thread, and it counts until it is done.
        return await asyncio.shield(future)

    def _done(self, _: object) -> None:
        self._at_once -= 1
