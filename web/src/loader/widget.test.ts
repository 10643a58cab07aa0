/** What the loader of the widget says to whoever put it into a page. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";

const CHAT = "https://chat.example";
const ORIGIN = location.origin;
let said: string[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  said = [];
  for (const level of ["warn", "error"] as const) {
    vi.spyOn(console, level).mockImplementation((words: string) => void said.push(`${level}: ${words}`));
  }
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.resetModules();
  document.body.replaceChildren();
});

/** Runs the loader as the script element with this key would, and presses its button where there is one. */
async function load(key: string | null): Promise<HTMLIFrameElement | null> {
  const script = document.createElement("script");
  script.src = `${CHAT}/widget.js`;
  if (key !== null) script.dataset["key"] = key;
  vi.spyOn(document, "currentScript", "get").mockReturnValue(script);
  // @ts-expect-error It is a script, and exports nothing.
  await import("./widget.ts");
  const { shadowRoot } = document.body.lastElementChild ?? {};
  shadowRoot?.querySelector("button")?.click();
  return shadowRoot?.querySelector("iframe") ?? null;
}
const post = (source: Window | null, data: string, origin = CHAT): void =>
  void dispatchEvent(new MessageEvent("message", { data, origin, source }));

test.each([["lk_secret"], [""], [null]])("the key %j is refused with words that do not hold it", async (key) => {
  expect(await load(key)).toBeNull();
  expect(said).toEqual(["error: Legato: data-key takes a publishable key, lp_…; a secret key never belongs in a page"]);
});

test("a frame in which no chat opens is told of, with what to do", async () => {
  const frame = await load("lp_good");
  vi.advanceTimersByTime(60_000);
  expect(said).toEqual([]);
  frame?.dispatchEvent(new Event("load"));
  // Another page's word is none of the chat's.
  post(frame?.contentWindow ?? null, "legato:ready", "https://elsewhere.example");
  post(window, "legato:ready");
  vi.advanceTimersByTime(9_999);
  expect(said).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(said).toHaveLength(1);
  expect(said[0]).toMatch(/^warn: Legato: the chat did not open\./);
  expect(said[0]).toContain(`legato keys create --name NAME --publishable --origin ${ORIGIN}`);
  expect(said[0]).not.toContain("lp_good");
});

test.each(["before", "after"])("a chat that opened %s its frame was loaded is not", async (when) => {
  const frame = await load("lp_good");
  const ready = (): void => post(frame?.contentWindow ?? null, "legato:ready");
  if (when === "before") ready();
  frame?.dispatchEvent(new Event("load"));
  if (when === "after") ready();
  vi.advanceTimersByTime(60_000);
  expect(said).toEqual([]);
});
