/**
 * One reply, read to its one end whatever happens to the connection or to the server meanwhile.
 *
 * What is to be done when is decided by the table of reconnect.ts alone; this file does it.
 */

import { unreachable } from "./address.ts";
import { sleep } from "./clock.ts";
import { Connection } from "./connection.ts";
import { reconnectDelay } from "./delay.ts";
import { LegatoError } from "./errors.ts";
import type { ChatEvent, WireEvent } from "./events.ts";
import { fold } from "./fold.ts";
import { headerId } from "./ids.ts";
import { isReply, judge } from "./judge.ts";
import { EMPTY_REPLY, type ReplyMessage } from "./message.ts";
import type { Settings } from "./options.ts";
import { parseCursor, readEvent } from "./read_event.ts";
import { type Action, type EventName, type State, step } from "./reconnect.ts";
import { type ReplySource, requestOf } from "./reply_source.ts";
import { SseParser } from "./sse.ts";
import { askForStop } from "./stop.ts";

/** What else is to know of a reply that is read. */
export interface ReplyHooks {
  /** The reading begins. */
  readonly onStart?: (reply: ReplyStream) => void;
  /** The ids are known. */
  readonly onOpen?: (reply: ReplyStream) => void;
  /** The reading is over, however. */
  readonly onOver?: (reply: ReplyStream) => void;
}

/** Most times that a reader begins anew: a server whose cursors are never its own would be asked for ever. */
const MOST_RESTARTS = 5;

/**
 * The events of one reply. Iterate over it once; nothing is sent before that.
 *
 * The iteration ends after the reply's `complete` or `error`, and otherwise throws a LegatoError: a connection's end is
 * never that of a reply. Leaving the loop, or `abort()`, ends the reading; the reply itself goes on.
 */
export class ReplyStream implements AsyncIterable<ChatEvent> {
  /** Known after the first event, as the other ids are. */
  runId: string | null = null;
  messageId: string | null = null;
  conversationId: string | null = null;
  sessionId: string | null = null;
  /** Where to go on from, with `follow`: behind the last event that was handed out. */
  cursor: string | null = null;

  readonly #settings: Settings;
  readonly #source: ReplySource;
  readonly #hooks: ReplyHooks;
  readonly #abort = new AbortController();
  readonly #events: AsyncGenerator<ChatEvent, void, undefined>;
  readonly #named: Promise<void>;
  #tellNamed: () => void = () => {};
  #state: State = "idle";
  #iterated = false;
  /** Whether a stream was ever opened. */
  #answered = false;
  #error: LegatoError | null = null;
  #connection: Connection | null = null;
  #parser = new SseParser();
  #unread: WireEvent[] = [];
  /** Failed tries since the last event. */
  #attempt = 0;
  #askedMs = 0;
  #restarts = 0;
  #restarting = false;
  /** Whether `cursor` is of an event that was read here. */
  #isOwnCursor = false;
  #seq = -1;

