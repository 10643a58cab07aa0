import type { ChatMessage } from "@legato/react";

import { useLanguage, useWords } from "../app/words.ts";
import { charged, duration, whole } from "../format/amounts.ts";
import { fullTime } from "../format/times.ts";

/** Which model answered, and what it took. */
export function ReplyDetails({ message }: { message: ChatMessage }) {
  const t = useWords();
  const language = useLanguage();
  const { usage, cost, model, responseTimeMs, firstTokenMs, failover } = message;
  const words: string[] = [];
  const more: string[] = [fullTime(message.timestamp, language)];
  if (model) words.push(model);
  if (failover) more.push(t.conversation.failover(failover.to));
  if (usage && usage.outputTokens !== null) {
    const about = usage.counted ? "≈ " : "";
    words.push(about + t.conversation.tokensOf(whole(usage.outputTokens, language)));
    more.push(
      t.conversation.tokens(
        usage.inputTokens === null ? "?" : whole(usage.inputTokens, language),
        whole(usage.outputTokens, language),
      ),
    );
    if (usage.cacheReadTokens) more.push(t.conversation.cached(whole(usage.cacheReadTokens, language)));
    if (usage.reasoningTokens) more.push(t.conversation.reasoned(whole(usage.reasoningTokens, language)));
    if (usage.counted) more.push(t.conversation.counted);
  }
  const price = charged(cost, language);
  if (price !== null) words.push(price);
  if (responseTimeMs !== null) words.push(duration(responseTimeMs, language));
  if (firstTokenMs !== null) more.push(t.conversation.firstToken(duration(firstTokenMs, language)));
  if (!words.length) return null;
  return (
    <p
      className="relative min-w-0 flex-1 truncate px-1 max-sm:basis-full max-sm:px-1.5 text-xs text-ink-faint tabular-nums"
      title={more.join(" · ")}
      data-testid="details"
    >
      <span className="sr-only">{t.conversation.details}: </span>
      {words.join(" · ")}
      <span className="sr-only">. {more.join(", ")}</span>
    </p>
  );
}
