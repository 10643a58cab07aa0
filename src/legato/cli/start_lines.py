"""What `legato serve` prints when it listens."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from legato.cli.describe import INSTEAD, ModelView, short_path, without_credentials
from legato.cli.terminal import console
from legato.storage.database import open_database
from legato.version import __version__

if TYPE_CHECKING:
    from legato.settings import Settings


def print_start(settings: Settings, port: int, models: Sequence[ModelView], given: dict[str, Any]) -> None:
    """Print where the server is, what answers, and a line to try.

    Args:
        port: The port that was bound.
        models: The models that answer, in order.
        given: The options of the command line; the commands that are shown repeat them where they must.
    """
    out = console()
    address = f"http://{_host(settings.host)}:{port}"
    out.print(f"Legato {__version__}, listening on {address}", style="bold")
    for label, text in _facts(settings, models):
        out.print(f"  {label:<7} {text}", soft_wrap=True)
    if not any(model.missing is None for model in models):
        out.print("\nNo model can answer yet. Set one of these, in the environment or in .env:")
        for line in INSTEAD:
            out.print(f"  {line}", soft_wrap=True)
        for mend in dict.fromkeys(model.mend for model in models if model.mend):
            out.print(f"or {mend}. Then start again.")
    out.print("\n" + (_page(address, settings) if any(model.missing is None for model in models) else "Then try it:"))
    for line in _try(address, settings, given):
        out.print(f"  {line}", soft_wrap=True)
    out.print("\nCtrl-C stops it, after the running replies; twice: at once.")
    sys.stdout.flush()


def _page(address: str, settings: Settings) -> str:
    """Return what stands before the lines to try: where the page is, if it is built."""
    from legato.http.page_files import FOLDER

    if not (FOLDER / "index.html").is_file():
        return "Try it:"
    sign_in = {"none": "", "keys": " and sign in with a key"}.get(settings.auth, " and sign in")
    return f"Open {address} in a browser{sign_in}, or try it here:"


def _facts(settings: Settings, models: Sequence[ModelView]) -> list[tuple[str, str]]:
    facts = []
    for number, model in enumerate(models):
        state = f", but {model.missing}" if model.missing else ""
        label = "model" if number == 0 else "then" if number == 1 else ""
        shown = model.name if model.kind == model.name else f"{model.name} ({model.kind})"
        facts.append((label, f"{shown}, {model.where}{state}"))
    if settings.uses_postgres:
        # Never the address itself: it may hold a password.
        facts.append(("data", f"PostgreSQL, {open_database(settings).where}"))
        hints = (
            "PostgreSQL" if settings.redis_url is None else without_credentials(settings.redis_url.get_secret_value())
        )
        facts.append(("hints", hints))
    else:
        facts.append(("data", short_path(settings.database_path)))
    if settings.workers > 1:
        facts.append(("workers", str(settings.workers)))
    return facts


def _try(address: str, settings: Settings, given: dict[str, Any]) -> list[str]:
    """Return shell lines that work as they stand."""
    post = f"curl -N {address}/chat/stream \\"
    body = "-H 'content-type: application/json' -d '{\"message\": \"Hello!\"}'"
    if settings.auth == "none":
        return [post, f"  {body}"]
    options = [f"--{name.replace('_', '-')} {_place(settings, given[name])}" for name in _PLACES if name in given]
    make_key = " ".join(["legato keys create --name me", *options])
    return [
        f"export LEGATO_CHAT_KEY=$({make_key})",
        post,
        '  -H "authorization: Bearer $LEGATO_CHAT_KEY" \\',
        f"  {body}",
    ]


_PLACES = ("data_dir", "database_url")


def _place(settings: Settings, value: object) -> str:
    if settings.uses_postgres and value == settings.database_url:
        # It may hold a password; who types the line has it.
        return '"$LEGATO_DATABASE_URL"'
    return shlex.quote(str(value))


def _host(host: str) -> str:
    """Return the host as it stands in an address that can be opened on this machine."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
