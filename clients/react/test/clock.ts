/** A scheduler that a test moves by hand. */

import type { Scheduler } from "../src/schedule.ts";

interface Due {
  readonly at: number;
  readonly run: () => void;
}

/** Frames are 16 ms apart. */
export class Clock implements Scheduler {
  #now = 0;
  #due: Due[] = [];

  now(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): () => void {
    const due: Due = { at: this.#now + delayMs, run };
    this.#due.push(due);
    return () => {
      this.#due = this.#due.filter((each) => each !== due);
    };
  }

  frame(run: () => void): () => void {
    return this.after(16 - (this.#now % 16), run);
  }

  /** Let time pass, and everything happen that is due by then, in its order. */
  pass(ms: number): void {
    const until = this.#now + ms;
    for (;;) {
      const next = this.#due.filter((each) => each.at <= until).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#due = this.#due.filter((each) => each !== next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = until;
  }
}
