import type { ChatActions, ChatMessage } from "@legato/react";
import { clsx } from "clsx";
import { PenLine } from "lucide-react";
import { type KeyboardEvent, memo, useEffect, useRef, useState } from "react";
import { flushSync } from "react-dom";

import { useWords } from "../app/words.ts";
import { Button, IconButton } from "../ui/button.tsx";
import { CopyButton } from "../ui/copy_button.tsx";
import { BranchSwitcher } from "./branch_switcher.tsx";

interface UserMessageProps {
  readonly message: ChatMessage;
  readonly busy: boolean;
  /** A notice says why the newest message was not sent, and when it can be tried again. */
  readonly told: boolean;
  readonly actions: ChatActions;
}

export const UserMessage = memo(function UserMessage({ message, busy, told, actions }: UserMessageProps) {
  const t = useWords();
  const [editing, setEditing] = useState(false);
  const waiting = message.status === "sending";
  const unsent = message.status === "unsent";
  const article = useRef<HTMLElement>(null);
  const before = useRef<Element | null>(null);
  const edit = (): void => {
    before.current = document.activeElement;
    setEditing(true);
  };
  const cancel = (): void => {
    flushSync(() => setEditing(false));
    const own = article.current?.querySelector("[data-edit]");
    const back = before.current?.isConnected ? before.current : own;
    if (back instanceof HTMLElement) back.focus();
  };
  const versions = (
    <BranchSwitcher message={message} disabled={busy} onSelect={(id) => void actions.selectBranch(id)} />
  );
  return (
    <article
      ref={article}
      aria-label={t.conversation.you}
      data-message={message.id}
      data-role="user"
      data-status={message.status}
      className="group/message flex flex-col items-end pt-4"
    >
      {editing ? (
        <Edit
          text={message.content}
          hint={unsent ? null : t.conversation.editHint}
          onCancel={cancel}
          onSend={(text) => {
            setEditing(false);
            actions.edit(message.id, text);
          }}
        />
      ) : (
        <div
          data-text
          className={clsx(
            "max-w-[min(85%,40rem)] rounded-2xl rounded-br-md bg-accent-soft px-4 py-2.5 leading-relaxed [overflow-wrap:anywhere] whitespace-pre-wrap transition-opacity",
            waiting && "opacity-70",
          )}
        >
          {message.content}
        </div>
      )}
      {!editing && unsent && (
        <div className="mt-1 flex flex-wrap items-center justify-end gap-2 pb-2">
          <span className="text-xs text-danger">{t.conversation.unsent}</span>
          {versions}
          {!told && (
            <Button disabled={busy} onClick={() => actions.retry(message.id)}>
              {t.app.retry}
            </Button>
          )}
          <Button look="quiet" disabled={busy} onClick={edit} data-edit>
            {t.conversation.edit}
          </Button>
          <Button look="quiet" disabled={busy} onClick={() => actions.discard(message.id)}>
            {t.sidebar.remove}
          </Button>
        </div>
      )}
      {!editing && !unsent && (
        <div className="mt-1 flex min-h-8 items-center gap-0.5">
          {versions}
          <div className="flex opacity-0 transition-opacity group-focus-within/message:opacity-100 group-hover/message:opacity-100 pointer-coarse:opacity-100">
            <CopyButton text={() => message.content} />
            <IconButton
              label={t.conversation.edit}
              icon={<PenLine size={16} />}
              size="small"
              disabled={busy || waiting}
              onClick={edit}
              data-edit
            />
          </div>
        </div>
      )}
    </article>
  );
});

interface EditProps {
  readonly text: string;
  readonly hint: string | null;
  readonly onCancel: () => void;
  readonly onSend: (text: string) => void;
}

function Edit({ text, hint, onCancel, onSend }: EditProps) {
  const t = useWords();
  const [now, setNow] = useState(text);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    const area = field.current;
    area?.focus();
    area?.setSelectionRange(area.value.length, area.value.length);
  }, []);
  const send = (): void => {
    const given = now.trim();
    if (given) onSend(given);
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      onCancel();
    }
  };
  return (
    <div className="w-full rounded-2xl border border-line-strong bg-raise p-3">
      <textarea
        ref={field}
        aria-label={t.conversation.editLabel}
        value={now}
        onChange={(event) => setNow(event.target.value)}
        onKeyDown={keys}
        className="field-sizing-content max-h-96 min-h-16 w-full resize-none bg-transparent px-1 leading-relaxed outline-none"
      />
      <div className="mt-2 flex flex-wrap items-center justify-end gap-2">
        {hint && <span className="mr-auto px-1 text-xs text-ink-soft">{hint}</span>}
        <Button onClick={onCancel}>{t.app.cancel}</Button>
        <Button look="accent" disabled={!now.trim()} onClick={send}>
          {t.composer.send}
        </Button>
      </div>
    </div>
  );
}
