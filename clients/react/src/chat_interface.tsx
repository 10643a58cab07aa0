/**
 * A plain chat: messages with their versions, a form, a stop button. Its looks are in style.css, which the page imports
 * itself; nothing is styled from here, so that a strict Content-Security-Policy holds.
 */

import type { ClientOptions } from "@legato/client";
import { type FormEvent, type KeyboardEvent, useEffect, useId, useMemo, useRef, useState } from "react";

import { ChatLog } from "./chat_log.tsx";
import type { MessageEvents } from "./chat_message.tsx";
import { type ChatStrings, ENGLISH } from "./strings.ts";
import type { ChatSnapshot, ProblemAction } from "./types.ts";
import { type Chat, useChat } from "./use_chat.ts";

export interface ChatInterfaceProps {
  /** A label for statistics and limits; one is made by default. */
  readonly sessionId?: string;
  /** null or absent begins a new conversation. A reply that is being made in it is joined. */
  readonly conversationId?: string | null;
  /** Where the server is, and headers for it; same origin by default. */
  readonly clientOptions?: ClientOptions;
  readonly className?: string;
  /** Other words than the English ones. */
  readonly strings?: Partial<ChatStrings>;
  /** Told once the server has the conversation: keep its id, and give it as `conversationId` after a reload. */
  readonly onConversation?: (conversationId: string) => void;
}

export function ChatInterface(props: ChatInterfaceProps) {
  const { sessionId, conversationId = null, clientOptions, className, onConversation } = props;
  const chat = useChat({
    conversationId,
    ...(sessionId === undefined ? {} : { sessionId }),
    ...(clientOptions === undefined ? {} : { client: clientOptions }),
  });
  const strings = useMemo(() => ({ ...ENGLISH, ...props.strings }), [props.strings]);
  const [text, setText] = useState("");
  // What was said before this page was opened is not said to a screen reader.
  const [began, setBegan] = useState(false);
  const [switched, setSwitched] = useState<string | null>(null);
  if (chat.busy && (!began || switched !== null)) {
    setBegan(true);
    setSwitched(null);
  }
  const input = useRef<HTMLTextAreaElement>(null);
  const inputId = useId();
  const events = useMemo<MessageEvents>(
    () => ({
      switched: (at, of) => setSwitched(strings.version(at + 1, of)),
      edited: () => input.current?.focus(),
    }),
    [strings],
  );
  // A message alone makes the conversation: before that its id is only what the page wishes.
  const madeId = chat.messages.length > 0 && chat.load !== "missing" ? chat.conversationId : null;
  useTold(madeId, onConversation);

  const submit = (event?: FormEvent): void => {
    event?.preventDefault();
    if (chat.send(text)) setText("");
    input.current?.focus();
  };
  const stop = (): void => {
    void chat.stop();
    input.current?.focus();
  };
  const pressed = (event: KeyboardEvent): void => {
    // Enter also ends the composition of a character, which is not to send anything.
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      submit();
    }
  };
  const escaped = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && !event.nativeEvent.isComposing && chat.busy) stop();
  };

  return (
    <section
      className={className === undefined ? "legato-chat" : `legato-chat ${className}`}
      aria-label={strings.conversation}
      onKeyDown={escaped}
    >
      <ChatLog chat={chat} strings={strings} events={events} />
      <p className="legato-hidden" role="status">
        {switched ?? (began ? announcement(chat, strings) : "")}
      </p>
      <Trouble chat={chat} strings={strings} />
      {chat.status === "reconnecting" && (
        <p className="legato-note">{chat.online ? strings.reconnecting : strings.offline}</p>
      )}
      <form className="legato-form" onSubmit={submit}>
        <label className="legato-hidden" htmlFor={inputId}>
          {strings.message}
        </label>
        <textarea
          id={inputId}
          ref={input}
          rows={2}
          value={text}
          placeholder={strings.message}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={pressed}
        />
        <button type="submit" aria-disabled={chat.busy || text.trim() === ""}>
          {strings.send}
        </button>
        {chat.busy && (
          <button type="button" onClick={stop} aria-disabled={chat.stopping}>
            {chat.stopping ? strings.stopping : strings.stop}
          </button>
        )}
      </form>
    </section>
  );
}

/** What the same again, unchanged, can never heal. */
const HOPELESS: ReadonlySet<ProblemAction> = new Set(["shorten", "reload", "none"]);

/** What could not be done, and what helps. */
function Trouble({ chat, strings }: { readonly chat: Chat; readonly strings: ChatStrings }) {
  const { error } = chat;
  if (error === null) return null;
  const reload = (): void => {
    chat.dismissError();
    void chat.refresh();
  };
  return (
    <p className="legato-error" role="alert">
      {error.message} {strings.help[error.action]}{" "}
      {!HOPELESS.has(error.action) && (
        <button type="button" onClick={() => chat.retry()}>
          {strings.retry}
        </button>
      )}
      {error.action === "reload" && (
        <button type="button" onClick={reload}>
          {strings.reload}
        </button>
      )}{" "}
      <button type="button" onClick={chat.dismissError}>
        {strings.dismiss}
      </button>
    </p>
  );
}

/** Tells an id when it is there, and each time that it is another; the teller may be another function every time. */
function useTold(id: string | null, tell: ((id: string) => void) | undefined): void {
  const told = useRef<string | null>(null);
  useEffect(() => {
    if (id === null || id === told.current) return;
    told.current = id;
    tell?.(id);
  });
}

/** Returns what a screen reader says: that a reply is being made, then all of it at once. */
function announcement(chat: ChatSnapshot, strings: ChatStrings): string {
  if (chat.busy) return strings.replying;
  const last = chat.lastTurn.at(-1);
  return last?.role === "assistant" ? last.content : "";
}
