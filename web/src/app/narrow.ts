import { useSyncExternalStore } from "react";

const query = matchMedia("(max-width: 819px)");

const subscribe = (listener: () => void): (() => void) => {
  query.addEventListener("change", listener);
  return () => query.removeEventListener("change", listener);
};

/** Whether there is no room for the list beside the conversation. */
export const useNarrow = (): boolean => useSyncExternalStore(subscribe, () => query.matches);
