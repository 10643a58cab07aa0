/**
 * One conversation as a page shows it, without any framework: `subscribe` and `getSnapshot`, and what a person can do.
 *
 * Law: a snapshot is immutable, and a new one comes with every change, so that whoever compares snapshots is never
 * behind. All actions are bound, and stay the same for as long as the store lives.
 */

import type { ClientOptions, ConversationChange } from "@legato/client";

import { Loader } from "./loader.ts";
import { problemOf } from "./problem.ts";
import { systemScheduler } from "./schedule.ts";
import { Sender } from "./sender.ts";
import { Server } from "./server.ts";
import { State } from "./state.ts";
import { Tabs } from "./tabs.ts";
import { put } from "./tree.ts";
import type { ChatMessage, ChatProblem, ChatSnapshot, ConversationOptions, SendOptions } from "./types.ts";

const PAGE_SIZE = 50;
const MOST_PAGE_SIZE = 150;
/** What is read again for one turn alone. */
const TURN_SIZE = 4;
/** A page that is looked at again reads the conversation again, at most this often. */
const SEEN_MS = 2_000;

/** What a person can do. Nothing here throws or rejects: what could not be done is in the snapshot's `error`. */
export interface ChatActions {
  /** Sends a message; false where it is blank, or something else is being sent or read. */
  readonly send: (text: string, options?: SendOptions) => boolean;
  /** Does again what `error` says could not be done, or sends this unsent message again. */
  readonly retry: (messageId?: string) => void;
  /** Takes an unsent message back and returns its text; null where there is none. */
  readonly discard: (messageId: string) => string | null;
  /** Stops the reply itself; what it said is kept. */
  readonly stop: () => Promise<void>;
  /** Asks for another reply beside this one, by default the last; false as with `send`. */
  readonly regenerate: (messageId?: string, options?: SendOptions) => boolean;
  /** Sends another version of a message of the user, beside it; false as with `send`. */
  readonly edit: (messageId: string, text: string, options?: SendOptions) => boolean;
  /** Shows the branch through this message, one of a message's `siblings`, and makes it the active one. */
  readonly selectBranch: (messageId: string) => Promise<void>;
  readonly loadOlder: () => Promise<void>;
  /** Reads the newest messages again. */
  readonly refresh: () => Promise<void>;
  /** Says whether a reply was good; null takes it back. */
  readonly feedback: (messageId: string, thumb: "up" | "down" | null, reason?: string) => Promise<void>;
  /** Decides on a tool call that waits for a person. */
  readonly decide: (callId: string, granted: boolean, reason?: string) => Promise<void>;
  /** Changes the conversation: title, systemPrompt, model, pinned, archived and so on, as in its PATCH. */
  readonly change: (changes: ConversationChange) => Promise<void>;
  readonly dismissError: () => void;
}

/** Does nothing before `attach`, and leaves the reply alone after the last detach. */
export class ConversationStore implements ChatActions {
  readonly subscribe: (listener: () => void) => () => void;
  readonly getSnapshot: () => ChatSnapshot;
  readonly #state: State;
  readonly #server: Server;
  readonly #sender: Sender;
  readonly #loader: Loader;
  #options: ConversationOptions;
  #tabs: Tabs | null = null;
  #attached = 0;
  #seenAt = -Infinity;

