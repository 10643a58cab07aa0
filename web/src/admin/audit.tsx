import type { AuditEntry, AuditQuery, AuditVerdict } from "@legato/client";
import { Download, ScrollText } from "lucide-react";
import { type FormEvent, useCallback, useState } from "react";

import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { errorText } from "../conversation/error_words.ts";
import { whole } from "../format/amounts.ts";
import { exactTime } from "../format/times.ts";
import { Button } from "../ui/button.tsx";
import { Select, TextField } from "../ui/field.tsx";
import { Empty, Trouble } from "../ui/notices.tsx";
import { toast } from "../ui/toast.tsx";
import { DataTable, Panel, Shown } from "./parts.tsx";
import { useAsked } from "./use_asked.ts";

const PAGE = 50;
const FILTERS = ["none", "actor", "owner", "action"] as const;
type Filter = (typeof FILTERS)[number];

/** Who did what to whose data, and whether that is all of it. */
export function Audit() {
  const t = useWords();
  const words = t.admin.audit;
  const [query, setQuery] = useState<AuditQuery>({});
  const [cursors, setCursors] = useState<readonly (number | null)[]>([null]);
  const cursor = cursors[cursors.length - 1] ?? null;
  const ask = useCallback(
    async () => await api.admin.audit({ ...query, limit: PAGE, ...(cursor === null ? {} : { cursor }) }),
    [query, cursor],
  );
  const asked = useAsked(ask);
  return (
    <div className="flex flex-col gap-5">
      <Chain />
      <FilterForm
        onShow={(next) => {
          setCursors([null]);
          setQuery(next);
        }}
      />
      <Shown asked={asked}>
        {({ entries, nextCursor }) => (
          <>
            {entries.length === 0 ? (
              <Empty icon={<ScrollText size={28} />} title={words.none}>
                {words.noneHint}
              </Empty>
            ) : (
              <Entries entries={entries} />
            )}
            <div className="flex flex-wrap gap-2">
              {cursors.length > 1 && (
                <Button onClick={() => setCursors(cursors.slice(0, -1))}>{words.newer}</Button>
              )}
              {nextCursor !== null && (
                <Button onClick={() => setCursors([...cursors, nextCursor])}>{words.older}</Button>
              )}
              <div className="flex flex-wrap max-sm:-ml-3 max-sm:flex-col sm:ml-auto">
                <Export as="jsonl">{words.exportJson}</Export>
                <Export as="csv">{words.exportCsv}</Export>
              </div>
            </div>
          </>
        )}
      </Shown>
    </div>
  );
}

function Entries({ entries }: { entries: readonly AuditEntry[] }) {
  const t = useWords();
  const language = useLanguage();
  const words = t.admin.audit;
  return (
    <DataTable
      label={t.admin.sections.audit}
      rows={entries}
      keyOf={({ seq }) => String(seq)}
      columns={[
        { head: words.number, number: true, cell: ({ seq }) => seq },
        {
          head: t.admin.time,
          cell: ({ at }) => <span className="whitespace-nowrap tabular-nums">{exactTime(at, language)}</span>,
        },
        {
          head: words.who,
          cell: ({ actor, via }) => (
            <>
              <span className="font-mono text-xs break-all">{actor}</span>
              <span className="block text-xs text-ink-soft">{words.via(via)}</span>
            </>
          ),
        },
        { head: words.what, cell: ({ action }) => <span className="font-medium whitespace-nowrap">{action}</span> },
        {
          head: words.about,
          cell: ({ subject, owner, actor }) => (
            <>
              <span className="block min-w-44 font-mono text-xs leading-5 break-all">{subject}</span>
              {owner !== null && owner !== subject && owner !== actor && (
                <span className="block font-mono text-xs break-all text-ink-soft">{owner}</span>
              )}
            </>
          ),
        },
        {
          head: words.detail,
          cell: ({ detail }) => (
            <span className="block min-w-32 text-xs leading-5 break-words text-ink-soft">{detailWords(detail)}</span>
          ),
        },
      ]}
    />
  );
}

/** `{"by": "key", "pages": 2}` as "by: key, pages: 2". */
function detailWords(detail: AuditEntry["detail"]): string {
  return Object.entries(detail ?? {})
    .map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}

function FilterForm({ onShow }: { onShow: (query: AuditQuery) => void }) {
  const words = useWords().admin.audit;
  const [by, setBy] = useState<Filter>("none");
  const [value, setValue] = useState("");
  const show = (event: FormEvent): void => {
    event.preventDefault();
    onShow(by === "none" ? {} : { [by]: value.trim() });
  };
  return (
    <form className="flex flex-wrap items-end gap-3" onSubmit={show}>
      <div className="w-52 max-sm:w-full">
        <Select label={words.filter} value={by} onChange={(event) => setBy(event.target.value as Filter)}>
          {FILTERS.map((each) => (
            <option key={each} value={each}>
              {words.filters[each]}
            </option>
          ))}
        </Select>
      </div>
      {by !== "none" && (
        <div className="min-w-0 flex-1 sm:max-w-72">
          <TextField
            label={words.value}
            value={value}
            required
            maxLength={200}
            onChange={(event) => setValue(event.target.value)}
          />
        </div>
      )}
      <Button type="submit" className="min-h-10">
        {words.show}
      </Button>
    </form>
  );
}

/** Whether the log is whole. All of it is read for that, so somebody has to ask. */
function Chain() {
  const t = useWords();
  const language = useLanguage();
  const words = t.admin.audit;
  const [verdict, setVerdict] = useState<AuditVerdict | null>(null);
  const [busy, setBusy] = useState(false);
  const check = async (): Promise<void> => {
    setBusy(true);
    try {
      setVerdict(await api.admin.auditVerdict());
    } catch (error) {
      toast({ text: errorText(error, t), tone: "danger" });
    } finally {
      setBusy(false);
    }
  };
  return (
    <Panel title={words.chain}>
      {verdict && !verdict.whole && (
        <div className="mb-3">
          <Trouble title={words.broken(verdict.fault ?? "?")} hint={words.brokenDo} />
        </div>
      )}
      <div className="flex flex-wrap items-center justify-between gap-3">
        <div className="min-w-0 flex-1 text-sm" role="status">
          {verdict === null && <p className="text-ink-soft">{words.unchecked}</p>}
          {verdict?.whole && <p>{words.whole(verdict.entries)}</p>}
          {verdict && (
            <p className="mt-1 font-mono text-xs break-all text-ink-soft">
              {words.head(whole(verdict.headSeq, language))}: {verdict.headHash}
            </p>
          )}
        </div>
        <Button disabled={busy} onClick={() => void check()}>
          {words.check}
        </Button>
      </div>
    </Panel>
  );
}

function Export({ as, children }: { as: "jsonl" | "csv"; children: string }) {
  return (
    <a
      href={`/admin/audit/export?as=${as}`}
      download
      className="inline-flex min-h-9 items-center gap-2 rounded-lg px-3 text-sm font-medium text-ink-soft hover:bg-hover hover:text-ink"
    >
      <Download size={16} aria-hidden />
      {children}
    </a>
  );
}
