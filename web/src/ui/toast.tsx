/** A short note at the page's foot, perhaps with a way back. One at a time: a new one takes the place of the last. */
import { X } from "lucide-react";
import { useEffect, useRef, useState, useSyncExternalStore } from "react";

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
  /** What was pressed is gone with its place in the page: the focus goes to the action. */
  readonly takesFocus?: boolean;
  /** Runs when the note goes while it has the focus, to find another place for it. */
  readonly onLeave?: () => void;
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
  const note = useSyncExternalStore(subscribe, () => shown);
  // What can be undone is done for good when the page is left.
  useEffect(() => {
    const leave = (): void => shown?.onGone?.();
    addEventListener("pagehide", leave);
    return () => removeEventListener("pagehide", leave);
  }, []);
  return note && <Shown key={keyOf(note)} note={note} />;
}

const keys = new WeakMap<Note, number>();
let last = 0;

/** Each note is an element of its own: nothing of the one before is left in it. */
function keyOf(note: Note): number {
  const known = keys.get(note);
  if (known !== undefined) return known;
  keys.set(note, ++last);
  return last;
}

function Shown({ note }: { note: Note }) {
  const t = useWords();
  const [held, setHeld] = useState(false);
  const action = useRef<HTMLButtonElement>(null);
  const focused = useRef(false);
  useEffect(() => {
    if (held) return;
    const timer = setTimeout(dismissToast, note.stayMs ?? 5000);
    return () => clearTimeout(timer);
  }, [note, held]);
  useEffect(() => {
    if (note.takesFocus) action.current?.focus();
    return () => {
      if (!focused.current) return;
      // After the rows that come back have been drawn: the one that was acted on goes first.
      requestAnimationFrame(() => document.activeElement === document.body && note.onLeave?.());
    };
  }, [note]);
  const hold = (on: boolean, byFocus: boolean): void => {
    if (byFocus) focused.current = on;
    setHeld(on);
  };
  return (
    <div
      className="rise fixed inset-x-4 bottom-28 z-40 mx-auto flex w-fit max-w-[calc(100%-2rem)] items-center gap-2 rounded-xl border border-line bg-raise py-1.5 pr-1.5 pl-4 text-sm shadow-float"
      data-testid="toast"
      onMouseEnter={() => hold(true, false)}
      onMouseLeave={() => hold(focused.current, false)}
      onFocus={() => hold(true, true)}
      onBlur={() => hold(false, true)}
    >
      <span className={note.tone === "danger" ? "min-w-0 break-words text-danger" : "line-clamp-3 min-w-0 break-words"}>
        {note.text}
      </span>
      {note.action && (
        <Button
          ref={action}
          look="quiet"
          className="shrink-0 !text-accent"
          onClick={() => {
            const { action: chosen } = note;
            shown = null;
            tell();
            chosen?.run();
          }}
        >
          {note.action.label}
        </Button>
      )}
      <IconButton label={t.app.close} icon={<X size={16} />} size="small" onClick={dismissToast} />
    </div>
  );
}