  constructor(options: ConversationOptions = {}) {
    this.#options = options;
    const { conversationId = null, sessionId, pageSize = PAGE_SIZE, scheduler = systemScheduler } = options;
    const size = Math.max(1, Math.min(MOST_PAGE_SIZE, pageSize));
    this.#state = new State(conversationId);
    this.#server = new Server(sessionId, conversationId, this.#clientOptions());
    this.#sender = new Sender(this.#state, this.#server, {
      scheduler,
      newConversation: () => this.#options.newConversation?.() ?? null,
      changed: () => this.#tell(),
      reread: () => void this.#loader.refresh(TURN_SIZE),
    });
    this.#loader = new Loader(this.#state, this.#server, size, (runId, node) => this.#sender.follow(runId, node));
    this.subscribe = this.#state.subscribe;
    this.getSnapshot = this.#state.getSnapshot;
  }

  /** Takes over what may change without another store: headers, and settings of new conversations. */
  configure(options: ConversationOptions): void {
    this.#options = options;
  }

  /**
   * Begins to load, to follow and to listen to other tabs; returns what ends it. Counted: only the last detach ends it,
   * and not before the next task, so that a view that is unmounted and mounted again at once costs nothing.
   */
  attach(): () => void {
    this.#attached += 1;
    if (this.#attached === 1 && this.#tabs === null) this.#open();
    let attached = true;
    return () => {
      if (!attached) return;
      attached = false;
      this.#attached -= 1;
      if (this.#attached === 0) setTimeout(() => this.#attached === 0 && this.#close(), 0);
    };
  }

  /** Returns a known message, of whichever branch. */
  getMessage(id: string): ChatMessage | null {
    const { turn, tree } = this.#state;
    return turn?.message.id === id ? turn.message : (tree.nodes.get(id) ?? null);
  }

  readonly send: ChatActions["send"] = (text, options = {}) => this.#sender.send(text, options);

  readonly edit: ChatActions["edit"] = (messageId, text, options = {}) => this.#sender.edit(messageId, text, options);

  readonly regenerate: ChatActions["regenerate"] = (messageId, options = {}) =>
    this.#sender.regenerate(messageId, options);

  readonly retry: ChatActions["retry"] = (messageId) => {
    if (messageId !== undefined) return void this.#sender.resend(messageId);
    const again = this.#state.forgive();
    this.#state.emit();
    again?.();
  };

  readonly discard: ChatActions["discard"] = (messageId) => this.#sender.discard(messageId);

  readonly stop: ChatActions["stop"] = () => this.#sender.stop();

  readonly selectBranch: ChatActions["selectBranch"] = async (messageId) => {
    await this.#loader.select(messageId);
    this.#tell();
  };

  readonly loadOlder: ChatActions["loadOlder"] = () => this.#loader.older();

  readonly refresh: ChatActions["refresh"] = () => this.#loader.refresh();

  readonly feedback: ChatActions["feedback"] = async (messageId, thumb, reason) => {
    const before = this.#state.tree.nodes.get(messageId);
    if (before === undefined) return;
    const given = thumb === null ? null : { thumb, reason: reason ?? null, at: Date.now() };
    const rating = { feedback: given, until: Infinity };
    this.#state.rated.set(messageId, rating);
    const isLast = (): boolean => this.#state.rated.get(messageId) === rating;
    const show = (value: ChatMessage["feedback"]): void => {
      const node = this.#state.tree.nodes.get(messageId);
      if (node !== undefined) this.#state.tree = put(this.#state.tree, [{ ...node, feedback: value }]);
      this.#state.turn?.rebase(this.#state.tree.nodes.get(this.#state.turn.message.id));
      this.#state.emit();
    };
    show(given);
    try {
      const { feedback } = await this.#server.feedback(messageId, thumb, reason ?? null);
      // The answer to what was said before would take this back.
      if (isLast()) show(Object.assign(rating, { feedback, until: this.#state.reads }).feedback);
      this.#tell();
    } catch (error) {
      this.#fail(error, "feedback", () => void this.feedback(messageId, thumb, reason));
      if (!isLast()) return;
      this.#state.rated.delete(messageId);
      show(before.feedback);
    }
  };

  readonly decide: ChatActions["decide"] = async (callId, granted, reason) => {
    const { messages, runId } = this.getSnapshot();
    const reply = messages.findLast((message) => message.tools.some((call) => call.callId === callId));
    const run = reply?.runId ?? runId;
    if (run === null) return;
    try {
      await this.#server.decide(run, callId, granted, reason);
    } catch (error) {
      this.#fail(error, "approval", () => void this.decide(callId, granted, reason));
    }
  };

  readonly change: ChatActions["change"] = async (changes) => {
    const id = this.#state.conversationId;
    if (id === null) return;
    try {
      this.#state.conversation = await this.#server.change(id, changes);
      this.#state.emit();
      this.#tell();
    } catch (error) {
      this.#fail(error, "change", () => void this.change(changes));
    }
  };

  readonly dismissError: ChatActions["dismissError"] = () => {
    this.#state.forgive();
    this.#state.emit();
  };

  #open(): void {
    this.#tabs = new Tabs(this.#options.client?.baseUrl ?? "", {
      changed: (id) => void (id === this.#state.conversationId && !this.#state.busy && this.#loader.refresh()),
      seen: () => this.#look(),
      network: (online) => {
        this.#state.online = online;
        this.#state.emit();
        if (online) this.#look();
      },
    });
    this.#sender.stay();
    if (this.#state.conversationId !== null && !this.#state.busy) void this.#loader.refresh();
  }

  #close(): void {
    this.#tabs?.close();
    this.#tabs = null;
    this.#sender.leave();
  }

  /** Somebody looks at the page again: so may have another device, meanwhile. */
  #look(): void {
    const now = Date.now();
    if (this.#state.busy || now - this.#seenAt < SEEN_MS) return;
    this.#seenAt = now;
    void this.#loader.refresh();
  }

  #tell(): void {
    if (this.#state.conversationId !== null) this.#tabs?.tell(this.#state.conversationId);
  }

  #fail(error: unknown, during: ChatProblem["during"], again: () => void): void {
    this.#state.fail(problemOf(error, during, Date.now()), again);
    this.#state.emit();
  }

  /** Headers are asked for at each request, so that they are never those of an earlier moment. */
  #clientOptions(): ClientOptions {
    const headers = async (): Promise<Record<string, string>> => {
      const given = this.#options.client?.headers ?? {};
      return typeof given === "function" ? await given() : given;
    };
    return { ...this.#options.client, headers };
  }
}
