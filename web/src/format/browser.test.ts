import { expect, test } from "vitest";

import { browserOf } from "./browser.ts";

const LIKE = "AppleWebKit/537.36 (KHTML, like Gecko)";
const APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)";

test.each([
  [`Mozilla/5.0 (X11; Linux x86_64) ${LIKE} Chrome/141.0.0.0 Safari/537.36`, ["Chrome", "Linux"]],
  [`Mozilla/5.0 (X11; Linux x86_64) ${LIKE} HeadlessChrome/141.0.0.0 Safari/537.36`, ["Chrome", "Linux"]],
  [`Mozilla/5.0 (Linux; Android 10; K) ${LIKE} Chrome/141.0.0.0 Mobile Safari/537.36`, ["Chrome", "Android"]],
  [
    `Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) ${APPLE} CriOS/141.0 Mobile/15E148 Safari/604.1`,
    ["Chrome", "iPhone"],
  ],
  [
    `Mozilla/5.0 (Windows NT 10.0; Win64; x64) ${LIKE} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0`,
    ["Edge", "Windows"],
  ],
  [
    `Mozilla/5.0 (Linux; Android 10; K) ${LIKE} Chrome/141.0.0.0 Mobile Safari/537.36 EdgA/141.0.0.0`,
    ["Edge", "Android"],
  ],
  [
    `Mozilla/5.0 (Windows NT 10.0; Win64; x64) ${LIKE} Chrome/141.0.0.0 Safari/537.36 OPR/125.0.0.0`,
    ["Opera", "Windows"],
  ],
  ["Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", ["Firefox", "Linux"]],
  [
    `Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) ${APPLE} FxiOS/144.0 Mobile/15E148 Safari/605.1.15`,
    ["Firefox", "iPad"],
  ],
  [`Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) ${APPLE} Version/26.0 Safari/605.1.15`, ["Safari", "macOS"]],
  [`Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) ${LIKE} Chrome/141.0.0.0 Safari/537.36`, null],
  ["curl/8.5.0", null],
  ["", null],
])("%s", (agent, names) => {
  expect(browserOf(agent)).toEqual(names);
});
