import { expect, test } from "vitest";

import { de } from "../strings/de.ts";
import { type Key, keysOf, shortcutOf } from "./shortcuts.ts";

const key = (key: string, code: string, held: Partial<Key> = {}): Key => ({
  key,
  code,
  mod: false,
  shift: false,
  alt: false,
  ...held,
});

test.each([
  [key("Escape", "Escape"), true, "stop"],
  [key("?", "Slash", { shift: true }), false, "help"],
  [key("?", "Slash", { shift: true }), true, null],
  [key("/", "Slash"), false, "focus"],
  [key("/", "Slash"), true, null],
  [key("k", "KeyK", { mod: true }), true, "search"],
  [key("O", "KeyO", { mod: true, shift: true }), true, "new"],
  [key("ArrowDown", "ArrowDown", { alt: true }), true, "next"],
  [key("c", "KeyC", { alt: true }), true, "copyLast"],
  [key("ç", "KeyC", { alt: true }), false, "copyLast"],
  [key("ç", "KeyC", { alt: true }), true, null],
  [key("f", "KeyF", { mod: true, alt: true }), false, null],
  [key("a", "KeyA"), false, null],
] as const)("%j, writing %s: %s", (pressed, writing, shortcut) => {
  expect(shortcutOf(pressed, writing)).toBe(shortcut);
});

test("keys are called as they are on a keyboard of the language", () => {
  expect(keysOf("new", false, de.shortcuts.keys)).toEqual(["Strg", "Umschalt", "O"]);
  expect(keysOf("send", true, de.shortcuts.keys)).toEqual(["Eingabe"]);
});
