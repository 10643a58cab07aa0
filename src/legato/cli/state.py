"""`legato state`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, one_line
from legato.core.errors import InvalidRequest, InvalidValue, Refused
from legato.core.principal import LOCAL
from legato.core.resources import STATE_VIEWS, check_group_is_kept

if TYPE_CHECKING:
    from legato.storage.state_rows import EntryPage, Place, Span
    from legato.storage.statement import Transaction

T = TypeVar("T")
_KEY_COLUMNS = 36
"""Width of keys in a terminal's table; longer ones are folded."""
_LEAST_COLUMNS = 20
"""Least width of values."""

app = typer.Typer(
    help="What a bot's code keeps: read it, set it, delete it. A running server sees each change at once.",
    no_args_is_help=True,
    epilog=help_end(
        "legato state list                    # the groups",
        "legato state list leads              # what is in one",
        "legato state get leads ann",
        "legato state set leads ann '{\"score\": 7}'",
        "legato state delete leads ann",
    ),
)

Group = Annotated[str, typer.Argument(metavar="GROUP", help="A group's name.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key in the group.")]
Owner = Annotated[
    str, typer.Option(help="Whose state: a key's owner, `app` for what the bot keeps for all, `local` without keys.")
]
IfVersion = Annotated[
    int | None,
    typer.Option("--if-version", min=0, help="Only if this version is there, from `list`; 0: only if none is."),
]


