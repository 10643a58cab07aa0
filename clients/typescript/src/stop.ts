/** The wish to stop a reply, brought to the server. */

import { unreachable } from "./address.ts";
import { sleep } from "./clock.ts";
import { reconnectDelay } from "./delay.ts";
import { LegatoError } from "./errors.ts";
import { refusal, request } from "./http.ts";
import type { Settings } from "./options.ts";

/**
 * Ask for a stop until the server has taken it, or until the reply is over.
 *
 * Throws a LegatoError where the server refuses for good, or does not come back within `retry.maxAttempts` tries.
 */
export async function askForStop(
  settings: Settings,
  runId: string,
  isOver: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  const { clock, network, random, retry } = settings;
  for (let attempt = 1; !isOver(); attempt += 1) {
    const error = await askOnce(settings, runId);
    if (error === null) return;
    if (!error.retryable || attempt > retry.maxAttempts) throw error;
    await sleep(reconnectDelay(attempt, random(), (error.retryAfterS ?? 0) * 1000), clock, network, signal);
  }
}

/** Return what kept a stop from being taken, `null` if nothing did. */
async function askOnce(settings: Settings, runId: string): Promise<LegatoError | null> {
  try {
    const response = await request(settings, {
      method: "POST",
      path: `/chat/stream/${encodeURIComponent(runId)}/stop`,
    });
    if (!response.ok) return await refusal(response);
    await response.body?.cancel().catch(() => {});
    return null;
  } catch (error) {
    return error instanceof LegatoError ? error : unreachable(settings.baseUrl, true, error);
  }
}
