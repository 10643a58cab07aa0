/** One reply being read: the stream's events, told in slices, until its end. */

import type { ChatEvent, Open, Reconnected, Reconnecting, ReplyStream } from "@legato/client";

import { isAbort } from "./problem.ts";
import { type Scheduler, SliceQueue } from "./schedule.ts";

/** After so long without a pause the page is let breathe while a long replay comes in. */
const BREATH_MS = 12;

export interface ReadingTarget {
  /** The server has answered; nothing was told before. */
  opened(open: Open): void;
  /** The connection was cut, or is back; told at once, ahead of text that still waits for its slice. */
  connection(event: Reconnecting | Reconnected): void;
  /** The next events of the reply, in order. */
  take(events: readonly ChatEvent[]): void;
  /** Nothing more comes. `error` is null where the stream came to its own end. Not called after `abort`. */
  ended(error: unknown): void;
}

/** Makes the stream that is to be read. */
export type OpenStream = (signal: AbortSignal) => ReplyStream | Promise<ReplyStream>;

/** Reads from its making on. */
export class Reading {
  readonly #scheduler: Scheduler;
  readonly #target: ReadingTarget;
  readonly #queue: SliceQueue<ChatEvent>;
  readonly #stop = new AbortController();
  #stream: Promise<ReplyStream> | null = null;
  #error: unknown = null;

  constructor(open: OpenStream, scheduler: Scheduler, target: ReadingTarget) {
    this.#scheduler = scheduler;
    this.#target = target;
    this.#queue = new SliceQueue(scheduler, {
      size: (event) => (event.type === "chunk" || event.type === "reasoning" ? event.content.length : 0),
      take: (events) => target.take(events),
      ended: () => target.ended(this.#error),
    });
    void this.#read(open);
  }

  /** Stop the reply itself; throws a LegatoError where the server refuses, or does not come back. */
  async stop(): Promise<void> {
    // Reading waits for the stream too, and began to before: it is being iterated over by now.
    const stream = await this.#stream?.catch(() => null);
    await stream?.stop();
  }

  /** Stop reading; the reply itself goes on. */
  abort(): void {
    this.#queue.close();
    this.#stop.abort();
  }

  async #read(open: OpenStream): Promise<void> {
    const { signal } = this.#stop;
    try {
      let since = this.#scheduler.now();
      this.#stream = Promise.resolve(open(signal));
      for await (const event of await this.#stream) {
        if (signal.aborted) return;
        this.#told(event);
        if (this.#scheduler.now() - since > BREATH_MS) {
          await new Promise<void>((resolve) => this.#scheduler.after(0, resolve));
          since = this.#scheduler.now();
        }
      }
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      this.#error = error;
    }
    if (!signal.aborted) this.#queue.end();
  }

  #told(event: ChatEvent): void {
    if (event.type === "open") return this.#target.opened(event);
    if (event.type === "reconnecting" || event.type === "reconnected") this.#target.connection(event);
    // A restart forgets what came before it, so it keeps its place among the events.
    if (event.type !== "reconnecting") this.#queue.push(event);
  }
}
