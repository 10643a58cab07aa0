"""What refusals of an OpenAI-compatible server mean, and that no secret comes through them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from legato.core.run_errors import (
    ContextExceeded,
    RunError,
    UpstreamAuth,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from legato.providers.openai_errors import (
    Complaint,
    complaint_in,
    quoted,
    redirect,
    refusal,
    retry_after_s,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def body(**fields: object) -> bytes:
    return json.dumps({"error": fields}).encode()


def refused(status: int, content: bytes = b"", *, content_type: str = "application/json", **headers: str) -> RunError:
    return refusal(
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        complaint_in(content, content_type),
        host="model.test",
        secret="hunter2hunter2",
        now=NOW,
    )


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, body(message="bad"), UpstreamRefused),
        (400, body(message="too long", code="context_length_exceeded"), ContextExceeded),
        (400, body(message="x", type="exceed_context_size_error", code=400), ContextExceeded),
        (400, body(message="This model's maximum context length is 4096 tokens"), ContextExceeded),
        (413, body(message="prompt is too long: 9 tokens"), ContextExceeded),
        (401, body(message="no key"), UpstreamAuth),
        (403, b"<html>", UpstreamAuth),
        (402, b"", UpstreamRefused),
        (404, body(message="no such model", code="model_not_found"), UpstreamRefused),
        (422, b'{"detail": [{"msg": "field required"}]}', UpstreamRefused),
        (408, b"", UpstreamUnavailable),
        (409, b"", UpstreamUnavailable),
        (425, b"", UpstreamUnavailable),
        (429, b"", UpstreamRateLimited),
        (429, body(message="slow down", code="rate_limit_exceeded"), UpstreamRateLimited),
        (429, body(message="the context window is busy"), UpstreamRateLimited),
        (429, body(message="pay", code="insufficient_quota"), UpstreamRefused),
        (429, body(message="pay", type="insufficient_quota"), UpstreamRefused),
        (500, b"", UpstreamUnavailable),
        (503, body(message="Loading model", code=503), UpstreamUnavailable),
        (529, b"", UpstreamUnavailable),
        (600, b"", UpstreamUnavailable),
        (199, b"", UpstreamInvalid),
    ],
)
def test_a_status_means_one_error(status: int, content: bytes, kind: type[RunError]) -> None:
    """What can pass is retryable, what cannot is refused, and neither is guessed from prose alone."""
    error = refused(status, content)
    assert type(error) is kind
    assert error.message.startswith(f"model.test answered {status}")


@pytest.mark.parametrize(
    ("content", "content_type", "words"),
    [
        (body(message="boom"), "application/json", ": boom"),
        (b'{"error": "boom"}', "application/json", ": boom"),
        (b'{"message": "boom"}', "application/json", ": boom"),
        (b'{"detail": "boom"}', "application/json", ": boom"),
        (b'[{"error": {"message": "boom"}}]', "application/json", ": boom"),
        (b'{"error": {"message": {"a": 1}}}', "application/json", ': {"a": 1}'),
        (b'{"error": null}', "application/json", ""),
        (b"boom\r\n\tbang", "text/plain; charset=utf-8", ": boom bang"),
        (b"<html>secret</html>", "text/html", ""),
        (b"<html>secret</html>", "text/plain", ""),
        (b"boom", "application/octet-stream", ""),
        (b'{"error": {"mess', "application/json", ""),
        (b"[" * 100_000, "application/json", ""),
        (b'"boom \\ud800"', "application/json", ": boom"),
        (b"7", "application/json", ""),
        (b"[]", "application/json", ""),
    ],
)
def test_a_complaint_is_found_in_every_body(content: bytes, content_type: str, words: str) -> None:
    """The server's own words are quoted where they are words, whatever holds them."""
    assert refused(404, content, content_type=content_type).message == (f"model.test answered 404{words}")


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abc123def456",
        "sk-proj-AbC_dEf-123",
        "sk-abcd****wxyz",
        "Bearer abc.def",
        "bearer: nothing9999",
        "Basic dXNlcjpwYXNz",
        "gsk_a1b2c3d4",
        "xai-a1b2c3",
        "hf_a1b2c3d4",
        "AIzaSyA1234567890abcdefg",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.x-y_z",
        "org-a1b2c3d4e5",
        "api_key=letmein",
        "token: letmein",
        "0123456789abcdef0123456789abcdef",
        "hunter2hunter2",
    ],
)
def test_nothing_like_a_credential_is_quoted(secret: str) -> None:
    """Whatever a server puts into its words, no key is shown; the words around it are."""
    said = quoted(f"before {secret} after", "hunter2hunter2")
    assert secret.split()[-1] not in said
    assert said.startswith("before ")
    assert said.endswith(" after")


@pytest.mark.parametrize(
    "words",
    [
        "The model `gpt-4o-mini` does not exist or you do not have access to it.",
        "model meta-llama/Llama-3.1-8B-Instruct not found",
        "This model's maximum context length is 4096 tokens.",
        "max_completion_tokens is too large: 100000",
    ],
)
def test_plain_words_are_quoted_whole(words: str) -> None:
    """What helps the operator is not taken out."""
    assert quoted(words, "hunter2hunter2") == words


def test_a_quote_is_short_and_printable() -> None:
    """200 characters at most; control characters, line separators and surrogates are spaces."""
    assert quoted("a\0b\x1b[31mc\u2028d\ud800e\u202ef", None) == "a b [31mc d e f"
    assert quoted("word " * 100_000, None) == ("word " * 40)[:199] + "…"
    key = "sk-" + "a1" * 300
    assert "a1a1" not in quoted("x " * 90 + key, None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "999999999"}, 86_400.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "1"}, 1.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 -0000"}, 30.0),
        (
            {
                "retry-after": "Sun, 01 Mar 2026 18:00:30 GMT",
                "date": "Sun, 01 Mar 2026 18:00:00 GMT",
            },
            30.0,
        ),
    ],
)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds or a date by the server's own clock; nonsense is no wait at all."""
    assert retry_after_s(headers, now=NOW) == seconds


def test_a_wait_is_kept_only_where_waiting_helps() -> None:
    """429 and 5xx carry the wait; a refusal carries none."""
    assert refused(429, retry_after="3").retry_after_s == 3.0
    assert refused(503, retry_after="3").retry_after_s == 3.0
    assert refused(404, retry_after="3").retry_after_s is None
    assert refused(429, body(code="insufficient_quota"), retry_after="3").retry_after_s is None


@pytest.mark.parametrize(
    ("location", "advice"),
    [
        ("https://a.test/v2/chat/completions", "; set base_url to https://a.test/v2"),
        ("/v2/chat/completions?key=1", "; set base_url to http://model.test:80/v2"),
        ("https://user:pass@a.test/login", "; set base_url to https://a.test/login"),
        ("", ""),
        ("ftp://a.test/", ""),
    ],
)
def test_a_redirect_says_what_to_set(location: str, advice: str) -> None:
    """A POST is not sent elsewhere with its key; the operator learns where it wanted to go."""
    error = redirect(307, location, "http://model.test:80/v1/chat/completions")
    assert error.message == f"model.test:80 redirects (307), which is not followed{advice}"


def test_an_empty_complaint_says_nothing() -> None:
    """Nothing is made up where a server says nothing."""
    assert complaint_in(b"", "") == Complaint()
