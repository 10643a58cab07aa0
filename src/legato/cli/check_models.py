"""What `legato doctor` looks at of the models: whether one can answer."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from legato.cli.check import Check, State
from legato.cli.describe import ModelView, describe_models, describe_prices, stray_prices
from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.settings import Settings

CONNECT_S: Final = 3.0


def check_models(settings: Settings, *, offline: bool) -> Iterator[Check]:
    """Yield a check for each model; it is wrong only if no other of the list can answer instead."""
    try:
        views = describe_models(settings)
    except ConfigurationError as error:
        yield Check(name="model", state="wrong", found=error.message)
        return
    reached: dict[str, str | None] = {}
    for view in views:
        if view.base_url is not None and view.order and not offline and view.base_url not in reached:
            reached[view.base_url] = connect_fault(view.base_url, _proxy(view, settings))
    answers = any(view.order and _fault(view, reached) is None for view in views)
    for view in views:
        name = "model" if view.order == 1 else f"model {view.order}" if view.order else "model by name"
        fault = _fault(view, reached)
        if fault is None:
            how = ", not tried" if view.base_url is not None and view.base_url not in reached else ""
            key = ", it has a key" if view.has_key else ""
            yield Check(name=name, state="ok", found=f"{view.name} ({view.kind}), {view.where}{key}{how}")
            continue
        bad: State = "note" if answers or not view.order else "wrong"
        yield Check(name=name, state=bad, found=f"{view.name}: {fault[0]}", mend=fault[1])


def check_prices(settings: Settings) -> Iterator[Check]:
    """Yield a check of the models' prices; one that is not known keeps nobody from answering."""
    try:
        prices, strays = describe_prices(settings), stray_prices(settings)
    except ConfigurationError:
        # The check of the models says it.
        return
    if unpriced := [each.model for each in prices if each.price is None]:
        yield Check(
            name="prices",
            state="note",
            found=f"not known of {', '.join(unpriced)}: what its calls cost is not counted",
            mend='set [prices."MODEL"] with input and output in legato.toml, in US dollars for a million tokens',
        )
    else:
        yield Check(
            name="prices",
            state="ok",
            found="; ".join(f"{each.model}: {each.price} ({each.source})" for each in prices),
        )
    for name, near in strays:
        meant = f": did you mean {near}?" if near else ""
        yield Check(name="prices", state="note", found=f"{name} is the name of no configured model{meant}")


def _fault(view: ModelView, reached: dict[str, str | None]) -> tuple[str, str | None] | None:
    """Return what keeps a model from answering and how to mend it, or None."""
    if view.missing is not None:
        other = "set OPENAI_API_KEY, OPENAI_BASE_URL or LEGATO_MODEL=/path/to/model.gguf"
        return view.missing, f"{view.mend}, or {other}" if view.mend and view.kind == "embedded" else view.mend or other
    if view.base_url is not None and (why := reached.get(view.base_url)) is not None:
        return f"{view.where} cannot be reached ({why})", "check OPENAI_BASE_URL or base_url, and the network"
    return None


def _proxy(view: ModelView, settings: Settings) -> str | None:
    """Return the proxy that calls go through, as providers.openai_settings has it."""
    table = settings.models.get(view.name)
    if table is not None and table.proxy is not None:
        return table.proxy or None
    parts = urlsplit(view.base_url or "")
    if parts.hostname in ("localhost", "127.0.0.1", "::1") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = getproxies_environment().get(parts.scheme)
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def connect_fault(base_url: str, proxy: str | None) -> str | None:
    """Open a connection to a server, or to the proxy before it, and close it; return what went wrong, or None."""
    parts = urlsplit(proxy or base_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S) as plain:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                    pass
    except TimeoutError:
        return f"no answer within {CONNECT_S:.0f} s"
    except ssl.SSLCertVerificationError:
        return "its TLS certificate is not trusted; SSL_CERT_FILE names others to trust"
    except socket.gaierror:
        return f"the name {host} is not known"
    except OSError as error:
        return (error.strerror or "no connection").lower()
    return None
