"""`legato accounts`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, console, one_line

if TYPE_CHECKING:
    from legato.runs.audit import Action
    from legato.settings import Settings
    from legato.storage.statement import Transaction

app = typer.Typer(
    help="Accounts of people: make, list, change and remove them. They count where `LEGATO_AUTH=accounts`.",
    no_args_is_help=True,
    epilog=help_end(
        "legato accounts add ann                 # asks for a password",
        "legato accounts add ops --role admin < password.txt",
        "legato accounts list",
        "legato accounts disable ann",
    ),
)
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, or its id from `legato accounts list`.")]
_HOW_IT_IS_GIVEN = "The password is asked for, or is the first line of the standard input where that is no terminal."


@app.command(
    epilog=help_end(
        "legato accounts add ann",
        "pass show legato/ann | legato accounts add ann --role admin",
        "legato accounts add ann --subject 248289761001   # of [oidc]'s issuer",
        exits={FAILED: "there is such an account, or the password is not taken"},
    ),
    help=f"Make an account. {_HOW_IT_IS_GIVEN}",
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What is typed to sign in, in whatever case.")],
    role: Annotated[
        Literal["member", "admin"],
        typer.Option(help="`admin` looks after the server; the steps of a bot may ask for it."),
    ] = "member",
    owner: Annotated[
        str | None,
        typer.Option(help="Whose conversations it opens; by default the name, as with keys."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(help="The issuer's own name for the person (`sub`): then the issuer signs in, no password."),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    from legato.cli.database import settings_of, write
    from legato.core.clock import SystemClock
    from legato.core.ids import id_fault
    from legato.core.principal import APP, VISITOR
    from legato.policies.password_hashes import hash_password
    from legato.runs.audit import audit, command_actor
    from legato.storage.accounts import create_account, name_fault

    fault = name_fault(name)
    if fault is not None:
        raise typer.BadParameter(fault, param_hint="NAME")
    who = owner if owner is not None else name.strip()
    fault = id_fault(who) if who.strip() else "is blank"
    if fault is not None:
        raise typer.BadParameter(fault, param_hint="--owner")
    if who == APP.id or who.startswith(VISITOR):
        raise typer.BadParameter(f"{who!r} is the server's own: take another owner", param_hint="--owner")
    settings = settings_of(data_dir, database_url)
    issuer = None
    stored = None
    if subject is not None:
        if settings.oidc is None:
            raise typer.BadParameter("there is no issuer: set [oidc] in legato.toml", param_hint="--subject")
        issuer = settings.oidc.issuer
    else:
        stored = hash_password(_new_password(settings, name))
    now_ms = SystemClock().now_ms()

    def make(tx: Transaction) -> str | None:
        made = create_account(
            tx,
            now_ms=now_ms,
            label=name.strip(),
            role=role,
            name=name,
            owner=who,
            password_hash=stored,
            issuer=issuer,
            subject=subject,
        )
        if made is None:
            return None
        audit(
            tx,
            actor=command_actor(),
            action="account.create",
            subject=made.id,
            at_ms=now_ms,
            owner=who,
            detail={"role": role},
        )
        return made.id

    account_id = write(settings, make)
    if account_id is None:
        complain(f"there is an account {one_line(name)[:60]} already, or one of this subject: `legato accounts list`")
        raise typer.Exit(FAILED)
    typer.echo(f"account {one_line(name)} is made: {account_id}")
    if settings.auth != "accounts":
        complain("accounts count once LEGATO_AUTH=accounts is set and the server is started anew")


@app.command("list", epilog=help_end("legato accounts list"))
def list_all(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """List all accounts, those of the issuer's people too."""
    from datetime import datetime

    from rich.table import Table

    from legato.cli.database import read, settings_of
    from legato.storage.accounts import list_accounts

    rows = read(settings_of(data_dir, database_url), list_accounts) or []
    if not rows:
        complain("there is no account yet: legato accounts add NAME")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "called", "id", "owner", "role", "signs in by", "made", "disabled"):
        table.add_column(title, overflow="fold")

    def day(ms: int | None) -> str:
        return "" if ms is None else datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M")

    for row in rows:
        ways = [way for way, there in (("password", row.password_hash), ("issuer", row.subject)) if there]
        table.add_row(
            one_line(row.name or ""),
            one_line(row.label),
            row.id,
            one_line(row.owner),
            row.role,
            ", ".join(ways),
            day(row.created_at_ms),
            day(row.disabled_at_ms),
            style="dim" if row.disabled_at_ms is not None else None,
        )
    console().print(table)


