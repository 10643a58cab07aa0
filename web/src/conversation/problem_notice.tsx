import type { ChatActions, ChatProblem } from "@legato/react";
import { X } from "lucide-react";
import { useEffect, useState } from "react";

import { checkSession } from "../app/session.ts";
import { useWords } from "../app/words.ts";
import { Button, IconButton } from "../ui/button.tsx";
import { Trouble } from "../ui/notices.tsx";
import { errorWords } from "./error_words.ts";

/** What could not be done, with a countdown where waiting helps. */
export function ProblemNotice({ problem, actions }: { problem: ChatProblem; actions: ChatActions }) {
  const t = useWords();
  const now = useClock(problem.retryAt);
  const fields = problem.fields.map(({ field, message }) => `${field}: ${message}`).join("; ");
  // What the fields say need not stand there twice.
  const { title, hint, code, mild } = errorWords(fields ? { ...problem, message: "" } : problem, t, now);
  const atFirst = errorWords(problem, t, useState(now)[0]).hint;
  const waiting = problem.retryAt !== null && problem.retryAt > now;
  const again = problem.action === "retry" || problem.action === "wait" || problem.action === "configure";
  return (
    <div className="mx-auto mb-3 w-full max-w-3xl px-4">
      <div className="relative">
        <Trouble
          title={title}
          hint={
            fields ||
            (waiting ? (
              <>
                <span aria-hidden>{hint}</span>
                {/* An alert is read out anew whenever it changes: not each second. */}
                <span className="sr-only">{atFirst}</span>
              </>
            ) : (
              hint
            ))
          }
          code={problem.code === "unreachable" ? null : code}
          tone={mild ? "warn" : "danger"}
          actions={
            again ? (
              <Button disabled={waiting} onClick={() => actions.retry()}>
                {t.app.retry}
              </Button>
            ) : problem.action === "reload" ? (
              <Button onClick={() => void actions.refresh()}>{t.app.retry}</Button>
            ) : problem.action === "sign_in" ? (
              <Button onClick={() => void checkSession()}>{t.signIn.button}</Button>
            ) : null
          }
        />
        <IconButton
          label={t.app.close}
          icon={<X size={16} />}
          size="small"
          className="!absolute top-1.5 right-1.5"
          onClick={actions.dismissError}
        />
      </div>
    </div>
  );
}

/** The time, once a second until `until`. */
function useClock(until: number | null): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (until === null || until <= Date.now()) return;
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [until]);
  return now;
}
