"""Request bodies: bounded, JSON only, strictly typed; every wrong field is named in one answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import ClientDisconnect, Request

from legato.core.errors import FieldError, InvalidBody, InvalidRequest, TooLarge, UnsupportedMediaType
from legato.core.ids import ID_MAX_CHARS
from legato.core.json_value import MAX_SHOWN_CHARS, shown_name
from legato.runs import inputs
from legato.runs.live import RunRequest
from legato.settings import nearest

MAX_ERRORS: Final = 20
"""Wrong fields that one answer names; a body of a hundred thousand unknown ones is not answered with as many."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_decode = msgspec.json.Decoder().decode


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank: say something")
    return value


Text = inputs.Text
Metadata = inputs.Metadata
# The bounds stand in the schema too; the validators say them in words.
ClientId = Annotated[inputs.Id, Field(json_schema_extra={"minLength": 1, "maxLength": ID_MAX_CHARS})]
Message = Annotated[Text, AfterValidator(_not_blank), Field(json_schema_extra={"minLength": 1})]
ModelName = Annotated[str, Field(max_length=200, description="A configured model's name.")]
Temperature = inputs.Temperature
MaxTokens = inputs.MaxTokens
Title = inputs.Title


class Body(BaseModel):
    """A request body: camelCase, no unknown field, no coercion."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", strict=True, allow_inf_nan=False
    )


class ReplySettings(Body):
    """What one reply is made with, instead of its conversation's settings."""

    system_prompt: Text | None = Field(None, description="For this reply, instead of the conversation's.")
    model: ModelName | None = None
    temperature: Temperature | None = Field(None, description="0.7 by default.")
    max_tokens: MaxTokens | None = Field(None, description="Most output tokens; 2000 by default.")

    def as_request(self) -> RunRequest:
        """Return it as runs take it."""
        return RunRequest(
            model=self.model,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            system_prompt=self.system_prompt,
        )


BodyT = TypeVar("BodyT", bound=Body)


async def read_body(request: Request, model: type[BodyT], *, optional: bool = False) -> BodyT:
    """Return the request's body as `model`; with `optional` an absent one is an empty object.

    Raises:
        TooLarge: It is longer than the server takes; no more of it is kept than that.
        UnsupportedMediaType: It is declared as something else than JSON, or compressed.
        InvalidBody: It is absent, not UTF-8 or not JSON.
        InvalidRequest: Fields are wrong; names each.
    """
    data = await read_bytes(request, request.app.state.node.settings.max_body_bytes)
    if not data and optional:
        return model.model_validate({})
    return parse_body(data, request.headers.get("content-type", ""), model)


def parse_body(data: bytes, content_type: str, model: type[BodyT]) -> BodyT:
    """Return `data` as `model`; as read_body."""
    if not data:
        raise InvalidBody("the body is empty: send a JSON object")
    value = decode_body(data, content_type)
    if not isinstance(value, dict):
        raise InvalidRequest.of("body", "is not an object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise wrong_fields(found, lambda each: _field_error(each, model)) from None


def decode_body(data: bytes, content_type: str) -> Any:
    """Return the JSON value that a body holds.

    A body that is not declared as JSON is refused: a form of another site's page could not declare it so.

    Raises:
        UnsupportedMediaType, InvalidBody: As read_body.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("send the body as content-type: application/json")
    try:
        return _decode(data)
    except RecursionError:
        raise InvalidBody("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidBody("the body is not UTF-8") from None
    except msgspec.DecodeError as error:
        if _SURROGATE.search(data):
            raise InvalidBody("the body is not JSON: it seems to hold half of a surrogate pair") from None
        raise InvalidBody(f"the body is not JSON: {str(error)[:200].lower()}") from None


def wrong_fields(found: Sequence[Any], field_error: Callable[[Any], FieldError]) -> InvalidRequest:
    """Return the error that names the first MAX_ERRORS of what pydantic found, and counts the rest."""
    fields = [field_error(each) for each in found[:MAX_ERRORS]]
    if len(found) > MAX_ERRORS:
        fields.append(FieldError(field="body", message=f"has {len(found) - MAX_ERRORS} more wrong fields"))
    return InvalidRequest(fields)


def _field_error(each: Any, model: type[Body]) -> FieldError:
    name = ".".join(shown_name(str(part)) for part in each["loc"]) or "body"
    if each["type"] == "extra_forbidden" and len(each["loc"]) > 1:
        return FieldError(field=name, message="is not known here")
    if each["type"] == "extra_forbidden":
        known = [field.alias or field_name for field_name, field in model.model_fields.items()]
        close = nearest(str(each["loc"][-1])[:MAX_SHOWN_CHARS], known)
        said = f"is not known here: did you mean {close}?" if close else f"is not known here; known: {', '.join(known)}"
        return FieldError(field=name, message=said, nearest=close)
    return FieldError(field=name, message=inputs.fault_words(each))


async def read_bytes(request: Request, limit: int) -> bytes:
    """Return the request's body, which may be empty.

    Raises:
        TooLarge, UnsupportedMediaType, InvalidBody: As read_body.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body without compression")
    too_large = TooLarge(f"the body is larger than {limit} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    except ClientDisconnect:
        raise InvalidBody("the body was cut") from None
    return b"".join(chunks)
