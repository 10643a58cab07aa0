/** All that a store knows, and the snapshot of it. */

import { isOnline } from "./tabs.ts";
import { EMPTY_TREE, type Tree } from "./tree.ts";
import type { Turn } from "./turn.ts";
import type { ChatMessage, ChatProblem, ChatSnapshot, ChatStatus, ConversationInfo, LoadState } from "./types.ts";
import { BranchView } from "./view.ts";

/** What was said of a message. */
interface Rating {
  feedback: ChatMessage["feedback"];
  until: number;
}

/** Fields are changed freely between two calls of `emit`; readers see them only then. */
export class State {
  tree: Tree = EMPTY_TREE;
  /** The reply that is being read. */
  turn: Turn | null = null;
  load: LoadState;
  loadingOlder = false;
  stopping = false;
  online = isOnline();
  conversationId: string | null;
  conversation: ConversationInfo | null = null;
  error: ChatProblem | null = null;
  /** What `retry` does about `error`. */
  again: (() => void) | null = null;
  /** Raised by whatever changes which branch is shown: what was asked for before that no longer decides it. */
  epoch = 0;
  /** How many reads were begun: what one tells may be older than what was said here meanwhile. */
  reads = 0;
  /** What was said of messages here, and the last read that may not know of it. */
  readonly rated = new Map<string, Rating>();

  readonly #listeners = new Set<() => void>();
  readonly #view = new BranchView();
  #snapshot: ChatSnapshot | null = null;

  constructor(conversationId: string | null) {
    this.conversationId = conversationId;
    this.load = conversationId === null ? "ready" : "loading";
  }

  get busy(): boolean {
    return this.turn !== null;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly getSnapshot = (): ChatSnapshot => {
    this.#snapshot ??= this.#make();
    return this.#snapshot;
  };

  /** Tells all listeners that something changed. */
  emit(): void {
    this.#snapshot = null;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Notes what could not be done, and what `retry` is to do about it. */
  fail(problem: ChatProblem, again: (() => void) | null): void {
    this.error = problem;
    this.again = again;
  }

  /** Forgets what could not be done; returns what `retry` was to do. */
  forgive(): (() => void) | null {
    const { again } = this;
    [this.error, this.again] = [null, null];
    return again;
  }

  #make(): ChatSnapshot {
    const { turn, load, loadingOlder, stopping, online, error, conversationId, conversation } = this;
    const status: ChatStatus = turn !== null ? turn.connection : error !== null ? "error" : "idle";
    return {
      ...this.#view.of(this.tree, turn?.message ?? null),
      load,
      loadingOlder,
      status,
      busy: this.busy,
      stopping,
      online,
      error,
      conversationId,
      conversation,
      runId: turn?.runId ?? null,
    };
  }
}
