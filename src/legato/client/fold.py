"""The events of a reply, folded into the reply.

Pure: a new value for each event, the same one if the event changes nothing. Folding a replay from the start gives what
folding the live stream gave, and `parts` are those that the server keeps of the message (protocol/native.json).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, assert_never

from legato.client.events import (
    ApprovalEvent,
    ChatEvent,
    Chunk,
    CitationEvent,
    Complete,
    End,
    Failure,
    FromStream,
    Open,
    Queued,
    Reasoning,
    Reconnected,
    Reconnecting,
    ToolEvent,
    Unknown,
)
from legato.client.message import (
    EMPTY_REPLY,
    Approval,
    Citation,
    ReplyFault,
    ReplyMessage,
    ToolCall,
    ToolCallPart,
    ToolResultPart,
)
from legato.client.parts import with_approval, with_result, with_text


def fold(message: ReplyMessage, event: ChatEvent) -> ReplyMessage:
    """Return what the reply is after `event`."""
    match event:
        case Open():
            return replace(
                message,
                id=event.message_id or message.id,
                run_id=event.run_id or message.run_id,
                conversation_id=event.conversation_id or message.conversation_id,
            )
        case Queued():
            return replace(_read(message, event), status="queued", ahead=event.ahead)
        case Chunk():
            text = message.text + event.content
            return _running(message, event, text=text, parts=with_text(message.parts, "text", event.content))
        case Reasoning():
            parts = with_text(message.parts, "reasoning", event.content)
            return _running(message, event, reasoning=message.reasoning + event.content, parts=parts)
        case ToolEvent():
            return _tool(message, event)
        case ApprovalEvent():
            return _approval(message, event)
        case CitationEvent():
            citation = Citation(
                document_id=event.document_id, title=event.title, locator=event.locator, quote=event.quote
            )
            return _running(message, event, citations=(*message.citations, citation))
        case Complete():
            stopped = event.stopped_by is not None or event.finish_reason == "stopped"
            return _ended(
                message,
                event,
                status="stopped" if stopped else "complete",
                finish_reason=event.finish_reason,
                stopped_by=event.stopped_by,
                failover=event.failover,
            )
        case Failure():
            fault = ReplyFault(code=event.code, message=event.error, retryable=event.retryable)
            return _ended(message, event, status="failed", error=fault)
        case Reconnected():
            if not event.restarted:
                return message
            return ReplyMessage(id=message.id, run_id=message.run_id, conversation_id=message.conversation_id)
        case Reconnecting() | Unknown():
            return message
        case _:
            assert_never(event)


def fold_all(events: Iterable[ChatEvent], start: ReplyMessage = EMPTY_REPLY) -> ReplyMessage:
    """Return the reply that a whole list of events spells."""
    message = start
    for event in events:
        message = fold(message, event)
    return message


def open_approvals(message: ReplyMessage) -> tuple[ToolCall, ...]:
    """Return the tool calls that wait for a person."""
    return tuple(
        call
        for call in message.tools
        if call.approval is not None and call.approval.status == "asked" and call.output is None
    )


def _read(message: ReplyMessage, event: FromStream, **changes: Any) -> ReplyMessage:
    return replace(
        message,
        cursor=event.cursor or message.cursor,
        conversation_id=event.conversation_id or message.conversation_id,
        ahead=0,
        **changes,
    )


def _running(message: ReplyMessage, event: FromStream, **changes: Any) -> ReplyMessage:
    return _read(message, event, status="running", **changes)


def _ended(message: ReplyMessage, event: End, **changes: Any) -> ReplyMessage:
    return _read(
        message,
        event,
        id=event.message_id or message.id,
        run_id=event.run_id or message.run_id,
        model=event.model,
        usage=event.usage,
        cost=event.cost,
        response_time_ms=event.response_time_ms,
        **changes,
    )


def _tool(message: ReplyMessage, event: ToolEvent) -> ReplyMessage:
    if event.status == "called":
        call = ToolCall(call_id=event.call_id, name=event.name, arguments=event.arguments or "")
        part = ToolCallPart(call_id=call.call_id, name=call.name, arguments=call.arguments)
        return _running(message, event, tools=(*message.tools, call), parts=(*message.parts, part))
    if event.status == "running":
        return _running(message, event, tools=_with_tool(message, event.call_id, status="running"))
    output, elapsed_ms = event.output or "", event.elapsed_ms or 0
    result = ToolResultPart(
        call_id=event.call_id,
        name=event.name,
        output=output,
        is_error=event.status == "failed",
        elapsed_ms=elapsed_ms,
    )
    tools = _with_tool(message, event.call_id, status=event.status, output=output, elapsed_ms=elapsed_ms)
    return _running(message, event, tools=tools, parts=with_result(message.parts, result))


def _approval(message: ReplyMessage, event: ApprovalEvent) -> ReplyMessage:
    before = next((call.approval for call in message.tools if call.call_id == event.call_id), None)
    until_ms = event.until_ms if event.until_ms is not None or before is None else before.until_ms
    approval = Approval(status=event.status, until_ms=until_ms, by=event.by, reason=event.reason)
    tools = _with_tool(message, event.call_id, approval=approval)
    return _running(message, event, tools=tools, parts=with_approval(message.parts, event.call_id, event.status))


def _with_tool(message: ReplyMessage, call_id: str, **changes: Any) -> tuple[ToolCall, ...]:
    return tuple(replace(call, **changes) if call.call_id == call_id else call for call in message.tools)
