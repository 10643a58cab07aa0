"""The command line: every command with its arguments, options and examples, from what `--help` is made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer.main

from docs.from_code.markdown import DASH, code, fence, table
from legato.cli.main import app

INTRODUCTION = """\
# The command line

`legato --help` and `legato COMMAND --help` say the same in the terminal.

"""


def render() -> str:
    """Return the page."""
    root: Any = typer.main.get_command(app)
    return INTRODUCTION + "\n".join(_section(name, command) for name, command in _commands("legato", root))


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for each, below in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {each}", below)


def _section(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = [name, "[OPTIONS]" if options else "", *(_argument(each) for each in arguments)]
    if hasattr(command, "commands"):
        usage.append("[COMMAND]" if command.invoke_without_command else "COMMAND")
    parts = [f"## {name}\n", inspect.cleandoc(command.help or "") + "\n"]
    parts.append(fence(" ".join(word for word in usage if word), "text"))
    rows = [(code(_argument(each)), _help(each)) for each in arguments]
    rows += [(code(_option(each)), _help(each)) for each in options]
    if rows:
        parts.append(table(("argument or option", "meaning"), rows))
    if command.epilog:
        parts.append(_with_fences(inspect.cleandoc(command.epilog)))
    return "\n".join(parts)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = " / ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.name.upper()}"


def _help(parameter: Any) -> str:
    words = [parameter.help or DASH]
    choices = _choices(parameter.type_descriptor.annotation)
    if choices:
        words.append(f"One of {', '.join(code(each) for each in choices)}.")
    if parameter.envvar:
        words.append(f"In the environment: {code(parameter.envvar)}.")
    if parameter.required:
        words.append("Required.")
    elif parameter.default not in (None, False, ()):
        words.append(f"By default {code(parameter.default)}.")
    return " ".join(words)


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for each in get_args(annotation) if (found := _choices(each))), ())


def _with_fences(text: str) -> str:
    """Return Markdown with its indented code fenced."""
    blocks = []
    for block in text.split("\n\n"):
        indented = all(line.startswith("    ") for line in block.splitlines())
        blocks.append(fence(inspect.cleandoc(block), "sh") if indented else block + "\n")
    return "\n".join(blocks)
