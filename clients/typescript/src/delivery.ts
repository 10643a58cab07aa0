/**
 * Text handed out piece by piece to somebody who can take nothing back.
 *
 * Pure. Where a reply is told anew, only what goes beyond the text that was handed out is handed out; where the new
 * text is another one, that is an error. The cases of protocol/delivery.json hold for it.
 */

import { LegatoError } from "./errors.ts";

export class TextDelivery {
  #delivered = "";
  /** UTF-16 units of `#delivered` that the present telling has reached. */
  #told = 0;

  /** The reply is told again from its first character. */
  restart(): void {
    this.#told = 0;
  }

  /** Return what of `text`, the next piece told, is new; throws a LegatoError `diverged` where it contradicts. */
  take(text: string): string {
    const known = Math.min(text.length, this.#delivered.length - this.#told);
    if (known > 0 && !this.#delivered.startsWith(text.slice(0, known), this.#told)) throw diverged();
    const fresh = text.slice(known);
    this.#told += text.length;
    this.#delivered += fresh;
    return fresh;
  }

  /** The reply has ended; throws a LegatoError `diverged` where more was handed out than it has. */
  end(): void {
    if (this.#told < this.#delivered.length) throw diverged();
  }
}

function diverged(): LegatoError {
  return new LegatoError("the server has another text of this reply than the one that was shown: load it anew", {
    code: "diverged",
  });
}
