import { describe, expect, test } from "vitest";

import type { WireEvent } from "../src/events.ts";
import { fold, foldAll } from "../src/fold.ts";
import { EMPTY_REPLY, openApprovals, type ReplyMessage } from "../src/message.ts";
import { parseCursor, readEvent } from "../src/read_event.ts";
import { SseParser } from "../src/sse.ts";
import { bytesOf, type CursorCase, load, type NativeCases } from "./protocol.ts";

const { empty, cases, foreign, bad } = load<NativeCases>("native");

function read(blocks: readonly string[]): WireEvent[] {
  return new SseParser().feed(bytesOf(blocks)).map(readEvent);
}

test("an empty reply is that of the cases", () => {
  expect(EMPTY_REPLY).toEqual(empty);
});

describe("the cases of protocol/native.json", () => {
  test.each(cases)("$name", ({ stream, events, message }) => {
    const parsed = new SseParser().feed(bytesOf(stream));
    expect(parsed.map((event) => [event.name, event.id])).toEqual(events);
    expect(foldAll(read(stream))).toEqual({ ...empty, ...message });
  });

  test.each(cases)("the fields on the wire: $name", ({ stream }) => {
    for (const [index, event] of read(stream).entries()) {
      const raw = new SseParser().feed(bytesOf([stream[index] as string]))[0];
      const { type, cursor, ...told } = event;
      expect({ type, cursor }).toEqual({ type: raw?.name, cursor: raw?.id });
      const wire = JSON.parse(raw?.data ?? "") as Record<string, unknown>;
      // Nothing of the wire is lost, and what is not on it is unknown.
      expect(told).toMatchObject(wire);
      for (const [name, value] of Object.entries(told)) expect(value, name).toEqual(wire[name] ?? null);
    }
  });

  test.each(foreign)("$name", ({ stream, message }) => {
    expect(foldAll(read(stream))).toEqual({ ...empty, ...message });
  });

  test.each(bad)("bad: $name", ({ stream }) => {
    expect(() => read(stream)).toThrow(expect.objectContaining({ code: "bad_stream" }));
  });

  test.each(load<{ cases: CursorCase[] }>("cursors").cases)("cursor $text", ({ text, cursor }) => {
    expect(parseCursor(text)).toEqual(cursor);
  });
});

describe("fold", () => {
  test("changes nothing that it is given", () => {
    for (const { stream } of cases) {
      let message: ReplyMessage = EMPTY_REPLY;
      for (const event of read(stream)) message = fold(deepFreeze(message), deepFreeze(event));
    }
  });

  test("returns the same reply for what changes nothing", () => {
    const message = foldAll(read(cases[0]?.stream ?? []));
    const unknown = { type: "unknown", cursor: "r-1.0.9", conversationId: null, name: "x", data: {} } as const;
    expect(fold(message, unknown)).toBe(message);
    expect(fold(message, { type: "reconnecting", attempt: 1, delayMs: 100 })).toBe(message);
    expect(fold(message, { type: "reconnected", restarted: false })).toBe(message);
  });

  test("begins anew where the reply is told anew, and gives the same", () => {
    for (const { stream, message } of cases) {
      const events = read(stream);
      const again = { type: "reconnected", restarted: true } as const;
      const ids = { id: "m-2", runId: "r-1", conversationId: message.conversationId ?? "c-1" };
      const open = { type: "open", ...ids, messageId: "m-2", sessionId: "s-1" } as const;
      for (let cut = 0; cut <= events.length; cut += 1) {
        const told = foldAll([open, ...events.slice(0, cut), again, ...events]);
        expect(told).toEqual({ ...empty, ...message, ...ids });
      }
    }
  });

  test("knows which calls wait for a person", () => {
    const waiting = (name: string): string[] => {
      const stream = cases.find((each) => each.name === name)?.stream ?? [];
      return openApprovals(foldAll(read(stream))).map((call) => call.callId);
    };
    expect(waiting("a call that still waits for a person")).toEqual(["a"]);
    expect(waiting("one call granted, one denied, one that nobody answered")).toEqual([]);
  });

  test("takes 20,000 chunks in well under a second", () => {
    const chunk = { type: "chunk", cursor: "r-1.0.2", conversationId: "c-1", content: "word ", index: 1 } as const;
    const startedMs = performance.now();
    expect(foldAll(Array.from({ length: 20_000 }, () => chunk)).text).toHaveLength(100_000);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
  });
});

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) Object.values(Object.freeze(value)).forEach(deepFreeze);
  return value;
}
