import { useChat } from "@legato/react";
import { RotateCcw, X } from "lucide-react";
import { useEffect, useRef, useState } from "react";

import { useWords } from "../app/words.ts";
import { Composer } from "../composer/composer.tsx";
import { ConnectionNote } from "../conversation/connection_note.tsx";
import { useAnnouncedStatus } from "../conversation/announce_status.ts";
import { MessageList } from "../conversation/message_list.tsx";
import { ProblemNotice } from "../conversation/problem_notice.tsx";
import { IconButton } from "../ui/button.tsx";
import { Loading, Trouble } from "../ui/notices.tsx";
import { Visitor } from "./visitor.ts";

/** The chat in a frame of another site's page: one conversation, nothing else. */
export default function WidgetPage({ publishableKey }: { publishableKey: string }) {
  const t = useWords();
  const [visitor] = useState(() => new Visitor(publishableKey));
  const [state, setState] = useState<"arriving" | "here" | "refused">("arriving");
  const [round, setRound] = useState(0);
  useEffect(() => tell("ready"), []);
  useEffect(() => {
    visitor.arrive().then(
      () => setState("here"),
      () => setState("refused"),
    );
  }, [visitor]);
  return (
    <main className="flex h-full flex-col bg-page">
      <header className="flex h-14 shrink-0 items-center gap-1 border-b border-line pr-2 pl-5">
        <h1 className="min-w-0 flex-1 truncate font-semibold">{t.widget.title}</h1>
        {state === "here" && (
          <IconButton
            label={t.widget.restart}
            icon={<RotateCcw size={18} />}
            onClick={() => {
              visitor.remember(null);
              setRound(round + 1);
            }}
          />
        )}
        <IconButton label={t.widget.close} icon={<X size={18} />} onClick={close} />
      </header>
      {state === "arriving" && <Loading label={t.app.loading} className="flex-1" />}
      {state === "refused" && (
        <div className="p-4">
          <Trouble title={t.widget.refused} hint={t.errors.otherDo} />
        </div>
      )}
      {state === "here" && <Chat key={round} visitor={visitor} />}
    </main>
  );
}

/** The page around the frame knows only these two words; they hold nothing of the conversation. */
const tell = (word: "ready" | "close"): void => parent.postMessage(`legato:${word}`, "*");
const close = (): void => tell("close");

function Chat({ visitor }: { visitor: Visitor }) {
  const t = useWords();
  const chat = useChat({ client: visitor.options, conversationId: visitor.conversationId });
  const field = useRef<HTMLTextAreaElement>(null);
  useAnnouncedStatus(chat);
  useEffect(() => {
    if (chat.conversationId !== null && chat.messages.length > 0) visitor.remember(chat.conversationId);
  }, [visitor, chat.conversationId, chat.messages.length]);
  useEffect(() => {
    const keys = (event: KeyboardEvent): void => {
      if (event.key !== "Escape") return;
      if (chat.busy) void chat.stop();
      else close();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, [chat]);
  return (
    <>
      {chat.messages.length === 0 ? (
        <div className="flex-1 overflow-y-auto p-5">
          <p className="w-fit max-w-[85%] rounded-2xl rounded-bl-md bg-panel px-4 py-2.5 leading-relaxed">
            {t.widget.greeting}
          </p>
        </div>
      ) : (
        <MessageList chat={chat} small />
      )}
      <ConnectionNote status={chat.status} online={chat.online} />
      {chat.error && <ProblemNotice problem={chat.error} actions={chat.store} />}
      <Composer
        field={field}
        draftKey="widget"
        streaming={chat.busy && chat.status !== "submitting"}
        stopping={chat.stopping}
        busy={chat.busy}
        temporary={false}
        onSend={(text) => chat.send(text)}
        onStop={() => void chat.stop()}
        onEditLast={() => undefined}
      />
    </>
  );
}
