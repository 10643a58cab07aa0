import type { Chat, ChatMessage } from "@legato/react";
import { ArrowDown } from "lucide-react";
import { type Ref, useCallback, useEffect, useImperativeHandle, useLayoutEffect, useMemo, useRef } from "react";
import { Virtualizer, type VirtualizerHandle } from "virtua";

import { useWords } from "../app/words.ts";
import { Button } from "../ui/button.tsx";
import { Loading, Trouble } from "../ui/notices.tsx";
import { Reply } from "./reply.tsx";
import { useStickToEnd } from "./stick_to_end.ts";
import { UserMessage } from "./user_message.tsx";

export interface MessageListHandle {
  /** Brings a message into sight; false where it is not loaded. */
  show(key: string): boolean;
  toEnd(): void;
  readonly element: HTMLElement | null;
}

interface MessageListProps {
  readonly chat: Chat;
  readonly small?: boolean;
  readonly onScroll?: () => void;
  readonly ref?: Ref<MessageListHandle>;
}

/** Space above the first message, in pixels. */
const TOP = 24;
/** So near to the top, in pixels, older messages are asked for. */
const OLDER_AT = 1_200;

/** History is drawn as far as it is in sight; the last turn, which grows, stands in plain flow behind it. */
export function MessageList({ chat, small = false, onScroll, ref }: MessageListProps) {
  const t = useWords();
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const rows = useRef<VirtualizerHandle>(null);
  const { away, toEnd, letGo } = useStickToEnd(scroller, content);
  const { history, lastTurn, busy, hasOlder, loadingOlder, loadOlder } = chat;
  const told = chat.error?.during === "send";
  const shift = usePrepended(history);

  const draw = useCallback(
    (message: ChatMessage) => (
      <Row key={message.key} message={message} busy={busy} told={told} actions={chat.store} small={small} />
    ),
    [busy, told, chat.store, small],
  );

  const older = useCallback(() => {
    if (hasOlder && !loadingOlder && (scroller.current?.scrollTop ?? Infinity) < OLDER_AT) void loadOlder();
  }, [hasOlder, loadingOlder, loadOlder]);
  useEffect(older, [older, history]);

  useImperativeHandle(
    ref,
    () => ({
      element: scroller.current,
      toEnd: () => toEnd(),
      show(key) {
        const at = history.findIndex((message) => message.key === key);
        const isLast = at < 0 && lastTurn.some((message) => message.key === key);
        if (at < 0 && !isLast) return false;
        letGo();
        if (at >= 0) rows.current?.scrollToIndex(at, { align: "center" });
        else scroller.current?.querySelector(`[data-key="${CSS.escape(key)}"]`)?.scrollIntoView({ block: "start" });
        return true;
      },
    }),
    [history, lastTurn, letGo, toEnd],
  );

  // What was just sent is always brought into sight.
  const sent = lastTurn.find((message) => message.status === "sending")?.key;
  useLayoutEffect(() => {
    if (sent) toEnd();
  }, [sent, toEnd]);

  const list = useMemo(
    () => (
      <Virtualizer ref={rows} scrollRef={scroller} data={history} shift={shift} startMargin={TOP} bufferSize={600}>
        {draw}
      </Virtualizer>
    ),
    [history, shift, draw],
  );

  return (
    <div className="relative min-h-0 flex-1">
      <div
        ref={scroller}
        className="h-full overflow-x-hidden overflow-y-auto [overflow-anchor:none]"
        tabIndex={0}
        role="region"
        aria-label={t.conversation.label}
        data-testid="messages"
        onScroll={() => {
          older();
          onScroll?.();
        }}
      >
        <div ref={content} className="mx-auto max-w-3xl px-4 pb-6" style={{ paddingTop: TOP }}>
          {loadingOlder && (
            <div className="absolute inset-x-0 top-0 z-10">
              <Loading label={t.app.loading} className="!p-2" />
            </div>
          )}
          {list}
          {lastTurn.map((message) => (
            <Row key={message.key} message={message} busy={busy} told={told} actions={chat.store} small={small} />
          ))}
        </div>
      </div>
      {away && (
        <button
          type="button"
          aria-label={t.conversation.toEnd}
          title={t.conversation.toEnd}
          onClick={() => toEnd(true)}
          className="rise absolute bottom-3 left-1/2 z-10 flex size-9 -translate-x-1/2 items-center justify-center rounded-full border border-line bg-raise text-ink-soft shadow-float hover:text-ink"
        >
          <ArrowDown size={18} />
        </button>
      )}
    </div>
  );
}

interface RowProps {
  readonly message: ChatMessage;
  readonly busy: boolean;
  readonly told: boolean;
  readonly actions: Chat["store"];
  readonly small: boolean;
}

function Row({ message, busy, told, actions, small }: RowProps) {
  return (
    <div data-key={message.key}>
      {message.role === "user" ? (
        <UserMessage message={message} busy={busy} told={told} actions={actions} />
      ) : (
        <Reply message={message} busy={busy} actions={actions} small={small} />
      )}
    </div>
  );
}

/** Whether this drawing has more messages at the start than the one before, and the same end. */
function usePrepended(history: readonly ChatMessage[]): boolean {
  const before = useRef<{ history: readonly ChatMessage[]; shift: boolean }>({ history, shift: false });
  const last = before.current;
  const shift =
    last.history === history
      ? last.shift
      : last.history.length > 0 &&
        history.length > last.history.length &&
        history.at(-1)?.key === last.history.at(-1)?.key;
  useLayoutEffect(() => {
    before.current = { history, shift };
  }, [history, shift]);
  return shift;
}

/** In place of messages: they could not be read. */
export function LoadTrouble(props: { missing: boolean; onRetry: () => void; onNew: () => void }) {
  const t = useWords();
  return (
    <div className="mx-auto w-full max-w-lg p-6">
      <Trouble
        title={props.missing ? t.conversation.missing : t.conversation.loadFailed}
        hint={props.missing ? t.conversation.missingHint : t.errors.unreachableCheck}
        actions={
          props.missing ? (
            <Button onClick={props.onNew}>{t.app.newChat}</Button>
          ) : (
            <Button onClick={props.onRetry}>{t.app.retry}</Button>
          )
        }
      />
    </div>
  );
}
