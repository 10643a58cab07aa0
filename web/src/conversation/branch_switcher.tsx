import type { ChatMessage } from "@legato/react";
import { ChevronLeft, ChevronRight } from "lucide-react";
import { useEffect, useRef } from "react";

import { announce } from "../app/announcer.tsx";
import { useWords } from "../app/words.ts";
import { IconButton } from "../ui/button.tsx";

interface BranchSwitcherProps {
  readonly message: ChatMessage;
  readonly disabled: boolean;
  readonly onSelect: (messageId: string) => void;
}

/** The version that is to be shown, and the button that asked for it: there the focus goes on. */
let wanted: { readonly id: string; readonly button: 0 | 1 } | null = null;

/** Goes through the versions of a message; nothing where there is one. */
export function BranchSwitcher({ message, disabled, onSelect }: BranchSwitcherProps) {
  const t = useWords();
  const { siblings, siblingIndex: at } = message;
  const group = useRef<HTMLDivElement>(null);
  // Another version is another element: without this each press would lose the focus.
  useEffect(() => {
    if (wanted?.id !== message.id || document.activeElement !== document.body) return;
    const buttons = [...(group.current?.querySelectorAll("button") ?? [])];
    const asked = buttons[wanted.button];
    const target = asked?.disabled ? buttons.find(({ disabled: off }) => !off) : asked;
    if (!target) return;
    wanted = null;
    target.focus();
  });
  if (siblings.length < 2) return null;
  const go = (to: number): void => {
    const id = siblings[to];
    if (id === undefined) return;
    wanted = { id, button: to < at ? 0 : 1 };
    onSelect(id);
    announce(t.conversation.branch(to + 1, siblings.length));
  };
  return (
    <div
      ref={group}
      className="flex items-center text-xs text-ink-soft tabular-nums"
      role="group"
      aria-label={t.conversation.branch(at + 1, siblings.length)}
    >
      <IconButton
        label={t.conversation.previous}
        icon={<ChevronLeft size={16} />}
        size="small"
        disabled={disabled || at === 0}
        onClick={() => go(at - 1)}
      />
      <span aria-hidden>
        {at + 1}/{siblings.length}
      </span>
      <IconButton
        label={t.conversation.next}
        icon={<ChevronRight size={16} />}
        size="small"
        disabled={disabled || at === siblings.length - 1}
        onClick={() => go(at + 1)}
      />
    </div>
  );
}
