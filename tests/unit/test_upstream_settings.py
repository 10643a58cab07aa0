"""What an OpenAI-compatible model's settings come to, and how wrong ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from legato.core.errors import ConfigurationError
from legato.providers.openai import OpenAIProvider
from legato.providers.openai_settings import proxy_for, target_of
from legato.providers.openai_transport import Target


def target(
    base_url: str = "http://model.test/v1",
    *,
    api_key: str | None = None,
    headers: dict[str, str] | None = None,
    ca_file: str | None = None,
) -> Target:
    return target_of(
        base_url,
        api_key=api_key,
        headers=headers or {},
        ca_file=ca_file,
        verify=True,
        connect_timeout_s=1.0,
        max_connections=1,
        idle_s=1.0,
    )


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://model.test/v1", "http://model.test/v1/chat/completions"),
        ("http://model.test/v1/", "http://model.test/v1/chat/completions"),
        ("http://model.test", "http://model.test/chat/completions"),
        ("http://model.test:80/v1", "http://model.test/v1/chat/completions"),
        ("https://model.test:443/v1", "https://model.test/v1/chat/completions"),
        ("https://model.test:8443/v1", "https://model.test:8443/v1/chat/completions"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
        ("http://model.test/v1/chat/completions", "http://model.test/v1/chat/completions"),
        ("http://model.test/v1?a=b c", "http://model.test/v1/chat/completions?a=b%20c"),
        ("http://model.test/a b/ü%20", "http://model.test/a%20b/%C3%BC%20/chat/completions"),
        ("http://Bücher.test/", "http://xn--bcher-kva.test/chat/completions"),
        (" http://model.test/v1 ", "http://model.test/v1/chat/completions"),
    ],
)
def test_a_base_url_gives_the_endpoint(base_url: str, url: str) -> None:
    """What people paste works, and what is sent is a proper URL."""
    assert target(base_url).url == url


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        ("", "must begin with http://"),
        ("model.test/v1", "must begin with http://"),
        ("ftp://model.test", "must begin with http://"),
        ("http:///v1", "name a host"),
        ("http://model.test:99999", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://user:hush@model.test", "set api_key"),
        ("http://a..b", "cannot exist"),
        (f"http://{'a' * 64}.test", "cannot exist"),
    ],
)
def test_a_wrong_base_url_is_refused(base_url: str, message: str) -> None:
    """The server says at its start what is wrong."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        target(base_url)
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    ("headers", "api_key", "message"),
    [
        ({"a b": "x"}, None, "'a b'"),
        ({"x\r\ny": "x"}, None, "cannot be set"),
        ({"": "x"}, None, "cannot be set"),
        ({"Host": "x"}, None, "'Host'"),
        ({"Content-Length": "1"}, None, "'Content-Length'"),
        ({"x": "hush\r\ny: z"}, None, "the header 'x'"),
        ({"x": "hüsh"}, None, "the header 'x'"),
        ({}, "hush\nhush", "api_key"),
        ({}, "hüsh", "api_key"),
    ],
)
def test_headers_cannot_be_smuggled(headers: dict[str, str], api_key: str | None, message: str) -> None:
    """Names and values are checked, and a value is never shown."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        target(headers=headers, api_key=api_key)
    assert "sh" not in caught.value.message.removeprefix(message)


def test_a_key_is_a_bearer_token_unless_a_header_says_otherwise() -> None:
    """Own headers win, by any spelling of their names."""
    assert target(api_key=" k ").headers["authorization"] == "Bearer k"
    assert "authorization" not in target().headers
    assert "authorization" not in target(api_key="").headers
    own = target(api_key="k", headers={"Authorization": "Other k"})
    assert own.headers["authorization"] == "Other k"


def test_a_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    """A wrong file is said at the start, not at the first call."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (str(empty), str(tmp_path / "absent.pem")):
        with pytest.raises(ConfigurationError, match="ca_file cannot be read"):
            target("https://model.test", ca_file=path)


@pytest.mark.parametrize(
    ("base_url", "setting", "environment", "proxy"),
    [
        ("http://model.test", None, {}, None),
        ("http://model.test", None, {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://model.test", None, {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("http://model.test", None, {"https_proxy": "http://p:1"}, None),
        ("https://model.test", None, {"https_proxy": "http://p:1"}, "http://p:1"),
        ("http://model.test", None, {"http_proxy": "http://p:1", "no_proxy": ".test"}, None),
        ("http://model.test", None, {"http_proxy": "http://p:1", "no_proxy": "*"}, None),
        ("http://model.test:8", None, {"http_proxy": "http://p:1", "no_proxy": "model.test:8"}, None),
        ("http://model.test", "", {"http_proxy": "http://p:1"}, None),
        ("http://model.test", "http://q:2", {"http_proxy": "http://p:1"}, "http://q:2"),
        ("http://model.test", "q:2", {}, "http://q:2"),
        ("http://127.0.0.1:8", None, {"http_proxy": "http://p:1"}, None),
        ("http://localhost:8", None, {"http_proxy": "http://p:1"}, None),
        ("http://[::1]:8", None, {"http_proxy": "http://p:1"}, None),
        ("http://127.0.0.1:8", "http://q:2", {}, "http://q:2"),
    ],
)
def test_the_proxy_that_holds(
    base_url: str,
    setting: str | None,
    environment: dict[str, str],
    proxy: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A setting wins over the environment; the environment never sends loopback elsewhere."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(target(base_url), setting) == proxy


@pytest.mark.parametrize("proxy", ["socks5://hush:hush@p:1", "http://", "http://p:99999", "http://["])
def test_a_proxy_of_another_kind_is_refused(proxy: str) -> None:
    """It is said at the start, and its credentials are not."""
    with pytest.raises(ConfigurationError, match="proxy must be the http://") as caught:
        proxy_for(target(), proxy)
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    ("base_url", "setting", "field"),
    [
        ("https://api.openai.com/v1", None, "max_completion_tokens"),
        ("https://api.openai.com/v1", "max_tokens", "max_tokens"),
        ("https://model.test/v1", None, "max_tokens"),
        ("https://model.test/v1", "max_completion_tokens", "max_completion_tokens"),
    ],
)
def test_the_field_for_the_limit(base_url: str, setting: str | None, field: str) -> None:
    """OpenAI's own newer models want another name than all compatible servers."""
    provider = OpenAIProvider("t", model="m", base_url=base_url, max_tokens_field=setting)
    assert provider._max_tokens_field == field
