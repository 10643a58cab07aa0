/** Addresses with a query. Pure. */

export type QueryValue = string | number | boolean | undefined;

/** Return `path` with the values that are there as its query. */
export function pathOf(path: string, query: Readonly<Record<string, QueryValue>> = {}): string {
  const found = Object.entries(query).filter(([, value]) => value !== undefined);
  if (found.length === 0) return path;
  return `${path}?${new URLSearchParams(found.map(([name, value]) => [name, String(value)]))}`;
}

/** Return a path whose parts are quoted, so that an id with a slash is one part. */
export function pathTo(...parts: readonly string[]): string {
  return parts.map((part) => `/${encodeURIComponent(part)}`).join("");
}
