"""`legato new`."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer

from legato.cli.exits import CONFIGURATION, FAILED, help_end
from legato.cli.terminal import complain, console

HELP_END = help_end(
    "legato new my-bot",
    "cd my-bot && legato serve bot.py --reload",
    exits={FAILED: "the folder is not empty, or cannot be made", CONFIGURATION: ""},
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FILES: Final = ("bot.py", "test_bot.py", "legato.toml", "README.md", "gitignore")
"""In the folder `new_project`, where each ends in `.txt`; a leading dot is added to `gitignore`."""


def new(
    folder: Annotated[Path, typer.Argument(help="The folder to make; its name is the bot's.")],
) -> None:
    """Make a small bot with a tool, a queue step, a route and tests, ready to serve."""
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r} is no name for a bot: use letters, digits, - _ and .")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        complain(f"{folder} is there already and not empty: give another name")
        raise typer.Exit(FAILED)
    try:
        _write(folder, name)
    except OSError as error:
        complain(f"{folder} cannot be made: {error.strerror}")
        raise typer.Exit(FAILED) from None
    out = console()
    lines = [
        f"{folder} is made: bot.py is the bot, test_bot.py tries it, legato.toml has its settings.",
        "",
        *([] if folder.resolve() == Path.cwd() else [f"  cd {shlex.quote(str(folder))}"]),
        "  legato serve bot.py --reload     # http://localhost:3111",
        "",
        "and in another terminal, in the same folder:",
        "",
        "  legato chat                      # talk to it",
        "  legato steps bot.py              # what it consists of",
        "  pytest                           # pip install pytest, if it is not there",
    ]
    for line in lines:
        out.print(line, soft_wrap=True)


def _write(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    source = resources.files("legato.cli").joinpath("new_project")
    for file in FILES:
        text = source.joinpath(f"{file}.txt").read_text("utf-8").replace("BOT_NAME", name)
        (folder / (f".{file}" if file == "gitignore" else file)).write_text(text, "utf-8")
