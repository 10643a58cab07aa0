import { MessagesSquare, Users } from "lucide-react";

import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { duration, whole } from "../format/amounts.ts";
import { fullTime } from "../format/times.ts";
import { Empty } from "../ui/notices.tsx";
import { DataTable, Shown } from "./parts.tsx";
import type { LiveRuns, Sessions as SessionsOf } from "@legato/client";
import { useAsked } from "./use_asked.ts";

const askRuns = async (): Promise<LiveRuns> => await api.admin.runs();
const MOST_SESSIONS = 100;
const askSessions = async (): Promise<SessionsOf> => await api.admin.sessions({ limit: MOST_SESSIONS });

const Mono = ({ children }: { children: string }) => (
  <span className="block min-w-36 font-mono text-xs leading-5 break-all">{children}</span>
);

/** That a list is not all there is. */
const Cut = ({ children }: { children: string }) => <p className="mt-3 text-sm text-ink-soft">{children}</p>;

export function Runs() {
  const t = useWords();
  const language = useLanguage();
  const asked = useAsked(askRuns, 2_000);
  return (
    <Shown asked={asked}>
      {({ count, runs }) =>
        runs.length === 0 ? (
          <Empty icon={<MessagesSquare size={28} />} title={t.admin.noRuns} />
        ) : (
          <>
            <DataTable
              label={t.admin.sections.runs}
              rows={runs}
              keyOf={({ id }) => id}
              columns={[
                { head: t.admin.conversation, cell: (run) => <Mono>{run.conversationId}</Mono> },
                { head: t.admin.owner, cell: (run) => <Mono>{run.owner}</Mono> },
                { head: t.admin.state, cell: (run) => t.admin[run.state] },
                { head: t.admin.model, cell: (run) => run.model ?? "–" },
                { head: t.admin.elapsed, number: true, cell: (run) => duration(run.elapsedMs, language) },
                { head: t.admin.calls, number: true, cell: (run) => whole(run.calls, language) },
                { head: t.admin.approvals, number: true, cell: (run) => whole(run.approvals, language) },
              ]}
            />
            {count > runs.length && <Cut>{t.admin.shownOf(whole(runs.length, language), whole(count, language))}</Cut>}
          </>
        )
      }
    </Shown>
  );
}

export function Sessions() {
  const t = useWords();
  const language = useLanguage();
  const asked = useAsked(askSessions, 15_000);
  return (
    <Shown asked={asked}>
      {({ sessions }) =>
        sessions.length === 0 ? (
          <Empty icon={<Users size={28} />} title={t.admin.noSessions} />
        ) : (
          <>
            <DataTable
              label={t.admin.sections.sessions}
              rows={sessions}
              keyOf={({ owner, sessionId }) => `${owner} ${sessionId}`}
              columns={[
                { head: t.admin.session, cell: (row) => <Mono>{row.sessionId}</Mono> },
                { head: t.admin.owner, cell: (row) => <Mono>{row.owner}</Mono> },
                { head: t.admin.replies, number: true, cell: (row) => whole(row.messages, language) },
                { head: t.admin.errorRate, number: true, cell: (row) => whole(row.errors, language) },
                { head: t.admin.stops, number: true, cell: (row) => whole(row.stops, language) },
                { head: t.admin.tokens, number: true, cell: (row) => whole(row.tokens, language) },
                {
                  head: t.admin.meanResponseTime,
                  number: true,
                  cell: (row) => (row.averageResponseMs === null ? "–" : duration(row.averageResponseMs, language)),
                },
                {
                  head: t.admin.last,
                  number: true,
                  cell: (row) => (row.lastAt === null ? "–" : fullTime(row.lastAt, language)),
                },
              ]}
            />
            {sessions.length === MOST_SESSIONS && <Cut>{t.admin.latest(whole(MOST_SESSIONS, language))}</Cut>}
          </>
        )
      }
    </Shown>
  );
}
