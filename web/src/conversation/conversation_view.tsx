import { useChat } from "@legato/react";
import { Ghost } from "lucide-react";
import { type Ref, useCallback, useEffect, useImperativeHandle, useRef, useState } from "react";

import { clientOptions } from "../app/server.ts";
import { useModels } from "../app/session.ts";
import { useWords } from "../app/words.ts";
import { Composer } from "../composer/composer.tsx";
import { active } from "../sidebar/list_store.ts";
import { copyText } from "../ui/copy_button.tsx";
import { Loading, Trouble } from "../ui/notices.tsx";
import { useAnnouncedStatus } from "./announce_status.ts";
import { ConnectionNote } from "./connection_note.tsx";
import { FindBar } from "./find_bar.tsx";
import { Header } from "./header.tsx";
import type { Match } from "./matches.ts";
import { useKeptUnsent } from "./keep_unsent.ts";
import { LoadTrouble, MessageList, type MessageListHandle } from "./message_list.tsx";
import { clearMatches, paintMatches } from "./paint_matches.ts";
import { ProblemNotice } from "./problem_notice.tsx";
import { NO_SETTINGS, type ReplySettings, Settings, settingsOf } from "./settings.tsx";

/** What the page's keys can ask of the conversation that is shown. */
export interface ConversationHandle {
  /** Stops the reply; false where there is none. */
  stop(): boolean;
  find(): void;
  settings(): void;
  focus(): void;
  copyLast(): Promise<boolean>;
}

interface ConversationViewProps {
  readonly conversationId: string | null;
  /** A message to bring into sight. */
  readonly messageId: string | null;
  readonly temporary: boolean;
  readonly sidebarOpen: boolean;
  readonly onSidebar: () => void;
  readonly onNew: () => void;
  /** The server has named the new conversation. */
  readonly onNamed: (id: string) => void;
  readonly ref?: Ref<ConversationHandle>;
}

export function ConversationView(props: ConversationViewProps) {
  const { conversationId, messageId, onNamed, ref } = props;
  const t = useWords();
  const models = useModels();
  const [settings, setSettings] = useState<ReplySettings>(NO_SETTINGS);
  const [open, setOpen] = useState<"find" | "settings" | null>(null);
  const chat = useChat({
    client: clientOptions,
    conversationId,
    // What a person writes here stays until they delete it; a temporary chat goes when it was idle for long.
    newConversation: () => ({ ...given(settings), ...(props.temporary ? { temporary: true } : { retention: "keep" }) }),
  });
  const field = useRef<HTMLTextAreaElement>(null);
  const list = useRef<MessageListHandle>(null);
  const { conversation, status } = chat;
  const temporary = conversation?.temporary ?? props.temporary;
  const streaming = chat.busy && chat.status !== "submitting";
  const draftKey = conversationId ?? (props.temporary ? "temporary" : "new");
  useAnnouncedStatus(chat);
  useKeptUnsent(chat.messages, draftKey);

  useEffect(() => {
    if (
      conversationId === null &&
      chat.conversationId !== null &&
      chat.messages.some(({ status: at }) => at !== "sending" && at !== "unsent")
    )
      onNamed(chat.conversationId);
  }, [conversationId, chat.conversationId, chat.messages, onNamed]);
  // The list shows a new title, a running reply and the new order.
  useEffect(() => {
    if (conversation) active.put(conversation);
  }, [conversation]);
  useEffect(() => {
    if (chat.conversationId !== null && (status === "idle" || status === "streaming")) void active.refresh();
  }, [status, chat.conversationId]);
  useEffect(() => {
    document.title = conversation?.title ? `${conversation.title} · ${t.app.name}` : t.app.name;
  }, [conversation, t]);

  useShownMessage(chat, messageId, list);
  const lookFor = useFinding(chat, open === "find", list);

  useImperativeHandle(ref, () => ({
    stop() {
      if (!chat.busy) return false;
      void chat.stop();
      return true;
    },
    find: () => conversation && setOpen("find"),
    settings: () => setOpen("settings"),
    focus: () => field.current?.focus(),
    copyLast: async () => copyText(chat.messages.findLast(({ role }) => role === "assistant")?.content ?? ""),
  }));

  const editLast = (): void => {
    const own = [...(list.current?.element?.querySelectorAll<HTMLElement>("[data-edit]") ?? [])].at(-1);
    own?.click();
  };
  const empty = chat.messages.length === 0;
  const unread = empty && conversationId !== null;
  const missing = unread && chat.load === "missing";
  const noModel = models !== null && models.models.length === 0;

  return (
    <div className="relative flex h-full min-w-0 flex-col">
      <Header
        conversationId={conversationId}
        conversation={conversation}
        model={conversation?.model ?? settings.model}
        temporary={temporary}
        sidebarOpen={props.sidebarOpen}
        onSidebar={props.onSidebar}
        onNew={props.onNew}
        onFind={() => setOpen("find")}
        onSettings={() => setOpen("settings")}
      />
      <div className="relative flex min-h-0 flex-1 flex-col">
        {open === "find" && (
          <FindBar
            messages={chat.messages}
            onShow={lookFor.show}
            onClose={() => {
              setOpen(null);
              field.current?.focus();
            }}
          />
        )}
        {unread && chat.load === "loading" ? (
          <Loading label={t.app.loading} className="flex-1" />
        ) : missing || (unread && chat.load === "failed") ? (
          <div className="flex flex-1 items-center">
            <LoadTrouble missing={missing} onRetry={() => void chat.refresh()} onNew={props.onNew} />
          </div>
        ) : empty ? (
          <Welcome temporary={temporary} />
        ) : (
          <MessageList ref={list} chat={chat} onScroll={lookFor.repaint} />
        )}
        <ConnectionNote status={status} online={chat.online} />
        {noModel && (
          <div className="mx-auto mb-3 w-full max-w-3xl px-4">
            <Trouble title={t.errors.noModel} hint={t.errors.noModelDo} tone="warn" />
          </div>
        )}
        {chat.error && !(chat.error.during === "load" && empty) && (
          <ProblemNotice problem={chat.error} actions={chat.store} />
        )}
        {!missing && (
          <Composer
            field={field}
            draftKey={draftKey}
            streaming={streaming}
            stopping={chat.stopping}
            busy={chat.busy}
            temporary={temporary}
            onSend={(text) => chat.send(text)}
            onStop={() => void chat.stop()}
            onEditLast={editLast}
          />
        )}
      </div>
      {open === "settings" && (
        <Settings
          conversationId={conversation?.id ?? null}
          settings={conversation ? settingsOf(conversation) : settings}
          onClose={() => setOpen(null)}
          onSave={(changed) => (chat.conversationId === null ? setSettings(changed) : void chat.change(changed))}
        />
      )}
    </div>
  );
}

