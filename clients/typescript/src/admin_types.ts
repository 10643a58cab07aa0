/** The shapes of `/admin/…`, for the role admin alone. Times are epoch milliseconds; unknown is `null`. */

import type { Cost } from "./events.ts";

/** Milliseconds. */
export interface Durations {
  readonly mean: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
}

export interface Thumbs {
  readonly up: number;
  readonly down: number;
}

/** What is counted of the replies of one day, hour or model, or of all. */
export interface Figure {
  /** Beginning of the day or hour, UTC; `null` where the model groups them. */
  readonly at: number | null;
  readonly model: string | null;
  /** Replies that were completed. */
  readonly messages: number;
  readonly errors: number;
  readonly stops: number;
  /** Share of the three that failed, 0 to 1. */
  readonly errorRate: number | null;
  readonly sessions: number;
  readonly conversations: number;
  readonly owners: number;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  /** Replies whose output tokens are a guess. */
  readonly estimated: number;
  readonly cost: Cost | null;
  /** Replies whose cost is not known. */
  readonly costUnknown: number;
  readonly responseTimeMs: Durations;
  readonly firstTokenMs: Durations;
  readonly feedback: Thumbs;
  /** Share of thumbs that are up, 0 to 1. */
  readonly satisfaction: number | null;
}

export interface Figures {
  readonly from: number;
  readonly to: number;
  readonly by: "day" | "hour" | "model";
  /** Configured models whose price is not known. */
  readonly unpriced: readonly string[];
  readonly total: Figure;
  /** In order; days, hours and models without replies are left out. */
  readonly groups: readonly Figure[];
}

export interface StepCounts {
  readonly step: string;
  /** Not taken yet. */
  readonly waiting: number;
  /** Running, about to, or between two attempts. */
  readonly taken: number;
  /** Dead letters. */
  readonly dead: number;
}

export interface Queue extends Omit<StepCounts, "step"> {
  readonly steps: readonly StepCounts[];
}

export interface DeadLetter {
  readonly id: string;
  readonly kind: "queue" | "cron";
  readonly step: string;
  readonly topic: string;
  readonly errorType: string;
  /** It may hold what the job is about. */
  readonly error: string;
  readonly attempts: number;
  readonly firstAt: number | null;
  readonly lastAt: number;
  /** The time that a cron step's job was for. */
  readonly tickAt: number | null;
}

export interface DeadLetterPage {
  readonly deadLetters: readonly DeadLetter[];
  readonly nextOffset: number | null;
}

export interface JobEvent {
  readonly id: string;
  readonly topic: string;
  readonly owner: string;
  readonly payload: unknown;
  readonly traceId: string | null;
  readonly at: number;
}

/** A dead letter with its input, which may hold what people wrote. */
export interface DeadLetterWithEvents extends DeadLetter {
  readonly events: readonly JobEvent[];
}

export interface StepInfo {
  readonly name: string;
  readonly description: string;
  readonly flows: readonly string[];
  /** Whether it comes with Legato. */
  readonly builtIn: boolean;
  /** Method and path of each route. */
  readonly http: readonly string[];
  readonly topics: readonly string[];
  readonly cron: readonly {
    readonly expression: string;
    readonly timezone: string;
    readonly missed: "once" | "skip";
    /** The next times, ISO 8601. */
    readonly next: readonly string[];
  }[];
  /** Topics of the events that it makes. */
  readonly enqueues: readonly string[];
}

export interface GraphNode {
  readonly id: string;
  readonly kind: "step" | "topic" | "http" | "cron";
  readonly label: string;
  readonly flow: string | null;
  readonly builtIn: boolean;
}

/** From one node to another, by their ids. */
export interface GraphEdge {
  readonly from: string;
  readonly to: string;
}

export interface Steps {
  readonly steps: readonly StepInfo[];
  readonly flows: readonly string[];
  readonly topics: readonly string[];
  /** Topics that a step enqueues and nobody listens to. */
  readonly unheard: readonly { readonly step: string; readonly topic: string }[];
  readonly graph: { readonly nodes: readonly GraphNode[]; readonly edges: readonly GraphEdge[] };
}

