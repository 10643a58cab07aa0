"""What may be told of an exception: its type and words, without paths, stacks and secrets.

Pure, but for the environment, whose secret values are looked for by name. It hides too much rather than too little: a
model goes on without a path, a secret in a transcript cannot be taken back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from legato.core.text import words_of

MAX_CHARS = 500
_READ_CHARS = 2_000
"""Characters of a message that are looked at; keeps the patterns quick whatever a message holds."""
_SHORTEST_SECRET = 6
HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth|dsn|private", re.IGNORECASE)
_STACK = re.compile(r"\s*Traceback \(most recent call last\).*", re.DOTALL)
_QUOTED_PATH = re.compile(r"""(['"])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'"]*\1""")
_PATH = re.compile(r"""(?<![\w:/.\-?=&%])(?:~?/(?=[\w.~@])|[A-Za-z]:\\|\\\\)[^\s'"<>|;,:)\]}]*""")
_ADDRESS = re.compile(r"\s*\bat 0x[0-9a-fA-F]+")
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(://)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^\s?'\"]{1,400}\?)[^\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"((?:api[-_]?key|access[-_]?key|token|secret|passw(?:or)?d|pwd|authorization)"
            r"[\w-]{0,40}['\"]?\s{0,4}[:=]\s{0,4}['\"]?)"
            r"(?:bearer\s+|basic\s+)?[^\s'\",;&)]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(bearer|basic)\s+[\w.+/=~-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(?:sk|pk|rk|gh[opsu]|github_pat|glpat|xox[abpr]|AKIA|AIza|eyJ|hf|npm)[-_A-Za-z0-9.]{12,}"), HIDDEN),
    # Long runs of letters and digits mixed are keys or hashes; words and UUIDs are not hidden.
    (re.compile(r"(?<![\w+/-])(?=[\w+/-]*[0-9])(?=[\w+/-]*[A-Za-z])(?![0-9a-fA-F]{8}-)[\w+/-]{32,}={0,2}"), HIDDEN),
)


def tell(error: BaseException, *, secrets: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> str:
    """Return what a model may read of an exception: `Type: words`, on one line, at most MAX_CHARS characters.

    Args:
        error: What a tool raised.
        secrets: Further values that must not appear, such as the headers of an MCP server.
        environ: Variables; the values of those that are named like secrets must not appear.
    """
    words = scrub(words_of(error), secrets=secrets, environ=environ)
    name = type(error).__name__
    return f"{name}: {words}" if words else name


def scrub(text: str, *, secrets: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> str:
    """Return `text` on one line without paths, stacks and secrets, at most MAX_CHARS characters."""
    cut = len(text) > _READ_CHARS
    text = text[:_READ_CHARS]
    named = (value for name, value in environ.items() if _SECRET_NAME.search(name))
    # The longest first: one secret may be a part of another.
    for value in sorted({*named, *secrets}, key=len, reverse=True):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    text = _STACK.sub("", text)
    text = _QUOTED_PATH.sub("[path]", text)
    text = _PATH.sub("[path]", text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = " ".join(_ADDRESS.sub("", text).split())
    return text[: MAX_CHARS - 1] + "…" if cut or len(text) > MAX_CHARS else text
