/** Another version of a message of the user, being written in the place of the old one. */

import { type FormEvent, type KeyboardEvent, useEffect, useId, useRef, useState } from "react";

import type { ChatStrings } from "./strings.ts";

export interface EditFormProps {
  /** What the message says now. */
  readonly text: string;
  readonly strings: ChatStrings;
  /** Nothing can be sent yet; what is written stays. */
  readonly disabled: boolean;
  readonly onSend: (text: string) => void;
  readonly onCancel: () => void;
}

export function EditForm({ text, strings, disabled, onSend, onCancel }: EditFormProps) {
  const [written, setWritten] = useState(text);
  const field = useRef<HTMLTextAreaElement>(null);
  const id = useId();
  const off = disabled || written.trim() === "";
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  const send = (event: FormEvent): void => {
    event.preventDefault();
    if (!off) onSend(written);
  };
  const pressed = (event: KeyboardEvent): void => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) send(event);
    if (event.key === "Escape") {
      // Here it ends the writing alone: a reply that is being made goes on.
      event.stopPropagation();
      onCancel();
    }
  };
  return (
    <form className="legato-edit" onSubmit={send}>
      <label className="legato-hidden" htmlFor={id}>
        {strings.editing}
      </label>
      <textarea
        id={id}
        ref={field}
        rows={Math.min(10, written.split("\n").length + 1)}
        value={written}
        onChange={(event) => setWritten(event.target.value)}
        onKeyDown={pressed}
      />
      <button type="submit" aria-disabled={off}>
        {strings.send}
      </button>
      <button type="button" onClick={onCancel}>
        {strings.cancel}
      </button>
    </form>
  );
}
