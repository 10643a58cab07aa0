import type { Figure } from "@legato/client";
import { expect, test } from "vitest";

import { slotsOf, valuesOf } from "./slots.ts";

const DAY = 86_400_000;
const NOTHING = { mean: null, p50: null, p95: null };

const figure = (day: number, messages: number, inputTokens: number | null): Figure => ({
  at: day * DAY,
  model: null,
  messages,
  errors: 0,
  stops: 0,
  errorRate: 0,
  sessions: 1,
  conversations: 1,
  owners: 1,
  inputTokens,
  outputTokens: null,
  estimated: 0,
  cost: null,
  costUnknown: 0,
  responseTimeMs: NOTHING,
  firstTokenMs: NOTHING,
  feedback: { up: 0, down: 0 },
  satisfaction: null,
});

const span = { from: 10.5 * DAY, to: 13.5 * DAY, groups: [figure(11, 3, 7), figure(13, 2, null)] };

test("days without replies have a place, and the first and the last day are not whole ones", () => {
  const days = slotsOf(span, DAY).map(({ at, figure }) => [at / DAY, figure?.messages ?? null]);
  expect(days).toEqual([
    [10, null],
    [11, 3],
    [12, null],
    [13, 2],
  ]);
});

test.each([
  ["a count is 0 without replies", (f: Figure) => f.messages, 0, [0, 3, 0, 2]],
  ["unknown stays unknown", (f: Figure) => f.inputTokens, 0, [0, 7, 0, null]],
  ["a rate is none without replies", (f: Figure) => f.errorRate, null, [null, 0, null, 0]],
  ["nothing known is not 0", (f: Figure) => f.outputTokens, 0, [null, null, null, null]],
] as const)("%s", (_, pick, none, values) => {
  expect(valuesOf(slotsOf(span, DAY), pick, none)).toEqual(values);
});
