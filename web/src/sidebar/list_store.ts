/** The list of conversations, as far as it was asked for. One for the whole page. */
import type { ConversationOut } from "@legato/client";
import { useSyncExternalStore } from "react";

import { api } from "../app/server.ts";

export interface ListSnapshot {
  /** Pinned ones first, then by their last message, the latest first. */
  readonly conversations: readonly ConversationOut[];
  readonly state: "loading" | "ready" | "failed";
  readonly more: boolean;
}

const PAGE = 60;

/** Pinned ones first, then the latest. Pure. */
export function inOrder(conversations: Iterable<ConversationOut>): ConversationOut[] {
  return [...conversations].sort(
    (a, b) => Number(b.pinned) - Number(a.pinned) || b.lastMessageAt - a.lastMessageAt || (a.id < b.id ? 1 : -1),
  );
}

/** It was made for a message that the server has not taken yet, or has refused. Pure. */
export function isBlank({ messageCount, title }: Pick<ConversationOut, "messageCount" | "title">): boolean {
  return messageCount === 0 && !title;
}

export class ConversationList {
  readonly #archived: boolean;
  readonly #known = new Map<string, ConversationOut>();
  /** Taken away here, and not yet on the server. */
  readonly #hidden = new Set<string>();
  /** Changed here since a page was asked for: the page may tell of them as they were before. */
  readonly #changed = new Set<string>();
  readonly #listeners = new Set<() => void>();
  #cursor: string | null = null;
  #asking: Promise<void> | null = null;
  /** The newest page was asked for while another went on, which may be older than the reason to ask. */
  #wanted = false;
  #snapshot: ListSnapshot = { conversations: [], state: "loading", more: false };

  constructor(archived: boolean) {
    this.#archived = archived;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): ListSnapshot => this.#snapshot;

  /** Asks for the newest page again; what is further down stays as it is known. */
  refresh(): Promise<void> {
    this.#wanted = true;
    this.#asking ??= this.#refresh();
    return this.#asking;
  }

  async loadMore(): Promise<void> {
    if (this.#asking || this.#cursor === null) return;
    this.#asking = this.#ask(this.#cursor).then(() => this.#refresh());
    await this.#asking;
  }

  /** Takes a conversation over as the server showed it elsewhere. */
  put(conversation: ConversationOut): void {
    if (conversation.temporary || conversation.archived !== this.#archived) this.#known.delete(conversation.id);
    else this.#known.set(conversation.id, conversation);
    this.#tell();
  }

  /** Takes over what was changed here. */
  change(conversation: ConversationOut): void {
    this.#changed.add(conversation.id);
    this.put(conversation);
  }

  find(id: string): ConversationOut | undefined {
    return this.#known.get(id);
  }

  hide(id: string, hidden: boolean): void {
    if (hidden) this.#hidden.add(id);
    else this.#hidden.delete(id);
    this.#tell();
  }

  forget(id: string): void {
    this.#changed.add(id);
    this.#known.delete(id);
    this.#hidden.delete(id);
    this.#tell();
  }

  async #refresh(): Promise<void> {
    try {
      while (this.#wanted) {
        // Whoever asks at the same moment gets the same answer.
        await Promise.resolve();
        this.#wanted = false;
        await this.#ask(null);
      }
    } finally {
      this.#asking = null;
    }
  }

  async #ask(cursor: string | null): Promise<void> {
    this.#changed.clear();
    try {
      const [page, pinned] = await Promise.all([
        api.conversations.list({ limit: PAGE, archived: this.#archived, ...(cursor === null ? {} : { cursor }) }),
        cursor === null && !this.#archived ? api.conversations.list({ limit: PAGE, pinned: true }) : null,
      ]);
      const found = [...page.conversations, ...(pinned?.conversations ?? [])];
      if (cursor === null) {
        // What is newer than the page's end and is not in it is gone.
        const ids = new Set(found.map(({ id }) => id));
        const end = page.nextCursor === null ? -Infinity : (page.conversations.at(-1)?.lastMessageAt ?? -Infinity);
        for (const [id, known] of this.#known)
          if (!ids.has(id) && !this.#changed.has(id) && (known.pinned || known.lastMessageAt > end)) this.#known.delete(id);
      }
      const first = this.#known.size === 0;
      for (const each of found) if (!this.#changed.has(each.id)) this.#known.set(each.id, each);
      if (cursor !== null || first || this.#cursor === null) this.#cursor = page.nextCursor;
      this.#tell("ready");
    } catch {
      this.#tell(this.#known.size ? "ready" : "failed");
    }
  }

  #tell(state = this.#snapshot.state): void {
    const shown = [...this.#known.values()].filter((each) => !this.#hidden.has(each.id) && !isBlank(each));
    this.#snapshot = { conversations: inOrder(shown), state, more: this.#cursor !== null };
    for (const listener of this.#listeners) listener();
  }
}

export const active = new ConversationList(false);
export const archive = new ConversationList(true);

export function useList(list: ConversationList): ListSnapshot {
  return useSyncExternalStore(list.subscribe, list.snapshot);
}
