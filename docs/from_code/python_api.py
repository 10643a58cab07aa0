"""Classes and functions as Markdown: their signatures as they are written, their docstrings as text and tables."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from docs.from_code.markdown import DASH, code, fence, table

_WIDTH = 100
"""Longest signature on one line."""
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Source):$", re.MULTILINE)


def function(name: str, thing: Callable[..., Any], *, leave_out: Sequence[str] = ()) -> str:
    """Return the section of a function or method: heading, signature, docstring.

    Args:
        name: As a bot's file writes it, such as `ctx.state.set`.
        leave_out: Parameters that the caller does not give.
    """
    return "\n".join(
        [f"### {name}\n", fence(signature(name, thing, leave_out=leave_out), "python"), documentation(thing)]
    )


def signature(name: str, thing: Callable[..., Any], *, leave_out: Sequence[str] = ()) -> str:
    """Return `name(parameter: type = default) -> type`, over several lines where it is long.

    What a decorator returns is left out: the function that it is given.
    """
    given = inspect.signature(thing)
    words: list[str] = []
    starred = False
    for parameter in given.parameters.values():
        if parameter.name in ("self", *leave_out):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words.append("*")
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        words.append(_parameter(parameter, thing))
    prefix = "await " if inspect.iscoroutinefunction(thing) else ""
    result = given.return_annotation
    silent = name.startswith("@") or result in (inspect.Signature.empty, "None", None)
    end = "" if silent else f" -> {_annotation(result, thing)}"
    line = f"{prefix}{name}({', '.join(words)}){end}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{prefix}{name}(", *(f"    {word}," for word in words), f"){end}"])


def documentation(thing: object, *, arguments: bool = True) -> str:
    """Return a docstring as Markdown: its text, a table of its arguments or attributes, what it returns and raises.

    Args:
        arguments: Left out where it is False: of a class that a bot's file never makes.
    """
    text, sections = _parts(thing)
    parts = [text + "\n"] if text else []
    for heading in ("Args", "Attributes") if arguments else ("Attributes",):
        if entries := sections.get(heading):
            kind = "argument" if heading == "Args" else "attribute"
            parts.append(table((kind, "meaning"), [(_names(name), words) for name, words in _entries(entries)]))
    if returns := sections.get("Returns"):
        parts.append("Returns: " + " ".join(returns.split()) + "\n")
    if raises := sections.get("Raises"):
        parts.append("Raises:\n\n" + "".join(f"- {code(name)}: {words}\n" for name, words in _entries(raises)))
    return "\n".join(parts)


def fields(kind: type) -> str:
    """Return the section of a dataclass: its docstring's text, and a table of its fields with their types."""
    text, sections = _parts(kind)
    words = _by_name(sections.get("Attributes", ""))
    rows = [
        (code(field.name), code(_annotation(field.type, kind)), words.get(field.name, DASH))
        for field in dataclasses.fields(kind)
    ]
    return f"### {kind.__name__}\n\n{text}\n\n" + table(("field", "type", "meaning"), rows)


def described(kind: type) -> Mapping[str, str]:
    """Return what the docstrings of a class and of those that it is made from say of its attributes."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__doc__:
            found |= _by_name(_parts(each)[1].get("Attributes", ""))
    return found


def _by_name(section: str) -> dict[str, str]:
    return {name: words for names, words in _entries(section) for name in names.split(", ")}


def _parts(thing: object) -> tuple[str, dict[str, str]]:
    """Return a docstring's text, and its sections by their headings."""
    doc = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    text, *rest = _SECTION.split(doc)
    return text.strip(), dict(zip(rest[::2], rest[1::2], strict=True))


def _entries(section: str) -> Iterator[tuple[str, str]]:
    """Yield (name, words) of the entries of a section; what is indented more deeply goes on with the one before."""
    for entry in re.split(r"\n(?=\S)", inspect.cleandoc(section)):
        name, _, words = entry.partition(":")
        if entry.strip():
            yield name.strip(), " ".join(words.split())


def _names(names: str) -> str:
    return ", ".join(code(name) for name in names.split(", "))


def _parameter(parameter: inspect.Parameter, thing: object) -> str:
    stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" * (parameter.kind is parameter.VAR_KEYWORD)
    annotation = "" if parameter.annotation is parameter.empty else f": {_annotation(parameter.annotation, thing)}"
    default = "" if parameter.default is parameter.empty else f" = {_value(parameter.default)}"
    return f"{stars}{parameter.name}{annotation}{default}"


def _value(default: object) -> str:
    return json.dumps(default) if isinstance(default, str) else repr(default)


def _annotation(annotation: Any, thing: Any) -> str:
    """Return an annotation as it stands in the code of a thing, with the values of those that are a choice."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    names = vars(sys.modules[thing.__module__])

    def choice(found: re.Match[str]) -> str:
        alias = names.get(found[0])
        if get_origin(alias) is Literal:
            return " | ".join(_value(each) for each in get_args(alias))
        return found[0]

    return re.sub(r"\b[A-Z]\w*\b", choice, text)
