import { useCallback, useEffect, useState } from "react";

export interface Asked<T> {
  readonly value: T | null;
  /** When the value came, in epoch milliseconds; 0 where there is none. */
  readonly loadedAt: number;
  readonly failed: unknown;
  readonly again: () => void;
}

/** Asks at once, whenever `ask` is another function, and every `everyMs` while the page is in sight. */
export function useAsked<T>(ask: () => Promise<T>, everyMs?: number): Asked<T> {
  const [state, setState] = useState<{ ask: unknown; value: T | null; loadedAt: number; failed: unknown }>({
    ask,
    value: null,
    loadedAt: 0,
    failed: null,
  });
  const [round, setRound] = useState(0);
  const again = useCallback(() => setRound((now) => now + 1), []);
  useEffect(() => {
    let current = true;
    ask().then(
      (value) => current && setState({ ask, value, loadedAt: Date.now(), failed: null }),
      (failed: unknown) =>
        current && setState((now) => ({ ...(now.ask === ask ? now : { ask, value: null, loadedAt: 0 }), failed })),
    );
    return () => {
      current = false;
    };
  }, [ask, round]);
  useEffect(() => {
    if (!everyMs) return;
    const timer = setInterval(() => document.hidden || again(), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, again]);
  const { value, loadedAt, failed } = state;
  return { value: state.ask === ask ? value : null, loadedAt, failed, again };
}