_MISSING = {FAILED: "there is no such account"}


@app.command(
    epilog=help_end(
        "legato accounts passwd ann", exits={FAILED: "there is no such account, or the password is not taken"}
    ),
    help=f"Give an account another password; its pages are signed out at once. {_HOW_IT_IS_GIVEN}",
)
def passwd(name: _Name, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    from legato.cli.database import settings_of
    from legato.core.clock import SystemClock
    from legato.policies.password_hashes import hash_password
    from legato.storage.accounts import set_password

    settings = settings_of(data_dir, database_url)
    found = _find(settings, name)
    stored = hash_password(_new_password(settings, f"{found.name or ''} {found.label}"))
    now_ms = SystemClock().now_ms()
    _change(settings, found, lambda tx: set_password(tx, found.id, stored, now_ms), "account.change", "password")
    typer.echo(f"account {one_line(found.label)} has another password; its pages are signed out")


@app.command(epilog=help_end("legato accounts disable ann", exits=_MISSING))
def disable(name: _Name, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Let nobody in by an account; its pages are signed out at once, at every server. Its conversations stay."""
    from legato.cli.database import settings_of
    from legato.core.clock import SystemClock
    from legato.storage.accounts import disable_account

    settings = settings_of(data_dir, database_url)
    found = _find(settings, name)
    now_ms = SystemClock().now_ms()
    _change(settings, found, lambda tx: disable_account(tx, found.id, now_ms), "account.change", "disabled")
    typer.echo(f"account {one_line(found.label)} is disabled; its pages are signed out")
    complain("keys of the same owner are as good as before: `legato keys list`")


@app.command(epilog=help_end("legato accounts enable ann", exits=_MISSING))
def enable(name: _Name, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Take a disabling back."""
    from legato.cli.database import settings_of
    from legato.storage.accounts import enable_account

    settings = settings_of(data_dir, database_url)
    found = _find(settings, name)
    _change(settings, found, lambda tx: enable_account(tx, found.id), "account.change", "enabled")
    typer.echo(f"account {one_line(found.label)} may sign in")


@app.command(epilog=help_end("legato accounts remove ann", exits=_MISSING))
def remove(name: _Name, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Delete an account; its pages are signed out at once. What its owner has stays: see `legato accounts disable`."""
    from legato.cli.database import settings_of
    from legato.storage.accounts import remove_account

    settings = settings_of(data_dir, database_url)
    found = _find(settings, name)
    _change(settings, found, lambda tx: remove_account(tx, found.id), "account.delete", "removed")
    typer.echo(f"account {one_line(found.label)} is removed; what {one_line(found.owner)} owns is still there")


def _find(settings: Settings, name: str) -> Any:
    from legato.cli.database import read
    from legato.storage.accounts import find_by_id, find_by_name

    found = read(settings, lambda tx: find_by_id(tx, name) or find_by_name(tx, name))
    if found is None:
        complain(f"there is no account {one_line(name)[:60]}: `legato accounts list` shows all")
        raise typer.Exit(FAILED)
    return found


def _change(settings: Settings, found: Any, change: Any, action: Action, what: str) -> None:
    from legato.cli.database import write
    from legato.core.clock import SystemClock
    from legato.runs.audit import audit, command_actor

    now_ms = SystemClock().now_ms()

    def change_and_note(tx: Transaction) -> None:
        change(tx)
        audit(
            tx,
            actor=command_actor(),
            action=action,
            subject=found.id,
            at_ms=now_ms,
            owner=found.owner,
            detail={"what": what},
        )

    write(settings, change_and_note)


def _new_password(settings: Settings, name: str) -> str:
    """Return a password that was typed twice, or stands in the standard input."""
    from legato.policies.passwords import password_fault

    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline(10_000).rstrip("\r\n")
    fault = password_fault(password, name=name, least_chars=settings.accounts.min_password_chars)
    if fault is not None:
        complain(f"the password {fault}")
        raise typer.Exit(FAILED)
    return str(password)
