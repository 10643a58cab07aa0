/** How long to wait before the next connection. Pure; the cases of protocol/delays.json hold for it. */

const FIRST_MS = 100;
const MOST_MS = 5_000;
/** Most that a server may ask for: a mistake in a proxy must not silence a reader for hours. */
const MOST_ASKED_MS = 60_000;

/**
 * Return milliseconds: 50 to 100 at first, doubling, 2,500 to 5,000 at most, and never less than the server asks for
 * (up to a minute).
 *
 * @param attempt Failed tries since the last event, >= 1.
 * @param jitter Uniform draw in [0, 1), so that readers that were cut together do not come back together.
 * @param askedMs What `Retry-After` or the stream's `retry:` asks for; 0 where nothing does.
 */
export function reconnectDelay(attempt: number, jitter: number, askedMs = 0): number {
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt - 1, 16));
  return Math.max(most * (0.5 + jitter / 2), Math.min(askedMs, MOST_ASKED_MS));
}
