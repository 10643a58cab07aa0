import { expect, test } from "vitest";

import { bytes, charged, dollars, duration } from "./amounts.ts";
import { snippetParts } from "./snippet.ts";
import { ageOf, relative, shortTime, utcDay } from "./times.ts";

test.each([
  [0, "0 ms"],
  [999, "999 ms"],
  [2440, "2.4 s"],
  [12_400, "12 s"],
  [59_960, "1 min"],
  [65_000, "1 min 5 s"],
])("%d ms is %s", (ms, words) => {
  expect(duration(ms, "en")).toBe(words);
});

test.each([
  ["0", "$0.00"],
  ["1.5", "$1.50"],
  ["0.0123456", "$0.012"],
  ["0.00000042", "$0.00000042"],
  ["nothing", "nothing"],
])("%s dollars are %s", (usd, words) => {
  expect(dollars(usd, "en")).toBe(words);
});

test.each([
  [null, null],
  [{ usd: "0" }, null],
  [{ usd: "0.000000" }, null],
  [{ usd: "0.00000042" }, "$0.00000042"],
  [{ usd: "2.5" }, "$2.50"],
])("of a cost of %j is said: %s", (cost, words) => {
  expect(charged(cost, "en")).toBe(words);
});

test("sizes have a unit", () => {
  expect([bytes(12, "en"), bytes(2_000, "en"), bytes(2_500_000, "en")]).toEqual(["12 B", "2 kB", "2.5 MB"]);
});

const NOW = new Date(2026, 10, 22, 15, 0).getTime();
const HOUR = 3_600_000;

test.each([
  [1, "today"],
  [16, "yesterday"],
  [48, "week"],
  [24 * 7, "week"],
  [24 * 9, "older"],
] as const)("%d hours ago is %s", (hours, age) => {
  expect(ageOf(NOW - hours * HOUR, NOW)).toBe(age);
});

test("a time of today has no leading zero", () => {
  expect(shortTime(NOW, NOW, "en")).toMatch(/^3:00\sPM$/);
});

test("a day of UTC has the same name everywhere", () => {
  expect(utcDay(Date.UTC(2026, 10, 22), "en")).toBe("Nov 22, 2026");
  expect(utcDay(Date.UTC(2026, 10, 22, 23, 59), "en")).toBe("Nov 22, 2026");
});

test("a time ahead is told in its largest unit", () => {
  expect(relative(NOW + 10 * 60_000, NOW, "en")).toBe("in 10 minutes");
});

test.each([
  ["plain", [{ text: "plain", match: false }]],
  [
    "a \uE000b\uE001 c",
    [
      { text: "a ", match: false },
      { text: "b", match: true },
      { text: " c", match: false },
    ],
  ],
  ["\uE000open", [{ text: "open", match: true }]],
  ["", []],
])("%j is cut at its matches", (snippet, parts) => {
  expect(snippetParts(snippet)).toEqual(parts);
});
