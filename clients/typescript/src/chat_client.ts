/** One conversation, from the reader's side: messages go in, replies come out. */

import { TextDelivery } from "./delivery.ts";
import { LegatoError } from "./errors.ts";
import { newId } from "./ids.ts";
import { type ClientOptions, type Settings, settle } from "./options.ts";
import type { ReplySource } from "./reply_source.ts";
import { ReplyStream } from "./reply_stream.ts";
import { decide } from "./send.ts";

/** A message and how it is to be answered; what is left out the server decides. */
export interface ChatRequest {
  readonly message: string;
  /** A label for statistics and limits; by default the client's. */
  readonly sessionId?: string;
  /** By default the client's. */
  readonly conversationId?: string;
  /** The reply that this message follows: an edit is a sibling of what follows it. `null` makes a new first message. */
  readonly parentId?: string | null;
  readonly systemPrompt?: string | null;
  readonly model?: string | null;
  /** 0 to 2. */
  readonly temperature?: number | null;
  /** 1 to 1,000,000 output tokens. */
  readonly maxTokens?: number | null;
  /** Kept with the message; 16 KiB of JSON at most. */
  readonly metadata?: Readonly<Record<string, unknown>> | null;
  /** Idempotency key, made by the client by default. A repeat under the same key within 24 h is the same turn. */
  readonly requestId?: string;
}

/** How a further reply to the same message is to be made. */
export type RegenerateRequest = Pick<
  ChatRequest,
  "sessionId" | "systemPrompt" | "model" | "temperature" | "maxTokens" | "requestId"
>;

export interface ReadOptions {
  /** Ends the reading, as `abort()` does; the reply goes on. */
  readonly signal?: AbortSignal;
}

export interface FollowOptions extends ReadOptions {
  /** `cursor` of the last event that is known; the whole reply without it. */
  readonly after?: string;
}

export class ChatClient {
  readonly #settings: Settings;
  readonly #sessionId: string;
  /** Sent with every message; made here, so that two messages at once begin one conversation. */
  readonly #conversationId: string;
  /** Whether the server has the conversation. */
  #isKnown: boolean;
  readonly #reading = new Set<ReplyStream>();

  /**
   * @param sessionId A label for statistics and limits, never a credential; made if absent.
   * @param conversationId A conversation to go on with; absent, the first message begins one.
   */
  constructor(sessionId?: string, conversationId?: string | null, options?: ClientOptions) {
    this.#settings = settle(options);
    this.#sessionId = sessionId || newId("s-");
    this.#conversationId = conversationId || newId("c-");
    this.#isKnown = Boolean(conversationId);
  }

  getSessionId(): string {
    return this.#sessionId;
  }

  /** Return the conversation's id, `null` before the server has taken its first message. */
  getConversationId(): string | null {
    return this.#isKnown ? this.#conversationId : null;
  }

  /**
   * Post a message and hand out the reply's text as it comes. Never rejects for what happens to the reply: it calls
   * exactly one of `onComplete` and `onError`, once, and resolves.
   *
   * A stopped reply is complete. Reading that `abort()` ended is an error. Text that a reconnect tells again is not
   * handed out again. An error thrown by `onChunk` ends the reading and goes to `onError`.
   */
  async sendMessage(
    message: string,
    onChunk: (text: string) => void,
    onComplete: () => void,
    onError: (error: string) => void,
  ): Promise<void> {
    let failure: string | null;
    try {
      failure = await this.#deliver(this.stream(message), onChunk);
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    if (failure === null) onComplete();
    else onError(failure);
  }

  /** Post a message, and return the events of its reply; nothing is sent before they are iterated over. */
  stream(request: string | ChatRequest, options: ReadOptions = {}): ReplyStream {
    const { requestId, ...asked } = typeof request === "string" ? { message: request } : request;
    const conversationId = asked.conversationId ?? this.#conversationId;
    const body = { ...asked, sessionId: asked.sessionId ?? this.#sessionId, conversationId };
    return this.#post("/chat/stream", body, requestId, options, () => {
      if (conversationId === this.#conversationId) this.#isKnown = true;
    });
  }

  /** Make a further reply to the message that this reply answers, as its sibling. */
  regenerate(messageId: string, request: RegenerateRequest = {}, options: ReadOptions = {}): ReplyStream {
    const { requestId, ...asked } = request;
    const path = `/messages/${encodeURIComponent(messageId)}/regenerate`;
    return this.#post(path, { ...asked, sessionId: asked.sessionId ?? this.#sessionId }, requestId, options);
  }

  /** Read a reply that is being made, or was: from its first event on, or from a cursor. */
  follow(runId: string, options: FollowOptions = {}): ReplyStream {
    return this.#read({ kind: "follow", runId, after: options.after ?? null }, options.signal);
  }

  /** Decide on a tool call that waits for a person. Throws a LegatoError: 409 where it was decided before. */
  async decide(runId: string, callId: string, granted: boolean, reason?: string): Promise<void> {
    await decide(this.#settings, runId, callId, granted, reason);
  }

  /** Stop reading all replies; they go on, and can be followed. */
  abort(): void {
    for (const reply of this.#reading) reply.abort();
  }

  /** Stop the replies themselves: what they said is kept, and they end as complete. See ReplyStream.stop. */
  async stop(): Promise<void> {
    await Promise.all([...this.#reading].map((reply) => reply.stop()));
  }

  async #deliver(reply: ReplyStream, onChunk: (text: string) => void): Promise<string | null> {
    const delivery = new TextDelivery();
    for await (const event of reply) {
      if (event.type === "reconnected" && event.restarted) delivery.restart();
      if (event.type === "chunk") {
        const text = delivery.take(event.content);
        if (text !== "") onChunk(text);
      }
      if (event.type === "error") return event.error;
      if (event.type === "complete") delivery.end();
    }
    return null;
  }

  #post(
    path: string,
    body: unknown,
    requestId: string | undefined,
    options: ReadOptions,
    onOpen?: () => void,
  ): ReplyStream {
    return this.#read({ kind: "post", path, body, key: requestId ?? newId("k-") }, options.signal, onOpen);
  }

  #read(source: ReplySource, signal?: AbortSignal, onOpen: () => void = () => {}): ReplyStream {
    return new ReplyStream(this.#settings, source, signal, {
      onStart: (reply) => void this.#reading.add(reply),
      onOver: (reply) => void this.#reading.delete(reply),
      onOpen,
    });
  }
}

/** Whether an error is one of Legato's, of this code if one is given. */
export function isLegatoError(error: unknown, code?: string): error is LegatoError {
  return error instanceof LegatoError && (code === undefined || error.code === code);
}
