/** One HTTP exchange whose answer is a stream, with limits on how long it may be silent. */

import { type RequestParts, request } from "./http.ts";
import type { Settings } from "./options.ts";

/** How long the proper end of a stream is waited for, behind its last event; it lets the connection be used again. */
const DRAIN_MS = 1_000;

export class Connection {
  readonly #settings: Settings;
  readonly #outer: AbortSignal;
  readonly #own = new AbortController();
  #reader: ReadableStreamDefaultReader<Uint8Array> | null = null;

  /** @param outer Ends the exchange at once. */
  constructor(settings: Settings, outer: AbortSignal) {
    this.#settings = settings;
    this.#outer = outer;
  }

  /** Send the request; throws what `fetch` throws, and where no answer begins within `answerMs`. */
  async ask(parts: RequestParts): Promise<Response> {
    const { answerMs } = this.#settings.retry;
    return await this.within(answerMs, request(this.#settings, { ...parts, signal: this.#own.signal }));
  }

  /** Begin to read a stream's body. */
  begin(response: Response): void {
    this.#reader = response.body?.getReader() ?? null;
  }

  /** Return the next piece, `null` at the end; throws where it is cut, and where no byte comes for `silenceMs`. */
  async read(): Promise<Uint8Array | null> {
    if (this.#reader === null) return null;
    const { done, value } = await this.within(this.#settings.retry.silenceMs, this.#reader.read());
    return done ? null : value;
  }

  /** Wait for `work` no longer than `limitMs`, and end the exchange where it takes longer. */
  async within<T>(limitMs: number, work: Promise<T>): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const release = this.#settings.clock.after(limitMs, () => fail(new Error(`nothing came for ${limitMs} ms`)));
      const onAbort = (): void => fail(this.#outer.reason);
      const finish = (): void => {
        release();
        this.#outer.removeEventListener("abort", onAbort);
      };
      const fail = (reason: unknown): void => {
        finish();
        this.close();
        reject(reason);
      };
      this.#outer.addEventListener("abort", onAbort);
      work.then(
        (value) => {
          finish();
          resolve(value);
        },
        (reason: unknown) => {
          finish();
          reject(reason);
        },
      );
      if (this.#outer.aborted) onAbort();
    });
  }

  /** Let go of a stream whose last event was read: its end is near, and is read in the background. */
  drain(): void {
    const release = this.#settings.clock.after(DRAIN_MS, () => this.close());
    const readOn = async (): Promise<void> => {
      while (this.#reader !== null && !(await this.#reader.read()).done);
    };
    readOn().then(release, release);
  }

  /** End the exchange; it may have ended already. */
  close(): void {
    this.#own.abort();
    this.#reader?.cancel().catch(() => {});
    this.#reader = null;
  }
}
