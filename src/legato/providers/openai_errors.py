"""What an OpenAI-compatible server's refusals mean, as errors of this project's own tree.

Pure. Messages name the host at most. The server's own words are only quoted shortened, printable
and with whatever looks like a credential taken out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from legato.core.run_errors import (
    ContextExceeded,
    RunError,
    UpstreamAuth,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)

QUOTE_LIMIT = 200

_CREDENTIAL = re.compile(
    r"(?:bearer|basic)[:\s]\s*[^\s\"',;]+"  # an Authorization header's value
    r"|\b(?:sk|pk|rk|gsk|xai|hf|org|proj|key|token)[-_][\w*.-]*[\d*][\w*-]*"  # a marked key or id
    r"|\b(?:api[-_ ]?key|token|secret|password)\s*[=:]\s*[^\s\"',;]+"
    r"|\bAIza[\w-]{10,}|\beyJ[\w-]{10,}[\w.-]*"  # Google's keys, JSON web tokens
    r"|\b[A-Za-z0-9+/_]{32,}={0,2}",  # anything long and dense
    re.IGNORECASE,
)
_CONTEXT_CODES = frozenset(("context_length_exceeded", "exceed_context_size_error"))
_CONTEXT_WORDS = re.compile(
    r"maximum context length|context length exceeded|exceeds? the (?:available |model's )?context"
    r"|context window|prompt is too long|input is too long",
    re.IGNORECASE,
)
_PASSING = frozenset((408, 409, 425))
_LONGEST_WAIT_S = 86_400.0


class Complaint(NamedTuple):
    """What a server says went wrong, taken out of its JSON; each is empty where it does not say."""

    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""

    @property
    def context_exceeded(self) -> bool:
        return not _CONTEXT_CODES.isdisjoint((self.code, self.type)) or bool(_CONTEXT_WORDS.search(self.message))


def complaint_of(value: object) -> Complaint:
    """Return what a decoded JSON body, or the `error` inside one, complains of."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str):
        return Complaint(message=value)
    if not isinstance(value, dict):
        return Complaint()
    inner = value.get("error")
    if isinstance(inner, dict | str | list) and inner:
        return complaint_of(inner)
    message = next((value[name] for name in ("message", "detail", "msg") if value.get(name)), "")
    return Complaint(
        message=message if isinstance(message, str) else json.dumps(message),
        code=str(value.get("code") or ""),
        type=str(value.get("type") or ""),
        param=str(value.get("param") or ""),
    )


def complaint_in(body: bytes, content_type: str) -> Complaint:
    """Return what the body of a refusal complains of; text is taken as it is, HTML not at all."""
    try:
        return complaint_of(json.loads(body.decode("utf-8", "replace"), strict=False))
    except (ValueError, RecursionError):
        plain = content_type.startswith("text/plain") and not body.lstrip().startswith(b"<")
        return Complaint(message=body.decode("utf-8", "replace")) if plain else Complaint()


def quoted(text: str, secret: str | None) -> str:
    """Return `text` fit to be shown: at most 200 printable characters, nothing like a credential.

    Args:
        text: A server's own words.
        secret: This side's API key, removed wherever it stands.
    """
    # Cut generously first, so that a huge text costs nothing and no key is cut into a harmless look.
    text = text[: 20 * QUOTE_LIMIT]
    if secret:
        text = text.replace(secret, "[removed]")
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(_CREDENTIAL.sub("[removed]", text).split())
    return text if len(text) <= QUOTE_LIMIT else text[: QUOTE_LIMIT - 1] + "…"


def refusal(
    status: int,
    headers: Mapping[str, str],
    complaint: Complaint,
    *,
    host: str,
    secret: str | None,
    now: datetime | None = None,
) -> RunError:
    """Return the error for an answer with `status` other than 2xx and 3xx.

    Args:
        status: The HTTP status, or the one that an error inside a stream names.
        headers: Names in lower case.
        complaint: What the body says.
        host: For the message.
        secret: The API key, never shown.
        now: The present, for a Retry-After that is a date without a Date beside it.
    """
    words = quoted(complaint.message, secret)
    said = f"{host} answered {status}" + (f": {words}" if words else "")
    out_of_quota = "insufficient_quota" in (complaint.code, complaint.type)
    error: RunError
    if status in (401, 403):
        error = UpstreamAuth(f"{said} (check the API key)")
    elif status == 429 and not out_of_quota:
        error = UpstreamRateLimited(said)
    elif 400 <= status < 500 and status != 429 and complaint.context_exceeded:
        error = ContextExceeded(said)
    elif status in _PASSING or status >= 500:
        error = UpstreamUnavailable(said)
    elif 400 <= status < 500:
        error = UpstreamRefused(said)
    else:
        error = UpstreamInvalid(f"{said}, which is no answer to a chat completion")
    if error.retryable:
        error.retry_after_s = retry_after_s(headers, now=now)
    return error


def redirect(status: int, location: str, url: str) -> UpstreamRefused:
    """Return the error for a redirect: a POST with a key in its head follows none."""
    host = urlsplit(url).netloc
    parts = urlsplit(urljoin(url, location)) if location else urlsplit("")
    path = parts.path.removesuffix("/chat/completions")
    there = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    advice = f"; set base_url to {quoted(there, None)}" if parts.scheme in ("http", "https") else ""
    return UpstreamRefused(f"{host} redirects ({status}), which is not followed{advice}")


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Return the seconds, in [0, 86400], that a server asks to wait, or None.

    Source:
        https://www.rfc-editor.org/rfc/rfc9110#field.retry-after; `retry-after-ms` is OpenAI's own.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit_s
        except ValueError:
            continue
        if math.isfinite(seconds):
            return min(_LONGEST_WAIT_S, max(0.0, seconds))
    until = _date(headers.get("retry-after", ""))
    if until is None:
        return None
    # The server's own Date makes the difference true where the two clocks disagree.
    since = _date(headers.get("date", "")) or now or datetime.now(UTC)
    return min(_LONGEST_WAIT_S, max(0.0, (until - since).total_seconds()))


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
