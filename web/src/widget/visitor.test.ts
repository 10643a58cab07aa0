import { expect, test } from "vitest";

import { parseVisit } from "./visitor.ts";

test.each([
  [null, null],
  ["{}", null],
  ["broken", null],
  ['{"token":"lv_1","expiresAt":1050000}', null],
  ['{"token":"lv_1","expiresAt":2000000}', { token: "lv_1", expiresAt: 2_000_000, conversationId: null }],
  [
    '{"token":"lv_1","expiresAt":2000000,"conversationId":"c"}',
    { token: "lv_1", expiresAt: 2_000_000, conversationId: "c" },
  ],
])("%j at 1,000,000 is %j", (text, visit) => {
  expect(parseVisit(text, 1_000_000)).toEqual(visit);
});
