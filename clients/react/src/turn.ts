/** The reply that a store is reading: what its stream told so far, as a message. */

import type { ChatEvent, Open, Reconnected, Reconnecting, ReplyMessage } from "@legato/client";

import { EMPTY_REPLY, foldEvents, overlay, replaced } from "./apply.ts";
import { type OpenStream, Reading } from "./reading.ts";
import { type Scheduler, SLICE_CHARS } from "./schedule.ts";
import type { ChatMessage, ChatStatus } from "./types.ts";

/** A reply of which more than this is known when it is joined is shown from its beginning, in slices. */
const AT_ONCE_CHARS = 4 * SLICE_CHARS;

export interface TurnHost {
  /** The server has answered: the reply's ids are known. */
  opened(turn: Turn, open: Open): void;
  /** The message or the connection changed. */
  changed(): void;
  /** Everything was shown. `error` is null where the stream came to its own end. */
  ended(turn: Turn, error: unknown): void;
}

/** Reads from its making until its end or `abort`. */
export class Turn {
  readonly #reading: Reading;
  readonly #host: TurnHost;
  #message: ChatMessage;
  #reply: ReplyMessage = EMPTY_REPLY;
  #opened = false;
  #connection: Exclude<ChatStatus, "idle" | "error">;
  /** So much of the reply is shown already: what is told again of it stays hidden until it is past that. */
  #known: number;

  /** @param node What the tree knows of the reply. */
  constructor(
    node: ChatMessage,
    open: OpenStream,
    scheduler: Scheduler,
    host: TurnHost,
  ) {
    this.#host = host;
    this.#connection = node.runId === null ? "submitting" : "streaming";
    const long = node.content.length > AT_ONCE_CHARS;
    this.#known = long ? 0 : node.content.length;
    this.#message = long ? overlay(node, { ...EMPTY_REPLY, runId: node.runId }) : node;
    this.#reading = new Reading(open, scheduler, {
      opened: (event) => this.#open(event),
      connection: (event) => this.#connected(event),
      take: (events) => this.#take(events),
      ended: (error) => host.ended(this, error),
    });
  }

  /** The reply as far as it is shown. */
  get message(): ChatMessage {
    return this.#message;
  }

  /** Whether the server has answered. */
  get opened(): boolean {
    return this.#opened;
  }

  get connection(): Exclude<ChatStatus, "idle" | "error"> {
    return this.#connection;
  }

  get runId(): string | null {
    return this.#reply.runId ?? this.#message.runId;
  }

  /** The reply's id, as the stream tells it. */
  get replyId(): string | null {
    return this.#reply.id;
  }

  get conversationId(): string | null {
    return this.#reply.conversationId;
  }

  /** Take over what the tree has learnt of the message: its id, its siblings, its feedback. */
  rebase(node: ChatMessage | undefined): void {
    if (node !== undefined) this.#message = replaced(this.#message, node);
  }

  /** Stop the reply itself; throws a LegatoError where the server refuses, or does not come back. */
  stop(): Promise<void> {
    return this.#reading.stop();
  }

  /** Stop reading; the reply itself goes on. */
  abort(): void {
    this.#reading.abort();
  }

  #open(event: Open): void {
    this.#opened = true;
    this.#connection = "streaming";
    this.#reply = foldEvents(this.#reply, [event]);
    if (this.#known === 0) this.#message = overlay(this.#message, this.#reply);
    this.#host.opened(this, event);
  }

  #connected(event: Reconnecting | Reconnected): void {
    const before = this.#connection;
    this.#connection = event.type === "reconnecting" ? "reconnecting" : this.#opened ? "streaming" : "submitting";
    if (this.#connection !== before) this.#host.changed();
  }

  #take(events: readonly ChatEvent[]): void {
    if (events.some((event) => event.type === "reconnected" && event.restarted)) this.#known = 0;
    const reply = foldEvents(this.#reply, events);
    if (reply === this.#reply) return;
    this.#reply = reply;
    const behind = reply.text.length < this.#known && (reply.status === "running" || reply.status === "queued");
    if (behind) return;
    this.#known = 0;
    this.#message = overlay(this.#message, reply);
    this.#host.changed();
  }
}