@app.command(
    epilog=help_end(
        "legato state get leads ann",
        "legato state get leads ann --owner ben",
        exits={FAILED: "there is no such key"},
    )
)
def get(
    group: Group, key: Key, owner: Owner = LOCAL.id, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Print a value as JSON."""
    from legato.cli.database import read, settings_of
    from legato.storage.state_rows import find_value

    place = _place(owner, group, key)
    settings = settings_of(data_dir, database_url)
    found = _doing(lambda: read(settings, lambda tx: find_value(tx, place, _now_ms())))
    if found is None:
        raise _absent(place)
    typer.echo(_json(found.value, indent=2))


@app.command(
    "set",
    epilog=help_end(
        "legato state set leads ann '{\"score\": 7}'",
        "legato state set settings greeting '\"Hello\"'    # text has quotes of its own",
        "legato state set settings colours - < colours.json",
        "legato state set counters balance -- -5",
        "legato state set locks import true --ttl-s 60 --if-version 0",
        exits={FAILED: "the value was not taken, or another version is there"},
    ),
)
def set_value(
    group: Group,
    key: Key,
    value: Annotated[
        str,
        typer.Argument(
            metavar="VALUE", help="JSON; `-` reads it from standard input. A negative number stands behind `--`."
        ),
    ],
    ttl_s: Annotated[float | None, typer.Option("--ttl-s", help="Seconds after which it is gone.")] = None,
    if_version: IfVersion = None,
    owner: Owner = LOCAL.id,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Put a value, whatever was there, and print its version."""
    from legato.cli.database import settings_of, write
    from legato.core.json_value import encode_json, parse_json
    from legato.storage.state import ttl_in_ms
    from legato.storage.state_rows import put_value

    place = _place(owner, group, key)
    _checked(lambda: check_group_is_kept(group))
    ttl_ms = _checked(lambda: ttl_in_ms(ttl_s))
    given = _doing(_standard_input) if value == "-" else value
    text = _doing(lambda: encode_json(parse_json(given)), hint=_quoting(given))
    settings = settings_of(data_dir, database_url)

    def put(tx: Transaction) -> int:
        return put_value(tx, place, text, _now_ms(), ttl_ms=ttl_ms, if_version=if_version)

    typer.echo(f"version {_doing(lambda: write(settings, put))}")


@app.command(
    "list",
    epilog=help_end(
        "legato state list",
        "legato state list leads",
        "legato state list leads --prefix 2026-11 --limit 20",
        "legato state list leads --json > leads.jsonl",
    ),
)
def list_all(
    group: Annotated[str | None, typer.Argument(metavar="GROUP", help="Absent: the groups are listed.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Only keys, or groups, that begin so.")] = None,
    after: Annotated[str | None, typer.Option(help="Begin behind this key or group.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most lines.")] = 100,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object a line, values whole: key, value, version, expiresAtMs.")
    ] = False,
    owner: Owner = LOCAL.id,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List a group's keys in their order with values and versions, or the groups."""
    from legato.cli.database import read, settings_of
    from legato.storage.state_rows import Span, list_groups, list_values

    span = _checked(lambda: Span(owner=owner, group=group, after=after, limit=limit, prefix=prefix))
    settings = settings_of(data_dir, database_url)
    if group is None:
        names = read(settings, lambda tx: list_groups(tx, span, _now_ms())) or ()
        for name in names:
            typer.echo(_json({"group": name}) if as_json else one_line(name))
        if not names:
            complain(_nothing(span))
        elif len(names) == limit:
            complain(f"there may be more: --after {_shell(names[-1])}")
        return
    page = read(settings, lambda tx: list_values(tx, span, _now_ms()))
    if page is None or not page.entries:
        complain(_nothing(span))
        return
    _print_page(page, as_json=as_json)
    if page.next is not None:
        complain(f"there are more: --after {_shell(page.next)}")


@app.command(
    epilog=help_end(
        "legato state delete leads ann",
        "legato state delete leads ann --if-version 3",
        exits={FAILED: "there is no such key, or another version is there"},
    )
)
def delete(
    group: Group,
    key: Key,
    if_version: IfVersion = None,
    owner: Owner = LOCAL.id,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Delete a key with its value."""
    from legato.cli.database import settings_of, write_if_there
    from legato.storage.state_rows import delete_value

    place = _place(owner, group, key)
    settings = settings_of(data_dir, database_url)

    def remove(tx: Transaction) -> bool:
        return delete_value(tx, place, _now_ms(), if_version=if_version)

    if not _doing(lambda: write_if_there(settings, remove)):
        raise _absent(place)
    typer.echo(f"{one_line(place.key)} is deleted from {one_line(place.group)}")


def _print_page(page: EntryPage, *, as_json: bool) -> None:
    if as_json:
        for entry in page.entries:
            line = {"key": entry.key, "value": entry.value, "version": entry.version}
            typer.echo(_json(line | {"expiresAtMs": entry.expires_at_ms}))
        return
    from datetime import datetime

    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    def stamp(ms: int | None) -> str:
        return "" if ms is None else datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M:%S")

    rows = [(one_line(each.key), str(each.version), stamp(each.expires_at_ms)) for each in page.entries]
    expiring = any(gone for _, _, gone in rows)
    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("key", overflow="fold", max_width=_KEY_COLUMNS if out.is_terminal else None)
    table.add_column("version", justify="right", no_wrap=True)
    if expiring:
        table.add_column("gone at", no_wrap=True)
    table.add_column("value", no_wrap=True)
    widest = max(cell_len(key) for key, _, _ in rows)
    taken = min(widest, _KEY_COLUMNS) + len("  version  ") + expiring * len("2026-11-22 13:14:15  ")
    for (key, version, gone), entry in zip(rows, page.entries, strict=True):
        value = Text(_json(entry.value))
        # Cut here: a table makes room for the longest column at the cost of all others.
        value.truncate(max(_LEAST_COLUMNS, out.width - taken), overflow="ellipsis")
        table.add_row(key, version, *((gone,) if expiring else ()), value)
    out.print(table)


def _place(owner: str, group: str, key: str) -> Place:
    from legato.storage.state_rows import Place

    return _checked(lambda: Place(owner=owner, group=group, key=key))


def _now_ms() -> int:
    from legato.core.clock import SystemClock

    return SystemClock().now_ms()


def _checked(work: Callable[[], T]) -> T:
    """Do what finds fault with the command line alone."""
    try:
        return work()
    except InvalidRequest as error:
        field = error.fields[0]
        name = field.field.replace("_", "-")
        hint = name.upper() if name in ("group", "key") else f"--{name}"
        raise typer.BadParameter(field.message, param_hint=hint) from None


def _doing(work: Callable[[], T], hint: str = "") -> T:
    """Do what may be refused; a refusal is one sentence and exit code 1."""
    try:
        return work()
    except Refused as error:
        complain(error.message + hint)
        raise typer.Exit(FAILED) from None


def _absent(place: Place) -> typer.Exit:
    whose = "" if place.owner == LOCAL.id else f" of {one_line(place.owner)}"
    if place.group in STATE_VIEWS:
        complain(f"{place.group} shows what a running server keeps: steps read it there, and so do the API's routes")
        return typer.Exit(FAILED)
    complain(f"there is no {one_line(place.key)} in {one_line(place.group)}{whose}: `legato state list` shows what is")
    return typer.Exit(FAILED)


def _nothing(span: Span) -> str:
    where = "" if span.group is None else f" in {one_line(span.group)}"
    which = "" if not span.prefix else f" that begins with {one_line(span.prefix)}"
    rest = "" if span.after is None else f" behind {one_line(span.after)}"
    return f"{one_line(span.owner)} keeps nothing{where}{which}{rest}; another owner's state: --owner NAME"


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InvalidValue("standard input is not UTF-8") from None


def _quoting(given: str) -> str:
    """Return what helps whoever forgot the quotes of JSON's text."""
    import shlex

    words = given.strip()
    if re.fullmatch(r"[^\W\d][\w .,!?-]{0,40}", words) and words not in ("true", "false", "null"):
        return f"; for text give {shlex.quote(json.dumps(words, ensure_ascii=False))}"
    return ""


def _shell(word: str) -> str:
    import shlex

    return shlex.quote(one_line(word))


def _json(value: Any, indent: int | None = None) -> str:
    """Return JSON that a terminal can be given: what could steer one is escaped, which leaves it the same JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)
