import { useCallback } from "react";

import { useAsked } from "../admin/use_asked.ts";
import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { charged, whole } from "../format/amounts.ts";

/** What the replies of a conversation have used, all branches together; nothing where that is nothing. */
export function UsedSoFar({ conversationId }: { conversationId: string }) {
  const t = useWords();
  const language = useLanguage();
  const ask = useCallback(async () => await api.usage({ conversationId, from: 0, by: "none" }), [conversationId]);
  // What it adds is not worth a word of trouble where it cannot be had.
  const total = useAsked(ask).value?.total;
  if (!total || total.calls === 0) return null;
  const price = charged(total.cost, language);
  return (
    <div className="text-xs leading-relaxed text-ink-soft tabular-nums" data-testid="used">
      <p>{t.settings.used(whole(total.inputTokens, language), whole(total.outputTokens, language))}</p>
      {price !== null && <p>{(total.unpriced ? t.settings.costAtLeast : t.settings.cost)(price)}</p>}
    </div>
  );
}
