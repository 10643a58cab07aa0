/** A short note at the page's foot, perhaps with a way back. One at a time: a new one takes the place of the last. */
import { X } from "lucide-react";
import { useEffect, useState, useSyncExternalStore } from "react";

import { announce } from "../app/announcer.tsx";
import { useWords } from "../app/words.ts";
import { Button, IconButton } from "./button.tsx";

export interface Note {
  readonly text: string;
  readonly tone?: "plain" | "danger";
  readonly action?: { readonly label: string; readonly run: () => void };
  /** Runs when the note goes without its action: what could be undone is done now. */
  readonly onGone?: () => void;
  /** Milliseconds that it stays; 5,000 by default. */
  readonly stayMs?: number;
}

const listeners = new Set<() => void>();
let shown: Note | null = null;

const tell = (): void => listeners.forEach((listener) => listener());

export function toast(note: Note): void {
  const before = shown;
  shown = note;
  tell();
  announce(note.text);
  before?.onGone?.();
}

/** Lets the note go as if its time were over. */
export function dismissToast(): void {
  const before = shown;
  shown = null;
  tell();
  before?.onGone?.();
}

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export function Toaster() {
  const t = useWords();
  const note = useSyncExternalStore(subscribe, () => shown);
  const [held, setHeld] = useState(false);
  useEffect(() => {
    if (!note || held) return;
    const timer = setTimeout(dismissToast, note.stayMs ?? 5000);
    return () => clearTimeout(timer);
  }, [note, held]);
  // What can be undone is done for good when the page is left.
  useEffect(() => {
    const leave = (): void => shown?.onGone?.();
    addEventListener("pagehide", leave);
    return () => removeEventListener("pagehide", leave);
  }, []);
  if (!note) return null;
  return (
    <div
      className="rise fixed inset-x-4 bottom-28 z-40 mx-auto flex w-fit max-w-[calc(100%-2rem)] items-center gap-2 rounded-xl border border-line bg-raise py-1.5 pr-1.5 pl-4 text-sm shadow-float"
      data-testid="toast"
      onMouseEnter={() => setHeld(true)}
      onMouseLeave={() => setHeld(false)}
      onFocus={() => setHeld(true)}
      onBlur={() => setHeld(false)}
    >
      <span className={note.tone === "danger" ? "min-w-0 break-words text-danger" : "line-clamp-3 min-w-0 break-words"}>
        {note.text}
      </span>
      {note.action && (
        <Button
          look="quiet"
          className="shrink-0 text-accent"
          onClick={() => {
            const { action } = note;
            shown = null;
            tell();
            action?.run();
          }}
        >
          {note.action.label}
        </Button>
      )}
      <IconButton label={t.app.close} icon={<X size={16} />} size="small" onClick={dismissToast} />
    </div>
  );
}
