/** What a reply rests upon: citations, and tool results that name titles with an address or a place. Pure. */

export interface Source {
  readonly title: string;
  /** An address, or a place in a document; `null` where neither is known. */
  readonly url: string | null;
  readonly locator: string | null;
  readonly quote: string | null;
}

type Json = Record<string, unknown>;

const LISTS = ["sources", "citations", "results", "documents", "passages", "items", "hits", "content"];
/** More than these are no list of sources that a person reads. */
const MOST = 30;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const words = (value: unknown): string | null =>
  typeof value === "string" && value.trim() ? value.trim() : typeof value === "number" ? String(value) : null;

function sourceOf(value: unknown): Source | null {
  if (!isObject(value)) return null;
  const title = words(value["title"]);
  const url = words(value["url"]);
  const locator = words(value["locator"]);
  if (!title || !(url ?? locator)) return null;
  return { title, url, locator, quote: words(value["quote"] ?? value["snippet"]) };
}

function fromOutput(output: string): Source[] {
  if (!/"title"\s*:/.test(output)) return [];
  let value: unknown;
  try {
    value = JSON.parse(output);
  } catch {
    return [];
  }
  const own = sourceOf(value);
  if (own) return [own];
  const list = Array.isArray(value)
    ? value
    : isObject(value)
      ? LISTS.map((name) => (value as Json)[name]).find(Array.isArray)
      : undefined;
  return (list ?? []).map(sourceOf).filter((each) => each !== null);
}

/** Each source once, in the order in which it first appears. */
export function sourcesOf(parts: readonly { readonly type: string }[]): Source[] {
  const found = new Map<string, Source>();
  for (const part of parts as readonly Json[]) {
    const sources =
      part["type"] === "tool-result" && part["isError"] !== true && typeof part["output"] === "string"
        ? fromOutput(part["output"])
        : part["type"] === "citation" && words(part["title"])
          ? [
              {
                title: words(part["title"]) ?? "",
                url: words(part["url"]),
                locator: words(part["locator"]),
                quote: words(part["quote"]),
              },
            ]
          : [];
    for (const source of sources) {
      const key = `${source.title}\n${source.url}\n${source.locator}`;
      if (!found.has(key) && found.size < MOST) found.set(key, source);
    }
  }
  return [...found.values()];
}
