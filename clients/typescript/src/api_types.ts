/** The shapes of the server's JSON (docs/reference/http.md). Times are epoch milliseconds; unknown is `null`. */

import type { Cost, Usage } from "./events.ts";
import type { Part, ReplyFault } from "./message.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** `default`: as the owner's or the server's settings say; `keep`: never deleted by time; or when idle for so long. */
export type Retention = "default" | "keep" | `${number}h` | `${number}d`;

export interface ConversationOut {
  readonly id: string;
  readonly title: string;
  /** Who made the title: the first words, a model, or a person. */
  readonly titleSource: "words" | "model" | "user";
  readonly systemPrompt: string | null;
  readonly model: string | null;
  readonly temperature: number | null;
  readonly maxTokens: number | null;
  readonly metadata: JsonObject | null;
  readonly messageCount: number;
  /** Last message of the active branch. */
  readonly leafId: string | null;
  /** The reply that is being made, to be followed. */
  readonly activeRunId: string | null;
  readonly createdAt: number;
  readonly lastMessageAt: number;
  readonly retention: Retention;
  /** Kept, whatever the retention. */
  readonly pinned: boolean;
  readonly archived: boolean;
  /** Never listed and never searched. */
  readonly temporary: boolean;
}

/** What a conversation can be made with. */
export interface NewConversation {
  /** 1 to 200 printable characters. */
  readonly id?: string;
  /** 500 characters at most. */
  readonly title?: string | null;
  readonly systemPrompt?: string | null;
  readonly model?: string | null;
  /** 0 to 2. */
  readonly temperature?: number | null;
  /** 1 to 1,000,000. */
  readonly maxTokens?: number | null;
  readonly metadata?: JsonObject | null;
  readonly retention?: Retention;
  readonly pinned?: boolean;
  readonly temporary?: boolean;
}

/** What can be changed of a conversation; what is left out stays. */
export interface ConversationChange extends Omit<NewConversation, "id" | "temporary"> {
  readonly archived?: boolean;
  /** The reply in which the active branch shall end. */
  readonly leafId?: string;
}

export interface ConversationPage {
  readonly conversations: readonly ConversationOut[];
  readonly nextCursor: string | null;
}

export interface ConversationQuery {
  readonly cursor?: string;
  /** 1 to 200. */
  readonly limit?: number;
  /** Archived ones alone; the others by default. */
  readonly archived?: boolean;
  /** Pinned ones alone, or the others alone; all by default. */
  readonly pinned?: boolean;
}

export interface FeedbackOut {
  readonly thumb: "up" | "down";
  readonly reason: string | null;
  readonly at: number;
}

/** A message as it is exported. */
export interface ExportedMessage {
  readonly id: string;
  readonly role: "user" | "assistant";
  /** All text of the message. */
  readonly content: string;
  readonly parts: readonly Part[];
  readonly timestamp: number;
  readonly status: "complete" | "queued" | "running" | "failed" | "stopped";
  readonly parentId: string | null;
  /** The run that made the reply; `null` in a message of a user. */
  readonly runId: string | null;
  readonly model: string | null;
  readonly usage: Usage | null;
  readonly feedback: FeedbackOut | null;
  readonly metadata: JsonObject | null;
  readonly responseTimeMs: number | null;
  readonly firstTokenMs: number | null;
  readonly finishReason: string | null;
  readonly error: ReplyFault | null;
  readonly cost: Cost | null;
}

export interface MessageOut extends ExportedMessage {
  /** Messages in the same place of the tree in the order in which they were made, itself included. */
  readonly siblings: readonly string[];
}

export interface MessagePage {
  readonly messages: readonly MessageOut[];
  readonly nextCursor: number | null;
}

export interface MessageQuery {
  /** Messages of the branch that come before the page, >= 0. */
  readonly cursor?: number;
  /** 1 to 200. */
  readonly limit?: number;
  /** Last message of another branch than the active one. */
  readonly leafId?: string;
}

export interface ForkRequest {
  /** Last message of the copy; absent, the whole active branch. */
  readonly messageId?: string;
  /** Id of the new conversation. */
  readonly id?: string;
  readonly title?: string | null;
}

/** A whole conversation as it is exported and imported. */
export interface ConversationDocument {
  readonly format: "legato.conversation";
  readonly version: 1;
  readonly exportedAt: number;
  readonly conversation: JsonObject & Pick<ConversationOut, "title">;
  /** Those of all branches, oldest first. */
  readonly messages: readonly ExportedMessage[];
}

