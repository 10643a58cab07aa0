/** What a client is made with. */

import { type Clock, type Network, systemClock, systemNetwork } from "./clock.ts";

/** When to try again, and when to give up. Times in milliseconds. */
export interface RetryOptions {
  /** Most tries in a row that bring no event, once the server has answered; >= 0, 24 by default (about 75 s). */
  readonly maxAttempts?: number;
  /** The same for a server that has never answered: perhaps there is none; >= 0, 6 by default (about 4 s). */
  readonly maxFirstAttempts?: number;
  /** Longest silence on an open stream, heartbeats included, before it is taken for dead; > 0, 30,000 by default. */
  readonly silenceMs?: number;
  /** How long a server may take to begin its answer; > 0, 20,000 by default. */
  readonly answerMs?: number;
}

export type HeadersSource = Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);

export interface ClientOptions {
  /** The server's address. By default the page's own origin in a browser, `http://localhost:3111` elsewhere. */
  readonly baseUrl?: string;
  /** Sent with every request, a bearer key for instance; a function is asked before each. */
  readonly headers?: HeadersSource;
  /** Instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
  readonly retry?: RetryOptions;
  /** For tests. */
  readonly clock?: Clock;
  /** For tests. */
  readonly network?: Network;
  /** Draws from [0, 1); for tests. */
  readonly random?: () => number;
}

/** Options with nothing left open. */
export interface Settings {
  readonly baseUrl: string;
  readonly headers: HeadersSource;
  readonly fetch: typeof fetch;
  readonly retry: Required<RetryOptions>;
  readonly clock: Clock;
  readonly network: Network;
  readonly random: () => number;
}

export const DEFAULT_RETRY: Required<RetryOptions> = {
  maxAttempts: 24,
  maxFirstAttempts: 6,
  silenceMs: 30_000,
  answerMs: 20_000,
};

/** Return the options with the defaults filled in. */
export function settle(options: ClientOptions = {}): Settings {
  const inPage = typeof window !== "undefined" && typeof document !== "undefined";
  const baseUrl = options.baseUrl ?? (inPage ? "" : "http://localhost:3111");
  return {
    baseUrl: baseUrl.replace(/\/+$/, ""),
    headers: options.headers ?? {},
    // Called through a function: some browsers refuse a `fetch` that has lost its window.
    fetch: options.fetch ?? ((...args) => globalThis.fetch(...args)),
    retry: { ...DEFAULT_RETRY, ...options.retry },
    clock: options.clock ?? systemClock,
    network: options.network ?? systemNetwork,
    random: options.random ?? Math.random,
  };
}
