import { useSyncExternalStore } from "react";

import { usePreferences } from "./preferences.ts";

const query = typeof matchMedia === "function" ? matchMedia("(prefers-color-scheme: dark)") : null;

const subscribe = (listener: () => void): (() => void) => {
  query?.addEventListener("change", listener);
  return () => query?.removeEventListener("change", listener);
};

/** Whether the page is dark: as chosen, or as the system is. For what is drawn, not styled. */
export function useDarkTheme(): boolean {
  const { theme } = usePreferences();
  const system = useSyncExternalStore(subscribe, () => query?.matches ?? false);
  return theme === "dark" || (theme === "system" && system);
}