export interface SearchResult {
  readonly conversation: ConversationOut;
  /** `null` where the title matches. */
  readonly messageId: string | null;
  /** Plain text; what matches stands between U+E000 and U+E001. */
  readonly snippet: string;
  readonly at: number;
}

export interface SearchPage {
  readonly results: readonly SearchResult[];
  readonly nextCursor: string | null;
}

export interface PageQuery {
  readonly cursor?: string;
  /** 1 to 200. */
  readonly limit?: number;
}

export interface RunOut {
  readonly id: string;
  readonly conversationId: string;
  readonly sessionId: string;
  readonly userMessageId: string;
  readonly messageId: string;
  readonly state: "queued" | "running" | "finished" | "failed" | "stopped";
  readonly turn: number;
  /** How often another process has taken it over. */
  readonly takeovers: number;
  /** Calls of models. */
  readonly calls: number;
  readonly model: string | null;
  readonly usage: Usage | null;
  readonly cost: Cost | null;
  readonly finishReason: string | null;
  readonly error: ReplyFault | null;
  readonly createdAt: number;
  readonly startedAt: number | null;
  readonly firstTokenAt: number | null;
  readonly endedAt: number | null;
}

export interface ModelOut {
  readonly id: string;
  readonly provider: string;
  readonly default: boolean;
  /** Tokens. */
  readonly contextWindow: number | null;
}

export interface Models {
  readonly models: readonly ModelOut[];
  /** Id of the default model. */
  readonly default: string | null;
}

/** Who the server takes the caller for. */
export interface Me {
  readonly id: string;
  readonly role: "admin" | "member" | "visitor";
  /** Whether the server wants keys, or knows people by accounts too. */
  readonly auth: "none" | "keys" | "accounts";
  readonly via: "local" | "key" | "session" | "visitor";
  /** What a signed-in page was signed in with. */
  readonly signedInBy: "key" | "password" | "issuer" | null;
  /** How people call who calls, where somebody has said. */
  readonly name: string | null;
  /** The server's version. */
  readonly version: string;
}

/** How one can sign in. */
export interface SignInWays {
  readonly auth: "none" | "keys" | "accounts";
  /** Whether a name and a password sign in. */
  readonly password: boolean;
  /** Where else one can sign in. */
  readonly issuer: { readonly label: string } | null;
}

/** A page that is signed in as the caller. */
export interface SignedInPage {
  readonly id: string;
  /** Whether it is the page that asks. */
  readonly current: boolean;
  readonly signedInBy: "key" | "password" | "issuer";
  /** What the browser called itself. */
  readonly agent: string;
  readonly createdAt: number;
  readonly lastUsedAt: number;
  readonly expiresAt: number;
}

/** A visitor of a page with the widget. */
export interface Visitor {
  readonly token: string;
  readonly expiresAt: number;
}

/** Times are epoch milliseconds. */
export interface UsageQuery {
  /** By default 30 days before `to`. */
  readonly from?: number;
  /** Before this time; by default now. */
  readonly to?: number;
  /** What groups it, by default the day (UTC); `key` is the API key, `owner` is for admins. */
  readonly by?: UsageBy;
  /** For admins: somebody else's, `*` of all. */
  readonly owner?: string;
  readonly model?: string;
  readonly sessionId?: string;
  readonly keyId?: string;
  /** Of this one alone, until it is deleted. */
  readonly conversationId?: string;
  /** The `nextCursor` of the page before. */
  readonly after?: string;
  /** 1 to 1000. */
  readonly limit?: number;
}

export type UsageBy = "day" | "model" | "session" | "key" | "purpose" | "owner" | "none";

/** What the calls of models of one group used, or all. */
export interface UsageFigures {
  /** The day (`YYYY-MM-DD`), model and so on; `null` where calls have none. */
  readonly key: string | null;
  readonly calls: number;
  /** Calls of which some tokens were counted by the server, because the model's had not told them. */
  readonly counted: number;
  readonly inputTokens: number;
  /** Part of the input. */
  readonly cacheReadTokens: number;
  readonly outputTokens: number;
  /** Part of the output. */
  readonly reasoningTokens: number;
  /** Sum of what is known; `null` where nothing is. */
  readonly cost: Cost | null;
  /** Calls whose cost is not known. */
  readonly unpriced: number;
}

export interface UsageReport {
  /** `null`: of all. */
  readonly owner: string | null;
  readonly from: number;
  readonly to: number;
  readonly by: UsageBy;
  readonly total: UsageFigures;
  readonly groups: readonly UsageFigures[];
  readonly nextCursor: string | null;
}
