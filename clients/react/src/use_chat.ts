/** The hook: a store's snapshot and its actions, for React 18 and 19, strict mode included. */

import { useEffect, useMemo, useState, useSyncExternalStore } from "react";

import { type ChatActions, ConversationStore } from "./store.ts";
import type { ChatSnapshot, ConversationOptions } from "./types.ts";

/** A snapshot, what can be done, and the store itself. */
export type Chat = ChatSnapshot & ChatActions & { readonly store: ConversationStore };

interface Held {
  readonly conversationId: string | null;
  readonly place: string;
  readonly store: ConversationStore;
}

/**
 * Shows one conversation.
 *
 * Another `conversationId`, `sessionId` or `client.baseUrl` is another conversation; the id that this one got from the
 * server is not. Give the component a `key` to begin a new conversation where the id was null and stays null. Actions
 * are the same functions at every rendering; headers given as a function are asked for at each request.
 */
export function useChat(options: ConversationOptions = {}): Chat {
  const [held, setHeld] = useState(() => hold(options));
  let { store } = held;
  const conversationId = options.conversationId ?? null;
  if (held.place !== placeOf(options) || held.conversationId !== conversationId) {
    const isOwn = held.place === placeOf(options) && conversationId === store.getSnapshot().conversationId;
    const next = isOwn ? { ...held, conversationId } : hold(options);
    setHeld(next);
    store = next.store;
  }
  useEffect(() => store.attach(), [store]);
  useEffect(() => store.configure(options));
  const snapshot = useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);
  return useMemo(() => ({ ...snapshot, ...actionsOf(store), store }), [snapshot, store]);
}

function hold(options: ConversationOptions): Held {
  const conversationId = options.conversationId ?? null;
  return { conversationId, place: placeOf(options), store: new ConversationStore(options) };
}

function placeOf({ client, sessionId }: ConversationOptions): string {
  return JSON.stringify([client?.baseUrl ?? null, sessionId ?? null]);
}

function actionsOf(store: ConversationStore): ChatActions {
  const { send, retry, discard, stop, regenerate, edit, selectBranch, loadOlder, refresh } = store;
  const { feedback, decide, change, dismissError } = store;
  return {
    send,
    retry,
    discard,
    stop,
    regenerate,
    edit,
    selectBranch,
    loadOlder,
    refresh,
    feedback,
    decide,
    change,
    dismissError,
  };
}
