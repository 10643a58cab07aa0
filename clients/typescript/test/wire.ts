/** A server of a few lines, as a `fetch`: it answers from a script, and notes what it was asked. */

import { ChatClient } from "../src/chat_client.ts";
import type { ChatEvent } from "../src/events.ts";
import type { ClientOptions } from "../src/options.ts";
import type { ReplyStream } from "../src/reply_stream.ts";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: Record<string, unknown> | null;
}

/** Blocks of a stream, then how it goes on. */
export interface Scripted {
  readonly blocks?: readonly string[];
  /** Sent behind the blocks, as it is. */
  readonly torn?: string;
  /** `cut`: the connection breaks; `end`: it ends properly; `silent`: it stays open and says nothing. */
  readonly then?: "cut" | "end" | "silent";
  readonly headers?: Record<string, string>;
  readonly status?: number;
  readonly body?: string;
  /** No answer at all. */
  readonly lost?: boolean;
  /** An answer that never begins. */
  readonly hangs?: boolean;
}

export const IDS = { "x-run-id": "r-1", "x-message-id": "m-2", "x-conversation-id": "c-1", "x-session-id": "s-1" };

export function chunk(seq: number, content: string, run = "r-1"): string {
  return `event: chunk\nid: ${run}.0.${seq}\ndata: ${JSON.stringify({ content, index: seq, conversationId: "c-1" })}`;
}

export function complete(seq: number): string {
  const data = { conversationId: "c-1", runId: "r-1", messageId: "m-2", finishReason: "stop" };
  return `event: complete\nid: r-1.0.${seq}\ndata: ${JSON.stringify(data)}`;
}

export function failure(seq: number): string {
  const data = { error: "the model is away", code: "upstream_broken", retryable: true };
  return `event: error\nid: r-1.0.${seq}\ndata: ${JSON.stringify(data)}`;
}

/** Time that passes at once: each wait is noted, and is over. */
export class FastClock {
  readonly waits: number[] = [];
  /** Waits as long as these are over at once; others never are. */
  readonly isOver: (delayMs: number) => boolean;
  #nowMs = 0;

  constructor(isOver: (delayMs: number) => boolean = (delayMs) => delayMs < 20_000) {
    this.isOver = isOver;
  }

  now(): number {
    return this.#nowMs;
  }

  after(delayMs: number, action: () => void): () => void {
    if (!this.isOver(delayMs)) return () => {};
    this.waits.push(delayMs);
    this.#nowMs += delayMs;
    const timer = setTimeout(action, 0);
    return () => clearTimeout(timer);
  }
}

export class ScriptedServer {
  readonly asked: Asked[] = [];
  readonly clock: FastClock;
  readonly #script: Scripted[];

  constructor(script: readonly Scripted[], clock = new FastClock()) {
    this.#script = [...script];
    this.clock = clock;
  }

  /** Options with which a client reaches this server; drains of a second are not waited for. */
  options(more: ClientOptions = {}): ClientOptions {
    return { baseUrl: "http://server.test", fetch: this.fetch, clock: this.clock, random: () => 0.5, ...more };
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const headers = Object.fromEntries(new Headers(init?.headers));
    const body = typeof init?.body === "string" ? (JSON.parse(init.body) as Record<string, unknown>) : null;
    const path = String(input).replace("http://server.test", "");
    this.asked.push({ method: init?.method ?? "GET", path, headers, body });
    const next = this.#script.shift();
    if (next === undefined) throw new Error(`nobody expected ${init?.method} ${path}`);
    if (next.lost) throw new TypeError("fetch failed");
    if (next.hangs) return await new Promise(() => {});
    const status = next.status ?? 200;
    if (next.blocks === undefined) return new Response(next.body ?? null, { status, headers: { ...next.headers } });
    return new Response(stream(next), {
      status,
      headers: { "content-type": "text/event-stream; charset=utf-8", ...(next.headers ?? IDS) },
    });
  };
}

function stream({ blocks = [], torn = "", then = "end" }: Scripted): ReadableStream<Uint8Array> {
  const texts = [...[": ok", ...blocks].map((block) => `${block}\n\n`), ...(torn === "" ? [] : [torn])];
  const pieces = texts.map((text) => new TextEncoder().encode(text));
  return new ReadableStream({
    pull(controller) {
      const piece = pieces.shift();
      if (piece !== undefined) controller.enqueue(piece);
      else if (then === "end") controller.close();
      else if (then === "cut") controller.error(new TypeError("terminated"));
      else return new Promise(() => {});
      return undefined;
    },
  });
}

/** What was read, and how it ended: `null`, or the code that was thrown. */
export async function readAll(
  reply: ReplyStream,
): Promise<{ events: ChatEvent[]; text: string; error: string | null }> {
  const events: ChatEvent[] = [];
  let error: string | null = null;
  try {
    for await (const event of reply) events.push(event);
  } catch (thrown) {
    error = (thrown as { code?: string }).code ?? String(thrown);
  }
  const text = events.map((event) => (event.type === "chunk" ? event.content : "")).join("");
  return { events, text, error };
}

/** The types of events, in one line. */
export function types(events: readonly ChatEvent[]): string {
  return events.map((event) => event.type).join(" ");
}

/** A server with its script, and a client of it. */
export function setUp(script: readonly Scripted[], clock?: FastClock): { server: ScriptedServer; client: ChatClient } {
  const server = new ScriptedServer(script, clock);
  return { server, client: new ChatClient("s-1", "c-1", server.options()) };
}

export const DIVERGED = { status: 409, body: '{"code":"cursor_diverged","detail":"no such place"}' };
export const BUSY = {
  status: 503,
  body: '{"code":"draining","detail":"the server is shutting down","retryable":true}',
};
