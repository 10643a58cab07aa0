import type { ChatStatus } from "@legato/react";
import { CloudOff, RefreshCw } from "lucide-react";
import { useEffect, useState } from "react";

import { useWords } from "../app/words.ts";

/** A cut shorter than this is not worth a word. */
const QUIET_MS = 700;
/** From here on one would like to know whether to wait. */
const LONG_MS = 8000;

/** Says quietly that the connection is away; it heals by itself. */
export function ConnectionNote({ status, online }: { status: ChatStatus; online: boolean }) {
  const t = useWords();
  const cut = !online || status === "reconnecting";
  const [shown, setShown] = useState<"no" | "now" | "long">("no");
  useEffect(() => {
    if (!cut) return setShown("no");
    const timers = [setTimeout(() => setShown("now"), QUIET_MS), setTimeout(() => setShown("long"), LONG_MS)];
    return () => timers.forEach(clearTimeout);
  }, [cut]);
  if (!cut || shown === "no") return null;
  const words = shown === "long" ? t.status.reconnectingLong : t.status.reconnecting;
  const offline = status === "idle" || status === "error" ? t.status.offline : t.status.offlineReply;
  return (
    <div className="pointer-events-none mx-auto mb-2 w-full max-w-3xl px-4">
      <p
        className="rise mx-auto flex w-fit items-center gap-2 rounded-full border border-line bg-raise px-3.5 py-1.5 text-xs text-ink-soft shadow-float"
        data-testid="connection"
      >
        {online ? <RefreshCw size={14} className="animate-spin" aria-hidden /> : <CloudOff size={14} aria-hidden />}
        {online ? words : offline}
      </p>
    </div>
  );
}
