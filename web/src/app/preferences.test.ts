import { expect, test } from "vitest";

import { chooseLanguage, parsePreferences } from "./preferences.ts";

test.each([
  [null, { theme: "system", language: null, sidebar: true }],
  ["{broken", { theme: "system", language: null, sidebar: true }],
  ["[]", { theme: "system", language: null, sidebar: true }],
  ['{"theme":"pink","language":"fr","sidebar":0}', { theme: "system", language: null, sidebar: true }],
  ['{"theme":"dark","language":"de","sidebar":false}', { theme: "dark", language: "de", sidebar: false }],
])("%j is read, what is no choice is left out", (text, found) => {
  expect(parsePreferences(text)).toEqual(found);
});

test.each([
  ["de", ["en-US"], "de"],
  [null, ["de-CH", "en"], "de"],
  [null, ["fr", "de"], "de"],
  [null, ["fr"], "en"],
  [null, [], "en"],
] as const)("chosen %j, browser %j: %s", (chosen, browser, language) => {
  expect(chooseLanguage(chosen, browser)).toBe(language);
});
