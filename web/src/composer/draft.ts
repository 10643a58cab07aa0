/** What was written and not sent: kept for this tab, also over a reload. */

/** A body has 1 MiB at most; the rest of a request needs little. */
export const MOST_BYTES = 1024 * 1024 - 4096;

/** How many bytes a message is too long for the server, 0 where it fits. */
export function overLength(text: string): number {
  // Every UTF-16 unit is 3 bytes at most, and up to 6 as an escape: short texts need no counting.
  if (text.length * 6 < MOST_BYTES) return 0;
  return Math.max(0, new TextEncoder().encode(JSON.stringify(text)).length - MOST_BYTES);
}

const keyOf = (name: string): string => `legato.draft.${name}`;

export function loadDraft(name: string): string {
  try {
    return sessionStorage.getItem(keyOf(name)) ?? "";
  } catch {
    return "";
  }
}

export function saveDraft(name: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(keyOf(name), text);
    else sessionStorage.removeItem(keyOf(name));
  } catch {
    // Full or forbidden storage loses a draft, nothing else.
  }
}
