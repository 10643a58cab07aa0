/** Which page an address shows. */
import { useSyncExternalStore } from "react";

import type { Language } from "./preferences.ts";

export type Route =
  | { readonly page: "chat"; readonly conversationId: string | null; readonly messageId: string | null }
  | { readonly page: "admin"; readonly section: string }
  | { readonly page: "widget"; readonly key: string; readonly language: Language | null }
  | { readonly page: "missing" };

/** Reads an address. A conversation's id may hold any printable character, so it is percent-encoded there. */
export function parseRoute(path: string, query = "", hash = ""): Route {
  const parts = path.split("/").filter(Boolean);
  const [first, second] = parts;
  if (first === undefined) return { page: "chat", conversationId: null, messageId: null };
  if (first === "c" && second !== undefined && parts.length === 2) {
    try {
      return {
        page: "chat",
        conversationId: decodeURIComponent(second),
        messageId: hash.startsWith("#m=") ? decodeURIComponent(hash.slice(3)) : null,
      };
    } catch {
      return { page: "missing" };
    }
  }
  if (first === "admin" && parts.length === 1) return { page: "admin", section: hash.slice(1) || "figures" };
  if (first === "widget" && parts.length === 1) {
    const asked = new URLSearchParams(query);
    const language = asked.get("lang");
    return {
      page: "widget",
      key: asked.get("key") ?? "",
      language: language === "en" || language === "de" ? language : null,
    };
  }
  return { page: "missing" };
}

export const conversationPath = (id: string | null, messageId?: string | null): string =>
  id === null ? "/" : `/c/${encodeURIComponent(id)}${messageId ? `#m=${encodeURIComponent(messageId)}` : ""}`;

const listeners = new Set<() => void>();
let address = "";
let route: Route = { page: "chat", conversationId: null, messageId: null };

function readAddress(): Route {
  const { pathname, search, hash } = location;
  const now = pathname + search + hash;
  if (now !== address) {
    address = now;
    route = parseRoute(pathname, search, hash);
  }
  return route;
}

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  addEventListener("popstate", listener);
  addEventListener("hashchange", listener);
  return () => {
    listeners.delete(listener);
    removeEventListener("popstate", listener);
    removeEventListener("hashchange", listener);
  };
};

export const useRoute = (): Route => useSyncExternalStore(subscribe, readAddress);

/** Shows another address; `replace` leaves no trace in the browser's history. */
export function navigate(path: string, replace = false): void {
  if (path === location.pathname + location.search + location.hash) return;
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  for (const listener of listeners) listener();
}
