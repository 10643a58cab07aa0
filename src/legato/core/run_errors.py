"""The branch of core/errors.py's tree that ends a run: its last event is run-failed, or stopped by `budget`."""

from __future__ import annotations

from legato.core.errors import LegatoError


class RunError(LegatoError):
    """A run ends with run-failed; `code`, `message` and `retryable` go into its last event."""

    code = "run_failed"


class UpstreamUnavailable(RunError):
    """The model's server could not be reached or answered 5xx."""

    code = "upstream_unavailable"
    retryable = True


class UpstreamBroken(UpstreamUnavailable):
    """The model's stream was cut, or reported an error, after it had begun."""

    code = "upstream_broken"


class UpstreamTimeout(RunError):
    """No first token, or no further token, within the limit."""

    code = "upstream_timeout"
    retryable = True


class UpstreamRateLimited(RunError):
    """The model's server answered 429."""

    code = "upstream_rate_limited"
    retryable = True


class UpstreamRefused(RunError):
    """The model's server refused the request (4xx): the same request would be refused again."""

    code = "upstream_refused"


class UpstreamAuth(UpstreamRefused):
    """The model's server did not accept the API key."""

    code = "upstream_auth"


class ContextExceeded(UpstreamRefused):
    """The model's server says that the conversation is longer than its context window."""

    code = "context_exceeded"


class UpstreamInvalid(RunError):
    """What came from the model's server is no chat completion (an HTML page, broken JSON)."""

    code = "upstream_invalid"
    retryable = True


class NoModel(RunError):
    """There is no model that can answer: none of the name, no weights, or no engine for them; says what to set."""

    code = "no_model"


class Interrupted(RunError):
    """The run was cut too often, or could not be continued without repeating what was shown."""

    code = "interrupted"
    retryable = True


class BudgetSpent(RunError):
    """There is not enough left of a budget for the next call of the model; what was said so far is kept."""

    code = "budget_spent"


class InternalError(RunError):
    """A fault of the server's own; its log has the details under the run's id."""

    code = "internal"
    retryable = True
