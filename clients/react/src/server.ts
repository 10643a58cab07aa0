/** What a store asks of the server, over `@legato/client`. */

import {
  ChatClient,
  type ChatRequest,
  type ClientOptions,
  type ConversationChange,
  type ConversationOut,
  LegatoApi,
  LegatoError,
  type MessageOut,
  type NewConversation,
  type ReplyStream,
} from "@legato/client";

import { messageOfRow } from "./apply.ts";
import type { ChatMessage, SendOptions } from "./types.ts";

export type MessageRow = MessageOut;

/** Most messages that the server gives at a time. */
const MOST = 200;
/** The newest page asks for so many more: replies that are being made are not counted yet. */
const SLACK = 10;

/** The newest messages of a branch, oldest first, without a gap. */
export interface Tail {
  readonly conversation: ConversationOut;
  readonly messages: readonly ChatMessage[];
}

export class Server {
  readonly #api: LegatoApi;
  readonly #chat: ChatClient;
  /** The changes that are on their way: of two at once the server may take the later first. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(sessionId: string | undefined, conversationId: string | null, options: ClientOptions) {
    this.#api = new LegatoApi(options);
    this.#chat = new ChatClient(sessionId, conversationId, options);
  }

  /**
   * Post a message; with `parentId` it begins another branch behind that reply, `null` being before all.
   *
   * It goes behind all changes: it follows the branch, and has the settings, that they leave.
   */
  async send(
    given: { text: string; conversationId: string | null; key: string; parentId?: string | null; options: SendOptions },
    signal: AbortSignal,
  ): Promise<ReplyStream> {
    const { text, conversationId, key, parentId, options } = given;
    const request: ChatRequest = {
      message: text,
      requestId: key,
      ...options,
      ...(conversationId === null ? {} : { conversationId }),
      ...(parentId === undefined ? {} : { parentId }),
    };
    await this.#changes;
    return this.#chat.stream(request, { signal });
  }

  async regenerate(
    messageId: string,
    key: string,
    options: SendOptions,
    signal: AbortSignal,
  ): Promise<ReplyStream> {
    const { metadata: _, ...settings } = options;
    await this.#changes;
    return this.#chat.regenerate(messageId, { requestId: key, ...settings }, { signal });
  }

  follow(runId: string, signal: AbortSignal): ReplyStream {
    return this.#chat.follow(runId, { signal });
  }

  decide(runId: string, callId: string, granted: boolean, reason?: string): Promise<void> {
    return this.#chat.decide(runId, callId, granted, reason);
  }

  /** Return the ids of the messages that a run belongs to. */
  async run(runId: string): Promise<{ readonly messageId: string; readonly userMessageId: string }> {
    return await this.#api.runs.get(runId);
  }

  async create(settings: NewConversation): Promise<ConversationOut> {
    return await this.#api.conversations.create(settings);
  }

  async remove(id: string): Promise<void> {
    await this.#api.conversations.remove(id);
  }

  /** Return the conversation, or null where there is none. */
  async conversation(id: string): Promise<ConversationOut | null> {
    try {
      return await this.#api.conversations.get(id);
    } catch (error) {
      if (error instanceof LegatoError && error.status === 404) return null;
      throw error;
    }
  }

  change(id: string, changes: ConversationChange): Promise<ConversationOut> {
    return this.#inTurn(() => this.#api.conversations.update(id, changes));
  }

  feedback(messageId: string, thumb: "up" | "down" | null, reason: string | null): Promise<MessageOut> {
    return this.#inTurn(() => this.#api.messages.feedback(messageId, thumb, reason ?? undefined));
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#changes.then(change);
    this.#changes = done.catch(() => undefined);
    return done;
  }

  /** Return messages of the branch that ends in `leafId`: at most `limit` (1 to 200) behind the first `after` ones. */
  async page(id: string, leafId: string, after: number, limit: number): Promise<readonly ChatMessage[]> {
    const { messages } = await this.#api.conversations.messages(id, { leafId, cursor: after, limit });
    return messages.map((row, index) => messageOfRow(row, after + index + 1));
  }

  /**
   * Return the newest messages of a branch, at least `size` where it has as many; size is 1 to 150.
   *
   * The server pages from the oldest on, and does not tell how long a branch is: `count`, the messages of all branches,
   * is the first guess, and where it lies past the end the place is searched by halves.
   */
  async tail(id: string, leafId: string, count: number, size: number): Promise<readonly ChatMessage[]> {
    const limit = Math.min(MOST, size + SLACK);
    let [from, behind, past] = [Math.max(0, count - size), 0, Infinity];
    let found: readonly ChatMessage[] = [];
    for (;;) {
      const page = await this.page(id, leafId, from, limit);
      if (page.length === 0 && from === 0) return [];
      if (page.length === 0) {
        past = from;
        // The page before the empty one was full and ended there.
        if (found.at(-1)?.depth === from) break;
        found = [];
      } else {
        found = found.at(-1)?.depth === from ? [...found, ...page] : page;
        behind = from + page.length;
        if (page.length < limit) break;
      }
      from = past === Infinity ? behind : Math.max(behind, Math.ceil((behind + past) / 2 - size / 2));
      if (from >= past) break;
    }
    const short = size - found.length;
    const first = found[0] === undefined ? behind : found[0].depth - 1;
    if (short <= 0 || first === 0) return found;
    const older = await this.page(id, leafId, Math.max(0, first - short), Math.min(short, first));
    return [...older, ...found];
  }

  /**
   * Return the newest reply at or below a message, whichever branch it is in; null where there is none.
   *
   * Reads the whole conversation: it is asked only for a branch that was never shown here.
   */
  async leafBelow(id: string, messageId: string): Promise<string | null> {
    const { messages } = await this.#api.conversations.exportOne(id);
    const newest = new Map<string, { id: string; role: string }>();
    for (const row of messages) newest.set(row.parentId ?? "", row);
    let leaf = messages.find((row) => row.id === messageId) as { id: string; role: string } | undefined;
    for (let below = leaf; below !== undefined; below = newest.get(below.id)) leaf = below;
    return leaf?.role === "assistant" ? leaf.id : null;
  }
}
