/**
 * A server-sent event of the native protocol, read into one of the typed events.
 *
 * Pure. A field that is absent or of another type gets the value that claims least; an event of an unknown name is
 * passed on as `unknown`. The cases of protocol/native.json hold for it.
 */

import { LegatoError } from "./errors.ts";
import type { ApprovalEvent, Cost, Failover, ToolEvent, Usage, WireEvent } from "./events.ts";
import type { SseEvent } from "./sse.ts";

/** A place in a run's log, as an event's `id` says it. */
export interface Cursor {
  readonly runId: string;
  readonly epoch: number;
  readonly seq: number;
}

type Data = Readonly<Record<string, unknown>>;

const KNOWN: ReadonlySet<string> = new Set([
  "chunk",
  "complete",
  "error",
  "queued",
  "reasoning",
  "tool",
  "approval",
  "citation",
]);
const TOOL_STATUS: ReadonlySet<unknown> = new Set(["called", "running", "done", "failed"]);
const APPROVAL_STATUS: ReadonlySet<unknown> = new Set(["asked", "granted", "denied"]);

/** Return the parts of a cursor, or `null` if it is none. */
export function parseCursor(text: string | null): Cursor | null {
  const found = text === null ? null : /^(.+)\.([0-9]{1,15})\.([0-9]{1,15})$/s.exec(text);
  return found === null ? null : { runId: found[1] as string, epoch: Number(found[2]), seq: Number(found[3]) };
}

/**
 * Return what a server-sent event says.
 *
 * Throws a LegatoError `bad_stream` if its data is no JSON object, though its name is one of the protocol's.
 */
export function readEvent(event: SseEvent): WireEvent {
  const data = readObject(event);
  const shared = { cursor: event.id || null, conversationId: textOrNull(data["conversationId"]) };
  switch (event.name) {
    case "chunk":
      return { type: "chunk", ...shared, content: text(data["content"]), index: count(data["index"]) ?? 0 };
    case "reasoning":
      return { type: "reasoning", ...shared, content: text(data["content"]) };
    case "queued":
      return { type: "queued", ...shared, ahead: count(data["ahead"]) ?? 1 };
    case "tool":
      // A status that comes later in the protocol's life is an unknown event, and is passed over.
      if (TOOL_STATUS.has(data["status"])) return { type: "tool", ...shared, ...toolFields(data) };
      break;
    case "approval":
      if (APPROVAL_STATUS.has(data["status"])) return { type: "approval", ...shared, ...approvalFields(data) };
      break;
    case "citation":
      return {
        type: "citation",
        ...shared,
        documentId: text(data["documentId"]),
        title: text(data["title"]),
        locator: textOrNull(data["locator"]),
        quote: textOrNull(data["quote"]),
      };
    case "complete":
      return {
        type: "complete",
        ...shared,
        ...endFields(data),
        finishReason: text(data["finishReason"]) || "stop",
        stoppedBy: textOrNull(data["stoppedBy"]),
        failover: readFailover(data["failover"]),
      };
    case "error":
      return {
        type: "error",
        ...shared,
        ...endFields(data),
        error: text(data["error"]) || "the reply failed",
        code: text(data["code"]) || "internal",
        retryable: data["retryable"] === true,
        partial: data["partial"] === true,
      };
  }
  return { type: "unknown", ...shared, name: event.name, data };
}

function readObject(event: SseEvent): Data {
  let value: unknown;
  try {
    value = JSON.parse(event.data);
  } catch {
    value = null;
  }
  if (isObject(value)) return value;
  if (KNOWN.has(event.name)) {
    throw new LegatoError(`the data of an event "${event.name}" is no JSON object`, { code: "bad_stream" });
  }
  return {};
}

function toolFields(data: Data): Omit<ToolEvent, "type" | "cursor" | "conversationId"> {
  const elapsedMs = count(data["elapsedMs"]);
  return {
    callId: text(data["callId"]),
    name: text(data["name"]),
    status: data["status"] as ToolEvent["status"],
    ...(typeof data["arguments"] === "string" && { arguments: data["arguments"] }),
    ...(typeof data["output"] === "string" && { output: data["output"] }),
    ...(elapsedMs !== null && { elapsedMs }),
  };
}

function approvalFields(data: Data): Omit<ApprovalEvent, "type" | "cursor" | "conversationId"> {
  const status = data["status"] as ApprovalEvent["status"];
  const until = count(data["until"]);
  return {
    callId: text(data["callId"]),
    name: text(data["name"]),
    arguments: text(data["arguments"]),
    status,
    ...(until !== null && { until }),
    ...(status !== "asked" && { by: textOrNull(data["by"]), reason: textOrNull(data["reason"]) }),
  };
}

function endFields(data: Data) {
  return {
    messageId: textOrNull(data["messageId"]),
    runId: textOrNull(data["runId"]),
    model: textOrNull(data["model"]),
    usage: readUsage(data["usage"]),
    cost: readCost(data["cost"]),
    messageCount: count(data["messageCount"]),
    responseLength: count(data["responseLength"]),
    responseTimeMs: count(data["responseTimeMs"]),
  };
}

/** Return token counts, `null` where there are none. */
export function readUsage(value: unknown): Usage | null {
  if (!isObject(value)) return null;
  return {
    inputTokens: count(value["inputTokens"]),
    outputTokens: count(value["outputTokens"]),
    cacheReadTokens: count(value["cacheReadTokens"]),
    reasoningTokens: count(value["reasoningTokens"]),
    ...(value["counted"] === true ? { counted: true } : {}),
  };
}

function readCost(value: unknown): Cost | null {
  return isObject(value) && typeof value["usd"] === "string" ? { usd: value["usd"] } : null;
}

function readFailover(value: unknown): Failover | null {
  if (!isObject(value) || typeof value["from"] !== "string" || typeof value["to"] !== "string") return null;
  return { from: value["from"], to: value["to"] };
}

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function count(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
