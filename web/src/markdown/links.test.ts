import { expect, test } from "vitest";

import { safeLink } from "./links.ts";

const ORIGIN = "http://127.0.0.1:3111";

test.each([
  ["https://example.com/a?b#c", true],
  ["http://127.0.0.1:3111/c/1", false],
  ["/c/1", false],
  ["#part", false],
  ["mailto:a@example.com", true],
  ["//example.com/x", true],
])("%s may be followed", (href, outside) => {
  expect(safeLink(href, ORIGIN)).toMatchObject({ outside });
});

test.each([
  "javascript:alert(1)",
  "JaVaScRiPt:alert(1)",
  " javascript:alert(1)",
  "java\nscript:alert(1)",
  "java\tscript:alert(1)",
  "\u0001javascript:alert(1)",
  "data:text/html,<script>alert(1)</script>",
  "vbscript:x",
  "blob:http://127.0.0.1/x",
  "file:///etc/passwd",
  "http://[",
  "",
  undefined,
])("%j is shown as text", (href) => {
  expect(safeLink(href, ORIGIN)).toBeNull();
});
