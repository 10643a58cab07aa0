"""What an OpenAI-compatible model's settings come to: its target, and the proxy on the way.

Whatever is wrong is said here, when the server starts, as a ConfigurationError that names the
setting and shows no secret.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from urllib.parse import quote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from legato.core.errors import ConfigurationError
from legato.core.origins import is_here
from legato.providers.openai_transport import Target
from legato.version import __version__

_ENDPOINT = "/chat/completions"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110, 5.6.2
_OWN = frozenset(("host", "content-length", "transfer-encoding", "connection"))


def target_of(
    base_url: str,
    *,
    api_key: str | None,
    headers: Mapping[str, str],
    ca_file: str | None,
    verify: bool,
    connect_timeout_s: float,
    max_connections: int,
    idle_s: float,
) -> Target:
    """Return where calls go; the arguments are those of OpenAIProvider.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    try:
        parts = urlsplit(base_url.strip())
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise ConfigurationError("base_url is not a URL") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError("base_url must begin with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url must not hold a user or password: set api_key")
    if ":" not in host:
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ConfigurationError("base_url names a host that cannot exist") from error
    path = parts.path.rstrip("/").removesuffix(_ENDPOINT) + _ENDPOINT
    query = f"?{quote(parts.query, safe='%=&:/?@!$+,;~*()')}" if parts.query else ""
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        path=quote(path, safe="%/:@!$&'()*+,;=~") + query,
        headers=_headers(api_key, headers),
        tls=_tls_context(ca_file, verify=verify) if parts.scheme == "https" else None,
        connect_timeout_s=connect_timeout_s,
        max_connections=max_connections,
        idle_s=idle_s,
    )


def proxy_for(target: Target, setting: str | None) -> str | None:
    """Return the proxy's address for `target`, or None to connect directly.

    Args:
        target: Where calls go.
        setting: An address; empty for none; None to follow HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
            Those never hold for loopback addresses, where a proxy would reach another machine.

    Raises:
        ConfigurationError: It is no HTTP proxy.
    """
    proxy, name = setting, "proxy"
    if setting is None:
        if is_here(target.host) or proxy_bypass(f"{target.host}:{target.port}"):
            return None
        name = f"{target.scheme.upper()}_PROXY"
        proxy = getproxies_environment().get(target.scheme)
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{name} must be the http:// or https:// address of a proxy")
    return proxy


def _headers(api_key: str | None, headers: Mapping[str, str]) -> dict[str, str]:
    """Return all headers of a call but those that depend on its body."""
    merged = {
        "user-agent": f"legato/{__version__}",
        "accept": "text/event-stream, application/json",
        # A compressed stream comes in the compressor's pieces, not in the model's.
        "accept-encoding": "identity",
        "content-type": "application/json",
    }
    if api_key:
        merged["authorization"] = f"Bearer {api_key.strip()}"
    for name, value in headers.items():
        key = name.lower()
        if not _TOKEN.fullmatch(key) or key in _OWN:
            raise ConfigurationError(f"headers holds {name!r}, which cannot be set")
        merged[key] = value.strip()
    for key, value in merged.items():
        if not (value.isascii() and value.isprintable()):
            setting = "api_key" if key == "authorization" and api_key else f"the header {key!r}"
            raise ConfigurationError(f"{setting} holds a character that no header can carry")
    return merged


def _tls_context(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError("ca_file cannot be read: it must be a file of certificates in PEM form") from error
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
