"""Root keys: what wraps data keys. They come from the settings and are never written down.

A data key is wrapped with its scope (storage.sealing.Scope), so that it opens nothing of another's place.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from legato.core.errors import ConfigurationError, EncryptionKeyMissing, SealBroken

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class RootKey:
    """One root key.

    Attributes:
        id: What stands beside what it wraps.
    """

    __slots__ = ("_check", "_key", "id")

    def __init__(self, id: str, key: bytes) -> None:
        self.id = id
        # Two purposes, two keys: the one that wraps is used for nothing else.
        self._key = HKDFExpand(SHA256(), KEY_BYTES, b"legato data keys").derive(key)
        self._check = AESGCM(HKDFExpand(SHA256(), KEY_BYTES, b"legato record").derive(key))

    def __repr__(self) -> str:
        return f"RootKey({self.id!r})"

    def wrap(self, key: bytes, scope: bytes) -> bytes:
        """Return a data key, wrapped with its scope (RFC 5649)."""
        return aes_key_wrap_with_padding(self._key, key + scope)

    def unwrap(self, wrapped: bytes, scope: bytes) -> bytes:
        """Return a data key.

        Raises:
            SealBroken: It was wrapped by another key, is another scope's, or was changed.
        """
        try:
            found = aes_key_unwrap_with_padding(self._key, wrapped)
        except (InvalidUnwrap, ValueError):
            raise SealBroken(f"a data key does not open with the encryption key {self.id!r}") from None
        if found[KEY_BYTES:] != scope:
            raise SealBroken("a data key stands in another place than it was made for")
        return found[:KEY_BYTES]

    def seal_record(self, record: bytes) -> bytes:
        """Return what is kept in `encryption_root` of this key."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._check.encrypt(nonce, record, self.id.encode())

    def open_record(self, sealed: bytes) -> bytes | None:
        """Return what `seal_record` was given; None where another key has sealed it."""
        try:
            return self._check.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self.id.encode())
        except (InvalidTag, ValueError):
            return None


class RootKeys:
    """The root keys of the settings, by id; the first one is what the operator wants to be used."""

    def __init__(self, keys: Iterable[RootKey]) -> None:
        self.by_id = {key.id: key for key in keys}
        self.first = next(iter(self.by_id.values()))

    def named(self, id: str) -> RootKey:
        """Return a root key.

        Raises:
            EncryptionKeyMissing: It is not among the settings'.
        """
        try:
            return self.by_id[id]
        except KeyError:
            raise EncryptionKeyMissing(
                f"this is sealed under the encryption key {id!r}, which is not in LEGATO_ENCRYPTION_KEYS"
            ) from None


def make_root_key(id: str) -> str:
    """Return a new root key in the form that the settings take: id:base64."""
    _check_id(id)
    return f"{id}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


def parse_root_keys(text: str) -> RootKeys | None:
    """Read `id:base64key` words between commas or white space, or with `@path` those of a file; None where none is.

    Raises:
        ConfigurationError: One is malformed, or an id stands twice; no key is repeated in it.
    """
    text = text.strip()
    if text.startswith("@"):
        text = _read(Path(text[1:]).expanduser())
    keys: dict[str, RootKey] = {}
    lines = (line.partition("#")[0] for line in text.splitlines())
    for number, word in enumerate(re.split(r"[,\s]+", " ".join(lines).strip(", \t")), 1):
        if not word and number == 1:
            return None
        id, colon, encoded = word.partition(":")
        if not colon:
            raise ConfigurationError(f"LEGATO_ENCRYPTION_KEYS: entry {number} is not of the form id:base64key")
        _check_id(id)
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise ConfigurationError(
                f"LEGATO_ENCRYPTION_KEYS: the key {id!r} is not {KEY_BYTES} bytes in base64: "
                "make one with `legato keys encryption new`"
            )
        if id in keys:
            raise ConfigurationError(f"LEGATO_ENCRYPTION_KEYS: the id {id!r} stands there twice")
        keys[id] = RootKey(id, key)
    return RootKeys(keys.values())


def _check_id(id: str) -> None:
    if not _ID.fullmatch(id):
        raise ConfigurationError("the id of an encryption key is 1 to 40 letters, digits, dots, dashes or underscores")


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"the file of LEGATO_ENCRYPTION_KEYS can be read by others: chmod 600 {path}")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"the file of LEGATO_ENCRYPTION_KEYS cannot be read ({said}): {path}") from None
