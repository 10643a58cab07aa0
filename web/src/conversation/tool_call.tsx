import type { ToolCall as Call } from "@legato/client";
import { clsx } from "clsx";
import { ChevronRight, CircleCheck, CircleX, Hand, LoaderCircle } from "lucide-react";
import { useEffect, useState } from "react";

import { announce } from "../app/announcer.tsx";
import { useLanguage, useWords } from "../app/words.ts";
import { duration } from "../format/amounts.ts";
import { relative } from "../format/times.ts";
import { Button } from "../ui/button.tsx";
import { CopyButton } from "../ui/copy_button.tsx";

interface ToolCallProps {
  readonly call: Call;
  /** The reply goes on: a call without a result may still get one. */
  readonly live: boolean;
  readonly onDecide: ((granted: boolean, reason?: string) => Promise<void> | void) | null;
}

type Stage = "called" | "asked" | "running" | "done" | "failed" | "denied";

export function stageOf({ approval, status }: Pick<Call, "approval" | "status">): Stage {
  if (approval?.status === "denied") return "denied";
  if (status === "called" && approval?.status === "asked") return "asked";
  return status;
}

/** One call of a tool: a line that unfolds to what went in and what came out. */
export function ToolCall({ call, live, onDecide }: ToolCallProps) {
  const t = useWords();
  const language = useLanguage();
  const stage = stageOf(call);
  const asks = stage === "asked" && live && onDecide;
  // The reply stands still until somebody answers: a screen reader has to say so.
  const question = asks ? t.tools.question(call.name) : null;
  useEffect(() => {
    if (question) announce(question);
  }, [question]);
  const decided = call.approval && call.approval.status !== "asked" && call.approval.by;
  return (
    <div
      className={clsx("my-3 rounded-xl border bg-panel", asks ? "border-warn" : "border-line")}
      data-tool={call.name}
      data-stage={stage}
    >
      <details className="group/tool" open={asks ? true : undefined}>
        <summary className="flex min-h-11 list-none items-center gap-2.5 rounded-xl px-3.5 py-2 text-sm [&::-webkit-details-marker]:hidden">
          <StageIcon stage={stage} live={live} />
          <span className="min-w-0 truncate font-mono text-[13px] font-medium">{call.name}</span>
          <span className="min-w-0 flex-1 truncate text-xs text-ink-soft">
            {t.tools[stage]}
            {call.elapsedMs !== null && stage !== "denied" ? ` · ${duration(call.elapsedMs, language)}` : ""}
            {decided && ` · ${t.tools.by(decided)}`}
          </span>
          <ChevronRight
            size={16}
            className="shrink-0 text-ink-faint transition-transform group-open/tool:rotate-90"
            aria-hidden
          />
        </summary>
        <div className="flex flex-col gap-3 border-t border-line px-3.5 py-3">
          <Box label={t.tools.input} text={pretty(call.arguments)} />
          {call.output === null ? (
            <p className="text-xs text-ink-soft">{t.tools.noOutput}</p>
          ) : (
            <Box label={t.tools.output} text={pretty(call.output)} bad={call.status === "failed"} />
          )}
        </div>
      </details>
      {asks && <Approval name={call.name} until={call.approval?.until ?? null} onDecide={onDecide} />}
    </div>
  );
}

function StageIcon({ stage, live }: { stage: Stage; live: boolean }) {
  if (stage === "done") return <CircleCheck size={16} className="shrink-0 text-good" aria-hidden />;
  if (stage === "failed" || stage === "denied")
    return <CircleX size={16} className="shrink-0 text-danger" aria-hidden />;
  if (stage === "asked") return <Hand size={16} className="shrink-0 text-warn" aria-hidden />;
  return <LoaderCircle size={16} className={clsx("shrink-0 text-ink-faint", live && "animate-spin")} aria-hidden />;
}

function Box({ label, text, bad = false }: { label: string; text: string; bad?: boolean }) {
  return (
    <div>
      <div className="flex items-center justify-between">
        <span className="text-xs font-medium text-ink-soft">{label}</span>
        <CopyButton text={() => text} />
      </div>
      <pre
        tabIndex={0}
        role="region"
        aria-label={label}
        className={clsx(
          "max-h-72 overflow-auto rounded-lg bg-page p-3 font-mono text-xs leading-relaxed break-words whitespace-pre-wrap",
          bad && "text-danger",
        )}
      >
        {text}
      </pre>
    </div>
  );
}

function Approval({
  name,
  until,
  onDecide,
}: {
  name: string;
  until: number | null;
  onDecide: (granted: boolean, reason?: string) => Promise<void> | void;
}) {
  const t = useWords();
  const language = useLanguage();
  const [refusing, setRefusing] = useState(false);
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const decide = async (granted: boolean): Promise<void> => {
    setBusy(true);
    try {
      await onDecide(granted, granted ? undefined : reason.trim() || undefined);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div
      className="flex flex-col gap-3 border-t border-line px-3.5 py-3"
      role="group"
      aria-label={t.tools.question(name)}
    >
      <p className="text-sm font-medium break-words">
        {t.tools.question(name)}
        {until !== null && (
          <span className="block text-xs font-normal text-ink-soft">
            {t.tools.until(relative(until, Date.now(), language))}
          </span>
        )}
      </p>
      {refusing && (
        <input
          autoFocus
          aria-label={t.tools.reason}
          placeholder={t.tools.reason}
          value={reason}
          maxLength={2000}
          onChange={(event) => setReason(event.target.value)}
          onKeyDown={(event) => event.key === "Enter" && void decide(false)}
          className="h-10 w-full rounded-lg border border-line-strong bg-raise px-3 text-sm"
        />
      )}
      <div className="flex gap-2">
        {!refusing && (
          <Button look="accent" disabled={busy} onClick={() => void decide(true)}>
            {t.tools.approve}
          </Button>
        )}
        <Button disabled={busy} onClick={() => (refusing ? void decide(false) : setRefusing(true))}>
          {t.tools.refuse}
        </Button>
        {refusing && (
          <Button look="quiet" onClick={() => setRefusing(false)}>
            {t.app.cancel}
          </Button>
        )}
      </div>
    </div>
  );
}

/** JSON with line breaks; anything else as it is. */
export function pretty(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}
