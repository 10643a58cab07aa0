import { describe, expect, it } from "vitest";

import { BATCH_MS, SLICE_CHARS, SLICE_EVENTS, SliceQueue } from "../src/schedule.ts";
import { Clock } from "./clock.ts";

function queueOf(clock: Clock) {
  const slices: { at: number; items: readonly string[] }[] = [];
  const said: string[] = [];
  const queue = new SliceQueue<string>(clock, {
    size: (item) => item.length,
    take: (items) => slices.push({ at: clock.now(), items }),
    ended: () => said.push("ended"),
  });
  return { queue, slices, said };
}

describe("SliceQueue", () => {
  it("tells the first item with the next frame, and later ones at most every 32 ms", () => {
    const clock = new Clock();
    const { queue, slices } = queueOf(clock);
    for (let ms = 0; ms < 1000; ms += 2) {
      queue.push("x");
      clock.pass(2);
    }
    clock.pass(100);
    expect(slices[0]?.at).toBe(16);
    const gaps = slices.slice(1).map((slice, index) => slice.at - (slices[index]?.at ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(BATCH_MS);
    expect(slices.length).toBeLessThan(32);
    expect(slices.flatMap((slice) => slice.items)).toHaveLength(500);
  });

  it("tells 40 kB that come at once in slices of 2,000 characters, in their order, and then the end", () => {
    const clock = new Clock();
    const { queue, slices, said } = queueOf(clock);
    const items = Array.from({ length: 10_000 }, (_, index) => String(index % 10_000).padStart(4, "0"));
    for (const item of items) queue.push(item);
    queue.end();
    while (said.length === 0) {
      expect(clock.now()).toBeLessThan(2_000);
      clock.pass(1);
    }
    expect(slices.flatMap((slice) => slice.items)).toEqual(items);
    for (const { items: slice } of slices) {
      expect(slice.join("").length).toBeLessThanOrEqual(SLICE_CHARS);
      expect(slice.length).toBeLessThanOrEqual(SLICE_EVENTS);
    }
    expect(slices).toHaveLength(20);
    expect(said).toEqual(["ended"]);
  });

  it("tells an item that is longer than a slice alone", () => {
    const clock = new Clock();
    const { queue, slices } = queueOf(clock);
    for (const item of ["a", "b".repeat(SLICE_CHARS + 1), "c"]) queue.push(item);
    clock.pass(1000);
    expect(slices.map((slice) => slice.items.map((item) => item.length))).toEqual([[1], [SLICE_CHARS + 1], [1]]);
  });

  it("tells nothing after it was closed", () => {
    const clock = new Clock();
    const { queue, slices, said } = queueOf(clock);
    queue.push("x");
    queue.end();
    queue.close();
    clock.pass(1000);
    expect([slices, said]).toEqual([[], []]);
  });
});
