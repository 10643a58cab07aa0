"""The errors: the tree of core.errors and core.run_errors as tables."""

from __future__ import annotations

from collections.abc import Iterator

from docs.from_code.markdown import DASH, code, docstring, table
from legato.core.errors import (
    AddressRefused,
    BadSchema,
    ConfigurationError,
    JobTimeout,
    LegatoError,
    Refused,
    SealBroken,
    ToolError,
    UndeclaredTopic,
)
from legato.core.run_errors import RunError

INTRODUCTION = """\
# Errors

Every error has a stable `code`, which is part of the API: test for it, not for the words of the message. Messages
name what was wrong and what would be right; they hold no secret and nothing of another person's.

"""
REQUESTS = """\
## A request is refused

Nothing was changed by it. The body is `application/problem+json` (RFC 9457: `type`, `title`, `status`, `code`,
`detail`, `retryable`, and `errors` where fields are wrong). On `POST /chat/stream` and `GET /chat/stream/{run_id}`
whoever does not accept `application/json` or `application/problem+json` gets the same as an `event: error`, with the
same status. *again* tells whether the same request may succeed later, unchanged; then `Retry-After` is sent.

"""
RUNS = """\
## A reply fails

The request was accepted and its reply could not be completed: the run's last event is `run-failed`, which the native
protocol renders as `event: error`. What the reply said so far is kept. *again* is the event's `retryable`: asking
once more may help. By then Legato has retried and failed over as far as it is configured to.

"""
STEPS = """\
## A step goes wrong

In the log and in dead letters. An http step that ends so is answered with status 500.

"""
TOOLS = """\
## A tool goes wrong

Of a call that fails the model is told the message, and goes on; the log has the code. A tool that cannot be used, and
an MCP server that may not be reached, are left out, and the log says why.

"""
SEALS = """\
## Something kept does not open

Only with [encryption at rest](../guides/encryption.md). The request is answered with status 500 and the code, which
the log has too; nothing of what is kept is given out.

"""
STARTS = """\
## The server does not start

"""


def render() -> str:
    """Return the page."""
    return (
        INTRODUCTION
        + REQUESTS
        + table(
            ("code", "status", "again", "Retry-After", "meaning"),
            [
                (
                    code(error.code),
                    str(error.http_status),
                    _yes(error.retryable),
                    DASH if error.retry_after_s is None else f"{error.retry_after_s:g} s",
                    docstring(error),
                )
                for error in _tree(Refused)
            ],
        )
        + "\nA fault of the server's own is answered with status 500 and the code `internal`; its log says more.\n\n"
        + RUNS
        + table(
            ("code", "again", "meaning"),
            [(code(error.code), _yes(error.retryable), docstring(error)) for error in _tree(RunError)],
        )
        + "\n"
        + STEPS
        + table(
            ("code", "again", "meaning"),
            [
                (code(error.code), _yes(error.retryable), docstring(error))
                for root in (JobTimeout, UndeclaredTopic)
                for error in _tree(root)
            ],
        )
        + "\n"
        + TOOLS
        + table(
            ("code", "meaning"),
            [
                (code(error.code), docstring(error))
                for root in (ToolError, BadSchema, AddressRefused)
                for error in _tree(root)
            ],
        )
        + "\n"
        + SEALS
        + table(("code", "meaning"), [(code(error.code), docstring(error)) for error in _tree(SealBroken)])
        + "\n"
        + STARTS
        + f"{code(ConfigurationError.code)}: {docstring(ConfigurationError)} The command ends with exit code 78.\n"
    )


def codes() -> set[str]:
    """Return all codes of the tree."""
    return {error.code for error in _tree(LegatoError)}


def _tree(root: type[LegatoError]) -> Iterator[type[LegatoError]]:
    """Yield a class and those below it that the tree's two files define, in the order of their definition."""
    if root.__module__ in (LegatoError.__module__, RunError.__module__):
        yield root
        for each in root.__subclasses__():
            yield from _tree(each)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
