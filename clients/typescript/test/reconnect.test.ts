import { describe, expect, test } from "vitest";

import { reconnectDelay } from "../src/delay.ts";
import { TextDelivery } from "../src/delivery.ts";
import { LegatoError } from "../src/errors.ts";
import { answerEvent, type EventName, IMPOSSIBLE, type State, step, TABLE } from "../src/reconnect.ts";
import { type DelayCase, type DeliveryCase, load, type ReconnectCases } from "./protocol.ts";

const { states, final, events, table, paths, answers } = load<ReconnectCases>("reconnect");

describe("the table of protocol/reconnect.json", () => {
  test("has the same states and events", () => {
    expect(Object.keys(TABLE).sort()).toEqual([...states].sort());
    for (const row of Object.values(TABLE)) expect(Object.keys(row).sort()).toEqual([...events].sort());
  });

  test.each(states)("has the same row for %s", (state) => {
    for (const event of events) {
      const found = TABLE[state as State][event as EventName];
      const wanted = table[state]?.[event];
      expect(found === IMPOSSIBLE ? undefined : [found.to, found.action], event).toEqual(wanted);
    }
  });

  test("leaves final states no more, and every other one by abort", () => {
    for (const state of states) {
      const to = Object.values(table[state] ?? {}).map(([next]) => next);
      if (final.includes(state)) expect(new Set(to)).toEqual(new Set([state]));
      else expect(table[state]?.["abort"]).toEqual(["aborted", "fail"]);
    }
  });

  test.each(paths)("$name", ({ steps }) => {
    let state: State = "idle";
    for (const [event, to, action] of steps) {
      const next = step(state, event as EventName);
      expect(next).toEqual({ to, action });
      state = next.to;
    }
  });

  test("takes what cannot happen for a fault of the program", () => {
    expect(() => step("ended", "terminal")).toThrow(TypeError);
  });
});

test.each(answers)("$name: $method $status is $event", ({ name: _, event, ...answer }) => {
  expect(answerEvent(answer)).toBe(event);
});

test.each(load<{ cases: DelayCase[] }>("delays").cases)(
  "try $attempt at $jitter, asked for $askedMs: $delayMs ms",
  ({ attempt, jitter, askedMs, delayMs }) => {
    expect(reconnectDelay(attempt, jitter, askedMs)).toBeCloseTo(delayMs, 6);
  },
);

test.each(load<{ cases: DeliveryCase[] }>("delivery").cases)("$name", ({ steps, error }) => {
  const delivery = new TextDelivery();
  const walk = (): void => {
    for (const [kind, text, fresh] of steps) {
      if (kind === "restarted") delivery.restart();
      else if (kind === "complete") delivery.end();
      else expect(delivery.take(text as string)).toBe(fresh);
    }
  };
  if (error === null) walk();
  else expect(walk).toThrow(expect.objectContaining({ code: error, constructor: LegatoError }));
});
