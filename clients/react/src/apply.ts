/**
 * From what the server says to messages: a row of its JSON, and a slice of a reply's events.
 *
 * Pure. A message that is being made is `EMPTY_REPLY` folded over all of its events, laid over what the tree knows of it.
 */

import { type ChatEvent, EMPTY_REPLY, fold, type Part, type ReplyMessage, type ToolCall } from "@legato/client";

import type { MessageRow } from "./server.ts";
import type { ChatMessage } from "./types.ts";

const NONE: readonly never[] = Object.freeze([]);

const BLANK: Omit<ChatMessage, "id" | "key" | "role" | "content" | "parentId" | "depth" | "timestamp"> = Object.freeze({
  parts: NONE,
  tools: NONE,
  citations: NONE,
  status: "sending",
  siblings: NONE,
  siblingIndex: 0,
  runId: null,
  model: null,
  usage: null,
  cost: null,
  responseTimeMs: null,
  firstTokenMs: null,
  finishReason: null,
  failover: null,
  ahead: 0,
  error: null,
  feedback: null,
  metadata: null,
});

/** Returns the message of one row of the server's list; `depth` counts its place in the branch from 1. */
export function messageOfRow(row: MessageRow, depth: number): ChatMessage {
  const tools = row.role === "assistant" ? toolsOf(row.parts) : NONE;
  return {
    ...BLANK,
    id: row.id,
    key: row.id,
    role: row.role,
    content: row.content,
    parts: row.parts,
    tools,
    timestamp: row.timestamp,
    status: row.status,
    parentId: row.parentId,
    siblings: row.siblings ?? NONE,
    depth,
    runId: row.runId,
    model: row.model,
    usage: row.usage,
    cost: row.cost ?? null,
    responseTimeMs: row.responseTimeMs ?? null,
    firstTokenMs: row.firstTokenMs ?? null,
    finishReason: row.finishReason ?? null,
    error: row.error ?? null,
    feedback: row.feedback,
    metadata: row.metadata,
  };
}

/** Returns a message that the server has not heard of yet. */
export function localMessage(given: {
  id: string;
  role: ChatMessage["role"];
  content: string;
  parent: ChatMessage | undefined;
  parentId: string | null;
  timestamp: number;
  metadata?: ChatMessage["metadata"];
}): ChatMessage {
  const { id, role, content, parent, parentId, timestamp, metadata = null } = given;
  const parts: readonly Part[] = content === "" ? NONE : [{ type: "text", text: content }];
  return { ...BLANK, id, key: id, role, content, parts, parentId, depth: (parent?.depth ?? 0) + 1, timestamp, metadata };
}

/** Returns the reply after some more of its events. */
export function foldEvents(reply: ReplyMessage, events: readonly ChatEvent[]): ReplyMessage {
  let folded = reply;
  for (const event of events) folded = fold(folded, event);
  return folded;
}

/** Returns the reply as a message: what the stream told, laid over what is known of its place in the tree. */
export function overlay(message: ChatMessage, reply: ReplyMessage): ChatMessage {
  return {
    ...message,
    content: reply.text,
    parts: reply.parts,
    tools: reply.tools,
    citations: reply.citations,
    status: reply.status,
    runId: reply.runId ?? message.runId,
    model: reply.model ?? message.model,
    usage: reply.usage ?? message.usage,
    cost: reply.cost ?? message.cost,
    responseTimeMs: reply.responseTimeMs ?? message.responseTimeMs,
    finishReason: reply.finishReason,
    failover: reply.failover,
    ahead: reply.ahead,
    error: reply.error,
  };
}

/** Returns the tree's newest word on a message's place, over what a stream has made of it. */
export function replaced(message: ChatMessage, node: ChatMessage): ChatMessage {
  const { id, key, parentId, siblings, siblingIndex, depth, feedback, metadata, timestamp, firstTokenMs } = node;
  return { ...message, id, key, parentId, siblings, siblingIndex, depth, feedback, metadata, timestamp, firstTokenMs };
}

/** Whether a reply is still being made, as far as is known. */
export function isOpen(message: ChatMessage): boolean {
  return message.status === "running" || message.status === "queued" || message.status === "sending";
}

/** Returns the tool calls that a message's parts spell. */
function toolsOf(parts: readonly Part[]): readonly ToolCall[] {
  if (!parts.some((part) => part.type === "tool-call")) return NONE;
  const tools = new Map<string, ToolCall>();
  for (const part of parts) {
    if (part.type === "tool-call") {
      const { callId, name, approval } = part;
      const asked = approval === undefined ? null : { status: approval, until: null, by: null, reason: null };
      tools.set(callId, {
        callId,
        name,
        arguments: part.arguments,
        status: "called",
        output: null,
        elapsedMs: null,
        approval: asked,
      });
    } else if (part.type === "tool-result") {
      const call = tools.get(part.callId);
      const { output, elapsedMs } = part;
      if (call) tools.set(part.callId, { ...call, status: part.isError ? "failed" : "done", output, elapsedMs });
    }
  }
  return [...tools.values()];
}

export { EMPTY_REPLY };
