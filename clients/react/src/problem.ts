/** What went wrong, and what a person can do about it. Pure. */

import { LegatoError } from "@legato/client";

import type { ChatProblem, ProblemAction } from "./types.ts";

const ACTIONS: Readonly<Record<string, ProblemAction>> = {
  unauthenticated: "sign_in",
  forbidden: "sign_in",
  message_too_long: "shorten",
  body_too_large: "shorten",
  context_exceeded: "shorten",
  upstream_auth: "configure",
  upstream_refused: "configure",
  no_model: "configure",
  not_found: "reload",
  conflict: "reload",
  run_gone: "reload",
  cursor_diverged: "reload",
  idempotency_key_reused: "none",
  client_fault: "none",
};

/** Returns what helps against an error with this code; for `error` of a failed reply too. */
export function actionFor(code: string, retryable: boolean, waits: boolean): ProblemAction {
  return ACTIONS[code] ?? (waits ? "wait" : retryable ? "retry" : "none");
}

/**
 * Returns the problem that an exception stands for.
 *
 * @param nowMs Epoch milliseconds; what a wait is counted from.
 */
export function problemOf(error: unknown, during: ChatProblem["during"], nowMs: number): ChatProblem {
  if (!(error instanceof LegatoError)) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: "client_fault", message, status: null, action: "retry", retryAt: null, fields: [], during };
  }
  const waitS = error.retryable ? error.retryAfterS : null;
  return {
    code: error.code,
    message: error.message,
    status: error.status ?? null,
    action: actionFor(error.code, error.retryable, waitS !== null),
    retryAt: waitS === null ? null : nowMs + waitS * 1000,
    fields: (error.fields ?? []).map(({ field, message }) => ({ field, message })),
    during,
  };
}

/** Whether an exception says that its own reader gave up: nothing went wrong. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === "AbortError" || (error as { code?: unknown }).code === "aborted");
}
