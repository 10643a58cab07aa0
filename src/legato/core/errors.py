"""Every error that Legato raises on purpose, as one tree; those that end a run stand in core/run_errors.py.

    LegatoError
    ├── Refused                    a request is not carried out (HTTP 4xx or 503)
    │   ├── InvalidBody            400 invalid_json
    │   ├── UnsupportedMediaType   415 unsupported_media_type
    │   ├── InvalidRequest         422 invalid_request: names each wrong field
    │   │   └── KeyReused          422 idempotency_key_reused
    │   ├── InvalidValue           422 invalid_value: what is to be kept as state is not JSON
    │   ├── InvalidJob             422 invalid_job: an event that a step can never take
    │   ├── OperationMisfit        422 operation_misfit: a path or kind of state that an operation cannot be done at
    │   ├── TooLarge               413 body_too_large
    │   │   ├── MessageTooLong     413 message_too_long
    │   │   └── ValueTooLarge      413 value_too_large
    │   ├── Unauthenticated        401 unauthenticated
    │   ├── Forbidden              403 forbidden
    │   ├── NotFound               404 not_found: absent, or another's; never told apart
    │   ├── MethodNotAllowed       405 method_not_allowed
    │   ├── Conflict               409 conflict
    │   │   ├── CursorDiverged     409 cursor_diverged
    │   │   ├── VersionConflict    409 version_conflict: state has changed since it was read
    │   │   ├── LegalHold          409 legal_hold: an administrator has forbidden to delete it
    │   │   └── BeingErased        409 being_erased: all that this principal had is being erased
    │   ├── Gone                   410 run_gone
    │   ├── BudgetExceeded         402 budget_exceeded: a spending limit leaves too little for the call
    │   ├── ConversationBusy       429 conversation_busy
    │   ├── RateLimited            429 rate_limited
    │   └── Unavailable            503 unavailable
    │       ├── Overloaded         503 overloaded
    │       ├── Draining           503 draining
    │       ├── IssuerUnavailable  503 issuer_unavailable
    │       └── StorageUnavailable 503 storage_unavailable
    ├── RunError                   a run ends with run-failed
    │   ├── UpstreamUnavailable    upstream_unavailable
    │   │   └── UpstreamBroken     upstream_broken: cut after it had begun
    │   ├── UpstreamTimeout        upstream_timeout
    │   ├── UpstreamRateLimited    upstream_rate_limited
    │   ├── UpstreamRefused        upstream_refused
    │   │   ├── UpstreamAuth       upstream_auth
    │   │   └── ContextExceeded    context_exceeded
    │   ├── UpstreamInvalid        upstream_invalid: an answer that is no chat completion
    │   ├── NoModel                no_model: nothing to call; says what to set
    │   ├── Interrupted            interrupted
    │   ├── BudgetSpent            budget_spent: the run ends as stopped by `budget`
    │   └── InternalError          internal
    ├── JobTimeout                 job_timeout: an attempt of a step took too long
    ├── UndeclaredTopic            undeclared_topic: a step enqueued what it had not declared
    ├── ToolError                  tool_error: a tool call did not succeed; the model is told why
    │   └── InvalidArguments       invalid_arguments: not JSON, or not what the tool takes
    ├── BadSchema                  bad_schema: a tool of an MCP server is left out
    ├── AddressRefused             address_refused: a tool or an MCP server may not be reached there
    ├── SealBroken                 500 seal_broken: what is kept encrypted does not open, or is not encrypted
    │   └── EncryptionKeyMissing   500 encryption_key_missing: the key that it was encrypted under is not configured
    └── ConfigurationError         the server does not start; says what to set

Messages are lower-case, name the value at fault and what would be right, and hold no secret, path, stack or
other person's data: they may be shown to the client as they are. docs/reference/errors.md is made from both files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class LegatoError(Exception):
    """The root of the tree.

    Attributes:
        code: Stable, snake_case name of the error; part of the API.
        http_status: Status when it answers a request; 500 for those that never do.
        retryable: Whether the same request may succeed later, unchanged.
        retry_after_s: Seconds that a client should wait before it tries again, if known.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refused(LegatoError):
    """A request is not carried out; nothing was changed by it."""

    code = "refused"
    http_status = 400


class InvalidBody(Refused):
    """The body is absent, not UTF-8, or not JSON."""

    code = "invalid_json"
    http_status = 400


class UnsupportedMediaType(Refused):
    """The body is declared as something other than application/json."""

    code = "unsupported_media_type"
    http_status = 415


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One wrong field: its dotted name, what is wrong, and the nearest known name if it is unknown."""

    field: str
    message: str
    nearest: str | None = None


class InvalidRequest(Refused):
    """One or more fields, parameters or headers are wrong; each is named."""

    code = "invalid_request"
    http_status = 422

    def __init__(self, fields: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{field.field}: {field.message}" for field in fields))
        self.fields = tuple(fields)

    @classmethod
    def of(cls, field: str, message: str, *, nearest: str | None = None) -> InvalidRequest:
        """Return the error for a single field."""
        return cls([FieldError(field=field, message=message, nearest=nearest)])


class KeyReused(InvalidRequest):
    """An idempotency key was used before, with another body."""

    code = "idempotency_key_reused"


class InvalidValue(Refused):
    """What is to be kept as state is not JSON, or the path or operation is not one; what is wrong is named."""

    code = "invalid_value"
    http_status = 422


class OperationMisfit(Refused):
    """An operation cannot be done at its path: what stands there is of another kind, or nothing stands there."""

    code = "operation_misfit"
    http_status = 422


class TooLarge(Refused):
    """The body is larger than the server takes."""

    code = "body_too_large"
    http_status = 413


class MessageTooLong(TooLarge):
    """The message does not fit into the model's context window, even alone."""

    code = "message_too_long"


