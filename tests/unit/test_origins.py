"""What `--origin` takes: scheme, host and port as browsers write them, and nothing that could slip into a header."""

from __future__ import annotations

import pytest

from legato.core.origins import parse_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        (" https://shop.example ", "https://shop.example"),
        ("HTTPS://Shop.Example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[0:0::1]", "http://[::1]"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://a-b.c1.example:8443", "https://a-b.c1.example:8443"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, origin: str) -> None:
    """So that it can be compared byte by byte."""
    assert parse_origin(text) == origin
    assert parse_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "*",
        "null",
        "shop.example",
        "//shop.example",
        "https://",
        "https:///x",
        "ftp://shop.example",
        "file:///x",
        "javascript:alert(1)",
        "https://shop.example/page",
        "https://shop.example?x",
        "https://shop.example/?",
        "https://shop.example#x",
        "https://shop.example#",
        "https://ann@shop.example",
        "https://@shop.example",
        "https://*.shop.example",
        "https://*",
        "https://shop.example:x",
        "https://shop.example:99999",
        "https://shop.example; script-src *",
        "https://shop.example;script-src",
        "https://shop.example https://evil.example",
        "https://shop.example,https://evil.example",
        "https://shop.example'unsafe-inline'",
        "https://shop_example",
        "https://-shop.example",
        "https://[::1",
        "https://[zz]",
        "https://" + "x" * 300 + ".example",
        "https://shop\n.example\r\nx: y",
        "https://shop.exa\x00mple",
    ],
)
def test_anything_else_is_refused_with_words(text: str) -> None:
    """More or less than an origin, several, or what would end one directive and begin another."""
    with pytest.raises(ValueError, match=r"scheme, host and port alone, such as https://shop\.example"):
        parse_origin(text)
