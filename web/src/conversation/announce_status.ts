import type { ChatSnapshot } from "@legato/react";
import { useEffect, useRef } from "react";

import { announce } from "../app/announcer.tsx";
import { useWords } from "../app/words.ts";

/** Tells a screen reader how a reply goes: a sentence at each turn, none for the words between. */
export function useAnnouncedStatus({ status, lastTurn }: ChatSnapshot): void {
  const t = useWords();
  const before = useRef(status);
  const reply = lastTurn.at(-1);
  // A stop is shown before the server has carried it out: its end is told once.
  const told = useRef<string | null>(null);
  useEffect(() => {
    const was = before.current;
    before.current = status;
    if (was === status) return;
    const active = was === "streaming" || was === "reconnecting" || was === "submitting";
    if (status === "submitting") announce(t.status.sent);
    else if (status === "streaming") {
      if (was === "reconnecting") announce(t.status.back);
      else if (reply?.key !== told.current) announce(t.status.begun);
    }
    else if (status === "reconnecting") announce(t.status.reconnecting);
    else if (active && reply?.role === "assistant" && reply.key !== told.current) {
      told.current = reply.key;
      announce(
        reply.status === "failed" ? t.status.failed : reply.status === "stopped" ? t.status.stopped : t.status.done,
      );
    }
  }, [status, reply, t]);
}
