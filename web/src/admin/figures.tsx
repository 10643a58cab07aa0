import { ChartColumn } from "lucide-react";
import { useCallback, useState } from "react";

import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { whole } from "../format/amounts.ts";
import { fullTime, utcDay } from "../format/times.ts";
import { Empty } from "../ui/notices.tsx";
import { formatsOf, usdOf } from "./figure_formats.ts";
import { ModelBars } from "./model_bars.tsx";
import { DataTable, Shown, Tile } from "./parts.tsx";
import { Plots } from "./plots.tsx";
import type { Figures as FiguresOf } from "@legato/client";
import { useAsked } from "./use_asked.ts";

type Span = "day" | "week" | "month" | "quarter";

const DAY_MS = 86_400_000;
const DAYS: Record<Span, number> = { day: 1, week: 7, month: 30, quarter: 90 };

export function Figures() {
  const t = useWords();
  const [span, setSpan] = useState<Span>("week");
  const [byModel, setByModel] = useState(false);
  const ask = useCallback(async (): Promise<FiguresOf> => {
    const from = Date.now() - DAYS[span] * DAY_MS;
    return await api.admin.figures({
      from,
      by: byModel ? "model" : span === "day" ? "hour" : "day",
    });
  }, [span, byModel]);
  const asked = useAsked(ask, 30_000);
  return (
    <div className="flex flex-col gap-5">
      <div className="flex flex-wrap gap-3">
        <Choice label={t.admin.span} value={span} options={t.admin.spans} onChange={setSpan} />
        <Choice
          label={t.admin.model}
          value={byModel ? "model" : "time"}
          options={t.admin.by}
          onChange={(by) => setByModel(by === "model")}
        />
      </div>
      <Shown asked={asked}>{(figures) => <Board figures={figures} />}</Shown>
    </div>
  );
}

function Choice<Name extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: Name;
  options: Readonly<Record<Name, string>>;
  onChange: (value: Name) => void;
}) {
  return (
    <div role="group" aria-label={label} className="flex flex-wrap rounded-lg border border-line bg-panel p-0.5">
      {(Object.keys(options) as Name[]).map((name) => (
        <button
          key={name}
          type="button"
          aria-pressed={name === value}
          onClick={() => onChange(name)}
          className="min-h-8 rounded-md px-3 text-sm text-ink-soft aria-pressed:bg-accent-soft aria-pressed:font-medium aria-pressed:text-ink aria-pressed:ring-1 aria-pressed:ring-accent"
        >
          {options[name]}
        </button>
      ))}
    </div>
  );
}

function Board({ figures }: { figures: FiguresOf }) {
  const t = useWords();
  const language = useLanguage();
  const { total } = figures;
  const unpriced = figures.unpriced.length ? (
    <p className="text-sm text-ink-soft" data-testid="unpriced">
      {t.admin.unpriced(figures.unpriced.join(", "))}
    </p>
  ) : null;
  if (total.messages + total.errors + total.stops === 0)
    return (
      <>
        <Empty icon={<ChartColumn size={28} />} title={t.admin.noFigures} />
        {unpriced}
      </>
    );
  const { count, time, share, cost } = formatsOf(t, language);
  const { inputTokens, outputTokens } = total;
  return (
    <>
      <dl className="grid grid-cols-2 gap-3 lg:grid-cols-4">
        <Tile
          label={t.admin.replies}
          value={whole(total.messages, language)}
          note={t.admin.ofSessions(total.sessions)}
        />
        <Tile
          label={t.admin.tokens}
          value={count(inputTokens === null || outputTokens === null ? null : inputTokens + outputTokens)}
          note={[
            t.admin.inAndOut(count(inputTokens), count(outputTokens)),
            ...(total.estimated ? [t.admin.estimated(total.estimated)] : []),
          ].join(" · ")}
        />
        <Tile
          label={t.admin.cost}
          value={cost(usdOf(total))}
          {...(total.costUnknown ? { note: t.admin.costUnknown(total.costUnknown) } : {})}
        />
        <Tile
          label={t.admin.satisfaction}
          value={share(total.satisfaction)}
          note={t.admin.thumbs(whole(total.feedback.up, language), whole(total.feedback.down, language))}
        />
        <Tile
          label={`${t.admin.responseTime}, p50`}
          value={time(total.responseTimeMs.p50)}
          note={`p95 ${time(total.responseTimeMs.p95)}`}
        />
        <Tile
          label={`${t.admin.firstToken}, p50`}
          value={time(total.firstTokenMs.p50)}
          note={`p95 ${time(total.firstTokenMs.p95)}`}
        />
        <Tile label={t.admin.errorRate} value={share(total.errorRate)} note={whole(total.errors, language)} />
        <Tile label={t.admin.stops} value={whole(total.stops, language)} />
      </dl>
      {unpriced}
      {figures.by === "model" ? <ModelBars groups={figures.groups} /> : <Plots figures={figures} />}
      <GroupTable figures={figures} open={figures.by === "model"} />
    </>
  );
}

function GroupTable({ figures, open }: { figures: FiguresOf; open: boolean }) {
  const t = useWords();
  const language = useLanguage();
  const number = (value: number | null): string => (value === null ? t.admin.unknown : whole(value, language));
  const { time, share, cost } = formatsOf(t, language);
  const timeOf = figures.by === "day" ? utcDay : fullTime;
  return (
    <details open={open}>
      <summary className="mb-2 w-fit rounded-lg text-sm text-ink-soft">{t.admin.asTable}</summary>
      <DataTable
        label={t.admin.asTable}
        rows={figures.groups}
        keyOf={(row, at) => `${row.at ?? row.model}${at}`}
        columns={[
          figures.by === "model"
            ? { head: t.admin.model, cell: (row) => row.model ?? "–" }
            : {
                head: figures.by === "day" ? t.admin.day : t.admin.time,
                cell: ({ at }) => <span className="whitespace-nowrap">{at === null ? "–" : timeOf(at, language)}</span>,
              },
          { head: t.admin.replies, number: true, cell: (row) => number(row.messages) },
          { head: t.admin.sessions, number: true, cell: (row) => number(row.sessions) },
          { head: t.admin.tokensIn, number: true, cell: (row) => number(row.inputTokens) },
          { head: t.admin.tokensOut, number: true, cell: (row) => number(row.outputTokens) },
          { head: t.admin.cost, number: true, cell: (row) => cost(usdOf(row)) },
          { head: `${t.admin.responseTime} p50`, number: true, cell: (row) => time(row.responseTimeMs.p50) },
          { head: `${t.admin.responseTime} p95`, number: true, cell: (row) => time(row.responseTimeMs.p95) },
          { head: `${t.admin.firstToken} p50`, number: true, cell: (row) => time(row.firstTokenMs.p50) },
          { head: `${t.admin.firstToken} p95`, number: true, cell: (row) => time(row.firstTokenMs.p95) },
          { head: t.admin.errorRate, number: true, cell: (row) => number(row.errors) },
          { head: t.admin.stops, number: true, cell: (row) => number(row.stops) },
          { head: t.admin.satisfaction, number: true, cell: (row) => share(row.satisfaction) },
        ]}
      />
    </details>
  );
}
