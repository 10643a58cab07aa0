/**
 * The snapshot that readers get, made from a tree and the reply that is being read.
 *
 * Law: an update of the reply costs one new message and two arrays of references; `history` stays the same array.
 */

import { pathTo, type Tree } from "./tree.ts";
import type { ChatMessage, ChatSnapshot } from "./types.ts";

type Branch = Pick<ChatSnapshot, "messages" | "history" | "lastTurn" | "hasOlder">;

/** Remembers the last tree's branch. */
export class BranchView {
  #tree: Tree | null = null;
  #history: readonly ChatMessage[] = [];
  #lastTurn: readonly ChatMessage[] = [];

  /** Returns the active branch of `tree`, in which `live` stands for the node of the same id. */
  of(tree: Tree, live: ChatMessage | null): Branch {
    if (tree !== this.#tree) this.#cut(tree);
    const [history, lastTurn] = [withLive(this.#history, live), withLive(this.#lastTurn, live)];
    const messages = [...history, ...lastTurn];
    return { messages, history, lastTurn, hasOlder: (messages[0]?.depth ?? 1) > 1 };
  }

  #cut(tree: Tree): void {
    const path = pathTo(tree, tree.leafId);
    const last = path.findLastIndex((message) => message.role === "user");
    const at = last < 0 ? path.length : last;
    const history = path.slice(0, at);
    const before = this.#history;
    const unchanged = history.length === before.length && history.every((each, index) => each === before[index]);
    this.#history = unchanged ? before : history;
    this.#lastTurn = path.slice(at);
    this.#tree = tree;
  }
}

function withLive(messages: readonly ChatMessage[], live: ChatMessage | null): readonly ChatMessage[] {
  if (live === null) return messages;
  const at = messages.findLastIndex((message) => message.id === live.id);
  return at < 0 ? messages : messages.with(at, live);
}
