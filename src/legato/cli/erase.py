"""`legato erase`."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.database import DatabaseUrl, DataDir
from legato.cli.exits import FAILED, help_end
from legato.cli.terminal import complain, one_line

if TYPE_CHECKING:
    from legato.settings import Settings

HELP_END = help_end(
    "legato erase ann --dry-run",
    "legato erase ann                        # asks for the id once more",
    "legato erase ann --confirm ann          # in a script",
    "legato erase ann --conversation c-1",
    exits={FAILED: "it is held, there is no such thing, or it was not confirmed"},
)


def erase(
    person: Annotated[str, typer.Argument(metavar="PERSON", help="Id of a principal: owner of a key or an account.")],
    conversation: Annotated[
        str | None,
        typer.Option(metavar="ID", help="One conversation of theirs; without it all that the server has of them."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what there is, and erase nothing.")] = False,
    confirm: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of what goes, once more; asked for where it is not given.")
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Erase all that the server has of a person, or one conversation. It cannot be had back.

    What there is is counted first. Keys and accounts, or the conversation, are gone at once; the rest goes within
    seconds where a server runs, else behind its next start: `--dry-run` says whether it goes on. What is on legal hold
    is refused.
    """
    from legato.cli.database import settings_of

    settings = settings_of(data_dir, database_url)
    what = conversation if conversation is not None else person
    if conversation is None:
        _show_person(settings, person)
    else:
        _show_conversation(settings, person, conversation)
    if dry_run:
        return
    _confirm(what, confirm)
    if conversation is None:
        _erase_person(settings, person)
        typer.echo(f"{one_line(person)} is being erased; keys, accounts and sign-ins are gone already")
    else:
        _erase_conversation(settings, person, conversation)
        typer.echo(f"conversation {one_line(conversation)} is deleted; what names it elsewhere is being erased")


def _show_person(settings: Settings, person: str) -> None:
    from legato.cli.database import read
    from legato.storage.erasures import find_erasure
    from legato.storage.keeping import find_kept, held_conversations
    from legato.storage.owned import count_owned

    found = read(
        settings,
        lambda tx: (
            count_owned(tx, person),
            find_kept(tx, person).held_at_ms is not None,
            len(held_conversations(tx, person, 1000)),
            find_erasure(tx, person) is not None,
        ),
    )
    if found is None:
        complain("there is no database yet")
        raise typer.Exit(FAILED)
    counts, held, held_ones, goes_on = found
    typer.echo(f"of {one_line(person)} there are:")
    for name, count in counts.items():
        typer.echo(f"{count:10}  {name}")
    if held or held_ones:
        complain("on legal hold: " + ("all of it" if held else f"{held_ones} of the conversations"))
    if goes_on:
        complain("it is being erased already" + (", and waits for the hold" if held or held_ones else ""))
    elif not any(counts.values()):
        complain("nothing is known by this id: is it spelt as `legato keys list` shows it?")


def _show_conversation(settings: Settings, person: str, conversation: str) -> None:
    from legato.cli.database import read
    from legato.storage.owned import find_conversation

    found = read(settings, lambda tx: find_conversation(tx, person, conversation))
    if found is None:
        complain("there is no database yet")
        raise typer.Exit(FAILED)
    live = f", {found.unfinished} replies are being made" if found.unfinished else ""
    typer.echo(f"conversation {one_line(conversation)} of {one_line(person)}: {found.messages} messages{live}")
    if found.held:
        complain("on legal hold")


def _confirm(what: str, given: str | None) -> None:
    if given is None:
        if not sys.stdin.isatty():
            complain(f"nothing was erased: say --confirm {one_line(what)}")
            raise typer.Exit(FAILED)
        given = typer.prompt("It cannot be had back. Type the id once more to erase it", err=True)
    if given != what:
        complain("that is another id: nothing was erased")
        raise typer.Exit(FAILED)


def _erase_person(settings: Settings, person: str) -> None:
    from legato.cli.database import write
    from legato.core.clock import SystemClock
    from legato.runs.audit import command_actor
    from legato.runs.erase import ask_to_erase

    write(settings, partial(ask_to_erase, actor=command_actor(), owner=person, now_ms=SystemClock().now_ms()))


def _erase_conversation(settings: Settings, person: str, conversation: str) -> None:
    from legato.cli.database import write
    from legato.core.clock import SystemClock
    from legato.core.errors import Conflict
    from legato.runs.audit import command_actor
    from legato.runs.delete import delete_one
    from legato.storage.owned import find_conversation
    from legato.storage.statement import Transaction

    actor, now_ms = command_actor(), SystemClock().now_ms()

    def work(tx: Transaction) -> None:
        # Only the server that makes a reply can let go of it.
        if find_conversation(tx, person, conversation).unfinished:
            raise Conflict("a reply is being made in it: stop that first, or delete it over HTTP")
        delete_one(tx, actor=actor, owner=person, conversation_id=conversation, now_ms=now_ms)

    write(settings, work)
