import type { Part } from "@legato/client";
import type { ChatActions, ChatMessage } from "@legato/react";
import { Brain, ChevronRight, RotateCw } from "lucide-react";
import { memo, useMemo } from "react";

import { useWords } from "../app/words.ts";
import { Markdown } from "../markdown/markdown.tsx";
import { Button, IconButton } from "../ui/button.tsx";
import { CopyButton } from "../ui/copy_button.tsx";
import { Trouble } from "../ui/notices.tsx";
import { BranchSwitcher } from "./branch_switcher.tsx";
import { errorWords } from "./error_words.ts";
import { Feedback } from "./feedback.tsx";
import { ReplyDetails } from "./reply_details.tsx";
import { SourcesList } from "./sources_list.tsx";
import { sourcesOf } from "./sources.ts";
import { stageOf, ToolCall } from "./tool_call.tsx";

interface ReplyProps {
  readonly message: ChatMessage;
  readonly busy: boolean;
  readonly actions: ChatActions;
  /** A small page leaves thumbs, details and branches out. */
  readonly small?: boolean;
}

/** Whether "Try again" can help: what a provider refused it would refuse again. */
const canRepeat = ({ error }: ChatMessage): boolean => error?.code !== "upstream_refused" || error.retryable;

export const Reply = memo(function Reply({ message, busy, actions, small = false }: ReplyProps) {
  const t = useWords();
  const live = message.status === "running" || message.status === "queued" || message.status === "sending";
  const sources = useMemo(
    () =>
      live ? [] : sourcesOf([...message.parts, ...message.citations.map((each) => ({ type: "citation", ...each }))]),
    [live, message.parts, message.citations],
  );
  const bare = message.status === "failed" && message.parts.length === 0;
  return (
    <article
      aria-label={t.conversation.assistant}
      data-message={message.id}
      data-role="assistant"
      data-status={message.status}
      {...(live ? { "aria-busy": true } : {})}
      className="group/message pt-1 pb-4"
    >
      <div data-text>
        <Parts message={message} live={live} actions={actions} />
      </div>
      {live && <Waiting message={message} />}
      {sources.length > 0 && <SourcesList sources={sources} />}
      {!live && <Ending message={message} busy={busy} actions={actions} />}
      {!live && (
        <div className="mt-2 -ml-1.5 flex min-h-8 flex-wrap items-center gap-0.5 empty:hidden">
          <BranchSwitcher message={message} disabled={busy} onSelect={(id) => void actions.selectBranch(id)} />
          {message.content && <CopyButton text={() => message.content} />}
          {!small && message.status !== "failed" && <Feedback message={message} onFeedback={actions.feedback} />}
          {!(bare && canRepeat(message)) && (
            <IconButton
              label={t.conversation.regenerate}
              icon={<RotateCw size={16} />}
              size="small"
              disabled={busy}
              onClick={() => actions.regenerate(message.id)}
            />
          )}
          {!small && !bare && <ReplyDetails message={message} />}
        </div>
      )}
    </article>
  );
});

function Parts({ message, live, actions }: { message: ChatMessage; live: boolean; actions: ChatActions }) {
  return message.parts.map((part, at) => (
    <OnePart
      key={part.type === "tool-call" ? part.callId : `${part.type}${at}`}
      part={part}
      message={message}
      live={live}
      last={at === message.parts.length - 1}
      actions={actions}
    />
  ));
}

interface OnePartProps {
  readonly part: Part;
  readonly message: ChatMessage;
  readonly live: boolean;
  readonly last: boolean;
  readonly actions: ChatActions;
}

function OnePart({ part, message, live, last, actions }: OnePartProps) {
  switch (part.type) {
    case "text":
      return <Markdown text={part.text} growing={live && last} />;
    case "reasoning":
      return <Reasoning text={part.text} growing={live && last} />;
    case "tool-call": {
      const call = message.tools.find(({ callId }) => callId === part.callId);
      return call ? (
        <ToolCall
          call={call}
          live={live}
          onDecide={(granted, reason) => actions.decide(part.callId, granted, reason)}
        />
      ) : null;
    }
    default:
      return null;
  }
}

function Reasoning({ text, growing }: { text: string; growing: boolean }) {
  const t = useWords();
  return (
    <details className="group/think my-2 text-sm">
      <summary className="flex w-fit list-none items-center gap-2 rounded-lg py-1 pr-2 text-ink-soft hover:text-ink [&::-webkit-details-marker]:hidden">
        <Brain size={16} aria-hidden />
        {growing ? t.conversation.thinking : t.conversation.reasoning}
        <ChevronRight size={14} className="transition-transform group-open/think:rotate-90" aria-hidden />
      </summary>
      <div className="mt-1 border-l-2 border-line pl-4 leading-relaxed [overflow-wrap:anywhere] whitespace-pre-wrap text-ink-soft">
        {text}
      </div>
    </details>
  );
}

/** What stands below a reply that is being made: why there is nothing yet, or a cursor where no text has one. */
function Waiting({ message }: { message: ChatMessage }) {
  const t = useWords();
  const queued = message.status === "queued" && message.ahead > 0;
  const last = message.parts.at(-1);
  // It waits for a person: nothing is being written.
  if (message.tools.some((call) => stageOf(call) === "asked")) return null;
  return (
    <div className="flex min-h-7 items-center gap-2 text-sm text-ink-soft" data-cursor>
      {!(last?.type === "text" && last.text) && <span className="cursor-blink !ml-0" aria-hidden />}
      {queued ? (
        <span>{t.conversation.queued(message.ahead)}</span>
      ) : (
        <span className="sr-only">{t.conversation.writing}</span>
      )}
    </div>
  );
}

/** How a reply ended, where that is worth a word. */
function Ending({ message, busy, actions }: { message: ChatMessage; busy: boolean; actions: ChatActions }) {
  const t = useWords();
  if (message.status === "failed") {
    const error = message.error ?? { code: "interrupted", message: t.conversation.interrupted, retryable: true };
    const { title, hint, code, mild } = errorWords(error, t, 0);
    return (
      <div className="mt-3">
        <Trouble
          title={title}
          hint={hint}
          code={code}
          tone={mild ? "warn" : "danger"}
          actions={
            canRepeat(message) && (
              <Button disabled={busy} onClick={() => actions.regenerate(message.id)}>
                {t.app.retry}
              </Button>
            )
          }
        />
      </div>
    );
  }
  const words =
    message.status === "stopped"
      ? t.conversation.stopped
      : (t.conversation.ends as Record<string, string>)[message.finishReason ?? ""];
  return words ? <p className="mt-2 text-sm text-ink-soft italic">{words}</p> : null;
}
