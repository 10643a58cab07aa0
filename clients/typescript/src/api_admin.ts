/** What `/admin` is made of; for the role admin alone: others get `forbidden`. */

import type {
  AuditPage,
  AuditVerdict,
  BudgetKey,
  Budgets,
  DeadLetterPage,
  DeadLetterWithEvents,
  Figures,
  LiveRuns,
  Queue,
  Review,
  ReviewPage,
  ReviewWithText,
  Sessions,
  Steps,
} from "./admin_types.ts";
import type { Settings } from "./options.ts";
import { pathOf, type QueryValue } from "./query.ts";
import { send } from "./send.ts";

/** Times are epoch milliseconds. */
export interface FiguresQuery {
  /** By default 30 days ago; by hour, 2 days ago. */
  readonly from?: number;
  /** Before this time; by default now. */
  readonly to?: number;
  /** A span by hour has 32 days at most. */
  readonly by?: "day" | "hour" | "model";
}

export interface LettersQuery {
  readonly step?: string;
  /** 1 to 500. */
  readonly limit?: number;
  readonly offset?: number;
}

export interface ReviewsQuery {
  /** `open`, the oldest first, by default; or `decided`, the latest first. */
  readonly state?: "open" | "decided";
  /** 1 to 500. */
  readonly limit?: number;
  /** `nextCursor` of the page before. */
  readonly cursor?: number;
}

/** By one of owner, actor and action, or none. */
export interface AuditQuery {
  /** About the data of this principal. */
  readonly owner?: string;
  /** What this one has done. */
  readonly actor?: string;
  readonly action?: string;
  /** 1 to 1,000. */
  readonly limit?: number;
  /** `nextCursor` of the page before. */
  readonly cursor?: number;
}

export class AdminApi {
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** Messages, tokens, cost, times, errors, stops and satisfaction over time or by model. */
  async figures(query: FiguresQuery = {}): Promise<Figures> {
    return (await this.#get("/admin/figures", { ...query })) as Figures;
  }

  /** How many jobs wait, by step. */
  async queue(): Promise<Queue> {
    return (await this.#get("/admin/queue")) as Queue;
  }

  async deadLetters(query: LettersQuery = {}): Promise<DeadLetterPage> {
    return (await this.#get("/admin/dead-letters", { ...query })) as DeadLetterPage;
  }

  async deadLetter(id: string): Promise<DeadLetterWithEvents> {
    return (await this.#get(letterPath(id))) as DeadLetterWithEvents;
  }

  /** Make a dead letter a job again. */
  async redrive(id: string): Promise<void> {
    await send(this.#settings, { method: "POST", path: `${letterPath(id)}/redrive` });
  }

  async discard(id: string): Promise<void> {
    await send(this.#settings, { method: "DELETE", path: letterPath(id) });
  }

  /** Steps and flows, also as a graph. */
  async steps(): Promise<Steps> {
    return (await this.#get("/admin/steps")) as Steps;
  }

  /** Replies that are being made. @param query `limit` is 1 to 1,000. */
  async runs(query: { readonly limit?: number } = {}): Promise<LiveRuns> {
    return (await this.#get("/admin/runs", { ...query })) as LiveRuns;
  }

  /** Sessions of all owners, the latest first. @param query `limit` is 1 to 200. */
  async sessions(query: { readonly limit?: number } = {}): Promise<Sessions> {
    return (await this.#get("/admin/sessions", { ...query })) as Sessions;
  }

  /** Texts that policies have flagged, without the texts. */
  async reviews(query: ReviewsQuery = {}): Promise<ReviewPage> {
    return (await this.#get("/admin/review", { ...query })) as ReviewPage;
  }

  /** One of them with its text; the audit log notes that it was read. */
  async review(id: string): Promise<ReviewWithText> {
    return (await this.#get(reviewPath(id))) as ReviewWithText;
  }

  /** Decide about one, once. */
  async decide(id: string, decision: "fine" | "violation", note: string | null = null): Promise<Review> {
    return (await send(this.#settings, { method: "POST", path: reviewPath(id), body: { decision, note } })) as Review;
  }

  /** What may be spent, and what is. */
  async budgets(): Promise<Budgets> {
    return (await this.#get("/admin/budgets")) as Budgets;
  }

  /** Set a budget, or set it anew. @param budget `limitUsd` is a decimal, such as "12.50". */
  async setBudget(budget: BudgetKey & { readonly limitUsd: string; readonly warnPercent?: number }): Promise<Budgets> {
    return (await send(this.#settings, { method: "PUT", path: "/admin/budgets", body: { ...budget } })) as Budgets;
  }

  async removeBudget(key: BudgetKey): Promise<void> {
    await send(this.#settings, { method: "DELETE", path: pathOf("/admin/budgets", { ...key }) });
  }

  /** Entries of the audit log, the newest first. */
  async audit(query: AuditQuery = {}): Promise<AuditPage> {
    return (await this.#get("/admin/audit", { ...query })) as AuditPage;
  }

  /** Whether the audit log is whole; all of it is read for that. */
  async auditVerdict(): Promise<AuditVerdict> {
    return (await this.#get("/admin/audit/verify")) as AuditVerdict;
  }

  async #get(path: string, query: Record<string, QueryValue> = {}): Promise<unknown> {
    return await send(this.#settings, { method: "GET", path: pathOf(path, query) });
  }
}

function letterPath(id: string): string {
  return `/admin/dead-letters/${encodeURIComponent(id)}`;
}

function reviewPath(id: string): string {
  return `/admin/review/${encodeURIComponent(id)}`;
}
