import { LegatoError } from "@legato/client";
import { expect, test } from "vitest";

import { en } from "../strings/en.ts";
import { errorText, errorWords, sentence } from "./error_words.ts";
import { fileName } from "./export.ts";
import { findMatches } from "./matches.ts";
import { sourcesOf } from "./sources.ts";

const result = (output: unknown, isError = false) => ({
  type: "tool-result",
  callId: "c",
  name: "n",
  output: typeof output === "string" ? output : JSON.stringify(output),
  isError,
  elapsedMs: 1,
});

test.each([
  ["a list", [result([{ title: "A", url: "https://a.example" }])], ["A"]],
  ["a list in an object", [result({ results: [{ title: "A", locator: "page 2" }] })], ["A"]],
  ["one", [result({ title: "A", url: "https://a.example" })], ["A"]],
  ["a citation", [{ type: "citation", title: "A", locator: 3 }], ["A"]],
  ["the same twice", [result([{ title: "A", url: "u" }]), result([{ title: "A", url: "u" }])], ["A"]],
  ["a title alone", [result([{ title: "A" }])], []],
  ["an error", [result([{ title: "A", url: "u" }], true)], []],
  ["no JSON", [result('{"title": ')], []],
  ["text", [{ type: "text", text: '{"title":"A","url":"u"}' }], []],
])("sources of %s", (_, parts, titles) => {
  expect(sourcesOf(parts).map(({ title }) => title)).toEqual(titles);
});

test.each([
  ["upstream_auth", en.errors.wrongKey],
  ["rate_limited", en.errors.rateLimited],
  ["budget_exceeded", en.errors.budgetSpent],
  ["upstream_timeout", en.errors.upstreamDown],
  ["storage_unavailable", en.errors.storageAway],
  ["message_too_long", en.errors.tooLong],
  ["unreachable", en.errors.unreachable],
  ["upstream_unavailable", en.errors.upstreamDown],
  ["no_model", en.errors.noModel],
])("%s is said as %j", (code, title) => {
  expect(errorWords({ code, message: "m" }, en, 0).title).toBe(title);
});

test("a limit counts down", () => {
  const words = (now: number) => errorWords({ code: "rate_limited", message: "", retryAt: 10_000 }, en, now).hint;
  expect([words(0), words(8_500), words(11_000)]).toEqual([
    "You can send again in 10 s.",
    "You can send again in 2 s.",
    "You can send again now.",
  ]);
});

test.each([
  ["new_code", en.errors.otherDo],
  ["upstream_refused", en.errors.refusedDo],
  ["budget_exceeded", en.errors.budgetSpentDo],
])("%s says what to do, and in small what the server said", (code, advice) => {
  const { hint, code: small } = errorWords({ code, message: "the moon is full" }, en, 0);
  expect([hint, small]).toEqual([advice, `Code: ${code} · The moon is full.`]);
});

test("a toast, which has one line, says of an unknown error what the server said", () => {
  expect(errorText(new LegatoError("the moon is full", { code: "new_code" }), en)).toBe("The moon is full.");
  expect(sentence("already.")).toBe("Already.");
});

test("matches are found in all messages, in any case", () => {
  const messages = [
    { key: "a", content: "One fish, ONE net" },
    { key: "b", content: "none" },
  ];
  expect(findMatches(messages, "one")).toEqual([
    { key: "a", at: 0 },
    { key: "a", at: 1 },
    { key: "b", at: 0 },
  ]);
  expect(findMatches(messages, "")).toEqual([]);
});

test.each([
  ["A / B: c?", "A B c.md"],
  ["..", "conversation.md"],
  ["", "conversation.md"],
  ["x".repeat(200), `${"x".repeat(80)}.md`],
])("%j is saved as %j", (title, name) => {
  expect(fileName(title, "md")).toBe(name);
});
