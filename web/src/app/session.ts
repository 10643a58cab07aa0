/** Who uses this page, and which models answer: asked once at the start, and again after signing in. */
import { LegatoError, type Me, type Models } from "@legato/client";
import { useSyncExternalStore } from "react";

import { api } from "./server.ts";

export type Session =
  | { readonly state: "loading" }
  | { readonly state: "out" }
  | { readonly state: "unreachable" }
  | { readonly state: "in"; readonly me: Me; readonly models: Models | null };

const listeners = new Set<() => void>();
let session: Session = { state: "loading" };

function become(next: Session): void {
  session = next;
  for (const listener of listeners) listener();
}

/** Asks the server who this is. */
export async function checkSession(): Promise<void> {
  try {
    const [me, models] = await Promise.all([api.me(), api.models().catch(() => null)]);
    become({ state: "in", me, models });
  } catch (error) {
    become({
      state: error instanceof LegatoError && (error.status === 401 || error.status === 403) ? "out" : "unreachable",
    });
  }
}

/** @throws LegatoError where the key is not taken. */
export async function signIn(key: string): Promise<void> {
  await api.signIn(key);
  await checkSession();
}

/** @throws LegatoError where the two do not belong together. */
export async function signInWithPassword(name: string, password: string): Promise<void> {
  await api.signInWithPassword(name, password);
  await checkSession();
}

/** Goes to the issuer; the page comes back signed in, or with `?sign-in=` and why not. */
export async function goToIssuer(): Promise<void> {
  const { location: there } = await api.goToIssuer(location.pathname);
  location.assign(there);
}

/** Why a sign-in at the issuer came to nothing, as the address says; it is taken out of it. */
export function takeSignInFault(): string | null {
  const asked = new URLSearchParams(location.search);
  const fault = asked.get("sign-in");
  if (fault === null) return null;
  history.replaceState(history.state, "", location.pathname + location.hash);
  return fault;
}

export async function signOut(): Promise<void> {
  await api.signOut();
  become({ state: "out" });
}

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export const useSession = (): Session => useSyncExternalStore(subscribe, () => session);

export function useMe(): Me | null {
  const now = useSession();
  return now.state === "in" ? now.me : null;
}

export function useModels(): Models | null {
  const now = useSession();
  return now.state === "in" ? now.models : null;
}
