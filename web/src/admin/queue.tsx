import { Inbox } from "lucide-react";
import { useCallback, useState } from "react";

import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { errorText } from "../conversation/error_words.ts";
import { pretty } from "../conversation/tool_call.tsx";
import { whole } from "../format/amounts.ts";
import { fullTime } from "../format/times.ts";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { Empty } from "../ui/notices.tsx";
import { toast } from "../ui/toast.tsx";
import { DataTable, Shown, Tile } from "./parts.tsx";
import type { DeadLetter, DeadLetterPage, Queue as QueueOf } from "@legato/client";
import { type Asked, useAsked } from "./use_asked.ts";

const PAGE = 50;

const askQueue = async (): Promise<QueueOf> => await api.admin.queue();

/** What waits for the steps, and what failed for good. */
export function Queue() {
  const t = useWords();
  const language = useLanguage();
  const queue = useAsked(askQueue, 3_000);
  const [offset, setOffset] = useState(0);
  const ask = useCallback(
    async () => await api.admin.deadLetters({ limit: PAGE, offset }),
    [offset],
  );
  const letters = useAsked(ask, 10_000);
  return (
    <div className="flex flex-col gap-5">
      <Shown asked={queue}>
        {(now) => (
          <>
            <dl className="grid grid-cols-3 gap-3">
              <Tile label={t.admin.waiting} value={whole(now.waiting, language)} />
              <Tile label={t.admin.taken} value={whole(now.taken, language)} />
              <Tile label={t.admin.dead} value={whole(now.dead, language)} />
            </dl>
            {now.steps.length > 0 && (
              <DataTable
                label={t.admin.sections.queue}
                rows={now.steps}
                keyOf={({ step }) => step}
                columns={[
                  { head: t.admin.step, cell: ({ step }) => <span className="font-mono text-[13px]">{step}</span> },
                  { head: t.admin.waiting, number: true, cell: (row) => whole(row.waiting, language) },
                  { head: t.admin.taken, number: true, cell: (row) => whole(row.taken, language) },
                  { head: t.admin.dead, number: true, cell: (row) => whole(row.dead, language) },
                ]}
              />
            )}
          </>
        )}
      </Shown>
      <h2 className="mt-2 text-base font-semibold">{t.admin.dead}</h2>
      <Shown asked={letters}>
        {({ deadLetters, nextOffset }) =>
          deadLetters.length === 0 && offset === 0 ? (
            <Empty icon={<Inbox size={28} />} title={t.admin.noDead}>
              {t.admin.noDeadHint}
            </Empty>
          ) : (
            <>
              <ul className="flex flex-col gap-3">
                {deadLetters.map((letter) => (
                  <LetterRow key={letter.id} letter={letter} letters={letters} onChanged={queue.again} />
                ))}
              </ul>
              <div className="flex gap-2">
                {offset > 0 && (
                  <Button onClick={() => setOffset(Math.max(0, offset - PAGE))}>{t.admin.previousPage}</Button>
                )}
                {nextOffset !== null && <Button onClick={() => setOffset(nextOffset)}>{t.admin.nextPage}</Button>}
              </div>
            </>
          )
        }
      </Shown>
    </div>
  );
}

interface LetterRowProps {
  readonly letter: DeadLetter;
  readonly letters: Asked<DeadLetterPage>;
  readonly onChanged: () => void;
}

function LetterRow({ letter, letters, onChanged }: LetterRowProps) {
  const t = useWords();
  const language = useLanguage();
  const [open, setOpen] = useState<"read" | "discard" | null>(null);
  const [busy, setBusy] = useState(false);
  const change = async (what: Promise<void>, done: string): Promise<void> => {
    setBusy(true);
    try {
      await what;
      toast({ text: done });
    } catch (error) {
      toast({ text: errorText(error, t), tone: "danger" });
    } finally {
      setBusy(false);
      setOpen(null);
      letters.again();
      onChanged();
    }
  };
  return (
    <li className="rounded-2xl border border-line bg-raise p-4" data-letter={letter.id}>
      <div className="flex flex-wrap items-baseline gap-x-3 gap-y-1">
        <span className="font-mono text-sm font-medium break-all">{letter.step}</span>
        <span className="text-xs text-ink-soft">
          {letter.topic} · {t.admin.attempts(letter.attempts)} · {t.admin.lastTried(fullTime(letter.lastAt, language))}
        </span>
      </div>
      <p className="mt-2 text-sm break-words text-danger">
        {letter.errorType}: {letter.error}
      </p>
      <div className="mt-3 flex flex-wrap gap-2">
        <Button onClick={() => setOpen("read")}>{t.admin.read}</Button>
        <Button disabled={busy} onClick={() => void change(api.admin.redrive(letter.id), t.admin.redriven)}>
          {t.admin.redrive}
        </Button>
        <Button look="danger" disabled={busy} onClick={() => setOpen("discard")}>
          {t.admin.discard}
        </Button>
      </div>
      {open === "read" && <ReadLetter letter={letter} onClose={() => setOpen(null)} />}
      {open === "discard" && (
        <Dialog title={t.admin.discardSure} onClose={() => setOpen(null)}>
          <div className="flex justify-end gap-2">
            <Button onClick={() => setOpen(null)}>{t.app.cancel}</Button>
            <Button
              look="danger"
              disabled={busy}
              onClick={() => void change(api.admin.discard(letter.id), t.admin.discarded)}
            >
              {t.admin.discard}
            </Button>
          </div>
        </Dialog>
      )}
    </li>
  );
}

function ReadLetter({ letter, onClose }: { letter: DeadLetter; onClose: () => void }) {
  const t = useWords();
  const language = useLanguage();
  const { id, step, topic, errorType, error, attempts, firstAt, lastAt } = letter;
  const ask = useCallback(async () => await api.admin.deadLetter(id), [id]);
  const asked = useAsked(ask);
  return (
    <Dialog title={step} onClose={onClose}>
      <div className="text-sm break-words">
        <p className="text-danger">
          {errorType}: {error}
        </p>
        <p className="mt-1 text-xs text-ink-soft">
          {topic}
          {attempts > 1 && firstAt !== null && ` · ${t.admin.firstTried(fullTime(firstAt, language))}`}
          {` · ${t.admin.lastTried(fullTime(lastAt, language))}`}
        </p>
      </div>
      <Shown asked={asked}>
        {({ events }) =>
          events.map((event) => (
            <div key={event.id}>
              <p className="mb-1 text-xs break-all text-ink-soft">
                {t.admin.owner}: {event.owner}
                {event.traceId !== null && ` · ${t.admin.trace}: ${event.traceId}`}
              </p>
              <pre
                tabIndex={0}
                role="region"
                aria-label={event.topic}
                className="overflow-auto rounded-lg bg-panel p-3 font-mono text-xs leading-relaxed break-words whitespace-pre-wrap"
              >
                {pretty(JSON.stringify(event.payload))}
              </pre>
            </div>
          ))
        }
      </Shown>
    </Dialog>
  );
}
