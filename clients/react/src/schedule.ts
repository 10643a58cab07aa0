/**
 * When the store tells its readers: not for every token, but in slices, one a frame at most.
 *
 * Law: what is taken in comes out in the same order, and one slice never carries more than SLICE_CHARS of text, so that
 * a reply that arrives all at once is drawn in many short tasks instead of one long one.
 */

/** The clock that a store runs on; tests give one that they move by hand. */
export interface Scheduler {
  /** Milliseconds; only differences count. */
  now(): number;
  /** Calls `run` once after `delayMs`; returns what cancels it. */
  after(delayMs: number, run: () => void): () => void;
  /** Calls `run` once before the next frame is drawn; returns what cancels it. */
  frame(run: () => void): () => void;
}

/** Shortest time between two slices. */
export const BATCH_MS = 32;
/** Most text of one slice, in UTF-16 code units; one event that is longer is a slice of its own. */
export const SLICE_CHARS = 2_000;
/** Most events of one slice. */
export const SLICE_EVENTS = 500;
/** A hidden page is given no frames: after this time its slice is told without one. */
const HIDDEN_FRAME_MS = 250;

/** The browser's own clock; without animation frames (a server, a test) timers stand in for them. */
export const systemScheduler: Scheduler = {
  now: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
  frame(run) {
    if (typeof requestAnimationFrame !== "function") return systemScheduler.after(0, run);
    const hidden = typeof document !== "undefined" && document.hidden;
    let request = 0;
    const cancel = (): void => {
      cancelAnimationFrame(request);
      clearTimeout(timer);
    };
    const timer = setTimeout(
      () => {
        cancel();
        run();
      },
      hidden ? 0 : HIDDEN_FRAME_MS,
    );
    request = requestAnimationFrame(() => {
      cancel();
      run();
    });
    return cancel;
  },
};

/** What comes out of a queue. */
export interface SliceTarget<Item> {
  /** How much text an item brings, in UTF-16 code units. */
  size(item: Item): number;
  /** Takes the next items, at least one. */
  take(items: readonly Item[]): void;
  /** Called once, when everything has been taken and `end` was called. */
  ended(): void;
}

/** Items that wait for their slice. */
export class SliceQueue<Item> {
  readonly #scheduler: Scheduler;
  readonly #target: SliceTarget<Item>;
  #items: Item[] = [];
  #next = 0;
  #ending = false;
  #closed = false;
  #last: number;
  #cancel: (() => void) | null = null;

  constructor(scheduler: Scheduler, target: SliceTarget<Item>) {
    this.#scheduler = scheduler;
    this.#target = target;
    this.#last = scheduler.now() - BATCH_MS;
  }

  push(item: Item): void {
    this.#items.push(item);
    this.#plan();
  }

  /** Nothing more comes: `ended` is called behind the last slice. */
  end(): void {
    this.#ending = true;
    this.#plan();
  }

  /** Drops what waits; nothing is called any more. */
  close(): void {
    this.#closed = true;
    this.#cancel?.();
    this.#cancel = null;
    this.#items = [];
  }

  #plan(): void {
    if (this.#closed || this.#cancel !== null) return;
    const wait = Math.max(0, this.#last + BATCH_MS - this.#scheduler.now());
    const frame = (): void => {
      this.#cancel = this.#scheduler.frame(() => {
        this.#cancel = null;
        this.#flush();
      });
    };
    if (wait === 0) frame();
    else this.#cancel = this.#scheduler.after(wait, frame);
  }

  #flush(): void {
    this.#last = this.#scheduler.now();
    const slice = this.#slice();
    if (slice.length > 0) this.#target.take(slice);
    if (this.#closed) return;
    if (this.#items.length > 0) this.#plan();
    else if (this.#ending) {
      this.#closed = true;
      this.#target.ended();
    }
  }

  #slice(): Item[] {
    let end = this.#next;
    let chars = 0;
    while (end < this.#items.length && end - this.#next < SLICE_EVENTS) {
      chars += this.#target.size(this.#items[end] as Item);
      if (chars > SLICE_CHARS && end > this.#next) break;
      end += 1;
    }
    const slice = this.#items.slice(this.#next, end);
    this.#next = end;
    if (end === this.#items.length) {
      this.#items = [];
      this.#next = 0;
    }
    return slice;
  }
}
