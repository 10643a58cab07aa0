/** Marks words in what is shown of a conversation, without touching its elements. */
import type { Match } from "./matches.ts";

const supported = typeof CSS !== "undefined" && "highlights" in CSS && typeof Highlight === "function";

function rangesIn(element: Element, wanted: string): Range[] {
  const ranges: Range[] = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = (node.nodeValue ?? "").toLocaleLowerCase();
    for (let from = text.indexOf(wanted); from >= 0; from = text.indexOf(wanted, from + wanted.length)) {
      if (from + wanted.length > (node.nodeValue ?? "").length) break;
      const range = document.createRange();
      range.setStart(node, from);
      range.setEnd(node, from + wanted.length);
      ranges.push(range);
    }
  }
  return ranges;
}

/** Paints all matches that are in sight of `root`, `now` more strongly; returns the place of that one. */
export function paintMatches(root: Element | null, words: string, now: Match | null): Range | null {
  if (!supported) return null;
  const wanted = words.toLocaleLowerCase();
  const all: Range[] = [];
  let current: Range | null = null;
  if (root && wanted) {
    for (const row of root.querySelectorAll("[data-key]")) {
      const text = row.querySelector("[data-text]");
      if (!text) continue;
      const ranges = rangesIn(text, wanted);
      if (now && row.getAttribute("data-key") === now.key)
        current = ranges[Math.min(now.at, ranges.length - 1)] ?? null;
      all.push(...ranges);
    }
  }
  CSS.highlights.set("found", new Highlight(...all));
  CSS.highlights.set("found-now", new Highlight(...(current ? [current] : [])));
  return current;
}

export function clearMatches(): void {
  if (!supported) return;
  CSS.highlights.delete("found");
  CSS.highlights.delete("found-now");
}
