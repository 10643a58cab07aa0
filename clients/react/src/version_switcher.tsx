/** "2 / 3": goes through the versions of a message of `ChatInterface`. */

import type { ChatStrings } from "./strings.ts";
import type { ChatMessage } from "./types.ts";

export interface VersionSwitcherProps {
  readonly message: ChatMessage;
  readonly strings: ChatStrings;
  readonly disabled: boolean;
  /** @param at The version's place, from 0. */
  readonly onSelect: (messageId: string, at: number) => void;
}

/** Draws nothing where there is one version. Buttons at an end stay focusable, so that no key press loses the focus. */
export function VersionSwitcher({ message, strings, disabled, onSelect }: VersionSwitcherProps) {
  const { siblings, siblingIndex: at } = message;
  if (siblings.length < 2) return null;
  const step = (label: string, sign: string, to: number) => {
    const id = siblings[to];
    const off = disabled || id === undefined;
    return (
      <button type="button" aria-label={label} title={label} aria-disabled={off} onClick={() => off || onSelect(id, to)}>
        <span aria-hidden="true">{sign}</span>
      </button>
    );
  };
  return (
    <span className="legato-versions" role="group" aria-label={strings.version(at + 1, siblings.length)}>
      {step(strings.previous, "‹", at - 1)}
      <span>
        {at + 1} / {siblings.length}
      </span>
      {step(strings.next, "›", at + 1)}
    </span>
  );
}
