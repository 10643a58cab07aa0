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
const askSessions = async (): Promise<SessionsOf> =>
  await api.admin.sessions({ limit: 100 });

const Mono = ({ children }: { children: string }) => <span className="font-mono text-xs break-all">{children}</span>;

export function Runs() {
  const t = useWords();
  const language = useLanguage();
  const asked = useAsked(askRuns, 2_000);
  return (
    <Shown asked={asked}>
      {({ runs }) =>
        runs.length === 0 ? (
          <Empty icon={<MessagesSquare size={28} />} title={t.admin.noRuns} />
        ) : (
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
          <DataTable
            label={t.admin.sections.sessions}
            rows={sessions}
            keyOf={({ owner, sessionId }) => `${owner} ${sessionId}`}
            columns={[
              { head: t.admin.sections.sessions, cell: (row) => <Mono>{row.sessionId}</Mono> },
              { head: t.admin.owner, cell: (row) => <Mono>{row.owner}</Mono> },
              { head: t.admin.replies, number: true, cell: (row) => whole(row.messages, language) },
              { head: t.admin.errorRate, number: true, cell: (row) => whole(row.errors, language) },
              { head: t.admin.stops, number: true, cell: (row) => whole(row.stops, language) },
              { head: t.admin.tokens, number: true, cell: (row) => whole(row.tokens, language) },
              {
                head: t.admin.responseTime,
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
        )
      }
    </Shown>
  );
}
