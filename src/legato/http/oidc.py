"""Signing in at an issuer: a page asks where to go, and the browser comes back with a code.

A cookie of the browser's own holds one random secret; what the issuer is given (state, nonce, the hash of the verifier)
is derived from it. So an answer is good in the browser that asked, once, and the server keeps nothing meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from legato.core.errors import Conflict, InvalidRequest, IssuerUnavailable, LegatoError, RateLimited
from legato.http.bodies import Body, Text, read_body
from legato.http.cookies import FLOW, FLOW_PATH, flow_cookie, read_cookie
from legato.http.documents import json_body, problems
from legato.http.doors import Comer, Doors, come_in
from legato.http.oidc_claims import Person, PersonRefused, TokenRefused
from legato.http.oidc_issuer import Issuer, Secrets
from legato.http.own_page import check_own_page, is_https_page
from legato.http.resources import Resource, respond
from legato.runs.audit import SERVER, audit
from legato.runs.node import Node
from legato.storage.accounts import Account, create_account, find_by_subject, follow_issuer
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)

CALLBACK: Final = f"{FLOW_PATH}/callback"
FLOW_S: Final = 600
"""How long somebody may take at the issuer."""
_PLACE: Final = re.compile(r"/(?:c/[A-Za-z0-9._~%:@!$&'()*+,;=-]{1,700}|admin)?")
"""Pages of this server that a browser can come back to."""
_SECRET: Final = re.compile(r"[\w-]{43}", re.ASCII)

router = APIRouter(prefix=FLOW_PATH, tags=["callers"])


class IssuerBody(Body):
    """Where the page is."""

    to: Text | None = Field(None, max_length=1000, description="The page to come back to: `/`, `/c/…` or `/admin`.")


class GoOut(Resource):
    location: str = Field(description="Where the browser has to go.")


@router.post(
    "",
    response_model=GoOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 429, 503),
    openapi_extra=json_body(IssuerBody, required=False),
)
async def go_to_issuer(request: Request) -> Response:
    """Begin to sign a page of this server in at the issuer."""
    check_own_page(request.scope, request.headers)
    body = await read_body(request, IssuerBody, optional=True)
    issuer = _issuer(request)
    doors: Doors = request.app.state.doors
    if body.to is not None and not _PLACE.fullmatch(body.to):
        raise InvalidRequest.of("to", "is no page to come back to: `/`, `/c/…` and `/admin` are")
    origin = issuer.settings.public_url or request.headers.get("origin", "")
    if not origin:
        raise InvalidRequest.of("origin", "is missing: the page has to say where it is, or public_url of [oidc]")
    await doors.flows.take(request)
    secret = secrets.token_urlsafe(32)
    try:
        location = await issuer.address(derive(secret), origin.lower() + CALLBACK)
    except IssuerUnavailable as error:
        _note(issuer, error)
        raise
    response = respond(GoOut, {"location": location})
    value = ".".join((secret, _pack(origin.lower()), _pack(body.to or "/")))
    response.headers.append("Set-Cookie", flow_cookie(value, FLOW_S, https=origin.lower().startswith("https://")))
    return response


@router.get(
    "/callback",
    status_code=303,
    response_class=Response,
    responses={
        303: {"description": "Back to the page, signed in; or with `?sign-in=` and why not."},
        **problems(401, 403, 422, 503),
    },
)
async def come_from_issuer(
    request: Request,
    code: Annotated[str | None, Query(max_length=4096, description="The issuer's code.")] = None,
    state: Annotated[str | None, Query(max_length=500, description="What the issuer was given.")] = None,
    iss: Annotated[str | None, Query(max_length=2000, description="The issuer's name for itself.")] = None,
    error: Annotated[str | None, Query(max_length=500, description="Why there is no code.")] = None,
) -> Response:
    """Take a browser back from the issuer, and sign its page in."""
    place = "/"
    cookie = None
    try:
        doors: Doors = request.app.state.doors
        issuer = _issuer(request)
        secret, origin, place = _flow_of(request)
        if state is None or not hmac.compare_digest(
            state.encode("utf-8", "surrogatepass"), derive(secret).state.encode()
        ):
            raise _NotHere
        await doors.flows.take(request)
        if code is None:
            raise TokenRefused("the issuer gave no code") if error != "access_denied" else _Denied
        person = await issuer.person(code, derive(secret), origin + CALLBACK, said_issuer=iss)
        account = await _account_of(request.app.state.node, issuer, person)
        comer = Comer(owner=account.owner, role=person.role, name=account.label, way="issuer", account_id=account.id)
        _, cookie = await come_in(request, comer)
        why = None
    except _NotHere:
        # Begun in another browser, too long ago, or twice; or somebody sends others here.
        why, place = "expired", "/"
    except _Denied:
        why = "denied"
    except PersonRefused as refused:
        log.warning("a person was not let in", issuer=issuer.settings.issuer, why=str(refused))
        why = "refused"
    except TokenRefused as refused:
        log.warning("a sign-in at the issuer failed", issuer=issuer.settings.issuer, why=str(refused))
        why = "failed"
    except IssuerUnavailable as unavailable:
        _note(issuer, unavailable)
        why = "unreachable"
    except RateLimited:
        why = "often"
    except LegatoError as failed:
        log.warning("a sign-in at the issuer failed", why=failed.code)
        why = "failed"
    headers = {"Location": place if why is None else f"/?sign-in={why}", "Cache-Control": "no-store"}
    response = Response(status_code=303, headers=headers)
    response.headers.append("Set-Cookie", flow_cookie("", 0, https=is_https_page(request.scope, request.headers)))
    if cookie is not None:
        response.headers.append("Set-Cookie", cookie)
    return response


class _NotHere(Exception):
    """The answer belongs to no sign-in that this browser has begun."""


class _Denied(Exception):
    """The person, or the issuer, did not want to."""


def derive(secret: str) -> Secrets:
    """Return what binds a sign-in to a browser, of the browser's secret."""

    def one(word: str) -> str:
        digest = hmac.digest(secret.encode("ascii"), word.encode("ascii"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    return Secrets(state=one("state"), nonce=one("nonce"), verifier=one("verifier"))


def _issuer(request: Request) -> Issuer:
    doors: Doors = request.app.state.doors
    if doors.issuer is None:
        raise Conflict("nobody signs in at an issuer here: that takes LEGATO_AUTH=accounts and [oidc] in legato.toml")
    return doors.issuer


def _note(issuer: Issuer, error: IssuerUnavailable) -> None:
    log.error("the issuer cannot be used", issuer=issuer.settings.issuer, why=error.message, seen=error.seen)


def _flow_of(request: Request) -> tuple[str, str, str]:
    """Return secret, origin and place of the sign-in that this browser has begun.

    Raises:
        _NotHere: There is none.
    """
    value = read_cookie(request.scope, request.headers, FLOW)
    secret, _, rest = value.partition(".")
    origin, _, place = rest.partition(".")
    try:
        origin, place = _unpack(origin), _unpack(place)
    except ValueError:
        raise _NotHere from None
    if not _SECRET.fullmatch(secret) or not _PLACE.fullmatch(place):
        raise _NotHere
    return secret, origin, place


async def _account_of(node: Node, issuer: Issuer, person: Person) -> Account:
    """Return the account of a person, made at the first time; it has the role that the issuer's groups give now.

    Raises:
        PersonRefused: It was disabled.
    """
    address, now_ms = issuer.settings.issuer, node.clock.now_ms()

    def find(tx: Transaction) -> Account:
        label = person.label or person.subject
        found = find_by_subject(tx, address, person.subject)
        made = None
        if found is None:
            made = create_account(
                tx, now_ms=now_ms, label=label, role=person.role, issuer=address, subject=person.subject
            )
            # Another page of the same person's came first.
            found = made or find_by_subject(tx, address, person.subject)
        assert found is not None
        if made is not None:
            audit(
                tx,
                actor=SERVER,
                action="account.create",
                subject=found.id,
                at_ms=now_ms,
                owner=found.owner,
                detail={"by": "issuer", "role": person.role},
            )
        elif found.role != person.role or (person.label and found.label != person.label):
            follow_issuer(tx, found.id, role=person.role, label=person.label or found.label)
            if found.role != person.role:
                audit(
                    tx,
                    actor=SERVER,
                    action="account.change",
                    subject=found.id,
                    at_ms=now_ms,
                    owner=found.owner,
                    detail={"what": "role", "role": person.role},
                )
        return found

    found = await node.committer.write(find, wait_s=node.settings.storage_wait_s)
    if found.disabled_at_ms is not None:
        raise PersonRefused("the account was disabled")
    return found


def _pack(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode("ascii")


def _unpack(word: str) -> str:
    return base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode("utf-8")
