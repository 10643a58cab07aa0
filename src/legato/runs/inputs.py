"""What the services of conversations and runs take, and its bounds: those of the API, whoever calls.

A field that is None is left to the default. What is wrong is refused before anything is done, each field by its name.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

# Pydantic takes no other TypedDict on Python 3.11.
from typing_extensions import TypedDict

from legato.core.errors import FieldError, InvalidRequest
from legato.core.ids import id_fault
from legato.core.json_value import text_fault
from legato.core.resources import Retention
from legato.settings import nearest

MAX_LIMIT: Final = 1000
"""Most entries of a page."""
LATEST_MS: Final = 2**62
"""Later than any time, and more than any key."""
BEFORE_KEYS: Final = -1
"""Less than any key."""
BEGINNING: Final = (BEFORE_KEYS, BEFORE_KEYS)
"""The place (time in ms, key) before all others."""
MAX_METADATA_BYTES: Final = 16_384
MAX_METADATA_DEPTH: Final = 32


def _checked_id(value: str) -> str:
    if fault := id_fault(value):
        raise ValueError(fault)
    return value


def _checked_text(value: str) -> str:
    if fault := text_fault(value):
        raise ValueError(fault)
    return value


def _checked_metadata(value: dict[str, Any]) -> dict[str, Any]:
    if _too_deep(value, MAX_METADATA_DEPTH):
        raise ValueError(f"is nested more than {MAX_METADATA_DEPTH} levels deep")
    try:
        size = len(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"is not JSON: {str(error)[:200].lower()}") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"has {size} bytes: at most {MAX_METADATA_BYTES} are taken")
    return value


def _too_deep(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_too_deep(each, levels - 1) for each in inner))


Id = Annotated[str, AfterValidator(_checked_id)]
Text = Annotated[str, AfterValidator(_checked_text)]
Title = Annotated[Text, Field(max_length=500)]
Temperature = Annotated[float, Field(ge=0, le=2)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]
Metadata = Annotated[dict[str, Any], AfterValidator(_checked_metadata)]

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@with_config(_CONFIG)
class ConversationSettings(TypedDict, total=False):
    """What a conversation has."""

    title: Title | None
    system_prompt: Text | None
    model: str | None
    temperature: Temperature | None
    max_tokens: MaxTokens | None
    metadata: Metadata | None
    retention: Retention | None
    pinned: bool | None


@with_config(_CONFIG)
class FirstSettings(ConversationSettings, total=False):
    """What a conversation is made with; a temporary one stays one."""

    temporary: bool | None


@with_config(_CONFIG)
class ConversationChanges(ConversationSettings, total=False):
    """What is to change of a conversation. Absent fields stay; `leaf_id` is the reply in which the branch shall end."""

    archived: bool | None
    leaf_id: Id


@with_config(_CONFIG)
class MessageOptions(TypedDict, total=False):
    """What a message is posted with; as in the body of `POST /chat/stream`.

    `parent_id` absent: behind the active branch; None: a new first message. `request_id` is the idempotency key.
    """

    conversation_id: Id | None
    session_id: Id | None
    system_prompt: Text | None
    model: str | None
    temperature: Temperature | None
    max_tokens: MaxTokens | None
    parent_id: Id | None
    metadata: Metadata | None
    request_id: Id | None


T = TypeVar("T")


def checked(adapter: TypeAdapter[T], value: Any, field: str = "value") -> T:
    """Return a value as `adapter` has it.

    Args:
        field: Its name, where it has no fields of its own.

    Raises:
        InvalidRequest: It is wrong; names each field that is.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        known = sorted(adapter.json_schema().get("properties", {}))
        found = error.errors(include_url=False, include_input=False)
        raise InvalidRequest([_field_error(each, field, known) for each in found]) from None


def _field_error(each: Any, field: str, known: list[str]) -> FieldError:
    name = ".".join(map(str, each["loc"])) or field
    if each["type"] == "extra_forbidden":
        close = nearest(name, known)
        return FieldError(field=name, message=f"is not known here; known: {', '.join(known)}", nearest=close)
    return FieldError(field=name, message=fault_words(each))


def fault_words(each: Any) -> str:
    """Return what one of pydantic's errors says is wrong, as messages of this project begin: in lower case."""
    words: str = each["msg"].removeprefix("Value error, ")
    return words[:1].lower() + words[1:]


def check_number(field: str, value: int | None) -> None:
    """Refuse what is no place or time.

    Raises:
        InvalidRequest: It is not from 0 to LATEST_MS.
    """
    if value is not None and (type(value) is not int or not 0 <= value <= LATEST_MS):
        raise InvalidRequest.of(field, "is no number from 0 on that a place or a time could be")


def check_limit(limit: int) -> None:
    """Refuse what is no size of a page.

    Raises:
        InvalidRequest: It is not 1 to MAX_LIMIT.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest.of("limit", f"is not from 1 to {MAX_LIMIT}")


def place_of(cursor: str | None, beginning: tuple[int, int]) -> tuple[int, int]:
    """Return the (time in ms, key) that a cursor spells, or the beginning where there is none.

    Raises:
        InvalidRequest: It is none of this server's.
    """
    if cursor is None:
        return beginning
    at_ms, _, key = cursor.partition(".")
    if not (at_ms.isdecimal() and key.isdecimal() and len(cursor) < 40 and cursor.isascii()):
        raise InvalidRequest.of("cursor", "is none of this server's: take nextCursor of the page before")
    return min(int(at_ms), LATEST_MS), min(int(key), LATEST_MS)


def cursor_of(at_ms: int, key: int) -> str:
    """Return the cursor of the place behind a row."""
    return f"{at_ms}.{key}"
