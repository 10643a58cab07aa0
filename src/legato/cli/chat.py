"""`legato chat`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli.exits import CONFIGURATION, FAILED, OK, STOPPED, UNREACHABLE, USAGE, help_end
from legato.cli.terminal import complain, neutral, one_line

if TYPE_CHECKING:
    from legato.cli.chat_session import Talk

HELP_END = help_end(
    "legato chat                          # talk; /help there",
    'legato chat "Why is the sky blue?"    # one question, one reply',
    "git diff | legato chat > review.txt  # the question from a pipe",
    "legato chat --conversation c-1       # go on with a conversation",
    "LEGATO_CHAT_KEY=lk_… legato chat --url https://chat.example.org",
    exits={
        OK: "the reply is whole",
        FAILED: "the reply failed or was refused",
        UNREACHABLE: "no server answers",
        CONFIGURATION: "",
        STOPPED: "stopped by Ctrl-C",
    },
)
DEFAULT_URL = "http://localhost:3111"
_HELP = """\
  /new    begin a new conversation
  /quit   leave (so does Ctrl-D)
  /help   show this
  Ctrl-C  stop the reply; a second time: leave"""


def chat(
    message: Annotated[
        list[str] | None,
        typer.Argument(help="What to say; without it lines are read from the terminal, or all of a pipe."),
    ] = None,
    url: Annotated[
        str, typer.Option(envvar="LEGATO_CHAT_URL", help="Address of the server.", show_envvar=True)
    ] = DEFAULT_URL,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="LEGATO_CHAT_KEY",
            show_envvar=True,
            help="Key, where the server asks for one. Better in the environment or `.env`: other users see options.",
        ),
    ] = None,
    conversation: Annotated[str | None, typer.Option(help="Conversation to go on with.")] = None,
) -> None:
    """Talk to a server: the reply streams in, goes on after a cut, and stops with Ctrl-C.

    With a message, or a pipe as input, exactly the reply is printed. Without, tool calls that need approval are asked
    about; else standard error says how to approve them.
    """
    address = _checked_url(url)
    key = _checked_key(key or _from_env_file("LEGATO_CHAT_KEY"))
    interactive = not message and sys.stdin.isatty() and sys.stdout.isatty()
    text = None if interactive else " ".join(message) if message else _piped()

    from legato.cli.chat_session import Talk

    with Talk(address, key, conversation, asks=interactive) as talk:
        if text is not None:
            raise typer.Exit(talk.say(text))
        _converse(talk, address)


def _converse(talk: Talk, url: str) -> None:
    """Read lines and answer them until the user leaves."""
    # Line editing and history for input().
    import readline  # noqa: F401

    print(f"Talking to {url}. /help shows what can be typed.")
    leaving = False
    while True:
        try:
            line = input("\n> ").strip()
        except EOFError:
            print()
            break
        except KeyboardInterrupt:
            print()
            if leaving:
                break
            leaving = True
            print("Ctrl-C again, /quit or Ctrl-D leaves.", end="")
            continue
        leaving = False
        if line == "/quit":
            break
        if line == "/new":
            talk.conversation_id = None
            print("A new conversation.", end="")
        elif line == "/help":
            print(_HELP, end="")
        elif line.startswith("/") and " " not in line:
            print(f"There is no {one_line(line)}; /help shows what there is.", end="")
        elif line and talk.say(line) == STOPPED and talk.left:
            raise typer.Exit(STOPPED)
    if talk.conversation_id:
        print(f"legato chat --conversation {neutral(talk.conversation_id)}  goes on with this conversation.")


def _piped() -> str:
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text.strip():
        complain('there is nothing to say: legato chat "Hello!"')
        raise typer.Exit(USAGE)
    return text


def _checked_url(url: str) -> str:
    from urllib.parse import urlsplit

    address = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(address)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right:
        raise typer.BadParameter(f"{url} is no address: give one such as {DEFAULT_URL}", param_hint="--url")
    return address


def _checked_key(key: str | None) -> str | None:
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise typer.BadParameter("it holds characters that no key has", param_hint="--key")
    return key or None


def _from_env_file(name: str) -> str | None:
    if not os.path.isfile(".env"):
        return None
    from dotenv import dotenv_values

    return dotenv_values(".env").get(name)
