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
