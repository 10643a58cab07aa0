"""Sealing: AES-256-GCM under the data key of a conversation or of an owner, bound to the place that it stands at.

What is sealed opens at its place alone: table, column and row are part of it, and the data key is the scope's. Nothing
that does not open is ever given out, nor is anything plain taken where it has to be sealed.

A nonce is 64 random bits, drawn for each process, and a count of 32. Two are the same only where two processes drew
the same bits: with a million starts that has a chance of 3 in 100 million, however much each of them seals.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import threading
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from legato.core.errors import SealBroken
from legato.storage.root_keys import KEY_BYTES, NONCE_BYTES, RootKey, RootKeys

if TYPE_CHECKING:
    from collections.abc import Iterable

Scope: TypeAlias = int | str
"""Whose data key: a conversation's (its internal key), or an owner's."""

TAG: Final = "\x01s1:"
"""In front of a sealed text in a column of text; base64 follows."""
MOST_KEYS: Final = 4096
"""Data keys that are held unwrapped: about 2 MB."""
MOST_RUNS: Final = 65_536
"""Runs whose conversation is remembered."""
SCOPE_BYTES: Final = 16
_COUNTS: Final = 2**32


def scope_bytes(scope: Scope) -> bytes:
    """Return a scope as it is wrapped with its data key: 16 bytes, so that all wrapped keys are of one length."""
    name = b"c%d" % scope if isinstance(scope, int) else b"o" + scope.encode()
    return hashlib.blake2b(name, digest_size=SCOPE_BYTES).digest()


def place_of(column: str, *place: object) -> bytes:
    """Return what a sealed value is bound to: the column (`table.column`) and what names the row within the scope."""
    parts = [column.encode(), *(str(each).encode() for each in place)]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


class Nonces:
    """Nonces that never repeat; used by any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._draw()

    def _draw(self) -> None:
        self._prefix = os.urandom(8)
        self._count = 0

    def next(self) -> bytes:
        with self._lock:
            if self._count == _COUNTS:
                self._draw()
            count = self._count
            self._count = count + 1
            return self._prefix + count.to_bytes(4, "big")


class DataKey:
    """An unwrapped data key."""

    __slots__ = ("_gcm", "_key", "_nonces")

    def __init__(self, key: bytes, nonces: Nonces) -> None:
        self._gcm = AESGCM(key)
        self._key = key
        self._nonces = nonces

    def hash_words(self, words: Iterable[str]) -> set[str]:
        """Return what stands for words in the search index: 16 hexadecimal digits each, the same for the same word."""
        key = hashlib.blake2b(b"legato search words", key=self._key, digest_size=32).digest()
        return {hashlib.blake2b(word.encode(), key=key, digest_size=8).hexdigest() for word in words}

    def seal(self, place: bytes, data: bytes) -> bytes:
        """Return nonce, ciphertext and tag."""
        nonce = self._nonces.next()
        return nonce + self._gcm.encrypt(nonce, data, place)

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """Return what was sealed at this place.

        Raises:
            SealBroken: It was changed, moved, or sealed under another key.
        """
        try:
            return self._gcm.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise SealBroken(
                "what is kept here does not open: it was changed or moved, or its key is another one"
            ) from None

    def seal_text(self, place: bytes, text: str) -> str:
        """Return a text as it stands in a column of text; what is empty stays so."""
        # Half of a surrogate pair is kept, as SQLite would keep it.
        sealed = self.seal(place, text.encode("utf-8", "surrogatepass"))
        return TAG + binascii.b2a_base64(sealed, newline=False).decode("ascii")

    def open_text(self, place: bytes, sealed: str) -> str:
        """Return what `seal_text` was given; the text begins with TAG."""
        try:
            data = binascii.a2b_base64(sealed[len(TAG) :], strict_mode=True)
        except (binascii.Error, ValueError):
            raise SealBroken("what is kept here does not open: it was changed") from None
        return self.open(place, data).decode("utf-8", "surrogatepass")


class Sealing:
    """What a process knows to seal and open: root keys, and the data keys that it has lately used.

    Attributes:
        current: The root key under which data keys are made; known once the database is open.
        plain: By table, up to which integer key a row may be plain: it was written before encryption was turned on.
            What has no such key is named with 1 as long as it may be plain.
        generation: Counts the times at which data keys were dropped.
    """

    def __init__(self, roots: RootKeys) -> None:
        self.roots = roots
        self.current: RootKey = roots.first
        self.plain: dict[str, int] = {}
        self.ready = False
        self.generation = 0
        self._nonces = Nonces()
        self._keys: dict[Scope, DataKey] = {}
        self._runs: dict[int, int] = {}
        self._lock = threading.Lock()

    def make(self) -> tuple[bytes, DataKey]:
        """Return a new data key, as it is and ready for use."""
        key = AESGCM.generate_key(KEY_BYTES * 8)
        return key, DataKey(key, self._nonces)

    def unwrap(self, root_id: str, wrapped: bytes, scope: Scope) -> DataKey:
        """Return a data key of the database.

        Raises:
            EncryptionKeyMissing: Its root key is not known here.
            SealBroken: It is another scope's, or was changed.
        """
        return DataKey(self.roots.named(root_id).unwrap(wrapped, scope_bytes(scope)), self._nonces)

    def known(self, scope: Scope) -> DataKey | None:
        """Return the data key that is held for a scope."""
        return self._keys.get(scope)

    def hold(self, found: Iterable[tuple[Scope, DataKey]], *, seen: int) -> None:
        """Hold data keys that are committed, unless some were dropped since `seen` (generation)."""
        with self._lock:
            if seen != self.generation:
                return
            for scope, key in found:
                self._keys[scope] = key
            while len(self._keys) > MOST_KEYS:
                del self._keys[next(iter(self._keys))]

    def drop(self, scopes: Iterable[Scope]) -> None:
        """Forget data keys that were deleted."""
        with self._lock:
            self.generation += 1
            for scope in scopes:
                self._keys.pop(scope, None)

    def conversation_of(self, run_key: int) -> int | None:
        """Return the key of a run's conversation, if it is remembered."""
        return self._runs.get(run_key)

    def remember_run(self, run_key: int, conversation_key: int) -> None:
        """Remember whose a run is."""
        with self._lock:
            self._runs[run_key] = conversation_key
            while len(self._runs) > MOST_RUNS:
                del self._runs[next(iter(self._runs))]

    def may_be_plain(self, table: str, key: int) -> bool:
        """Whether a row was written before encryption was turned on, so that it need not be sealed."""
        return key <= self.plain.get(table, 0)
