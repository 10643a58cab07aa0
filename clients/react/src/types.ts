/** What a reader of the store sees. All of it is immutable: what did not change is the same object as before. */

import type {
  Citation,
  ClientOptions,
  ConversationOut,
  Cost,
  Failover,
  FeedbackOut,
  NewConversation,
  Part,
  ReplyFault,
  ToolCall,
  Usage,
} from "@legato/client";

import type { Scheduler } from "./schedule.ts";

export type MessageRole = "user" | "assistant";

/**
 * `sending`: the server has not answered yet. `unsent`: it was refused or never arrived; `retry` sends it again,
 * `discard` takes it back. The others are the server's.
 */
export type MessageStatus = "sending" | "unsent" | "complete" | "queued" | "running" | "failed" | "stopped";

export type MessageFeedback = FeedbackOut;

/** One message. `null` is unknown, or not yet known. */
export interface ChatMessage {
  /** The server's id; `local-…` until it is known. */
  readonly id: string;
  /** The same for as long as the store lives, also when the id becomes the server's: use it as React's key. */
  readonly key: string;
  readonly role: MessageRole;
  /** All text, without reasoning and tools. */
  readonly content: string;
  /** What it is made of, in the order in which it was said. Pass over types that you do not know. */
  readonly parts: readonly Part[];
  /** All tool calls of a reply, oldest first: input, output, time, and approval where a person is asked. */
  readonly tools: readonly ToolCall[];
  readonly citations: readonly Citation[];
  /** Epoch milliseconds. */
  readonly timestamp: number;
  readonly status: MessageStatus;
  readonly parentId: string | null;
  /** Ids of all messages with the same parent, in the order of their making, this one included. */
  readonly siblings: readonly string[];
  /** This one's place in `siblings`, from 0. */
  readonly siblingIndex: number;
  /** Its place in its branch, from 1. */
  readonly depth: number;
  /** The run that made the reply; null in a user's message. */
  readonly runId: string | null;
  readonly model: string | null;
  readonly usage: Usage | null;
  readonly cost: Cost | null;
  readonly responseTimeMs: number | null;
  readonly firstTokenMs: number | null;
  /** `stop`, `length`, `content_filter`, `tool_limit`, `stopped`, `budget`, `fallback`. */
  readonly finishReason: string | null;
  readonly failover: Failover | null;
  /** How many turns are before it while it is `queued`; 0 otherwise. */
  readonly ahead: number;
  /** Why a reply failed. */
  readonly error: ReplyFault | null;
  readonly feedback: MessageFeedback | null;
  readonly metadata: Readonly<Record<string, unknown>> | null;
}

/** A conversation as the server describes it. */
export type ConversationInfo = ConversationOut;

/**
 * What helps: `retry` (the same again, by `retry()`), `wait` (until `retryAt`, then `retry()`), `sign_in`,
 * `shorten` the message, `configure` the server (no model, or its key is wrong), `reload` the conversation, or `none`.
 */
export type ProblemAction = "retry" | "wait" | "sign_in" | "shorten" | "configure" | "reload" | "none";

/** Something that was asked for and could not be done. The error of a reply is in its message instead. */
export interface ChatProblem {
  /** One of the server's (docs/reference/errors.md), one of the client's (`unreachable`, …), or `client_fault`. */
  readonly code: string;
  readonly message: string;
  /** Of the HTTP response; null without one. */
  readonly status: number | null;
  readonly action: ProblemAction;
  /** Epoch milliseconds from which on the same may succeed; null where there is nothing to wait for. */
  readonly retryAt: number | null;
  readonly fields: readonly { readonly field: string; readonly message: string }[];
  /** What was being done. */
  readonly during: "load" | "send" | "follow" | "stop" | "branch" | "feedback" | "approval" | "change";
}

/**
 * `submitting`: sent, not answered yet. `streaming`: a reply is being read. `reconnecting`: the same, and the
 * connection is cut. `error`: nothing is being done, and `error` says what failed. `idle`: nothing is being done.
 */
export type ChatStatus = "idle" | "submitting" | "streaming" | "reconnecting" | "error";

/** `missing`: the server knows no such conversation; a message sent to it makes it. */
export type LoadState = "loading" | "ready" | "missing" | "failed";

/** All that a page shows of one conversation, at one time. */
export interface ChatSnapshot {
  /** The active branch, oldest known message first. */
  readonly messages: readonly ChatMessage[];
  /** `messages` without the last turn: the same array while a reply grows, so that a list of it can be memoised. */
  readonly history: readonly ChatMessage[];
  /** The last message of the user in `messages` and what follows it. */
  readonly lastTurn: readonly ChatMessage[];
  /** There are older messages to be loaded by `loadOlder`. */
  readonly hasOlder: boolean;
  readonly loadingOlder: boolean;
  readonly load: LoadState;
  readonly status: ChatStatus;
  /** Something is being sent or read: `send`, `edit`, `regenerate` and `selectBranch` do nothing meanwhile. */
  readonly busy: boolean;
  /** `stop` was called, and the reply has not ended yet. */
  readonly stopping: boolean;
  /** Whether the browser has a network. */
  readonly online: boolean;
  readonly error: ChatProblem | null;
  /** null until the server has made or named it. */
  readonly conversationId: string | null;
  readonly conversation: ConversationInfo | null;
  /** The run that is being read. */
  readonly runId: string | null;
}

/** Settings of one reply, over those of the conversation. */
export interface SendOptions {
  readonly model?: string;
  readonly systemPrompt?: string;
  readonly temperature?: number;
  readonly maxTokens?: number;
  /** Kept with the message; up to 16 KiB. */
  readonly metadata?: Record<string, unknown>;
}

export interface ConversationOptions {
  /** Where the server is and how it is asked; same origin by default. */
  readonly client?: ClientOptions;
  /** null or absent begins a new conversation. */
  readonly conversationId?: string | null | undefined;
  /** A label for statistics and limits; one is made by default. */
  readonly sessionId?: string;
  /** Messages loaded at a time, 1 to 200; 50 by default. */
  readonly pageSize?: number;
  /** Asked before the first message of a new conversation; null lets the server make one as usual. */
  readonly newConversation?: () => NewConversation | null;
  /** For tests. */
  readonly scheduler?: Scheduler;
}
