/** What a screen reader is told: a few whole sentences, never the tokens of a reply. */
import { useSyncExternalStore } from "react";

const listeners = new Set<() => void>();
let said = { text: "", at: 0 };

/** Says a sentence once. The same sentence said again is read again. */
export function announce(text: string): void {
  said = { text, at: said.at + 1 };
  for (const listener of listeners) listener();
}

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export function Announcer() {
  const { text, at } = useSyncExternalStore(subscribe, () => said);
  // Two regions in turn: a change of text is noticed even where the sentence is the same.
  return (
    <div className="sr-only">
      <div role="status" aria-live="polite" data-testid="announcer">
        {at % 2 ? text : ""}
      </div>
      <div role="status" aria-live="polite">
        {at % 2 ? "" : text}
      </div>
    </div>
  );
}
