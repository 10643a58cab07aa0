"""The pages: the chat, the admin's, and the widget's in its frame. All are one built file; its script reads the path.

Open to everybody: they hold nothing of anybody's.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from legato.core.errors import NotFound
from legato.http.credentials import Credentials
from legato.http.page_files import COMMON, PageFiles, page_headers

WELCOME: Final = """\
Legato answers here. Try:

  curl -N http://{host}/chat/stream -H 'content-type: application/json' -d '{{"message": "Hello!"}}'

GET /openapi.json describes every route.
"""
INDEX: Final = "index.html"
_STYLE: Final = """\
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:0;padding:1.25rem;max-width:34rem}
h1{font-size:1.1rem;margin:0 0 .5rem}
p{margin:0}
code{display:inline-block;font-size:.9em;overflow-wrap:anywhere}
"""
_NOTICE: Final = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""
_NOTICE_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors *"
)

router = APIRouter(include_in_schema=False)
_READS: Final = ["GET", "HEAD"]


@router.api_route("/", methods=_READS)
async def welcome(request: Request) -> Response:
    """The chat for browsers; a few words for whoever does not ask for a page."""
    response: Response
    if "text/html" in request.headers.get("accept", ""):
        response = await _page(request) or _not_built(request)
    else:
        host = request.headers.get("host", "localhost")
        response = PlainTextResponse(WELCOME.format(host=host), headers=COMMON)
    response.headers.add_vary_header("Accept")
    return response


@router.api_route("/c/{conversation_id}", methods=_READS)
@router.api_route("/admin", methods=_READS)
async def page(request: Request) -> Response:
    """A conversation, or the admin's page."""
    return await _page(request) or _not_built(request)


@router.api_route("/widget", methods=_READS)
async def widget(request: Request) -> Response:
    """The chat in a frame, for pages of the key's origins alone."""
    key = request.query_params.get("key", "")
    credentials: Credentials | None = request.app.state.credentials
    if credentials is None:
        return _notice(409, "This chat is not open", "The server needs LEGATO_AUTH=keys for its publishable keys.")
    caller = await credentials.of_key(key)
    if key.startswith("lk_") or (caller is not None and caller.via != "widget"):
        return _notice(
            403,
            "This key is secret",
            "It does not belong in a web page, and whoever saw this page may have it: revoke it with `legato keys "
            "revoke`. A widget takes a publishable key: `legato keys create --publishable --origin https://…`",
        )
    if caller is None:
        return _notice(403, "This chat is not open", "Its publishable key is not known, or was revoked.")
    headers = page_headers(caller.origins) | {"Cross-Origin-Resource-Policy": "cross-origin"}
    files: PageFiles = request.app.state.page_files
    return await files.page(INDEX, request.scope, headers) or _not_built(request)


@router.api_route("/widget.js", methods=_READS)
async def loader(request: Request) -> Response:
    """The script that puts the widget into a page of another site."""
    files: PageFiles = request.app.state.page_files
    headers = COMMON | {"Cross-Origin-Resource-Policy": "cross-origin"}
    return _found(await files.page("widget.js", request.scope, headers))


@router.api_route("/favicon.ico", methods=_READS)
async def favicon(request: Request) -> Response:
    """The icon that browsers ask for by themselves."""
    files: PageFiles = request.app.state.page_files
    return _found(await files.page("favicon.ico", request.scope, COMMON))


@router.api_route("/assets/{path:path}", methods=_READS)
async def asset(request: Request, path: str) -> Response:
    """A file whose name says what is in it."""
    files: PageFiles = request.app.state.page_files
    return await files.asset(path, request.scope)


async def _page(request: Request) -> Response | None:
    files: PageFiles = request.app.state.page_files
    headers = page_headers() | {"Cross-Origin-Resource-Policy": "same-origin"}
    return await files.page(INDEX, request.scope, headers)


def _found(response: Response | None) -> Response:
    if response is None:
        raise NotFound("there is nothing at this address")
    return response


def _not_built(request: Request) -> Response:
    text = WELCOME.format(host=request.headers.get("host", "localhost"))
    return PlainTextResponse(text + "\nThe page is not built here.\n", headers=COMMON)


def _notice(status: int, title: str, text: str) -> Response:
    """Return a page of words, which may be shown in any frame: nothing on it can be pressed.

    What stands in `backticks` of a text is shown as code.
    """
    headers = {"Content-Security-Policy": _NOTICE_POLICY, "Cache-Control": "no-store"} | COMMON
    shown = re.sub("`(.*?)`", r"<code>\1</code>", escape(text))
    return Response(_NOTICE.format(title=escape(title), text=shown, style=_STYLE), status, headers, "text/html")
