/** Time and chance, handed in so that tests need neither. */

export interface Clock {
  /** Milliseconds; only differences are used. */
  now(): number;
  /** Call `action` once after `delayMs`; the returned function takes that back. */
  after(delayMs: number, action: () => void): () => void;
}

/** The machine's own. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Whether the machine has a network at all, where that is known. */
export interface Network {
  isOnline(): boolean;
  /** Call `action` each time the network comes back, until the returned function is called. */
  onOnline(action: () => void): () => void;
}

/** The browser's own; everywhere else there always is one. */
export const systemNetwork: Network = {
  isOnline: () => typeof window === "undefined" || navigator.onLine !== false,
  onOnline(action) {
    if (typeof window === "undefined") return () => {};
    window.addEventListener("online", action);
    return () => window.removeEventListener("online", action);
  },
};

/** Resolve after `delayMs`, at once when the signal is aborted, and at once when the network comes back. */
export async function sleep(delayMs: number, clock: Clock, network: Network, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    if (signal.aborted) return resolve();
    const undo = [
      clock.after(delayMs, finish),
      network.onOnline(finish),
      () => signal.removeEventListener("abort", finish),
    ];
    signal.addEventListener("abort", finish);
    function finish(): void {
      for (const each of undo) each();
      resolve();
    }
  });
}
