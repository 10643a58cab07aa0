/**
 * The events of one reply, as a reader of it sees them: what the stream says, and what became of the connection.
 *
 * Pure types. Names and fields are those of the wire (docs/protocol.md), in camelCase; events that come later are
 * passed on as `unknown`, never an error.
 */

/** Token counts; `null` is unknown, never 0. */
export interface Usage {
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  /** Part of the input. */
  readonly cacheReadTokens: number | null;
  /** Part of the output. */
  readonly reasoningTokens: number | null;
  /** Some were counted by the server, because the model's had not told them. */
  readonly counted?: boolean;
}

/** US dollars as a decimal string, exact. */
export interface Cost {
  readonly usd: string;
}

/** Another model than the first answered. */
export interface Failover {
  readonly from: string;
  readonly to: string;
}

/** Why a reply ended; further reasons may come. */
export type FinishReason =
  "stop" | "length" | "content_filter" | "tool_limit" | "stopped" | "budget" | "fallback" | (string & {});

/** What all events of the stream share. */
interface FromStream {
  /** `<run>.<epoch>.<seq>`, the place behind this event; `null` for an event that is not of the run's log. */
  readonly cursor: string | null;
  readonly conversationId: string | null;
}

/**
 * The server has accepted the message, or has found the run. First, and once. An id is `null` only where the server's
 * headers cannot be read (a page of an origin that it does not know).
 */
export interface Open {
  readonly type: "open";
  readonly runId: string | null;
  /** Of the reply. */
  readonly messageId: string | null;
  readonly conversationId: string | null;
  readonly sessionId: string | null;
}

/** More of the reply's text. */
export interface Chunk extends FromStream {
  readonly type: "chunk";
  /** Never empty. */
  readonly content: string;
  /** Counts chunks from 1. */
  readonly index: number;
}

/** More of what the model thinks aloud; no part of the reply's text. */
export interface Reasoning extends FromStream {
  readonly type: "reasoning";
  readonly content: string;
}

/** The reply waits for `ahead` others of its conversation. */
export interface Queued extends FromStream {
  readonly type: "queued";
  readonly ahead: number;
}

/** A tool call has come further. Calls run at the same time: tell them apart by `callId`. */
export interface ToolEvent extends FromStream {
  readonly type: "tool";
  readonly callId: string;
  readonly name: string;
  readonly status: "called" | "running" | "done" | "failed";
  /** With `called`: JSON text as the model wrote it, which may be wrong JSON. */
  readonly arguments?: string;
  /** With `done` and `failed`: what the model is told. */
  readonly output?: string;
  /** With `done` and `failed`: milliseconds; 0 for a call that was not carried out. */
  readonly elapsedMs?: number;
}

/** A tool call waits for a person, or was decided on. */
export interface ApprovalEvent extends FromStream {
  readonly type: "approval";
  readonly callId: string;
  readonly name: string;
  readonly arguments: string;
  readonly status: "asked" | "granted" | "denied";
  /** With `asked`: epoch milliseconds at which nobody's answer becomes a refusal. */
  readonly until?: number;
  /** With a decision: who made it; `null` where nobody did in time. */
  readonly by?: string | null;
  readonly reason?: string | null;
}

/** A source that the reply rests upon. */
export interface CitationEvent extends FromStream {
  readonly type: "citation";
  readonly documentId: string;
  readonly title: string;
  readonly locator: string | null;
  readonly quote: string | null;
}

/** What both ends of a run tell. */
interface End extends FromStream {
  readonly messageId: string | null;
  readonly runId: string | null;
  readonly model: string | null;
  readonly usage: Usage | null;
  readonly cost: Cost | null;
  /** Messages of the conversation, this reply included. */
  readonly messageCount: number | null;
  /** UTF-16 code units, JavaScript's `.length`. */
  readonly responseLength: number | null;
  readonly responseTimeMs: number | null;
}

/** The reply has ended, or was stopped. Nothing follows. */
export interface Complete extends End {
  readonly type: "complete";
  readonly finishReason: FinishReason;
  /** After a stop: `user`, `time`, `policy`, `budget`. */
  readonly stoppedBy: string | null;
  readonly failover: Failover | null;
}

/** The reply could not be completed; what it said is kept. Nothing follows. */
export interface Failure extends End {
  readonly type: "error";
  /** What failed, for people. */
  readonly error: string;
  /** One of docs/reference/errors.md. */
  readonly code: string;
  readonly retryable: boolean;
  /** Whether any text came before. */
  readonly partial: boolean;
}

/** The connection was cut before the reply's end; try number `attempt` (from 1) begins in `delayMs`. */
export interface Reconnecting {
  readonly type: "reconnecting";
  readonly attempt: number;
  readonly delayMs: number;
}

/** The stream is open again. */
export interface Reconnected {
  readonly type: "reconnected";
  /**
   * What was told is no longer what the server has (its disk was restored from a backup, say): forget it, the reply is
   * told again from its first character. `fold` does so.
   */
  readonly restarted: boolean;
}

/** An event that this version does not know; pass over it. */
export interface Unknown extends FromStream {
  readonly type: "unknown";
  /** Its name on the wire. */
  readonly name: string;
  /** As on the wire; empty where that was no JSON object. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** What the stream itself says. */
export type WireEvent =
  Chunk | Complete | Failure | Queued | Reasoning | ToolEvent | ApprovalEvent | CitationEvent | Unknown;

/** All that a reader of a reply is told. */
export type ChatEvent = Open | WireEvent | Reconnecting | Reconnected;
