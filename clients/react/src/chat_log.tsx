/** The messages of `ChatInterface`, kept at their end while they grow. */

import { type UIEvent, useLayoutEffect, useMemo, useRef } from "react";

import { type MessageEvents, MessageItem } from "./chat_message.tsx";
import type { ChatStrings } from "./strings.ts";
import type { ChatMessage } from "./types.ts";
import type { Chat } from "./use_chat.ts";

/** So near to its end, in pixels, a log is kept at its end while it grows. */
const PINNED_PX = 40;

export interface ChatLogProps {
  readonly chat: Chat;
  readonly strings: ChatStrings;
  readonly events: MessageEvents;
}

export function ChatLog({ chat, strings, events }: ChatLogProps) {
  const box = useRef<HTMLDivElement>(null);
  const pinned = useRef(true);
  const { messages, history, lastTurn, store, busy } = chat;
  useLayoutEffect(() => {
    if (pinned.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [messages]);
  const scrolled = ({ currentTarget: at }: UIEvent): void => {
    pinned.current = at.scrollHeight - at.scrollTop - at.clientHeight < PINNED_PX;
  };
  // A place is what follows a message, not the message in it: another version keeps the focus and the button it is on.
  const item = (message: ChatMessage, before: ChatMessage | undefined) => (
    <MessageItem
      key={before?.key ?? ""}
      message={message}
      strings={strings}
      busy={busy}
      actions={store}
      events={events}
    />
  );
  const older = useMemo(
    () => history.map((message, index) => item(message, history[index - 1])),
    [history, strings, store, busy, events],
  );
  const items = [...older, ...lastTurn.map((message, index) => item(message, lastTurn[index - 1] ?? history.at(-1)))];
  // What is added is not read aloud here, token by token: the status beside the log says it once it is whole.
  return (
    <div
      className="legato-log"
      role="log"
      aria-live="off"
      aria-busy={busy || chat.load === "loading"}
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
      {items}
    </div>
  );
}
