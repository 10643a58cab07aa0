import { useCallback, useEffect, useState } from "react";

export interface Asked<T> {
  readonly value: T | null;
  readonly failed: unknown;
  readonly again: () => void;
}

/** Asks at once, whenever `ask` is another function, and every `everyMs` while the page is in sight. */
export function useAsked<T>(ask: () => Promise<T>, everyMs?: number): Asked<T> {
  const [state, setState] = useState<{ ask: unknown; value: T | null; failed: unknown }>({
    ask,
    value: null,
    failed: null,
  });
  const [round, setRound] = useState(0);
  const again = useCallback(() => setRound((now) => now + 1), []);
  useEffect(() => {
    let current = true;
    ask().then(
      (value) => current && setState({ ask, value, failed: null }),
      (failed: unknown) => current && setState((now) => ({ ask, value: now.ask === ask ? now.value : null, failed })),
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
  return { value: state.ask === ask ? state.value : null, failed: state.failed, again };
}
