"""Who a credential belongs to: secret keys, publishable ones, visitors' tokens and the cookies of signed-in pages.

A good one is taken for good for KEY_CACHE_S without looking again, but for a cookie whose sign-in was ended here. A
hint from the node where it was ended has the others look again at once. The sign-in of an account is looked up each
time: who has been disabled, by whichever command or node, is out with the next request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from legato.core.errors import LegatoError
from legato.core.principal import Caller, Principal, Via, visitor_of
from legato.fanout.hint import Hint, HintKind
from legato.http import visitor_tokens
from legato.runs.node import Node
from legato.settings import Settings
from legato.storage.keys import find_key, find_origins, find_publishable_key
from legato.storage.sign_ins import Lives, SignIn, find_sign_in, offer_token, renew_sign_in, take_next_token
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)

KEY_CACHE_S: Final = 5.0
"""How long a good key is taken for good without looking again; a revoked one works for so long at most."""
KEY_CACHE_SIZE: Final = 10_000
MAX_CHARS: Final = 500
"""No credential is longer."""
HOUR_MS: Final = 3_600_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A signed-in page.

    Attributes:
        token: What its cookie is to be from now on; None where it stays as it is.
    """

    caller: Caller
    token: str | None = None


class Credentials:
    """Looks credentials up in a node's database, and remembers good ones for a moment."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.lives = lives_of(node.settings)
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
        digest, rounds, now_s = _digest(key, cookie=False), self._rounds, self._node.clock.monotonic_s()
        known = self._known.get(digest)
        if known is not None and known[1] > now_s:
            return known[0]
        caller = await self._look_up_key(key) if len(key) <= MAX_CHARS else None
        if caller is not None and rounds == self._rounds:
            self._remember(digest, caller, now_s)
        return caller

    async def of_cookie(self, token: str, *, may_exchange: bool = False) -> Page | None:
        """Return who is signed in with a cookie, or None; puts the end of the sign-in off.

        Args:
            may_exchange: Whether the answer can bring the page another cookie, where that is due.
        """
        digest, rounds, now_s = _digest(token, cookie=True), self._rounds, self._node.clock.monotonic_s()
        known = self._known.get(digest)
        if known is not None and known[1] > now_s:
            return None if known[0] is None else Page(caller=known[0])
        now_ms = self._node.clock.now_ms()
        found = None
        if len(token) <= MAX_CHARS:
            found = await self._node.database.read(lambda tx: find_sign_in(tx, token, now_ms, self.lives))
        known = self._known.get(digest)
        # Signed out while it was looked up: no token is good a second time.
        if found is None or (known is not None and known[0] is None):
            return None
        caller = _caller_of(found)
        if found.account_id is None and rounds == self._rounds:
            self._remember(digest, caller, now_s)
        await self._keep_going(found, token, now_ms)
        if not (found.rotates and may_exchange):
            return Page(caller=caller)
        return Page(caller=caller, token=await self._write(lambda tx: offer_token(tx, found.hash, now_ms)))

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
        self.forget_all()

    def forget_all(self) -> None:
        """Look everything up again, here and at the other nodes: a sign-in, an account or a key has ended."""
        self._hear(Hint(kind=HintKind.FORGET))
        self._node.wakes.tell(HintKind.FORGET)

    def _hear(self, hint: Hint) -> None:
        if hint.kind in (HintKind.FORGET, HintKind.EVERYTHING):
            self._known = {digest: known for digest, known in self._known.items() if known[0] is None}
            # What a look that has begun already finds may be too old to be kept.
            self._rounds += 1

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
        return Caller(principal=principal, via=via, key_id=found.id, origins=found.origins, name=found.name)

    async def _look_up_visitor(self, token: str) -> Caller | None:
        key_id = visitor_tokens.key_of(token)
        if key_id is None:
            return None
        found = await self._node.database.read(lambda tx: find_publishable_key(tx, key_id))
        visitor = found and visitor_tokens.read(found.signing_secret, token, self._node.clock.now_ms())
        if not found or not visitor:
            return None
        return Caller(principal=visitor_of(key_id, visitor), via="visitor", key_id=key_id, origins=found.origins)

    async def _keep_going(self, found: SignIn, token: str, now_ms: int) -> None:
        """Write what is due of a sign-in that is in use."""
        if found.stage == "next":
            await self._write(lambda tx: take_next_token(tx, token, now_ms))
        until_ms = found.renewal_ms
        if until_ms is not None:
            await self._write(lambda tx: renew_sign_in(tx, found.hash, until_ms, now_ms))

    async def _write(self, change: Callable[[Transaction], T]) -> T | None:
        try:
            return await self._node.committer.write(change, wait_s=1.0)
        except LegatoError as error:
            # It is good all the same, and the next request tries again.
            log.warning("a sign-in could not be put off", error=error.code)
            return None


def lives_of(settings: Settings) -> Lives:
    """Return how long sign-ins last."""
    table = settings.accounts
    idle_ms, most_ms, rotate_ms = (
        round(hours * HOUR_MS) for hours in (table.session_idle_h, table.session_max_h, table.session_rotate_h)
    )
    return Lives(idle_ms=min(idle_ms, most_ms), most_ms=most_ms, rotate_ms=rotate_ms)


def _caller_of(found: SignIn) -> Caller:
    return Caller(
        principal=Principal(id=found.owner, role=found.role),
        via="session",
        key_id=found.key_id,
        account_id=found.account_id,
        sign_in_id=found.id,
        signed_in_by=found.way,
        name=found.name,
    )


def _digest(proof: str, *, cookie: bool) -> bytes:
    # A cookie's value is no key, nor the other way round.
    return hashlib.sha256((b"cookie " if cookie else b"") + proof.encode("utf-8", "surrogatepass")).digest()
