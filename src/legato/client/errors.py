"""What a client raises, as one tree.

    ChatError
    ├── Refused        the server answered with an error: its status and code
    ├── Unreachable    unreachable: no server answers, or one that was cut off has not come back
    ├── BadStream      bad_stream: what answers does not speak the protocol
    ├── Aborted        aborted: abort() was called; the reply goes on
    └── Diverged       diverged: the server has another text than the one that was shown

A reply that failed is no exception: its stream ends with the event Failure.
"""

from __future__ import annotations

from legato.core.errors import FieldError


class ChatError(Exception):
    """The root of the tree.

    Attributes:
        message: One sentence for people, lower-case; it may be another server's words: print it as text alone.
        code: Stable, snake_case; the server's own (docs/reference/errors.md) or one of the tree above.
        status: Of the HTTP answer; None where there was none.
        retryable: Whether the same call may succeed later, unchanged.
        retry_after_s: Seconds that the server asks to wait before that, if it said so.
        fields: Each wrong field of the request.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        fields: tuple[FieldError, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.fields = fields


class Refused(ChatError):
    """The server answered with an error. `code` is `not_legato` where the answer is none of Legato's."""


class Unreachable(ChatError):
    """No server answers at the address.

    Attributes:
        why: What happened there, in a few words.
        address: The server's, without name, password and query.
        was_there: Whether one did before: then the reply is likely to be there when the server is.
    """

    def __init__(self, why: str, *, address: str, was_there: bool) -> None:
        what = f"the server at {address} was lost" if was_there else f"no server answers at {address}"
        super().__init__(f"{what}: {why}", code="unreachable", retryable=True)
        self.why = why
        self.address = address
        self.was_there = was_there


class BadStream(ChatError):
    """What answers does not speak the protocol."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_stream")


class Aborted(ChatError):
    """Reading was given up by `abort()`; the reply itself goes on and can be followed again."""

    def __init__(self) -> None:
        super().__init__("reading was aborted; the reply goes on", code="aborted", retryable=True)


class Diverged(ChatError):
    """The server has another text than the one that was handed out: its disk was restored from a backup, say."""

    def __init__(self) -> None:
        words = "the server has another text of this reply than the one that was shown: load it anew"
        super().__init__(words, code="diverged")
