import { LegatoError, type SearchResult } from "@legato/client";
import { useEffect, useState } from "react";

import { conversationPath, navigate } from "../app/route.ts";
import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { errorText } from "../conversation/error_words.ts";
import { snippetParts } from "../format/snippet.ts";
import { shortTime } from "../format/times.ts";
import { Empty, Loading, Trouble } from "../ui/notices.tsx";

const PAUSE_MS = 180;

interface Found {
  readonly query: string;
  readonly results: readonly SearchResult[];
  readonly error: string | null;
}

/** What titles and messages hold the words that are looked for. */
export function SearchResults({ query, onOpen }: { query: string; onOpen: () => void }) {
  const t = useWords();
  const language = useLanguage();
  const found = useSearch(query);
  if (!found) return <Loading label={t.app.loading} />;
  if (found.error) {
    return (
      <div className="p-3">
        <Trouble title={found.error} />
      </div>
    );
  }
  if (!found.results.length) return <Empty title={t.sidebar.noResults(query)} />;
  const now = Date.now();
  return (
    <>
      <p className="px-5 pt-3 pb-1 text-xs text-ink-soft" role="status">
        {t.sidebar.results(found.results.length)}
      </p>
      <ul className="flex flex-col gap-0.5 px-2 pb-4" data-testid="results">
        {found.results.map(({ conversation, messageId, snippet, at }) => (
          <li key={`${conversation.id} ${messageId}`}>
            <a
              href={conversationPath(conversation.id, messageId)}
              className="block rounded-lg px-3 py-2 text-sm hover:bg-hover"
              onClick={(event) => {
                if (event.metaKey || event.ctrlKey || event.shiftKey) return;
                event.preventDefault();
                navigate(conversationPath(conversation.id, messageId));
                onOpen();
              }}
            >
              <span className="flex items-baseline gap-2">
                <span className="min-w-0 flex-1 truncate font-medium">{conversation.title || t.app.newChat}</span>
                <span className="shrink-0 text-xs text-ink-faint">{shortTime(at, now, language)}</span>
              </span>
              <span className="mt-0.5 line-clamp-2 text-xs leading-relaxed break-words text-ink-soft">
                {snippetParts(snippet).map(({ text, match }, index) =>
                  match ? (
                    <mark key={index} className="rounded-sm bg-(--mark) text-ink">
                      {text}
                    </mark>
                  ) : (
                    <span key={index}>{text}</span>
                  ),
                )}
              </span>
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}

function useSearch(query: string): Found | null {
  const t = useWords();
  const [found, setFound] = useState<Found | null>(null);
  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => {
      api.search(query, { limit: 50 }).then(
        ({ results }) => current && setFound({ query, results, error: null }),
        (error: unknown) =>
          current &&
          setFound({ query, results: [], error: error instanceof LegatoError ? errorText(error, t) : t.errors.other }),
      );
    }, PAUSE_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [query, t]);
  // Results of the words before stay until those of the present ones are there.
  return found;
}
