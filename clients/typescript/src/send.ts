/** JSON requests: one answer each, and a LegatoError for whatever is none. */

import { unreachable } from "./address.ts";
import { LegatoError } from "./errors.ts";
import { notLegato, refusal, type RequestParts, request } from "./http.ts";
import type { Settings } from "./options.ts";

/**
 * Make a request and return what its answer says as JSON, or `undefined` for an answer without a body.
 *
 * Throws a LegatoError: the server's refusal, `unreachable`, `bad_address`, `not_legato`, or `aborted` by the signal. Nothing is
 * repeated.
 */
export async function send(settings: Settings, parts: RequestParts): Promise<unknown> {
  const text = await sendForText(settings, parts);
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw notLegato("the answer is no JSON: what answers at this address is no Legato server", 200);
  }
}

/** The same, for an answer that is text. */
export async function sendForText(settings: Settings, parts: RequestParts): Promise<string> {
  const headers = { Accept: "application/json, application/problem+json, text/markdown", ...parts.headers };
  try {
    const response = await request(settings, { ...parts, headers });
    if (!response.ok) throw await refusal(response);
    return await response.text();
  } catch (error) {
    if (error instanceof LegatoError) throw error;
    if (parts.signal?.aborted) throw new LegatoError("the request was given up", { code: "aborted", cause: error });
    throw unreachable(settings.baseUrl, false, error);
  }
}

/** Decide on a tool call that waits for a person; see ChatClient.decide. */
export async function decide(
  settings: Settings,
  runId: string,
  callId: string,
  granted: boolean,
  reason?: string,
): Promise<void> {
  const path = `/chat/stream/${encodeURIComponent(runId)}/approvals/${encodeURIComponent(callId)}`;
  await send(settings, { method: "POST", path, body: { granted, ...(reason !== undefined && { reason }) } });
}
