import { ArrowUp, Square } from "lucide-react";
import { type KeyboardEvent, type RefObject, useEffect, useState } from "react";

import { useLanguage, useWords } from "../app/words.ts";
import { whole } from "../format/amounts.ts";
import { loadDraft, overLength, saveDraft } from "./draft.ts";

interface ComposerProps {
  readonly field: RefObject<HTMLTextAreaElement | null>;
  /** What the draft is kept under: a conversation's id, or a name for a new one. */
  readonly draftKey: string;
  readonly streaming: boolean;
  readonly stopping: boolean;
  /** Something is being sent or read: nothing more can be sent. */
  readonly busy: boolean;
  readonly temporary: boolean;
  readonly onSend: (text: string) => boolean;
  readonly onStop: () => void;
  readonly onEditLast: () => void;
}

export function Composer({
  field,
  draftKey,
  streaming,
  stopping,
  busy,
  temporary,
  onSend,
  onStop,
  onEditLast,
}: ComposerProps) {
  const t = useWords();
  const language = useLanguage();
  const [text, setText] = useState(() => loadDraft(draftKey));
  const over = overLength(text);
  const ready = text.trim() !== "" && !busy && over === 0;

  useEffect(() => {
    const timer = setTimeout(() => saveDraft(draftKey, text), 300);
    return () => clearTimeout(timer);
  }, [draftKey, text]);

  const send = (): void => {
    if (!ready || !onSend(text.trim())) return;
    setText("");
    saveDraft(draftKey, "");
  };
  const keys = (event: KeyboardEvent): void => {
    // Enter that ends the choice of a character (Japanese, Chinese) does not send.
    if (event.nativeEvent.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && text === "" && !(event.altKey || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onEditLast();
    }
  };

  return (
    <form
      className="mx-auto w-full max-w-3xl px-4 pb-[max(0.75rem,env(safe-area-inset-bottom))]"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="flex items-end gap-2 rounded-[1.375rem] border border-line-strong bg-raise p-2 shadow-float focus-within:border-accent">
        <textarea
          ref={field}
          autoFocus={matchMedia("(pointer: fine)").matches}
          rows={1}
          aria-label={t.composer.label}
          placeholder={temporary ? t.composer.placeholderTemporary : t.composer.placeholder}
          value={text}
          enterKeyHint="send"
          onChange={(event) => setText(event.target.value)}
          onKeyDown={keys}
          {...(over > 0 ? { "aria-invalid": true } : {})}
          className="field-sizing-content max-h-[40dvh] min-h-10 min-w-0 flex-1 resize-none bg-transparent px-3 py-2 leading-relaxed outline-none"
        />
        {streaming ? (
          <button
            type="button"
            aria-label={t.composer.stop}
            title={`${t.composer.stop} (Esc)`}
            disabled={stopping}
            onClick={(event) => {
              onStop();
              // Pressed by key: what takes its place cannot be pressed, and would lose the focus.
              if (event.detail === 0) field.current?.focus();
            }}
            className="flex size-10 shrink-0 items-center justify-center rounded-full bg-ink text-page transition-opacity hover:opacity-85 disabled:opacity-50"
          >
            <Square size={14} fill="currentColor" />
          </button>
        ) : (
          <button
            type="submit"
            aria-label={t.composer.send}
            title={t.composer.send}
            disabled={!ready}
            className="flex size-10 shrink-0 items-center justify-center rounded-full bg-accent text-on-accent transition-colors hover:bg-accent-hover disabled:bg-hover disabled:text-ink-faint"
          >
            <ArrowUp size={20} />
          </button>
        )}
      </div>
      {over > 0 ? (
        <p role="alert" className="mt-2 min-h-4 text-center text-xs text-danger">
          {t.composer.tooLong(whole(over, language))}
        </p>
      ) : (
        <p className="mt-2 h-4 truncate text-center text-xs text-ink-faint max-sm:hidden">
          {streaming ? t.composer.hintStop : t.composer.hint}
        </p>
      )}
    </form>
  );
}
