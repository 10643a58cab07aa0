/** The page's keys. Pure: which key means what; `useShortcuts` does it. */
import { useEffect, useRef } from "react";

import type { Strings } from "../strings/en.ts";

export type Shortcut =
  "stop" | "new" | "search" | "sidebar" | "find" | "focus" | "copyLast" | "settings" | "help" | "next" | "previous";

export interface Key {
  readonly key: string;
  readonly code: string;
  readonly mod: boolean;
  readonly shift: boolean;
  readonly alt: boolean;
}

/** What a key means; `writing`: the focus is in a field, where letters are letters. */
export function shortcutOf({ key, code, mod, shift, alt }: Key, writing: boolean): Shortcut | null {
  if (key === "Escape") return "stop";
  if (mod && alt) return null;
  if (mod) {
    if (shift) return code === "KeyO" ? "new" : null;
    return (
      ({ KeyK: "search", KeyB: "sidebar", KeyF: "find", Comma: "settings" } as Partial<Record<string, Shortcut>>)[
        code
      ] ?? (key === "/" ? "help" : null)
    );
  }
  // Option and C write a letter on a Mac: in a field it is one.
  if (alt && writing && code === "KeyC" && key.toLowerCase() !== "c") return null;
  if (alt)
    return (
      ({ KeyC: "copyLast", ArrowDown: "next", ArrowUp: "previous" } as Partial<Record<string, Shortcut>>)[code] ?? null
    );
  if (writing) return null;
  return key === "?" ? "help" : key === "/" ? "focus" : null;
}

/** The keys as they are written on a keyboard. */
export function keysOf(
  shortcut: Exclude<Shortcut, "next" | "previous"> | "move" | "send" | "newLine" | "editLast",
  apple: boolean,
  { control, shift, enter }: Strings["shortcuts"]["keys"],
): string[] {
  const mod = apple ? "⌘" : control;
  const alt = apple ? "⌥" : "Alt";
  const keys: Record<typeof shortcut, string[]> = {
    send: [enter],
    newLine: [shift, enter],
    stop: ["Esc"],
    new: [mod, shift, "O"],
    search: [mod, "K"],
    sidebar: [mod, "B"],
    find: [mod, "F"],
    focus: ["/"],
    editLast: ["↑"],
    copyLast: [alt, "C"],
    settings: [mod, ","],
    move: [alt, "↓ ↑"],
    help: ["?"],
  };
  return keys[shortcut];
}

/** `run` answers whether it did something: then the browser does nothing of its own. */
export function useShortcuts(run: (shortcut: Shortcut) => boolean): void {
  const latest = useRef(run);
  useEffect(() => {
    latest.current = run;
  });
  useEffect(() => {
    const listen = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.isComposing) return;
      const target = event.target as HTMLElement | null;
      const writing = target?.matches("input, textarea, select, [contenteditable]") ?? false;
      const shortcut = shortcutOf(
        {
          key: event.key,
          code: event.code,
          mod: event.ctrlKey || event.metaKey,
          shift: event.shiftKey,
          alt: event.altKey,
        },
        writing,
      );
      // A box or a menu that is open has the keys to itself.
      if (!shortcut || document.querySelector("dialog[open], [popover]:popover-open")) return;
      if (latest.current(shortcut)) event.preventDefault();
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}
