/**
 * A plain chat: messages, a form, a stop button. Its looks are in style.css, which the page imports itself; nothing is
 * styled from here, so that a strict Content-Security-Policy holds.
 */

import type { ClientOptions } from "@legato/client";
import { type FormEvent, type KeyboardEvent, type UIEvent, useId, useLayoutEffect, useMemo, useRef, useState } from "react";

import { MessageItem } from "./chat_message.tsx";
import { type ChatStrings, ENGLISH } from "./strings.ts";
import type { ChatMessage, ChatSnapshot } from "./types.ts";
import { useChat } from "./use_chat.ts";

export interface ChatInterfaceProps {
  /** A label for statistics and limits; one is made by default. */
  readonly sessionId?: string;
  /** null or absent begins a new conversation. */
  readonly conversationId?: string | null;
  /** Where the server is, and headers for it; same origin by default. */
  readonly clientOptions?: ClientOptions;
  readonly className?: string;
  /** Other words than the English ones. */
  readonly strings?: Partial<ChatStrings>;
}

/** So near to its end, in pixels, a log is kept at its end while it grows. */
const PINNED_PX = 40;

export function ChatInterface(props: ChatInterfaceProps) {
  const { sessionId, conversationId = null, clientOptions, className } = props;
  const chat = useChat({
    conversationId,
    ...(sessionId === undefined ? {} : { sessionId }),
    ...(clientOptions === undefined ? {} : { client: clientOptions }),
  });
  const strings = useMemo(() => ({ ...ENGLISH, ...props.strings }), [props.strings]);
  const [text, setText] = useState("");
  // What was said before this page was opened is not said to a screen reader.
  const [began, setBegan] = useState(false);
  if (chat.busy && !began) setBegan(true);
  const input = useRef<HTMLTextAreaElement>(null);
  const inputId = useId();

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
    if (event.key === "Escape" && chat.busy) stop();
  };

  return (
    <section className={className === undefined ? "legato-chat" : `legato-chat ${className}`} aria-label={strings.conversation}>
      <Log chat={chat} strings={strings} />
      <p className="legato-hidden" role="status">
        {began ? announcement(chat, strings) : ""}
      </p>
      {chat.error !== null && (
        <p className="legato-error" role="alert">
          {chat.error.message} {strings.help[chat.error.action]}{" "}
          {chat.error.action !== "none" && (
            <button type="button" onClick={() => chat.retry()}>
              {strings.retry}
            </button>
          )}{" "}
          <button type="button" onClick={chat.dismissError}>
            {strings.dismiss}
          </button>
        </p>
      )}
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

interface LogProps {
  readonly chat: ReturnType<typeof useChat>;
  readonly strings: ChatStrings;
}

function Log({ chat, strings }: LogProps) {
  const box = useRef<HTMLDivElement>(null);
  const pinned = useRef(true);
  const { messages, history, lastTurn, store } = chat;
  useLayoutEffect(() => {
    if (pinned.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [messages]);
  const scrolled = ({ currentTarget: at }: UIEvent): void => {
    pinned.current = at.scrollHeight - at.scrollTop - at.clientHeight < PINNED_PX;
  };
  const item = (message: ChatMessage) => (
    <MessageItem key={message.key} message={message} strings={strings} actions={store} />
  );
  const older = useMemo(() => history.map(item), [history, strings, store]);
  // What is added is not read aloud here, token by token: the status beside the log says it once it is whole.
  return (
    <div
      className="legato-log"
      role="log"
      aria-live="off"
      aria-busy={chat.busy || chat.load === "loading"}
      aria-label={strings.conversation}
      tabIndex={0}
      ref={box}
      onScroll={scrolled}
    >
      {chat.hasOlder && (
        <button type="button" onClick={() => void chat.loadOlder()} aria-disabled={chat.loadingOlder}>
          {chat.loadingOlder ? strings.loading : strings.older}
        </button>
      )}
      {messages.length === 0 && <p className="legato-note">{chat.load === "loading" ? strings.loading : strings.empty}</p>}
      {older}
      {lastTurn.map(item)}
    </div>
  );
}

/** Returns what a screen reader says: that a reply is being made, then all of it at once. */
function announcement(chat: ChatSnapshot, strings: ChatStrings): string {
  if (chat.busy) return strings.replying;
  const last = chat.lastTurn.at(-1);
  return last?.role === "assistant" ? last.content : "";
}
