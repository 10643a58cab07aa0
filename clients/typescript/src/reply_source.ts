/** How a reply is got, and the request that gets it. Pure. */

import type { RequestParts } from "./http.ts";

/** By a post under a key of its own, or by following a run from a cursor on. */
export type ReplySource =
  | { readonly kind: "post"; readonly path: string; readonly body: unknown; readonly key: string }
  | { readonly kind: "follow"; readonly runId: string; readonly after: string | null };

const ACCEPT = "text/event-stream, application/problem+json";

/** Return the next request for a reply: the post until its run is known, then the run behind the cursor. */
export function requestOf(source: ReplySource, runId: string | null, cursor: string | null): RequestParts {
  if (runId === null && source.kind === "post") {
    const headers = { Accept: ACCEPT, "Idempotency-Key": source.key };
    return { method: "POST", path: source.path, body: source.body, headers };
  }
  const place: Record<string, string> = cursor === null ? {} : { "Last-Event-ID": cursor };
  const path = `/chat/stream/${encodeURIComponent(runId ?? "")}`;
  return { method: "GET", path, headers: { Accept: ACCEPT, ...place } };
}
