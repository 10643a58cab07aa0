/**
 * Server-sent events, read from bytes that arrive in any pieces.
 *
 * Pure. By the standard's rules: LF, CRLF and CR end a line, in any mix; pieces are cut anywhere, also inside a UTF-8
 * sequence or between CR and LF; one byte order mark at the beginning is dropped; U+2028 ends no line; a block without
 * the empty line that ends it is no event. The cases of protocol/sse.json hold for every parser of the project.
 *
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */

import { LegatoError } from "./errors.ts";

export interface SseEvent {
  /** What `event:` said; `message` where nothing did. */
  readonly name: string;
  /** The lines of `data:`, joined by LF. */
  readonly data: string;
  /**
   * The event's own `id:`, `null` where it brought none. A cursor must not live on as the standard's last id does: an
   * event without one would be taken for the event before it.
   */
  readonly id: string | null;
  /** The standard's last event id: that of this event or of an earlier one, empty where there was none. */
  readonly lastEventId: string;
}

/** Most UTF-16 units of one event: what is longer is no event of this protocol, and would fill the memory. */
const MOST_UNITS = 32 * 1024 * 1024;

/** One parser a connection. */
export class SseParser {
  /** What `retry:` said last: milliseconds, `null` where nothing did. */
  retryMs: number | null = null;
  /** The mark at the beginning is dropped here: a decoder of some runtimes drops a second one too. */
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #begun = false;
  /** Pieces of a line whose end has not come: joined once, so that a long line in small pieces costs no copies. */
  #rest: string[] = [];
  /** UTF-16 units of `#rest` and `#data`. */
  #units = 0;
  #skipLf = false;
  #name = "";
  #data: string[] = [];
  #id: string | null = null;
  #lastId = "";

  /** Return the events that `piece` completes, oldest first. */
  feed(piece: Uint8Array): SseEvent[] {
    let text = this.#decoder.decode(piece, { stream: true });
    if (text === "") return [];
    if (!this.#begun && text.startsWith("\ufeff")) text = text.slice(1);
    this.#begun = true;
    const events: SseEvent[] = [];
    // A CR at the very end of a piece has ended its line; an LF that follows belongs to it.
    let from = this.#skipLf && text.startsWith("\n") ? 1 : 0;
    this.#skipLf = text.endsWith("\r");
    const lineEnd = /\r\n|\n|\r/g;
    lineEnd.lastIndex = from;
    for (let end = lineEnd.exec(text); end !== null; end = lineEnd.exec(text)) {
      this.#rest.push(text.slice(from, end.index));
      const line = this.#rest.length === 1 ? (this.#rest[0] as string) : this.#rest.join("");
      this.#rest = [];
      from = lineEnd.lastIndex;
      const event = this.#take(line);
      if (event !== null) events.push(event);
    }
    if (from < text.length) {
      this.#rest.push(text.slice(from));
      this.#count(text.length - from);
    }
    return events;
  }

  #take(line: string): SseEvent | null {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const after = colon < 0 ? line.length : colon + 1;
    const value = line.slice(line[after] === " " ? after + 1 : after);
    switch (field) {
      case "event":
        this.#name = value;
        break;
      case "data":
        this.#data.push(value);
        // An empty line costs memory too.
        this.#count(value.length + 16);
        break;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        break;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.retryMs = Number(value);
        break;
    }
    return null;
  }

  #dispatch(): SseEvent | null {
    const id = this.#id;
    if (id !== null) this.#lastId = id;
    const event =
      this.#data.length === 0
        ? null
        : { name: this.#name || "message", data: this.#data.join("\n"), id, lastEventId: this.#lastId };
    this.#name = "";
    this.#data = [];
    this.#id = null;
    this.#units = 0;
    return event;
  }

  #count(units: number): void {
    this.#units += units;
    if (this.#units > MOST_UNITS) {
      throw new LegatoError("an event of the stream is longer than 32 Mi characters", { code: "bad_stream" });
    }
  }
}
