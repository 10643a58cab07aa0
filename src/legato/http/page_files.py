"""The built page's files: what Vite made in `_web`, with the headers that keep it strict.

Names in `assets/` hold a hash of what is in them and are kept by browsers for ever. The others are asked for anew each
time and told apart by a hash of their bytes: in a wheel every file has the same time, and two builds of a page may well
be as long as each other.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

FOLDER: Final = Path(__file__).parent.parent / "_web"
"""Made by the build; absent where a checkout was not built."""
FOREVER: Final = "public, max-age=31536000, immutable"
PACKED: Final = frozenset((".js", ".css", ".svg", ".json", ".map", ".txt", ".html", ".wasm"))
"""What gzip makes smaller: fonts and pictures are packed as they are."""
LEAST_PACKED_BYTES: Final = 1024
_ONE_RANGE: Final = re.compile(r"bytes=(\d{1,15}-\d{0,15}|-\d{1,15})", re.ASCII)
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)

# Of the frame that draws diagrams, which stands in its file too. Frames of it are the chat's, also of one that a widget
# shows in another's page: it takes messages from its own origin alone.
_FRAME_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def page_headers(ancestors: Iterable[str] = ()) -> dict[str, str]:
    """Return the headers of a page that only pages of these origins may show in a frame."""
    policy = _POLICY.format(ancestors=" ".join(sorted(ancestors)) or "'none'")
    return {"Content-Security-Policy": policy} | COMMON | ({} if ancestors else {"X-Frame-Options": "DENY"})


COMMON: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class PageFiles(StaticFiles):
    """The files of one folder, which may be made or changed while the server runs."""

    def __init__(self, folder: Path = FOLDER) -> None:
        super().__init__(directory=folder, check_dir=False)
        self._packed: dict[tuple[str, int, int], bytes] = {}
        """Packed once each: an upgrade brings a new process."""

    async def asset(self, path: str, scope: Scope) -> Response:
        """Return the response with a file of `assets/`.

        Raises:
            starlette.exceptions.HTTPException: 404: there is none.
        """
        if ".." in path.split("/"):
            # Inside the folder it would lead no further than to the page itself, kept for ever.
            raise HTTPException(404)
        if not _ONE_RANGE.fullmatch(Headers(scope=scope).get("range", "bytes=0-")):
            # Ranges may be passed over; those of an unknown unit have to be (RFC 9110, 14.2).
            scope["headers"] = [field for field in scope["headers"] if field[0] != b"range"]
        response = await self.get_response(f"assets/{path}", scope)
        response.headers.update({"Cache-Control": FOREVER} | COMMON | {"Cross-Origin-Resource-Policy": "same-origin"})
        if path.endswith(".html"):
            response.headers["Content-Security-Policy"] = _FRAME_POLICY
        if not isinstance(response, FileResponse) or Path(response.path).suffix not in PACKED:
            return response
        response.headers.add_vary_header("Accept-Encoding")
        if _takes_gzip(Headers(scope=scope)) and response.stat_result is not None:
            stat = response.stat_result
            if stat.st_size >= LEAST_PACKED_BYTES:
                key = (str(response.path), stat.st_mtime_ns, stat.st_size)
                return await self._pack(response, key, Headers(scope=scope))
        return response

    async def page(self, name: str, scope: Scope, headers: dict[str, str]) -> Response | None:
        """Return the response with a file that has no hash in its name; None where there is none."""
        found = await anyio.to_thread.run_sync(self._read, name)
        if found is None:
            return None
        data, media_type = found
        # What a browser has is had again with the headers of then: other headers are another page.
        etag = f'"{hashlib.sha256(data + repr(sorted(headers.items())).encode()).hexdigest()[:32]}"'
        response = Response(data, headers={"Cache-Control": "no-cache", "ETag": etag} | headers, media_type=media_type)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response

    def _read(self, name: str) -> tuple[bytes, str] | None:
        path, stat = self.lookup_path(name)
        if stat is None:
            return None
        return Path(path).read_bytes(), str(FileResponse(path).media_type)

    async def _pack(self, response: FileResponse, key: tuple[str, int, int], known: Headers) -> Response:
        data = self._packed.get(key)
        if data is None:
            data = self._packed[key] = await anyio.to_thread.run_sync(_packed_file, key[0])
        headers = {name: value for name, value in response.headers.items() if name not in _OF_THE_FILE}
        etag = response.headers["etag"].rstrip('"') + '-gzip"'
        packed = Response(data, headers=headers | {"Content-Encoding": "gzip", "ETag": etag})
        return NotModifiedResponse(packed.headers) if self.is_not_modified(packed.headers, known) else packed


_OF_THE_FILE: Final = frozenset(("content-length", "accept-ranges", "etag"))


def _packed_file(path: str) -> bytes:
    # A thread's work: half a megabyte takes 20 ms.
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)


def _takes_gzip(headers: Headers) -> bool:
    if "range" in headers:
        return False
    for entry in headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = entry.partition(";")
        if name.strip() in ("gzip", "*") and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return True
    return False