  constructor(settings: Settings, source: ReplySource, signal?: AbortSignal, hooks: ReplyHooks = {}) {
    this.#settings = settings;
    this.#source = source;
    this.#hooks = hooks;
    this.#named = new Promise((resolve) => {
      this.#tellNamed = resolve;
    });
    if (source.kind === "follow") {
      this.runId = source.runId;
      this.cursor = source.after;
      this.#seq = parseCursor(source.after)?.seq ?? -1;
      this.#tellNamed();
    }
    if (signal?.aborted) this.#abort.abort();
    const onAbort = (): void => this.#abort.abort();
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#events = this.#run(() => signal?.removeEventListener("abort", onAbort));
  }

  /** Whether the reply's end was read, or reading has failed or was given up. */
  get isOver(): boolean {
    return this.#state === "ended" || this.#state === "failed" || this.#state === "aborted";
  }

  [Symbol.asyncIterator](): AsyncIterator<ChatEvent, void, undefined> {
    if (this.#iterated) throw new TypeError("a reply is read once: fold its events, or call follow(runId)");
    this.#iterated = true;
    return this.#events;
  }

  /** Read the reply to its end and return it, failed or not. Throws where it cannot be read. */
  async message(): Promise<ReplyMessage> {
    let message = EMPTY_REPLY;
    for await (const event of this) message = fold(message, event);
    return message;
  }

  /** Stop reading; the reply goes on, and can be followed again. The iteration throws `aborted`. */
  abort(): void {
    this.#abort.abort();
    if (!this.#iterated) this.#go("abort");
  }

  /**
   * Stop the reply itself: what it said is kept, and it ends with `complete`, `finishReason: "stopped"`.
   *
   * Resolves once the server has it on disk, or the reply is over. Throws a LegatoError where the server refuses, or
   * does not come back.
   */
  async stop(): Promise<void> {
    if (!this.#iterated) return this.abort();
    await this.#named;
    if (this.runId !== null) await askForStop(this.#settings, this.runId, () => this.isOver, this.#abort.signal);
  }

  async *#run(release: () => void): AsyncGenerator<ChatEvent, void, undefined> {
    try {
      if (this.isOver) throw this.#error;
      this.#hooks.onStart?.(this);
      let action = this.#go(this.#source.kind);
      while (action !== "end" && action !== "fail") {
        if (this.#abort.signal.aborted) action = this.#go("abort");
        else if (action === "wait") action = yield* this.#wait();
        else if (action === "post" || action === "open" || action === "restart") action = yield* this.#connect(action);
        else action = yield* this.#read();
      }
      if (action === "fail") throw this.#error;
    } finally {
      release();
      this.#tellNamed();
      this.#connection?.close();
      if (!this.isOver) this.#go("abort");
      this.#hooks.onOver?.(this);
    }
  }

  #go(event: EventName): Action {
    if (event === "abort") {
      this.#error = new LegatoError("reading was given up; the reply goes on", { code: "aborted", retryable: true });
    }
    const { to, action } = step(this.#state, event);
    this.#state = to;
    return action;
  }

  async *#wait(): AsyncGenerator<ChatEvent, Action, undefined> {
    const { clock, network, random, retry } = this.#settings;
    const most = this.#answered ? retry.maxAttempts : retry.maxFirstAttempts;
    // Tries without a network do not count: the reply is there when the network is.
    if (network.isOnline() && this.#attempt >= most) return this.#go("exhausted");
    this.#attempt = Math.min(this.#attempt + 1, most);
    const delayMs = reconnectDelay(this.#attempt, random(), this.#askedMs);
    this.#askedMs = 0;
    yield { type: "reconnecting", attempt: this.#attempt, delayMs };
    await sleep(delayMs, clock, network, this.#abort.signal);
    return this.#go(this.#abort.signal.aborted ? "abort" : "due");
  }

  async *#connect(action: "post" | "open" | "restart"): AsyncGenerator<ChatEvent, Action, undefined> {
    if (action === "restart") this.#forget();
    const connection = new Connection(this.#settings, this.#abort.signal);
    this.#connection = connection;
    let event: EventName;
    try {
      const response = await connection.ask(requestOf(this.#source, this.runId, this.cursor));
      event = await this.#take(response, connection);
    } catch (error) {
      event = this.#lost(error);
    }
    const next = this.#go(event);
    if (next !== "read") {
      connection.close();
      return next;
    }
    if (!this.#answered) {
      this.#answered = true;
      this.#hooks.onOpen?.(this);
      const { runId, messageId, conversationId, sessionId } = this;
      yield { type: "open", runId, messageId, conversationId, sessionId };
      if (this.#restarting) yield { type: "reconnected", restarted: true };
    } else {
      yield { type: "reconnected", restarted: this.#restarting };
    }
    this.#restarting = false;
    return next;
  }

  /** Return what an answer is, and take from it what is needed. */
  async #take(response: Response, connection: Connection): Promise<EventName> {
    const cursor = this.cursor === null ? "none" : this.#isOwnCursor ? "read" : "given";
    const method = this.runId === null ? "POST" : "GET";
    if (isReply(response)) this.#noteIds(response.headers);
    const asked = { method, isNamed: this.runId !== null, cursor } as const;
    const { event, error } = await connection.within(this.#settings.retry.answerMs, judge(response, asked));
    this.#error = error ?? this.#error;
    if (event === "opened" || event === "openedNamed") {
      connection.begin(response);
      this.#parser = new SseParser();
      this.#unread = [];
    }
    if (event === "refusedForNow") this.#askedMs = (error?.retryAfterS ?? 0) * 1000;
    if (event === "diverged" && (this.#restarts += 1) > MOST_RESTARTS) return "refused";
    return event;
  }

  /** Read on, and hand out one event. */
  async *#read(): AsyncGenerator<ChatEvent, Action, undefined> {
    const connection = this.#connection as Connection;
    const event = this.#unread.shift();
    if (event === undefined) {
      try {
        const piece = await connection.read();
        if (piece === null) return this.#go(this.#lost(null));
        this.#unread = this.#parser.feed(piece).map(readEvent);
      } catch (error) {
        return this.#go(this.#lost(error));
      }
      return "read";
    }
    const place = parseCursor(event.cursor);
    if (event.type === "error" && place === null) return this.#go(this.#refusedInStream(event));
    if (place !== null) {
      if (this.runId !== null && place.runId !== this.runId) return this.#go(this.#lost(otherRun(place.runId)));
      // A server may repeat itself, the reader must not.
      if (place.seq <= this.#seq) return "read";
      this.#seq = place.seq;
      this.cursor = event.cursor;
      this.#isOwnCursor = true;
      this.runId ??= place.runId;
      this.conversationId ??= event.conversationId;
      if (this.#state === "unnamed") this.#go("named");
      this.#tellNamed();
    }
    const isLast = event.type === "complete" || event.type === "error";
    const action = this.#go(isLast ? "terminal" : "progress");
    if (isLast) {
      connection.drain();
      this.#connection = null;
    } else if (action === "recover") {
      this.#attempt = 0;
      this.#error = null;
    }
    yield event;
    return action;
  }

  #noteIds(headers: Headers): void {
    this.runId ??= headerId(headers.get("x-run-id"));
    this.messageId ??= headerId(headers.get("x-message-id"));
    this.conversationId ??= headerId(headers.get("x-conversation-id"));
    this.sessionId ??= headerId(headers.get("x-session-id"));
    if (this.runId !== null) this.#tellNamed();
  }

  #refusedInStream(event: WireEvent & { type: "error" }): EventName {
    const { code, retryable } = event;
    this.#error = new LegatoError(event.error, { code, retryable });
    return retryable ? "refusedForNow" : "refused";
  }

  #lost(error: unknown): EventName {
    if (this.#abort.signal.aborted) return "abort";
    if (error instanceof LegatoError) {
      this.#error = error;
      return "refused";
    }
    this.#connection?.close();
    this.#askedMs = this.#parser.retryMs ?? 0;
    this.#error = unreachable(this.#settings.baseUrl, this.#answered, error);
    return "cut";
  }

  #forget(): void {
    this.cursor = null;
    this.#seq = -1;
    this.#isOwnCursor = false;
    this.#restarting = true;
  }
}

function otherRun(runId: string): LegatoError {
  return new LegatoError(`the stream has an event of another run, ${runId}`, { code: "bad_stream" });
}
