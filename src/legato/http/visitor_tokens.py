"""Tokens of a widget's visitors: `lv_<key>_<visitor>.<until>.<signature>`, signed with the key's own secret.

Pure. The server keeps nothing of a visitor but what it says; whoever has the token is that visitor until it expires.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

from itsdangerous import Signer

PREFIX: Final = "lv_"
LIFE_MS: Final = 30 * 86_400_000
_SHAPE: Final = re.compile(r"lv_([0-9a-f]{12})_([\w-]{22})\.([0-9]{13})\.[\w-]{43}", re.ASCII)


def new_visitor() -> str:
    """Return the name of a visitor: 128 random bits."""
    return secrets.token_urlsafe(16)


def sign(secret: bytes, key_id: str, visitor: str, until_ms: int) -> str:
    """Return a token that is good until `until_ms` (epoch milliseconds)."""
    return _signer(secret).sign(f"{PREFIX}{key_id}_{visitor}.{until_ms:013}").decode("ascii")


def key_of(token: str) -> str | None:
    """Return the id of the key that a token says it is of; None where it is no token."""
    found = _SHAPE.fullmatch(token)
    return found[1] if found else None


def read(secret: bytes, token: str, now_ms: int) -> str | None:
    """Return the visitor's name; None where the token was not signed with this secret, or has expired."""
    found = _SHAPE.fullmatch(token)
    if found is None:
        return None
    # Compared as text: base64 has two spellings of some bytes, and a token has one.
    if not hmac.compare_digest(sign(secret, found[1], found[2], int(found[3])), token):
        return None
    return found[2] if int(found[3]) > now_ms else None


def _signer(secret: bytes) -> Signer:
    return Signer(secret, salt=b"legato.visitor", sep=".", key_derivation="hmac", digest_method=hashlib.sha256)
