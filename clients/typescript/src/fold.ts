/**
 * Events folded into the reply that a person sees.
 *
 * Pure: `fold` returns a new value, or the same one if the event changes nothing. Folding a replay from the start gives
 * what folding the live stream gave, and `parts` are those that the server keeps of the message (protocol/native.json).
 */

import type { ApprovalEvent, ChatEvent, Complete, Failure, ToolEvent } from "./events.ts";
import { type Approval, EMPTY_REPLY, type ReplyMessage, type ToolCall } from "./message.ts";
import { withApproval, withCall, withResult, withText } from "./parts.ts";

/** Return what the reply is after `event`. */
export function fold(message: ReplyMessage, event: ChatEvent): ReplyMessage {
  switch (event.type) {
    case "open":
      return {
        ...message,
        id: event.messageId ?? message.id,
        runId: event.runId ?? message.runId,
        conversationId: event.conversationId ?? message.conversationId,
      };
    case "queued":
      return { ...reached(message, event), status: "queued", ahead: event.ahead };
    case "chunk":
      return {
        ...running(message, event),
        text: message.text + event.content,
        parts: withText(message.parts, "text", event.content),
      };
    case "reasoning":
      return {
        ...running(message, event),
        reasoning: message.reasoning + event.content,
        parts: withText(message.parts, "reasoning", event.content),
      };
    case "tool":
      return foldTool(running(message, event), event);
    case "approval":
      return foldApproval(running(message, event), event);
    case "citation": {
      const { documentId, title, locator, quote } = event;
      return {
        ...running(message, event),
        citations: [...message.citations, { documentId, title, locator, quote }],
      };
    }
    case "complete":
      return {
        ...ended(message, event),
        status: event.stoppedBy === null && event.finishReason !== "stopped" ? "complete" : "stopped",
        finishReason: event.finishReason,
        stoppedBy: event.stoppedBy,
        failover: event.failover,
      };
    case "error":
      return {
        ...ended(message, event),
        status: "failed",
        error: { code: event.code, message: event.error, retryable: event.retryable },
      };
    case "reconnected":
      return event.restarted ? restarted(message) : message;
    case "reconnecting":
    case "unknown":
      return message;
    default:
      return never(event);
  }
}

/** Return the reply that a whole list of events spells. */
export function foldAll(events: Iterable<ChatEvent>, start: ReplyMessage = EMPTY_REPLY): ReplyMessage {
  let message = start;
  for (const event of events) message = fold(message, event);
  return message;
}

/** Forget what was told; which reply it is stays known. */
function restarted(message: ReplyMessage): ReplyMessage {
  const { id, runId, conversationId } = message;
  return { ...EMPTY_REPLY, id, runId, conversationId };
}

/** The events that stand in the run's log. */
type Logged = { readonly cursor: string | null; readonly conversationId: string | null };

function reached(message: ReplyMessage, event: Logged): ReplyMessage {
  return {
    ...message,
    cursor: event.cursor ?? message.cursor,
    conversationId: event.conversationId ?? message.conversationId,
  };
}

function running(message: ReplyMessage, event: Logged): ReplyMessage {
  return { ...reached(message, event), status: "running", ahead: 0 };
}

function ended(message: ReplyMessage, event: Complete | Failure): ReplyMessage {
  return {
    ...reached(message, event),
    ahead: 0,
    id: event.messageId ?? message.id,
    runId: event.runId ?? message.runId,
    model: event.model,
    usage: event.usage,
    cost: event.cost,
    responseTimeMs: event.responseTimeMs,
  };
}

function foldTool(message: ReplyMessage, event: ToolEvent): ReplyMessage {
  if (event.status === "called") {
    const { callId, name } = event;
    const told = { callId, name, arguments: event.arguments ?? "" };
    const call: ToolCall = { ...told, status: "called", output: null, elapsedMs: null, approval: null };
    return { ...message, tools: [...message.tools, call], parts: withCall(message.parts, told) };
  }
  if (event.status === "running") return withTool(message, event.callId, { status: "running" });
  const { callId, name, status, output = "", elapsedMs = 0 } = event;
  const isError = status === "failed";
  return {
    ...withTool(message, callId, { status, output, elapsedMs }),
    parts: withResult(message.parts, { callId, name, output, isError, elapsedMs }),
  };
}

function foldApproval(message: ReplyMessage, event: ApprovalEvent): ReplyMessage {
  const before = message.tools.find((call) => call.callId === event.callId)?.approval;
  const approval: Approval = {
    status: event.status,
    until: event.until ?? before?.until ?? null,
    by: event.by ?? null,
    reason: event.reason ?? null,
  };
  return {
    ...withTool(message, event.callId, { approval }),
    parts: withApproval(message.parts, event.callId, event.status),
  };
}

function withTool(message: ReplyMessage, callId: string, change: Partial<ToolCall>): ReplyMessage {
  return {
    ...message,
    tools: message.tools.map((call) => (call.callId === callId ? { ...call, ...change } : call)),
  };
}

function never(event: never): never {
  throw new TypeError(`no such event: ${JSON.stringify(event)}`);
}
