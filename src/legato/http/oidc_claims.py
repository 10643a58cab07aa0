"""Identity tokens of an issuer: whether one is genuine, for this server and this sign-in, and what it says.

Pure.

Source:
    https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from legato.core.principal import Role
from legato.settings_access import OidcSettings

# joserfc is imported where it is used: a server without an issuer does without it.
if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

    Key: TypeAlias = RSAKey | ECKey

ALGORITHMS: Final = {"RS256": "RSA", "ES256": "EC"}
"""What tokens may be signed with, and the kind of key that it takes. Never `none`, and nothing with a shared secret."""
SKEW_S: Final = 60
"""So far may the issuer's clock be from this one's."""
LEAST_RSA_BITS: Final = 2048
MAX_SUBJECT_CHARS: Final = 255
MAX_TOKEN_CHARS: Final = 65_536
_EMAIL: Final = frozenset(("email", "email_verified"))


class TokenRefused(Exception):
    """A token is not taken; the message says why, for the log, and holds nothing of the token."""


class KeyUnknown(TokenRefused):
    """No key of the issuer's has signed it: the issuer may have taken a new one."""


class PersonRefused(Exception):
    """The issuer knows the person, but the person may not come in here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who signs in, as the issuer says.

    Attributes:
        subject: The issuer's own name for the person, which is never given to another.
        label: How people call the person; nothing follows from it.
    """

    subject: str
    label: str
    role: Role


def read_keys(document: Any) -> list[Key]:
    """Return the keys of a JWKS document that tokens may be signed with; others are passed over.

    Raises:
        TokenRefused: It is no such document.
    """
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, KeySet, RSAKey

    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise TokenRefused("the issuer's keys are no JWKS document")
    keys: list[Key] = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            found = [*KeySet.import_key_set({"keys": [entry]})]
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        keys += [key for key in found if isinstance(key, RSAKey | ECKey) and _is_strong(key)]
    return keys


def read_token(
    token: str, keys: Sequence[Key], *, issuer: str, client_id: str, nonce: str, now_s: int
) -> dict[str, Any]:
    """Return the claims of an identity token.

    Raises:
        KeyUnknown: None of these keys has signed it.
        TokenRefused: It is wrong in another way.
    """
    from joserfc import jws
    from joserfc.errors import JoseError

    if len(token) > MAX_TOKEN_CHARS:
        raise TokenRefused("the token is too long")
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError) as error:
        raise TokenRefused("the token is no JWS") from error
    algorithm, key_id = header.get("alg"), header.get("kid")
    kind = ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if kind is None or "crit" in header:
        raise TokenRefused("the token is signed with an algorithm that is not taken")
    fitting = [key for key in keys if key.key_type == kind and key.get("alg", algorithm) == algorithm]
    if key_id is not None:
        fitting = [key for key in fitting if key.get("kid") == key_id]
    claims = _verified(token, fitting, str(algorithm))
    _check(claims, issuer=issuer, client_id=client_id, nonce=nonce, now_s=now_s)
    return claims


def read_person(claims: Mapping[str, Any], settings: OidcSettings) -> Person:
    """Return who somebody is here.

    Raises:
        PersonRefused: Nobody of this domain, or these groups, may come in.
    """
    groups = frozenset(_words(_claim(claims, settings.groups_claim)))
    email = claims.get("email") if claims.get("email_verified") is True else None
    domain = email.rpartition("@")[2].casefold() if isinstance(email, str) and "@" in email else None
    allowed = (
        settings.allow_everybody
        or domain in {each.casefold().lstrip("@") for each in settings.allowed_domains}
        or not groups.isdisjoint(settings.allowed_groups)
    )
    if not allowed:
        raise PersonRefused("neither the person's groups nor a verified e-mail address of theirs are allowed")
    names = (_shown(claims.get("name")), _shown(claims.get("preferred_username")), _shown(email))
    label = next(filter(None, names), "")
    admin = not groups.isdisjoint(settings.admin_groups)
    return Person(subject=claims["sub"], label=label, role="admin" if admin else "member")


def says_who(claims: Mapping[str, Any], settings: OidcSettings) -> bool:
    """Whether a token has the claims by which people are let in, so that the issuer need not be asked for them."""
    groups = settings.allowed_groups or settings.admin_groups
    return (not groups or _claim(claims, settings.groups_claim) is not None) and (
        not settings.allowed_domains or claims.keys() >= _EMAIL
    )


def join_claims(token: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an identity token says, and beside it what the issuer said of the same person when it was asked.

    An e-mail address and whether it is verified are of one document: one may speak of another address than the other.
    """
    joined = {**more, **token}
    if not token.keys() >= _EMAIL:
        for name in _EMAIL:
            joined.pop(name, None)
        joined |= {name: more[name] for name in _EMAIL if name in more}
    return joined


def _verified(token: str, keys: Sequence[Key], algorithm: str) -> dict[str, Any]:
    from joserfc import jwt
    from joserfc.errors import JoseError

    for key in keys:
        try:
            return dict(jwt.decode(token, key, algorithms=[algorithm]).claims)
        except (JoseError, ValueError):
            continue
        except RecursionError as error:
            raise TokenRefused("the token's claims are nested too deeply") from error
    raise KeyUnknown("no key of the issuer's has signed the token")


def _check(claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now_s: int) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    subject, given = claims.get("sub"), claims.get("nonce")
    if claims.get("iss") != issuer:
        raise TokenRefused("the token is of another issuer (iss)")
    if client_id not in audiences:
        raise TokenRefused("the token is for somebody else (aud)")
    if ("azp" in claims or len(audiences) > 1) and claims.get("azp") != client_id:
        raise TokenRefused("the token was given to somebody else (azp)")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS or not subject.isprintable():
        raise TokenRefused("the token does not say whom it is about (sub)")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), nonce.encode()):
        raise TokenRefused("the token is of another sign-in (nonce)")
    if _time(claims, "exp") <= now_s - SKEW_S:
        raise TokenRefused("the token has expired (exp)")
    if _time(claims, "iat") > now_s + SKEW_S:
        raise TokenRefused("the token is of the future (iat): is a clock wrong?")
    if "nbf" in claims and _time(claims, "nbf") > now_s + SKEW_S:
        raise TokenRefused("the token is not good yet (nbf): is a clock wrong?")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(f"the token says no time ({name})")
    return value


def _is_strong(key: Key) -> bool:
    if key.key_type == "RSA":
        return bool(key.public_key.key_size >= LEAST_RSA_BITS)
    return key.get("crv") == "P-256"


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim of a name, else the one that its dots lead to; None where there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _shown(value: Any) -> str:
    """Return a name without what cannot be shown, or kept."""
    return "".join(each for each in value if each.isprintable()).strip() if isinstance(value, str) else ""


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
