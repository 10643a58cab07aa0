/** What went wrong in words: what happened, and what to do. Pure. */
import { LegatoError } from "@legato/client";

import type { Strings } from "../strings/en.ts";

export interface ErrorWords {
  readonly title: string;
  readonly hint: string | null;
  /** A small line: the code, with the server's own sentence where that says more than the words. */
  readonly code: string;
  /** Waiting alone may help: less alarming. */
  readonly mild: boolean;
}

interface Fault {
  readonly code: string;
  /** The server's own words. */
  readonly message: string;
  readonly retryAt?: number | null;
}

/** The words for an error by its code; `nowMs` is what a countdown is counted from. */
export function errorWords({ code, message, retryAt }: Fault, t: Strings, nowMs: number): ErrorWords {
  const e = t.errors;
  const words = (title: string, hint: string | null, mild = false, said = ""): ErrorWords => ({
    title,
    hint,
    code: [e.code(code), sentence(said)].filter(Boolean).join(" · "),
    mild,
  });
  const seconds = retryAt ? Math.max(0, Math.ceil((retryAt - nowMs) / 1000)) : 0;
  switch (code) {
    case "no_model":
      return words(e.noModel, e.noModelDo);
    case "upstream_auth":
      return words(e.wrongKey, e.wrongKeyDo);
    case "unauthenticated":
      return words(e.signedOut, e.signedOutDo, true);
    case "rate_limited":
    case "conversation_busy":
      return words(e.rateLimited, e.rateLimitedDo(seconds), true);
    case "budget_exceeded":
      return words(e.budgetSpent, e.budgetSpentDo, true, message);
    case "upstream_rate_limited":
      return words(e.upstreamLimited, e.upstreamLimitedDo, true);
    case "upstream_unavailable":
    case "upstream_broken":
    case "upstream_timeout":
    case "upstream_invalid":
      return words(e.upstreamDown, e.upstreamDownDo);
    case "upstream_refused":
      return words(e.refused, e.refusedDo, false, message);
    case "message_too_long":
    case "body_too_large":
      return words(e.tooLong, e.tooLongDo);
    case "context_exceeded":
      return words(e.contextFull, e.contextFullDo);
    case "unreachable":
    case "not_legato":
    case "bad_stream":
      return words(e.unreachable, e.unreachableDo);
    case "overloaded":
    case "draining":
    case "unavailable":
      return words(e.busy, seconds > 0 ? e.rateLimitedDo(seconds) : e.busyDo, true);
    case "storage_unavailable":
      return words(e.storageAway, seconds > 0 ? e.rateLimitedDo(seconds) : e.storageAwayDo, true);
    case "interrupted":
      return words(e.interrupted, e.interruptedDo);
    case "not_found":
    case "run_gone":
      return words(e.gone, null);
    default:
      return words(e.other, e.otherDo, false, message);
  }
}

/** One line for an exception of the client. */
export function errorText(error: unknown, t: Strings): string {
  if (!(error instanceof LegatoError)) return t.errors.other;
  const { title } = errorWords({ code: error.code, message: error.message, retryAt: null }, t, 0);
  return title === t.errors.other && error.message ? sentence(error.message) : title;
}

/** The server's messages are lower-case and without a full stop. */
export const sentence = (message: string): string => {
  const text = message.trim();
  if (!text) return text;
  return text[0]?.toLocaleUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
};
