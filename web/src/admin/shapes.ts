/** What the server tells administrators (GET /openapi.json). Times are epoch milliseconds; unknown is `null`. */

export interface Durations {
  readonly mean: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
}

export interface Figure {
  readonly at: number | null;
  readonly model: string | null;
  readonly messages: number;
  readonly errors: number;
  readonly stops: number;
  /** 0 to 1. */
  readonly errorRate: number | null;
  readonly sessions: number;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly estimated: number;
  readonly cost: { readonly usd: string } | null;
  readonly responseTimeMs: Durations;
  readonly firstTokenMs: Durations;
  readonly feedback: { readonly up: number; readonly down: number };
  /** 0 to 1. */
  readonly satisfaction: number | null;
}

export interface Figures {
  readonly from: number;
  readonly to: number;
  readonly by: "day" | "hour" | "model";
  readonly total: Figure;
  readonly groups: readonly Figure[];
}

export interface Queue {
  readonly waiting: number;
  readonly taken: number;
  readonly dead: number;
  readonly steps: readonly {
    readonly step: string;
    readonly waiting: number;
    readonly taken: number;
    readonly dead: number;
  }[];
}

export interface Letter {
  readonly id: string;
  readonly kind: "queue" | "cron";
  readonly step: string;
  readonly topic: string;
  readonly errorType: string;
  readonly error: string;
  readonly attempts: number;
  readonly lastAt: number;
}

export interface Letters {
  readonly deadLetters: readonly Letter[];
  readonly nextOffset: number | null;
}

export interface LetterWithEvents extends Letter {
  readonly events: readonly {
    readonly id: string;
    readonly topic: string;
    readonly payload: unknown;
    readonly at: number;
  }[];
}

export interface GraphNode {
  readonly id: string;
  readonly kind: "step" | "topic" | "http" | "cron";
  readonly label: string;
  readonly flow: string | null;
  readonly builtIn: boolean;
}

export interface Graph {
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly { readonly from: string; readonly to: string }[];
}

export interface Steps {
  readonly steps: readonly {
    readonly name: string;
    readonly description: string;
    readonly flows: readonly string[];
    readonly builtIn: boolean;
    readonly http: readonly string[];
    readonly topics: readonly string[];
    readonly cron: readonly { readonly expression: string; readonly next: readonly string[] }[];
    readonly enqueues: readonly string[];
  }[];
  readonly unheard: readonly { readonly step: string; readonly topic: string }[];
  readonly graph: Graph;
}

export interface LiveRuns {
  readonly count: number;
  readonly runs: readonly {
    readonly id: string;
    readonly conversationId: string;
    readonly sessionId: string;
    readonly owner: string;
    readonly state: "queued" | "running";
    readonly model: string | null;
    readonly elapsedMs: number;
    readonly calls: number;
    readonly takeovers: number;
    readonly approvals: number;
  }[];
}

export interface Sessions {
  readonly sessions: readonly {
    readonly owner: string;
    readonly sessionId: string;
    readonly messages: number;
    readonly errors: number;
    readonly stops: number;
    readonly tokens: number;
    readonly conversations: number;
    readonly averageResponseMs: number | null;
    readonly feedback: { readonly up: number; readonly down: number };
    readonly lastAt: number | null;
  }[];
}
