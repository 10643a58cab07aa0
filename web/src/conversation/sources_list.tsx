import { BookOpen } from "lucide-react";

import { useWords } from "../app/words.ts";
import { safeLink } from "../markdown/links.ts";
import type { Source } from "./sources.ts";

export function SourcesList({ sources }: { sources: readonly Source[] }) {
  const t = useWords();
  return (
    <section aria-label={t.tools.sources} className="mt-4">
      <h3 className="flex items-center gap-2 text-xs font-medium text-ink-soft">
        <BookOpen size={14} aria-hidden />
        {t.tools.sources}
      </h3>
      <ol className="mt-2 grid gap-2 sm:grid-cols-2">
        {sources.map((source, at) => (
          <li key={at} className="flex min-w-0 gap-3 rounded-xl border border-line bg-panel px-3 py-2 text-sm">
            <span className="shrink-0 pt-0.5 text-xs text-ink-faint tabular-nums">{at + 1}</span>
            <span className="min-w-0">
              <Title source={source} />
              {source.locator && <span className="block text-xs break-words text-ink-soft">{source.locator}</span>}
              {source.quote && (
                <span className="mt-1 line-clamp-3 text-xs break-words text-ink-soft">“{source.quote}”</span>
              )}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Title({ source }: { source: Source }) {
  const link = safeLink(source.url ?? undefined, location.origin);
  if (!link) return <span className="block font-medium break-words">{source.title}</span>;
  return (
    <>
      <a
        href={link.href}
        target="_blank"
        rel="noopener noreferrer nofollow"
        className="font-medium break-words text-accent underline underline-offset-2"
      >
        {source.title}
      </a>
      <span className="block truncate text-xs text-ink-soft">{new URL(link.href).host}</span>
    </>
  );
}
