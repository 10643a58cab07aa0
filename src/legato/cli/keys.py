"""`legato keys`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from legato.cli import encryption_keys
from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, one_line

if TYPE_CHECKING:
    from legato.storage.statement import Transaction

app = typer.Typer(
    help="API keys: make, list and revoke them. They count where `LEGATO_AUTH=keys`.",
    no_args_is_help=True,
    epilog=help_end(
        "legato keys create --name ann",
        "legato keys create --name ops --role admin",
        "legato keys create --name shop --publishable --origin https://shop.example",
        "legato keys list",
        "legato keys revoke 1f2e3d4c5b6a",
    ),
)
app.add_typer(encryption_keys.app, name="encryption")


@app.command(
    epilog=help_end(
        "legato keys create --name ann",
        "legato keys create --name laptop --owner ann   # the same person",
        "legato keys create --name shop --publishable --origin https://shop.example   # for a widget",
        "export LEGATO_CHAT_KEY=$(legato keys create --name me)",
    )
)
def create(
    name: Annotated[str, typer.Option(help="What the key is called in lists.")],
    role: Annotated[
        Literal["member", "admin"] | None,
        typer.Option(
            help="`member`, the default, or `admin`: looks after the server; the steps of a bot may ask for it."
        ),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(help="Whose conversations it opens; by default the name. Keys of one owner share them."),
    ] = None,
    publishable: Annotated[
        bool, typer.Option("--publishable", help="For a widget in web pages: its visitors may only chat.")
    ] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Of a publishable key: whose pages may use it, as https://shop.example; may be repeated."),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a key and print it, once. A running server takes it at once."""
    from legato.cli.database import settings_of, write
    from legato.core.clock import SystemClock
    from legato.core.ids import id_fault
    from legato.core.principal import APP, VISITOR
    from legato.runs.audit import audit, command_actor
    from legato.storage.keys import create_key, create_publishable_key

    origins = _origins(origin or [])
    if publishable and (role is not None or owner is not None):
        raise typer.BadParameter("its visitors are owners of their own: leave --role and --owner out")
    if publishable != bool(origins):
        raise typer.BadParameter("--publishable and --origin go together: name the sites whose pages may use the key")

    who = owner if owner is not None else name
    for option, value in (("--name", name), ("--owner", who)):
        fault = id_fault(value) if value.strip() else "is blank"
        if fault is not None:
            raise typer.BadParameter(fault, param_hint=option)
    if who == APP.id:
        raise typer.BadParameter(f"{who!r} is the server itself: take another owner", param_hint="--owner")
    if who.startswith(VISITOR):
        raise typer.BadParameter(
            f"{VISITOR!r} begins the visitors of widgets: take another owner", param_hint="--owner"
        )
    settings = settings_of(data_dir, database_url)
    now_ms = SystemClock().now_ms()

    def make(tx: Transaction) -> str:
        if publishable:
            key = create_publishable_key(tx, name=name, origins=origins, now_ms=now_ms)
        else:
            key = create_key(tx, owner=who, role=role or "member", name=name, now_ms=now_ms)
        audit(
            tx,
            actor=command_actor(),
            action="key.create",
            subject=key.split("_")[1],
            owner=None if publishable else who,
            detail={"role": "publishable" if publishable else role or "member"},
            at_ms=now_ms,
        )
        return key

    typer.echo(write(settings, make))
    complain("this is the only time that the key is shown: keep it now")
    if settings.auth == "none":
        complain("keys count once LEGATO_AUTH=keys is set and the server is started anew")


@app.command("list", epilog=help_end("legato keys list"))
def list_all(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """List all keys; what they are made of is not kept and cannot be shown."""
    from datetime import datetime

    from rich.table import Table

    from legato.cli.database import read, settings_of
    from legato.storage.keys import list_keys

    rows = read(settings_of(data_dir, database_url), list_keys) or []
    if not rows:
        complain("there is no key yet: legato keys create --name me")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "name", "owner", "role", "origins", "made", "revoked"):
        table.add_column(title, overflow="fold")

    def day(ms: int | None) -> str:
        return "" if ms is None else datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M")

    for row in rows:
        style = "dim" if row.revoked_at_ms is not None else None
        publishable = row.origins is not None
        owner, role = ("", "publishable") if publishable else (one_line(row.owner), row.role)
        origins = "\n".join(json.loads(row.origins)) if publishable else ""
        table.add_row(
            row.id,
            one_line(row.name),
            owner,
            role,
            origins,
            day(row.created_at_ms),
            day(row.revoked_at_ms),
            style=style,
        )
    console().print(table)


@app.command(epilog=help_end("legato keys revoke 1f2e3d4c5b6a", exits={FAILED: "there is no such key"}))
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, from `legato keys list`.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a key worthless. A running server refuses it within 5 seconds."""
    from legato.cli.database import read, settings_of, write
    from legato.core.clock import SystemClock
    from legato.runs.audit import audit, command_actor
    from legato.storage.keys import PREFIX, PUBLISHABLE, list_keys, revoke_key

    # A whole key is taken for its id: who has one at hand need not look the other up.
    wanted = key_id.removeprefix(PREFIX).removeprefix(PUBLISHABLE).partition("_")[0]
    settings = settings_of(data_dir, database_url)
    row = next((row for row in read(settings, list_keys) or [] if row.id == wanted), None)
    if row is None:
        complain(f"there is no key {one_line(wanted)[:40]}: `legato keys list` shows all")
        raise typer.Exit(FAILED)
    now_ms = SystemClock().now_ms()

    def end(tx: Transaction) -> bool:
        is_new = revoke_key(tx, wanted, now_ms)
        if is_new:
            owner = None if row.origins is not None else row.owner
            audit(tx, actor=command_actor(), action="key.revoke", subject=wanted, owner=owner, at_ms=now_ms)
        return is_new

    if not write(settings, end):
        typer.echo(f"key {wanted} ({one_line(row.name)}) was revoked before")
        return
    typer.echo(f"key {wanted} ({one_line(row.name)}) is revoked; a running server refuses it within 5 seconds")


def _origins(words: list[str]) -> list[str]:
    from legato.core.origins import parse_origin

    try:
        return [parse_origin(word) for word in words]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--origin") from None
