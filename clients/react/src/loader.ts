/** Reads a conversation from the server into the tree: the newest part first, older parts and other branches on demand. */

import { isOpen } from "./apply.ts";
import { isLocal } from "./ids.ts";
import { problemOf } from "./problem.ts";
import type { Server } from "./server.ts";
import type { State } from "./state.ts";
import { newestLeaf, put, rename, withLeaf } from "./tree.ts";
import type { ChatMessage } from "./types.ts";

/** Follows the run that makes a reply of the tree. */
export type Follow = (runId: string, node: ChatMessage) => void;

export class Loader {
  readonly #state: State;
  readonly #server: Server;
  readonly #size: number;
  readonly #follow: Follow;
  #refreshing: Promise<void> | null = null;
  /** A refresh of this size was asked for while another went on. */
  #wanted = 0;

  /** @param size Messages of a page, 1 to 150. */
  constructor(state: State, server: Server, size: number, follow: Follow) {
    this.#state = state;
    this.#server = server;
    this.#size = size;
    this.#follow = follow;
  }

  /** Reads the newest `size` messages again, and joins a reply that is being made. Never rejects. */
  refresh(size: number = this.#size): Promise<void> {
    this.#wanted = Math.max(this.#wanted, size);
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  /** Loads the messages before those that are shown. */
  async older(): Promise<void> {
    const state = this.#state;
    const first = state.getSnapshot().messages[0];
    const { conversationId } = state;
    if (state.loadingOlder || conversationId === null || first === undefined || first.parentId === null) return;
    if (first.depth <= 1) return;
    state.loadingOlder = true;
    state.emit();
    try {
      const after = Math.max(0, first.depth - 1 - this.#size);
      const read = ++state.reads;
      this.#merge(await this.#server.page(conversationId, first.parentId, after, first.depth - 1 - after), read);
    } catch (error) {
      state.fail(problemOf(error, "load", Date.now()), () => void this.older());
    } finally {
      state.loadingOlder = false;
      state.emit();
    }
  }

  /** Shows the branch through a message, up to its newest reply, and makes it the active one. */
  async select(messageId: string): Promise<void> {
    const state = this.#state;
    const id = state.conversationId;
    if (state.busy) return;
    const before = state.tree.leafId;
    state.epoch += 1;
    const { epoch } = state;
    try {
      const leafId = await this.#show(messageId, epoch);
      if (leafId === null || id === null || isLocal(leafId)) return;
      state.conversation = await this.#server.change(id, { leafId });
    } catch (error) {
      if (epoch === state.epoch) state.tree = withLeaf(state.tree, before);
      state.fail(problemOf(error, "branch", Date.now()), () => void this.select(messageId));
    }
    state.emit();
  }

  async #refresh(): Promise<void> {
    while (this.#wanted > 0) {
      const size = this.#wanted;
      this.#wanted = 0;
      const { conversationId } = this.#state;
      if (conversationId === null) return;
      try {
        await this.#read(conversationId, size);
      } catch (error) {
        // What is shown stays; only a page that shows nothing yet says why.
        if (this.#state.load === "ready") continue;
        this.#state.load = "failed";
        this.#state.fail(problemOf(error, "load", Date.now()), () => void this.refresh());
      }
      this.#state.emit();
    }
  }

  async #read(id: string, size: number): Promise<void> {
    const state = this.#state;
    const { epoch } = state;
    const read = ++state.reads;
    const conversation = await this.#server.conversation(id);
    if (conversation === null) {
      // One that this page is about to make is not there yet.
      if (!state.busy) state.load = "missing";
      return;
    }
    const { leafId, messageCount, activeRunId } = conversation;
    const rows = leafId === null ? [] : await this.#server.tail(id, leafId, messageCount, size);
    if (state.error?.during === "load" || state.error?.during === "follow") state.forgive();
    state.load = "ready";
    state.conversation = conversation;
    this.#merge(rows, read);
    const leaf = state.tree.nodes.get(state.tree.leafId ?? "");
    const unsent = leaf !== undefined && isLocal(leaf.id);
    if (state.busy || unsent || epoch !== state.epoch) return;
    state.tree = withLeaf(state.tree, leafId);
    const active = rows.find((row) => row.runId !== null && row.runId === activeRunId);
    const node = active === undefined ? undefined : state.tree.nodes.get(active.id);
    if (activeRunId !== null && node !== undefined && isOpen(node)) this.#follow(activeRunId, node);
  }

  /** Puts what the server told into the tree; of a reply that is being read here, the stream has the last word. */
  #merge(messages: readonly ChatMessage[], read: number): void {
    const state = this.#state;
    const live = state.turn?.message ?? null;
    for (const message of messages) {
      const known = state.tree.nodes.get(message.id);
      if (known?.parentId != null && message.parentId !== null && isLocal(known.parentId)) {
        state.tree = rename(state.tree, known.parentId, message.parentId);
      }
    }
    const rated = messages.map((message) => {
      const rating = state.rated.get(message.id);
      return rating === undefined || read > rating.until ? message : { ...message, feedback: rating.feedback };
    });
    state.tree = put(state.tree, rated);
    if (live !== null) state.turn?.rebase(state.tree.nodes.get(live.id));
  }

  /** Shows a branch as far as it is known, or loads its end; returns the id of its last message. */
  async #show(messageId: string, epoch: number): Promise<string | null> {
    const state = this.#state;
    const known = newestLeaf(state.tree, messageId);
    if (known !== null && (known.role === "assistant" || isLocal(known.id))) {
      state.tree = withLeaf(state.tree, known.id);
      state.emit();
      return known.id;
    }
    const id = state.conversationId;
    if (id === null) return null;
    const read = ++state.reads;
    const leafId = (await this.#server.leafBelow(id, messageId)) ?? messageId;
    const messages = await this.#server.tail(id, leafId, state.conversation?.messageCount ?? 0, this.#size);
    if (epoch !== state.epoch) return null;
    this.#merge(messages, read);
    state.tree = withLeaf(state.tree, leafId);
    state.emit();
    return leafId;
  }
}
