"""Who a credential belongs to: secret keys, publishable ones, visitors' tokens and the cookies of signed-in pages.

A good one is taken for good for KEY_CACHE_S without looking again, but for a cookie whose sign-in was ended here. A
hint from the node where it was ended has the others look again at once.
"""

from __future__ import annotations

import hashlib
from typing import Final

import structlog

from legato.core.errors import LegatoError
from legato.core.principal import Caller, Principal, Via, visitor_of
from legato.fanout.hint import Hint, HintKind
from legato.http import visitor_tokens
from legato.runs.node import Node
from legato.storage.keys import find_key, find_origins, find_publishable_key
from legato.storage.sign_ins import find_sign_in, renew_sign_in

log = structlog.get_logger(__name__)

KEY_CACHE_S: Final = 5.0
"""How long a good key is taken for good without looking again; a revoked one works for so long at most."""
KEY_CACHE_SIZE: Final = 10_000
COOKIE: Final = "legato_session"
MAX_CHARS: Final = 500
"""No credential is longer."""


class Credentials:
    """Looks credentials up in a node's database, and remembers good ones for a moment."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._known: dict[bytes, tuple[Caller | None, float]] = {}
        """Until when each is taken for good, or, where it has no caller, for one whose sign-in was ended here."""
        self._origins: tuple[frozenset[str], float] = (frozenset(), -1.0)
        self._rounds = 0
        node.wakes.hints.on_hint(self._hear)

    def known(self, key: str) -> Caller | None:
        """Return who holds a key or a visitor's token, if that was found out just now."""
        known = self._known.get(_digest(key, cookie=False))
        return known[0] if known is not None and known[1] > self._node.clock.monotonic_s() else None

    async def of_key(self, key: str) -> Caller | None:
        """Return who holds a key or a visitor's token, or None where it is not good."""
        return await self._find(key, cookie=False)

    async def of_cookie(self, token: str) -> Caller | None:
        """Return who is signed in with a cookie, or None; puts the end of the sign-in off."""
        return await self._find(token, cookie=True)

    async def is_of_widget(self, origin: str) -> bool:
        """Whether pages of an origin (lower case) may use some publishable key."""
        origins, until_s = self._origins
        now_s = self._node.clock.monotonic_s()
        if until_s <= now_s:
            origins = await self._node.database.read(find_origins)
            self._origins = (origins, now_s + KEY_CACHE_S)
        return origin in origins

    def forget(self, token: str) -> None:
        """Take a cookie for good no more, whatever a look that has begun already finds: its sign-in has ended."""
        self._remember(_digest(token, cookie=True), None, self._node.clock.monotonic_s())
        self._node.wakes.tell(HintKind.FORGET)

    def _hear(self, hint: Hint) -> None:
        if hint.kind in (HintKind.FORGET, HintKind.EVERYTHING):
            self._known = {digest: known for digest, known in self._known.items() if known[0] is None}
            # What a look that has begun already finds may be too old to be kept.
            self._rounds += 1

    async def _find(self, proof: str, *, cookie: bool) -> Caller | None:
        digest = _digest(proof, cookie=cookie)
        now_s = self._node.clock.monotonic_s()
        known = self._known.get(digest)
        if known is not None and known[1] > now_s:
            return known[0]
        caller, rounds = None, self._rounds
        if len(proof) <= MAX_CHARS:
            caller = await (self._look_up_cookie(proof) if cookie else self._look_up_key(proof))
        known = self._known.get(digest)
        # Signed out while it was looked up: no token is good a second time.
        if caller is None or (known is not None and known[0] is None):
            return None
        if rounds == self._rounds:
            self._remember(digest, caller, now_s)
        return caller

    def _remember(self, digest: bytes, caller: Caller | None, now_s: float) -> None:
        if len(self._known) >= KEY_CACHE_SIZE:
            self._known.clear()
        self._known[digest] = (caller, now_s + KEY_CACHE_S)

    async def _look_up_key(self, proof: str) -> Caller | None:
        if proof.startswith(visitor_tokens.PREFIX):
            return await self._look_up_visitor(proof)
        found = await self._node.database.read(lambda tx: find_key(tx, proof))
        if found is None:
            return None
        via: Via = "widget" if found.origins else "key"
        principal = Principal(id=found.owner, role=found.role)
        return Caller(principal=principal, via=via, key_id=found.id, origins=found.origins)

    async def _look_up_visitor(self, token: str) -> Caller | None:
        key_id = visitor_tokens.key_of(token)
        if key_id is None:
            return None
        found = await self._node.database.read(lambda tx: find_publishable_key(tx, key_id))
        visitor = found and visitor_tokens.read(found.signing_secret, token, self._node.clock.now_ms())
        if not found or not visitor:
            return None
        return Caller(principal=visitor_of(key_id, visitor), via="visitor", key_id=key_id, origins=found.origins)

    async def _look_up_cookie(self, token: str) -> Caller | None:
        now_ms = self._node.clock.now_ms()
        found = await self._node.database.read(lambda tx: find_sign_in(tx, token, now_ms))
        if found is None:
            return None
        if found.renewal_ms is not None:
            until_ms = found.renewal_ms
            try:
                await self._node.committer.write(lambda tx: renew_sign_in(tx, token, until_ms), wait_s=1.0)
            except LegatoError as error:
                # It is good all the same, and put off by the next request.
                log.warning("a sign-in could not be put off", error=error.code)
        principal = Principal(id=found.owner, role=found.role)
        return Caller(principal=principal, via="session", key_id=found.key_id)


def _digest(proof: str, *, cookie: bool) -> bytes:
    # A cookie's value is no key, nor the other way round.
    return hashlib.sha256((b"cookie " if cookie else b"") + proof.encode("utf-8", "surrogatepass")).digest()
