import { describe, expect, test } from "vitest";

import { type SseEvent, SseParser } from "../src/sse.ts";
import { load, type SseCase } from "./protocol.ts";

const { cases } = load<{ cases: SseCase[] }>("sse");

function bytes(given: SseCase): Uint8Array {
  return given.hex === undefined
    ? new TextEncoder().encode(given.text)
    : Uint8Array.from(Buffer.from(given.hex, "hex"));
}

function parse(pieces: readonly Uint8Array[]): { events: SseEvent[]; retryMs: number | null } {
  const parser = new SseParser();
  const events = pieces.flatMap((piece) => parser.feed(piece));
  return { events, retryMs: parser.retryMs };
}

describe("the cases of protocol/sse.json", () => {
  test.each(cases)("$name", (given) => {
    const all = bytes(given);
    const wanted = { events: [...given.events], retryMs: given.retryMs ?? null };
    expect(parse([all])).toEqual(wanted);
    expect(parse([...all].map((byte) => Uint8Array.of(byte)))).toEqual(wanted);
    for (let cut = 0; cut <= all.length; cut += 1) {
      expect(parse([all.subarray(0, cut), all.subarray(cut)]), `cut at ${cut}`).toEqual(wanted);
    }
  });
});

test("a long line in small pieces costs no more than its length", () => {
  const parser = new SseParser();
  const piece = new TextEncoder().encode("x".repeat(50));
  parser.feed(new TextEncoder().encode("data: "));
  const startedMs = performance.now();
  for (let count = 0; count < 100_000; count += 1) parser.feed(piece);
  const [event] = parser.feed(new TextEncoder().encode("\n\n"));
  expect(event?.data).toHaveLength(5_000_000);
  expect(performance.now() - startedMs).toBeLessThan(5_000);
});

test.each([
  ["a line without an end", "x".repeat(1 << 20)],
  ["an event without an end", `data: ${"x".repeat(1 << 20)}\n`],
  ["empty lines of data without an end", "data\n".repeat(1 << 18)],
])("%s does not fill the memory", (_, text) => {
  const parser = new SseParser();
  const piece = new TextEncoder().encode(text);
  const feed = (): void => {
    for (let count = 0; count < 200; count += 1) parser.feed(piece);
  };
  expect(feed).toThrow(expect.objectContaining({ code: "bad_stream" }));
});