/** Settings that say something. */
function given(settings: ReplySettings): Record<string, string | number> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null)) as Record<
    string,
    string | number
  >;
}

function Welcome({ temporary }: { temporary: boolean }) {
  const t = useWords();
  return (
    <div className="flex min-h-0 flex-1 flex-col items-center justify-center gap-3 overflow-y-auto px-6 pb-8 text-center">
      {temporary && <Ghost size={32} className="text-ink-faint" aria-hidden />}
      <h2 className="text-2xl font-semibold tracking-tight text-balance sm:text-3xl">
        {temporary ? t.conversation.welcomeTemporary : t.conversation.welcome}
      </h2>
      <p className="max-w-md leading-relaxed text-pretty text-ink-soft">
        {temporary ? t.app.temporaryHint : t.conversation.welcomeHint}
      </p>
    </div>
  );
}

type ListRef = React.RefObject<MessageListHandle | null>;
type ChatOf = ReturnType<typeof useChat>;

/** Brings a message that a search result names into sight, loading older ones until it is there. */
function useShownMessage(chat: ChatOf, messageId: string | null, list: ListRef): void {
  const shown = useRef<string | null>(null);
  const { messages, hasOlder, loadingOlder, loadOlder, load } = chat;
  useEffect(() => {
    if (messageId === null || shown.current === messageId || load !== "ready") return;
    const key = messages.find(({ id }) => id === messageId)?.key;
    if (key !== undefined) {
      shown.current = messageId;
      requestAnimationFrame(() => list.current?.show(key));
    } else if (hasOlder) {
      if (!loadingOlder) void loadOlder();
    } else {
      shown.current = messageId;
      // It stands in another branch.
      void chat.selectBranch(messageId);
    }
  }, [messageId, messages, hasOlder, loadingOlder, loadOlder, load, list, chat]);
}

/** Frames in which a match is looked for that is not drawn yet. */
const MOST_PAINTS = 60;

function useFinding(
  chat: ChatOf,
  open: boolean,
  list: ListRef,
): { show: (words: string, match: Match | null) => void; repaint: () => void } {
  const now = useRef<{ words: string; match: Match | null }>({ words: "", match: null });
  const frame = useRef(0);
  const { hasOlder, loadingOlder, loadOlder } = chat;
  // All of the conversation is looked through.
  useEffect(() => {
    if (open && hasOlder && !loadingOlder) void loadOlder();
  }, [open, hasOlder, loadingOlder, loadOlder]);
  useEffect(() => {
    if (open) return;
    now.current = { words: "", match: null };
    clearMatches();
  }, [open]);
  const repaint = useCallback(() => {
    if (!now.current.words) return;
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() =>
      paintMatches(list.current?.element ?? null, now.current.words, now.current.match),
    );
  }, [list]);
  const show = useCallback(
    (words: string, match: Match | null) => {
      now.current = { words, match };
      if (match) list.current?.show(match.key);
      const paint = (frames: number): void => {
        if (now.current.words !== words || now.current.match !== match) return;
        const range = paintMatches(list.current?.element ?? null, words, match);
        const scroller = list.current?.element;
        if (match && !range && frames > 0) requestAnimationFrame(() => paint(frames - 1));
        if (!range || !scroller) return;
        const [at, box] = [range.getBoundingClientRect(), scroller.getBoundingClientRect()];
        if (at.top < box.top + 80 || at.bottom > box.bottom - 40)
          scroller.scrollBy({ top: at.top - box.top - box.height / 3 });
      };
      // Twice: rows that come into sight are drawn in the frame after; the end of a long text some frames later.
      requestAnimationFrame(() => requestAnimationFrame(() => paint(MOST_PAINTS)));
    },
    [list],
  );
  return { show, repaint };
}
