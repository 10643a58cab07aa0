/** What a person has chosen for this browser: theme, language, whether the list is open. Kept in local storage. */
import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
export type Language = "en" | "de";

export interface Preferences {
  readonly theme: Theme;
  /** `null`: the browser's. */
  readonly language: Language | null;
  readonly sidebar: boolean;
}

const KEY = "legato.preferences";
const DEFAULTS: Preferences = { theme: "system", language: null, sidebar: true };

/** Reads what an earlier version or a hand may have written: what is not a choice is left out. */
export function parsePreferences(text: string | null): Preferences {
  let found: unknown = null;
  try {
    found = text === null ? null : JSON.parse(text);
  } catch {
    return DEFAULTS;
  }
  if (typeof found !== "object" || found === null) return DEFAULTS;
  const { theme, language, sidebar } = found as Record<string, unknown>;
  return {
    theme: theme === "light" || theme === "dark" ? theme : "system",
    language: language === "en" || language === "de" ? language : null,
    sidebar: sidebar !== false,
  };
}

/** The language to show: the chosen one, else the first of the browser's that there is. */
export function chooseLanguage(chosen: Language | null, browser: readonly string[]): Language {
  if (chosen) return chosen;
  for (const tag of browser) {
    const language = tag.slice(0, 2).toLowerCase();
    if (language === "en" || language === "de") return language;
  }
  return "en";
}

const listeners = new Set<() => void>();
let current = read();

function read(): Preferences {
  try {
    return parsePreferences(localStorage.getItem(KEY));
  } catch {
    return DEFAULTS;
  }
}

function apply(): void {
  const root = document.documentElement;
  if (current.theme === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = current.theme;
  root.lang = chooseLanguage(current.language, navigator.languages);
}

export function changePreferences(change: Partial<Preferences>): void {
  current = { ...current, ...change };
  try {
    localStorage.setItem(KEY, JSON.stringify(current));
  } catch {
    // Without storage a choice holds until the page is left.
  }
  apply();
  for (const listener of listeners) listener();
}

/** Takes over what another tab has chosen. */
export function startPreferences(): void {
  apply();
  addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    current = read();
    apply();
    for (const listener of listeners) listener();
  });
}

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export function usePreferences(): Preferences {
  return useSyncExternalStore(subscribe, () => current);
}
