import type { Review, ReviewPage } from "@legato/client";
import { ShieldCheck } from "lucide-react";
import { useCallback, useState } from "react";

import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { errorText } from "../conversation/error_words.ts";
import { whole } from "../format/amounts.ts";
import { fullTime } from "../format/times.ts";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { TextField } from "../ui/field.tsx";
import { Empty } from "../ui/notices.tsx";
import { toast } from "../ui/toast.tsx";
import { Shown } from "./parts.tsx";
import { type Asked, useAsked } from "./use_asked.ts";

const PAGE = 50;
const STATES = ["open", "decided"] as const;
type State = (typeof STATES)[number];

/** Texts that policies have flagged, and what was decided about them. */
export function Reviews() {
  const t = useWords();
  const language = useLanguage();
  const [state, setState] = useState<State>("open");
  const [open, setOpen] = useState<number | null>(null);
  const [cursors, setCursors] = useState<readonly (number | null)[]>([null]);
  const cursor = cursors[cursors.length - 1] ?? null;
  const ask = useCallback(async () => {
    const page = await api.admin.reviews({ state, limit: PAGE, ...(cursor === null ? {} : { cursor }) });
    setOpen(page.open);
    return page;
  }, [state, cursor]);
  const asked = useAsked(ask, 10_000);
  const show = (next: State): void => {
    setState(next);
    setCursors([null]);
  };
  return (
    <div className="flex flex-col gap-5">
      <div className="flex gap-2" role="group" aria-label={t.admin.state}>
        {STATES.map((each) => (
          <Button key={each} look={each === state ? "plain" : "quiet"} aria-pressed={each === state} onClick={() => show(each)}>
            {t.admin.reviews.states[each]}
            {each === "open" && open !== null && ` (${whole(open, language)})`}
          </Button>
        ))}
      </div>
      <Shown asked={asked}>
        {({ reviews, nextCursor }) => (
          <>
            {reviews.length === 0 ? (
              <Empty icon={<ShieldCheck size={28} />} title={t.admin.reviews.none[state]}>
                {t.admin.reviews.noneHint}
              </Empty>
            ) : (
              <ul className="flex flex-col gap-3">
                {reviews.map((review) => (
                  <ReviewRow key={review.id} review={review} page={asked} />
                ))}
              </ul>
            )}
            <div className="flex gap-2">
              {cursors.length > 1 && (
                <Button onClick={() => setCursors(cursors.slice(0, -1))}>{t.admin.previousPage}</Button>
              )}
              {nextCursor !== null && (
                <Button onClick={() => setCursors([...cursors, nextCursor])}>{t.admin.nextPage}</Button>
              )}
            </div>
          </>
        )}
      </Shown>
    </div>
  );
}

/** What was flagged, by which policy and why. */
function Flagged({ review }: { review: Review }) {
  const t = useWords();
  const language = useLanguage();
  return (
    <div className="flex flex-wrap items-baseline gap-x-3 gap-y-1">
      <span className="font-mono text-sm font-medium break-all">
        {review.policy} · {review.reason}
      </span>
      <span className="text-xs text-ink-soft">
        {t.admin.reviews.sources[review.source] ?? review.source} · {review.owner} · {fullTime(review.at, language)}
      </span>
    </div>
  );
}

function ReviewRow({ review, page }: { review: Review; page: Asked<ReviewPage> }) {
  const t = useWords();
  const [reading, setReading] = useState(false);
  return (
    <li className="rounded-2xl border border-line bg-raise p-4" data-review={review.id}>
      <Flagged review={review} />
      {review.decision !== null && (
        <p className="mt-2 text-sm break-words">
          {t.admin.reviews.decisions[review.decision]} · {review.decidedBy}
          {review.note !== null && ` · ${review.note}`}
        </p>
      )}
      <div className="mt-3">
        <Button onClick={() => setReading(true)}>{t.admin.read}</Button>
      </div>
      {reading && (
        <ReadReview
          id={review.id}
          onClose={() => {
            setReading(false);
            page.again();
          }}
        />
      )}
    </li>
  );
}

function ReadReview({ id, onClose }: { id: string; onClose: () => void }) {
  const t = useWords();
  const ask = useCallback(async () => await api.admin.review(id), [id]);
  const asked = useAsked(ask);
  const [note, setNote] = useState("");
  const [busy, setBusy] = useState(false);
  const decide = async (decision: "fine" | "violation"): Promise<void> => {
    setBusy(true);
    try {
      await api.admin.decide(id, decision, note.trim() || null);
      toast({ text: t.admin.reviews.decided });
      onClose();
    } catch (error) {
      toast({ text: errorText(error, t), tone: "danger" });
      setBusy(false);
    }
  };
  return (
    <Dialog title={t.admin.reviews.text} onClose={onClose}>
      <Shown asked={asked}>
        {(review) => (
          <div className="flex flex-col gap-3">
            <div>
              <Flagged review={review} />
              <p className="mt-1 text-xs break-all text-ink-soft">
                {t.admin.conversation}: {review.conversationId}
              </p>
            </div>
            <p
              tabIndex={0}
              role="region"
              aria-label={t.admin.reviews.text}
              className="max-h-80 overflow-auto rounded-lg bg-panel p-3 text-sm leading-relaxed break-words whitespace-pre-wrap"
            >
              {review.text}
            </p>
            {review.decision === null && (
              <>
                <p className="text-xs text-ink-soft">{t.admin.reviews.meaning}</p>
                <TextField
                  label={t.admin.reviews.note}
                  value={note}
                  maxLength={2000}
                  onChange={(event) => setNote(event.target.value)}
                />
                <div className="flex justify-end gap-2">
                  <Button disabled={busy} onClick={() => void decide("fine")}>
                    {t.admin.reviews.decisions.fine}
                  </Button>
                  <Button look="danger" disabled={busy} onClick={() => void decide("violation")}>
                    {t.admin.reviews.decisions.violation}
                  </Button>
                </div>
              </>
            )}
          </div>
        )}
      </Shown>
    </Dialog>
  );
}