class ValueTooLarge(TooLarge):
    """A value that is to be kept as state is longer, or nested more deeply, than is taken."""

    code = "value_too_large"


class Unauthenticated(Refused):
    """No credential, or one that is not valid."""

    code = "unauthenticated"
    http_status = 401


class Forbidden(Refused):
    """The route, host or origin is not for this caller."""

    code = "forbidden"
    http_status = 403


class NotFound(Refused):
    """There is no such thing, or it is another's; the two are never told apart."""

    code = "not_found"
    http_status = 404


class MethodNotAllowed(Refused):
    """The route exists, the method does not."""

    code = "method_not_allowed"
    http_status = 405


class Conflict(Refused):
    """The present state of a thing does not allow the request."""

    code = "conflict"
    http_status = 409


class CursorDiverged(Conflict):
    """A cursor names another run, another epoch's prefix, or a place past the log's head: replay from the start."""

    code = "cursor_diverged"


class VersionConflict(Conflict):
    """State is not of the version that a write was made for: read it again.

    Attributes:
        wanted: The version that was asked for; 0 for none.
        found: The version that is there; 0 for none.
    """

    code = "version_conflict"

    def __init__(self, message: str, *, wanted: int, found: int) -> None:
        super().__init__(message)
        self.wanted = wanted
        self.found = found


class LegalHold(Conflict):
    """It is held: nobody may delete it, by hand or by time, until an administrator lets it go."""

    code = "legal_hold"


class BeingErased(Conflict):
    """All that this principal had is being erased: nothing new is taken of it until that has ended."""

    code = "being_erased"
    retryable = True
    retry_after_s = 5.0


class Gone(Refused):
    """An idempotency key whose run has been deleted."""

    code = "run_gone"
    http_status = 410


class BudgetExceeded(Refused):
    """A spending limit leaves too little for a call of the model; the message says which, and when it begins anew.

    Attributes:
        retry_after_s: When it begins anew; short where only the replies that are being made hold what is left.
    """

    code = "budget_exceeded"
    http_status = 402

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConversationBusy(Refused):
    """Too many turns wait in this conversation."""

    code = "conversation_busy"
    http_status = 429
    retryable = True
    retry_after_s = 5.0


class RateLimited(Refused):
    """A limit on posted messages is reached: a caller's, a session's or an address's; `Retry-After` is at least 1 s.

    Attributes:
        retry_after_s: When there is room again; one second at least.
    """

    code = "rate_limited"
    http_status = 429
    retryable = True
    retry_after_s = 1.0

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(Refused):
    """The server cannot do it now."""

    code = "unavailable"
    http_status = 503
    retryable = True
    retry_after_s = 5.0


class Overloaded(Unavailable):
    """A limit of this server (active runs, readers) is reached."""

    code = "overloaded"


class Draining(Unavailable):
    """The server is shutting down and begins no new run."""

    code = "draining"


class IssuerUnavailable(Unavailable):
    """The issuer where people sign in does not answer, or not as it should.

    Attributes:
        seen: What was seen, for the log; empty where the message says it all.
    """

    code = "issuer_unavailable"

    def __init__(self, message: str, *, seen: str = "") -> None:
        super().__init__(message)
        self.seen = seen


class StorageUnavailable(Unavailable):
    """The database does not take writes at present."""

    code = "storage_unavailable"


class ConfigurationError(LegatoError):
    """The server does not start as it is configured; the message says what to set."""

    code = "configuration"


class InvalidJob(Refused):
    """A job that can never be done, whatever happens: it becomes a dead letter at once and is not retried."""

    code = "invalid_job"
    http_status = 422


class JobTimeout(LegatoError):
    """An attempt took longer than its step's time limit."""

    code = "job_timeout"
    retryable = True


class UndeclaredTopic(LegatoError):
    """A step enqueued a topic that it did not declare in `enqueues`: a mistake in its code."""

    code = "undeclared_topic"


class ToolError(LegatoError):
    """A call did not succeed; `message` is told to the model as it stands.

    A tool raises it to say something to the model on purpose: only its words are passed on, not its type.
    """

    code = "tool_error"


class InvalidArguments(ToolError):
    """The model's arguments are no JSON object, or do not fit the tool's parameters."""

    code = "invalid_arguments"


class BadSchema(LegatoError):
    """A tool's parameters are no JSON Schema that a call could be checked with; the tool is left out."""

    code = "bad_schema"


class AddressRefused(LegatoError):
    """A tool or an MCP server wanted to reach an address that it may not; the message names host and remedy."""

    code = "address_refused"


class SealBroken(LegatoError):
    """What is kept encrypted does not open: it was changed, moved, or its key was deleted; or it is not encrypted."""

    code = "seal_broken"


class EncryptionKeyMissing(SealBroken):
    """What is kept was encrypted under a key that LEGATO_ENCRYPTION_KEYS does not name any more."""

    code = "encryption_key_missing"
