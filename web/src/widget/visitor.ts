/** A visitor of a page with the widget: anonymous, with a signed id of its own that the server gave out. */
import { type ClientOptions, LegatoApi } from "@legato/client";

interface Visit {
  readonly token: string;
  readonly expiresAt: number;
  readonly conversationId: string | null;
}

/** A token is renewed so long before its end, in milliseconds. */
const EARLY_MS = 60_000;

const nameOf = (key: string): string => `legato.visit.${key}`;

/** Reads what was kept; `null` where there is nothing of use any more. Pure. */
export function parseVisit(text: string | null, nowMs: number): Visit | null {
  try {
    const { token, expiresAt, conversationId } = JSON.parse(text ?? "null") as Partial<Visit>;
    if (typeof token !== "string" || typeof expiresAt !== "number" || expiresAt - EARLY_MS < nowMs) return null;
    return { token, expiresAt, conversationId: typeof conversationId === "string" ? conversationId : null };
  } catch {
    return null;
  }
}

export class Visitor {
  readonly #key: string;
  #visit: Visit | null = null;

  constructor(key: string) {
    this.#key = key;
  }

  get conversationId(): string | null {
    return this.#visit?.conversationId ?? null;
  }

  /** For requests of the chat. */
  readonly options: ClientOptions = {
    headers: async () => ({ Authorization: `Bearer ${(await this.arrive()).token}` }),
  };

  /** @throws LegatoError where the key is not taken. */
  async arrive(): Promise<Visit> {
    this.#visit ??= parseVisit(read(nameOf(this.#key)), Date.now());
    if (this.#visit && this.#visit.expiresAt - EARLY_MS > Date.now()) return this.#visit;
    const api = new LegatoApi({ headers: { Authorization: `Bearer ${this.#key}` } });
    const { token, expiresAt } = await api.visit();
    return this.#keep({ token, expiresAt, conversationId: null });
  }

  remember(conversationId: string | null): void {
    if (this.#visit) this.#keep({ ...this.#visit, conversationId });
  }

  #keep(visit: Visit): Visit {
    this.#visit = visit;
    try {
      localStorage.setItem(nameOf(this.#key), JSON.stringify(visit));
    } catch {
      // A browser that keeps nothing for frames: the visit lasts as long as the page.
    }
    return visit;
  }
}

function read(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
