import type { ChatMessage } from "@legato/react";
import { ChevronDown, ChevronUp, X } from "lucide-react";
import { type KeyboardEvent, useDeferredValue, useEffect, useMemo, useState } from "react";

import { useWords } from "../app/words.ts";
import { IconButton } from "../ui/button.tsx";
import { findMatches, type Match } from "./matches.ts";

interface FindBarProps {
  readonly messages: readonly ChatMessage[];
  readonly onClose: () => void;
  /** Shows a match; `null`: there is none. */
  readonly onShow: (words: string, match: Match | null) => void;
}

/** Finds words in the whole conversation: the browser's own search sees only what is drawn. */
export function FindBar({ messages, onClose, onShow }: FindBarProps) {
  const t = useWords();
  const [words, setWords] = useState("");
  const [chosen, setChosen] = useState<number | null>(null);
  const wanted = useDeferredValue(words.trim());
  const matches = useMemo(() => findMatches(messages, wanted), [messages, wanted]);
  // The newest match is the first that is shown.
  const at = matches.length ? Math.min(chosen ?? matches.length - 1, matches.length - 1) : -1;
  const match = matches[at] ?? null;

  useEffect(() => onShow(wanted, match), [onShow, wanted, match?.key, match?.at]);

  const step = (by: number): void => {
    if (matches.length) setChosen((at + by + matches.length) % matches.length);
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.key === "Enter") {
      event.preventDefault();
      step(event.shiftKey ? 1 : -1);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      onClose();
    }
  };
  return (
    <div
      role="search"
      className="rise mx-4 my-2 flex shrink-0 items-center gap-1 rounded-xl border border-line bg-raise p-1.5 shadow-float sm:ml-auto sm:w-96"
      onKeyDown={keys}
    >
      <input
        autoFocus
        aria-label={t.find.label}
        placeholder={t.find.label}
        value={words}
        onChange={(event) => {
          setWords(event.target.value);
          setChosen(null);
        }}
        className="h-9 min-w-0 flex-1 rounded-lg bg-transparent px-2.5 text-sm outline-offset-[-2px]"
      />
      <span className="shrink-0 px-1 text-xs text-ink-soft tabular-nums" role="status">
        {wanted && (matches.length ? t.find.at(at + 1, matches.length) : t.find.none)}
      </span>
      <IconButton
        label={t.find.previous}
        icon={<ChevronUp size={16} />}
        size="small"
        disabled={!matches.length}
        onClick={() => step(-1)}
      />
      <IconButton
        label={t.find.next}
        icon={<ChevronDown size={16} />}
        size="small"
        disabled={!matches.length}
        onClick={() => step(1)}
      />
      <IconButton label={t.find.close} icon={<X size={16} />} size="small" onClick={onClose} />
    </div>
  );
}
