/** The reply that a person sees, as `fold` makes it and as the server's JSON shows a message that is kept. */

import type { Cost, Failover, FinishReason, Usage } from "./events.ts";

export interface TextPart {
  readonly type: "text" | "reasoning";
  readonly text: string;
}

export interface ToolCallPart {
  readonly type: "tool-call";
  readonly callId: string;
  readonly name: string;
  readonly arguments: string;
  /** Absent where nobody was asked. */
  readonly approval?: "asked" | "granted" | "denied";
}

export interface ToolResultPart {
  readonly type: "tool-result";
  readonly callId: string;
  readonly name: string;
  readonly output: string;
  readonly isError: boolean;
  /** Milliseconds; 0 for a call that was not carried out. */
  readonly elapsedMs: number;
}

/** Parts in the order in which they were said, the same live and from `GET /conversations/{id}/messages`. */
export type Part = TextPart | ToolCallPart | ToolResultPart;

/** What a person is asked, or has decided. */
export interface Approval {
  readonly status: "asked" | "granted" | "denied";
  /** Epoch milliseconds at which nobody's answer becomes a refusal. */
  readonly until: number | null;
  /** Who decided; `null` where nobody did in time, or nobody has yet. */
  readonly by: string | null;
  readonly reason: string | null;
}

/** One tool call as far as it came: its input, its output, its time. */
export interface ToolCall {
  readonly callId: string;
  readonly name: string;
  /** JSON text as the model wrote it, which may be wrong JSON. */
  readonly arguments: string;
  readonly status: "called" | "running" | "done" | "failed";
  /** `null` until it is done or has failed. */
  readonly output: string | null;
  /** Milliseconds; `null` until it is done or has failed. */
  readonly elapsedMs: number | null;
  /** `null` where nobody is asked. */
  readonly approval: Approval | null;
}

export interface Citation {
  readonly documentId: string;
  readonly title: string;
  readonly locator: string | null;
  readonly quote: string | null;
}

/** Why a reply failed. */
export interface ReplyFault {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export type ReplyStatus = "queued" | "running" | "complete" | "stopped" | "failed";

/** One reply. Values are never changed: `fold` returns new ones. */
export interface ReplyMessage {
  /** `null` until the server has told it. */
  readonly id: string | null;
  readonly runId: string | null;
  readonly conversationId: string | null;
  readonly status: ReplyStatus;
  /** Turns of the conversation that come first; 0 once the reply is being made. */
  readonly ahead: number;
  /** All visible text. */
  readonly text: string;
  /** All that the model thought aloud. */
  readonly reasoning: string;
  readonly parts: readonly Part[];
  /** All tool calls, oldest first. */
  readonly tools: readonly ToolCall[];
  readonly citations: readonly Citation[];
  readonly model: string | null;
  readonly usage: Usage | null;
  readonly cost: Cost | null;
  /** `null` while it goes on, and where it failed. */
  readonly finishReason: FinishReason | null;
  readonly stoppedBy: string | null;
  readonly failover: Failover | null;
  readonly responseTimeMs: number | null;
  /** `null` unless it failed. */
  readonly error: ReplyFault | null;
  /** Place in the run's log up to which it was read. */
  readonly cursor: string | null;
}

/** A reply of which nothing is known yet. */
export const EMPTY_REPLY: ReplyMessage = Object.freeze({
  id: null,
  runId: null,
  conversationId: null,
  status: "running",
  ahead: 0,
  text: "",
  reasoning: "",
  parts: Object.freeze([]) as readonly Part[],
  tools: Object.freeze([]) as readonly ToolCall[],
  citations: Object.freeze([]) as readonly Citation[],
  model: null,
  usage: null,
  cost: null,
  finishReason: null,
  stoppedBy: null,
  failover: null,
  responseTimeMs: null,
  error: null,
  cursor: null,
} satisfies ReplyMessage);

/** The tool calls that wait for a person. */
export function openApprovals(message: ReplyMessage): readonly ToolCall[] {
  return message.tools.filter((call) => call.approval?.status === "asked" && call.output === null);
}
