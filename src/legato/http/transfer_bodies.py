"""The document that a conversation is given out as and taken in by: version 1 of `legato.conversation`.

Its fields are those of the API's ConversationOut and MessageOut. What only this server can know (ids of runs, how long
a reply took) is passed over where a document is taken in.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from legato.core.money import MOST_USD
from legato.core.resources import MessageRole, MessageStatus, Retention, Thumb, TitleSource
from legato.http.bodies import Body, ClientId, MaxTokens, Metadata, ModelName, Temperature, Text, Title
from legato.runs.imports import MAX_MESSAGES

FORMAT: Final = "legato.conversation"
VERSION: Final = 1
MAX_PARTS: Final = 1000
MAX_ALL_PARTS: Final = 100_000
"""Of all messages together: to check one takes some hundred times its bytes of memory."""
LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""

Long = Annotated[Text, Field(max_length=1_000_000)]
Time = Annotated[int, Field(ge=0, le=LATEST_MS, description="Epoch milliseconds.")]
Count = Annotated[int, Field(ge=0, le=10**12)]
Name = Annotated[Text, Field(min_length=1, max_length=200)]


class TextIn(Body):
    type: Literal["text", "reasoning"]
    text: Long


class ToolCallIn(Body):
    type: Literal["tool-call"]
    call_id: Name
    name: Name
    arguments: Long = Field(description="The arguments as JSON text.")
    approval: Literal["asked", "granted", "denied"] | None = None


class ToolResultIn(Body):
    type: Literal["tool-result"]
    call_id: Name
    name: Name
    output: Long
    is_error: bool
    elapsed_ms: Count


PartIn = Annotated[TextIn | ToolCallIn | ToolResultIn, Field(discriminator="type")]


class UsageIn(Body):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    counted: bool = False


class CostIn(Body):
    usd: Decimal = Field(ge=0, le=MOST_USD, allow_inf_nan=False)


class FeedbackIn(Body):
    thumb: Thumb
    reason: Text | None = Field(None, max_length=2000)
    at: Time


class MessageIn(Body):
    id: ClientId = Field(description="Meant within the document alone.")
    role: MessageRole
    content: Long | None = Field(None, description="All text; passed over where there are `parts`.")
    parts: list[PartIn] | None = Field(None, max_length=MAX_PARTS)
    timestamp: Time | None = None
    status: MessageStatus = "complete"
    parent_id: ClientId | None = Field(None, description="A message before this one; null begins the conversation.")
    model: ModelName | None = None
    usage: UsageIn | None = None
    feedback: FeedbackIn | None = None
    metadata: Metadata | None = None
    run_id: Any = None
    siblings: Any = None
    response_time_ms: Any = None
    first_token_ms: Any = None
    finish_reason: Any = None
    error: Any = None
    cost: CostIn | None = None

    @model_validator(mode="after")
    def _checked(self) -> MessageIn:
        if self.role == "user" and not any(each.strip() for each in self._texts()):
            raise ValueError("content is blank: a message of the user says something")
        called: set[str] = set()
        for part in self.parts or ():
            if self.role == "user" and part.type != "text":
                raise ValueError(f"parts hold a {part.type}: a message of the user has text alone")
            if isinstance(part, ToolCallIn):
                if part.call_id in called:
                    raise ValueError("parts hold two tool-calls with the same callId")
                called.add(part.call_id)
            if isinstance(part, ToolResultIn) and part.call_id not in called:
                raise ValueError("parts hold a tool-result without the tool-call before it")
        return self

    def _texts(self) -> list[str]:
        if self.parts is None:
            return [self.content or ""]
        return [part.text for part in self.parts if isinstance(part, TextIn)]


class ConversationIn(Body):
    title: Title | None = None
    title_source: TitleSource = "user"
    system_prompt: Long | None = None
    model: ModelName | None = Field(None, description="Left out where it is not configured here.")
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    metadata: Metadata | None = None
    leaf_id: ClientId | None = Field(None, description="The reply in which the active branch ends; null: the last.")
    created_at: Time | None = None
    retention: Retention = "default"
    pinned: bool = False
    archived: bool = False
    id: Any = None
    message_count: Any = None
    active_run_id: Any = None
    last_message_at: Any = None
    temporary: Any = None


class ConversationDocument(Body):
    """A conversation with the messages of all its branches."""

    format: Literal["legato.conversation"]
    version: Literal[1]
    exported_at: Time | None = None
    conversation: ConversationIn
    messages: list[MessageIn] = Field(max_length=MAX_MESSAGES, description="Parents before their children.")

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, given: Any) -> Any:
        messages = given.get("messages") if isinstance(given, dict) else None
        if isinstance(messages, list):
            parts = [each.get("parts") for each in messages if isinstance(each, dict)]
            count = sum(len(each) for each in parts if isinstance(each, list))
            if count > MAX_ALL_PARTS:
                raise ValueError(f"messages hold {count} parts together: at most {MAX_ALL_PARTS} are taken")
        return given


def document_schema() -> dict[str, Any]:
    """Return the document's JSON schema in one piece: OpenAPI has no place for definitions of its own here."""
    schema = ConversationDocument.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs")

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(each) for each in value]
        if not isinstance(value, dict):
            return value
        if isinstance(reference := value.get("$ref"), str):
            return inline(definitions[reference.rpartition("/")[2]]) | {
                name: inline(each) for name, each in value.items() if name != "$ref"
            }
        # A discriminator names definitions too; the schemas tell themselves apart.
        return {name: inline(each) for name, each in value.items() if name != "discriminator"}

    return inline(schema)  # type: ignore[no-any-return]