/** A reply that is being made, or waits. */
export interface LiveRun {
  readonly id: string;
  readonly conversationId: string;
  readonly sessionId: string;
  readonly owner: string;
  readonly state: "queued" | "running";
  readonly model: string | null;
  readonly startedAt: number;
  readonly elapsedMs: number;
  /** Of its log so far. */
  readonly events: number;
  /** Of models, so far. */
  readonly calls: number;
  readonly takeovers: number;
  /** Tool calls that wait for a person. */
  readonly approvals: number;
}

export interface LiveRuns {
  /** All of them, also where `runs` has not. */
  readonly count: number;
  readonly runs: readonly LiveRun[];
}

export interface OwnedSession {
  readonly owner: string;
  readonly sessionId: string;
  readonly messages: number;
  readonly errors: number;
  readonly stops: number;
  readonly tokens: number;
  readonly conversations: number;
  readonly averageResponseMs: number | null;
  readonly feedback: Thumbs;
  readonly lastAt: number | null;
}

export interface Sessions {
  readonly sessions: readonly OwnedSession[];
}

/** A text that a policy of moderation has flagged, without the text. */
export interface Review {
  readonly id: string;
  readonly owner: string;
  readonly conversationId: string;
  readonly runId: string;
  readonly at: number;
  readonly stage: "request" | "reply";
  /** `message`, `system_prompt`, `tool`, `reply`, `reasoning`, `arguments`, `title`. */
  readonly source: string;
  readonly policy: string;
  readonly reason: string;
  readonly decision: "fine" | "violation" | null;
  readonly note: string | null;
  readonly decidedBy: string | null;
  readonly decidedAt: number | null;
}

export interface ReviewWithText extends Review {
  readonly text: string;
}

export interface ReviewPage {
  /** How many wait for a decision. */
  readonly open: number;
  readonly reviews: readonly Review[];
  readonly nextCursor: number | null;
}

export type BudgetPer = "server" | "principal" | "key" | "session" | "model";
export type BudgetPeriod = "day" | "month" | "all";

/** What tells a budget from others. */
export interface BudgetKey {
  readonly per: BudgetPer;
  /** `*`, the default: each has as much for itself. */
  readonly name?: string;
  readonly period: BudgetPeriod;
}

/** What one subject has spent in the present period. */
export interface BudgetUse {
  /** A principal, the id of a key, a session, a model; null for the server. */
  readonly subject: string | null;
  readonly owner: string | null;
  readonly spent: { readonly usd: string };
  /** What replies that are being made may still cost. */
  readonly reserved: { readonly usd: string };
}

export interface Budget extends Required<BudgetKey> {
  readonly limit: { readonly usd: string };
  readonly warnPercent: number;
  /** It stands in legato.toml. */
  readonly fixed: boolean;
  /** legato.toml has one of the same name, which holds instead. */
  readonly overridden: boolean;
  readonly since: number;
  readonly until: number | null;
  /** Those that have spent the most first. */
  readonly uses: readonly BudgetUse[];
}

export interface Budgets {
  readonly budgets: readonly Budget[];
  /** Models whose price is not known: they are not called where a budget holds. */
  readonly unpriced: readonly string[];
}

/** Who did what to whose data. */
export interface AuditEntry {
  readonly seq: number;
  readonly at: number;
  /** A principal; of a command the system's user; `app`: the server; `-`: nobody known. */
  readonly actor: string;
  readonly via: string;
  readonly keyId: string | null;
  readonly action: string;
  readonly subject: string;
  /** Whose data it was done to. */
  readonly owner: string | null;
  readonly detail: Readonly<Record<string, unknown>> | null;
  /** SHA-256 over the entry and the hash before it. */
  readonly hash: string;
}

export interface AuditPage {
  readonly entries: readonly AuditEntry[];
  readonly nextCursor: number | null;
}

/** Whether the audit log is as it was written. */
export interface AuditVerdict {
  readonly whole: boolean;
  /** How many were looked at. */
  readonly entries: number;
  /** The last entry that retention has cut off; 0: none. */
  readonly cutSeq: number;
  readonly headSeq: number;
  readonly headHash: string;
  readonly fault: string | null;
}
