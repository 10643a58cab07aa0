"""A tool from a function: its parameters from type hints, its words from the docstring.

Done once, when a file is loaded; whatever is wrong with a function is a ConfigurationError that names it and says what
to write. The arguments are checked by pydantic as JSON is (a number in a string is taken for a number).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from legato.core.errors import ConfigurationError, InvalidArguments
from legato.tools.base import (
    MAX_DESCRIPTION_CHARS,
    MAX_OUTPUT_CHARS,
    TIMEOUT_S,
    ApprovalRule,
    ArgumentCheck,
    Arguments,
    Tool,
    ToolBody,
)
from legato.tools.json_schema import Schema, inlined
from legato.tools.threads import THREADS

CONTEXT_NAME = "ctx"
"""A parameter of this name gets the step's context, and the model does not see it."""
_MOST_ERRORS = 8
# Pydantic takes "NaN" for a number, and no rule such as `amount > 100` would ever hold for it.
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)


def tool_from(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    needs_approval: bool | ApprovalRule = False,
    timeout_s: float = TIMEOUT_S,
    max_output_chars: int = MAX_OUTPUT_CHARS,
    context_types: Sequence[type] = (),
) -> Tool:
    """Return the tool that a function is.

    Args:
        function: A function or method, async or not; one that is not runs in a thread.
        name: Its own name by default.
        description: The docstring without its sections by default.
        context_types: Types whose parameter gets the context, whatever its name.

    Raises:
        ConfigurationError: It has no docstring, a parameter without a type or with one that JSON cannot say, it takes
            `*args` or yields; or its name or a limit is wrong.
    """
    title: str = name or getattr(function, "__name__", "") or type(function).__name__
    if not inspect.isroutine(function):
        raise ConfigurationError(f"tool {title}: it is no function but a {type(function).__name__}")
    plain = inspect.unwrap(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise ConfigurationError(f"tool {title}: it yields, and a tool must return its result")
    words, of_arguments = _docstring(plain)
    words = description or words
    if not words:
        raise ConfigurationError(f"tool {title}: it has no docstring, which tells the model when to call it")
    context_parameter, fields = _fields(title, function, of_arguments, tuple(context_types))
    parameters, check = _parameters(title, fields)
    return Tool(
        name=title,
        description=words[:MAX_DESCRIPTION_CHARS],
        parameters=parameters,
        check=check,
        body=_body(title, function, context_parameter),
        idempotent=idempotent,
        needs_approval=needs_approval,
        timeout_s=timeout_s,
        max_output_chars=max_output_chars,
    )


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring's text and its words on arguments, in Google's, NumPy's or Sphinx's form."""
    import docstring_parser

    text = inspect.getdoc(function) or ""
    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text.strip(), {}
    of_arguments: dict[str, str] = {}
    for each in parsed.params:
        for argument in each.arg_name.split(","):
            of_arguments[argument.strip().lstrip("*")] = (each.description or "").strip()
    return (parsed.description or "").strip(), of_arguments


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Argument:
    name: str
    type: Any
    default: Any = inspect.Parameter.empty


def _fields(
    title: str, function: Callable[..., Any], words: dict[str, str], context_types: tuple[type, ...]
) -> tuple[str | None, list[_Argument]]:
    """Return the name of the context's parameter, and the arguments that the model gives."""
    context_parameter: str | None = None
    found: list[_Argument] = []
    for parameter in inspect.signature(function).parameters.values():
        where = f"tool {title}: argument {parameter.name}"
        if parameter.name == CONTEXT_NAME:
            context_parameter = parameter.name
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(f"{where} must be an ordinary one: no *args, **kwargs or position-only arguments")
        if parameter.annotation is parameter.empty:
            raise ConfigurationError(f"{where} has no type: write `{parameter.name}: str`")
        hint = _evaluated(where, function, parameter)
        if isinstance(hint, type) and issubclass(hint, context_types):
            context_parameter = parameter.name
            continue
        found.append(_Argument(name=parameter.name, type=_described(hint, words, parameter), default=parameter.default))
    return context_parameter, found


def _evaluated(where: str, function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    # One by one: the context's type may be known to type checkers only.
    holder = type("_", (), {"__annotations__": {parameter.name: parameter.annotation}})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)[parameter.name]
    except (NameError, TypeError, SyntaxError) as error:
        raise ConfigurationError(f"{where} has a type that cannot be read ({error})") from None


def _described(hint: Any, words: dict[str, str], parameter: inspect.Parameter) -> Any:
    """Return the type with its description and default, as the model reads them."""
    own = getattr(hint, "__metadata__", ())
    said: list[Any] = []
    if description := words.get(parameter.name):
        said.append(Field(description=description))
    if parameter.default is not parameter.empty:
        try:
            said.append(Field(json_schema_extra={"default": to_jsonable_python(parameter.default)}))
        except (PydanticSerializationError, UnicodeError):
            pass
    # What is said later wins: the user's own Field stands last.
    return Annotated[(hint.__origin__ if own else hint, *said, *own)] if said else hint


class _Generator(GenerateJsonSchema):
    """Says nothing of what JSON cannot say, instead of warning."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def emit_warning(self, kind: Any, detail: str) -> None:
        if kind != "non-serializable-default":
            raise PydanticJsonSchemaWarning(detail)


def _parameters(title: str, arguments: Sequence[_Argument]) -> tuple[Schema, ArgumentCheck]:
    """Return the JSON Schema of the arguments, and their check."""
    fields: list[Any] = []
    for each in arguments:
        if each.default is inspect.Parameter.empty:
            fields.append((each.name, each.type))
        else:
            # A call's own copy, so that no call changes another's.
            default = functools.partial(copy.deepcopy, each.default)
            fields.append((each.name, each.type, dataclasses.field(default_factory=default)))
    try:
        form = dataclasses.make_dataclass("arguments", fields, kw_only=True, namespace={"__pydantic_config__": _CONFIG})
        adapter: TypeAdapter[Any] = TypeAdapter(form)
        schema = adapter.json_schema(schema_generator=_Generator)
    except (PydanticUserError, PydanticJsonSchemaWarning, TypeError, NameError) as error:
        raise ConfigurationError(
            f"tool {title}: an argument has a type that JSON cannot say: {str(error).splitlines()[0]}"
        ) from error
    schema = {"type": "object", "properties": {}} | inlined(schema, titles=False)
    known = ", ".join(schema["properties"]) or "none"

    def check(given: Arguments) -> Arguments:
        try:
            made = adapter.validate_json(to_json(given))
        except ValidationError as error:
            raise InvalidArguments(_wrong(error, known)) from None
        except (PydanticSerializationError, UnicodeError):
            raise InvalidArguments("invalid arguments: a text holds what is no valid Unicode") from None
        return {each.name: getattr(made, each.name) for each in arguments}

    return schema, check


def _wrong(error: ValidationError, known: str) -> str:
    said: list[str] = []
    for each in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]:
        where = ".".join(map(str, each["loc"]))
        if each["type"] == "unexpected_keyword_argument":
            those = f" (the arguments are: {known})" if len(each["loc"]) == 1 else ""
            said.append(f"{where}: there is no such argument{those}")
        else:
            said.append(f"{where}: {each['msg'][:1].lower()}{each['msg'][1:]}"[:300])
    return "invalid arguments: " + "; ".join(said)


def _body(title: str, function: Callable[..., Any], context_parameter: str | None) -> ToolBody:
    def bound(arguments: Arguments, context: object) -> Arguments:
        return arguments if context_parameter is None else arguments | {context_parameter: context}

    if inspect.iscoroutinefunction(inspect.unwrap(function)):

        async def run(arguments: Arguments, context: object) -> object:
            return await function(**bound(arguments, context))

        return run

    async def run_in_thread(arguments: Arguments, context: object) -> object:
        result = await THREADS.run(functools.partial(function, **bound(arguments, context)), name=title)
        # A plain function may hand on what an async one gave it.
        return await result if inspect.isawaitable(result) else result

    return run_in_thread
