import { ChartColumn } from "lucide-react";
import { useCallback, useMemo, useState } from "react";

import type { Language } from "../app/preferences.ts";
import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { compact, dollars, duration, percent, whole } from "../format/amounts.ts";
import { fullTime } from "../format/times.ts";
import type { Strings } from "../strings/en.ts";
import { Empty } from "../ui/notices.tsx";
import { ModelBars } from "./model_bars.tsx";
import { DataTable, Panel, Shown, Tile } from "./parts.tsx";
import { type Line, Plot } from "./plot.tsx";
import type { Figure, Figures as FiguresOf } from "@legato/client";
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
          className="min-h-8 rounded-md px-3 text-sm text-ink-soft aria-pressed:bg-raise aria-pressed:font-medium aria-pressed:text-ink aria-pressed:shadow-sm"
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
  const time = (ms: number | null): string => (ms === null ? "–" : duration(ms, language));
  const known = (value: number | null): string => (value === null ? t.admin.unknown : compact(value, language));
  return (
    <>
      <dl className="grid grid-cols-2 gap-3 lg:grid-cols-4">
        <Tile
          label={t.admin.replies}
          value={whole(total.messages, language)}
          note={`${whole(total.sessions, language)} ${t.admin.sessions}`}
        />
        <Tile
          label={t.admin.tokens}
          value={known(total.outputTokens)}
          note={[
            `${known(total.inputTokens)} ${t.admin.tokensIn}`,
            ...(total.estimated ? [t.admin.estimated(whole(total.estimated, language))] : []),
          ].join(" · ")}
        />
        <Tile
          label={t.admin.cost}
          value={total.cost ? dollars(total.cost.usd, language) : t.admin.unknown}
          {...(total.costUnknown ? { note: t.admin.costUnknown(whole(total.costUnknown, language)) } : {})}
        />
        <Tile
          label={t.admin.satisfaction}
          value={total.satisfaction === null ? "–" : percent(total.satisfaction, language)}
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
        <Tile
          label={t.admin.errorRate}
          value={total.errorRate === null ? "–" : percent(total.errorRate, language)}
          note={whole(total.errors, language)}
        />
        <Tile label={t.admin.stops} value={whole(total.stops, language)} />
      </dl>
      {unpriced}
      {figures.by === "model" ? <ModelBars groups={figures.groups} /> : <Plots figures={figures} />}
      <GroupTable figures={figures} open={figures.by === "model"} />
    </>
  );
}

function Plots({ figures }: { figures: FiguresOf }) {
  const { groups } = figures;
  const t = useWords();
  const language = useLanguage();
  const plots = useMemo(() => plotsOf(groups, t, language), [groups, t, language]);
  const times = useMemo(() => groups.map(({ at }) => at ?? 0), [groups]);
  // Half a step on both sides, so that no bar is cut.
  const half = (figures.by === "hour" ? DAY_MS / 24 : DAY_MS) / 2;
  const span = useMemo(
    () => [Math.min(figures.from, times[0] ?? Infinity) - half, figures.to + half] as const,
    [figures, times, half],
  );
  return (
    <div className="grid gap-3 lg:grid-cols-2">
      {plots.map(({ title, lines, format }) => (
        <Panel key={title} title={title}>
          <Plot
            label={title}
            times={times}
            span={span}
            timeLabel={t.admin.time}
            lines={lines}
            format={format}
            language={language}
          />
        </Panel>
      ))}
    </div>
  );
}

interface PlotOf {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
}

function plotsOf(groups: readonly Figure[], t: Strings, language: Language): PlotOf[] {
  const of = (pick: (figure: Figure) => number | null): (number | null)[] => groups.map(pick);
  const number = (value: number): string => compact(value, language);
  const time = (value: number): string => duration(value, language);
  const share = (value: number): string => percent(value, language);
  return [
    {
      title: t.admin.replies,
      format: number,
      lines: [
        { label: t.admin.replies, values: of((f) => f.messages), color: "accent", bars: true },
        { label: t.admin.sessions, values: of((f) => f.sessions), color: "warn" },
      ],
    },
    {
      title: t.admin.tokens,
      format: number,
      lines: [
        { label: t.admin.tokensIn, values: of((f) => f.inputTokens), color: "warn" },
        { label: t.admin.tokensOut, values: of((f) => f.outputTokens), color: "accent" },
      ],
    },
    {
      title: t.admin.responseTime,
      format: time,
      lines: [
        { label: t.admin.p50, values: of((f) => f.responseTimeMs.p50), color: "accent" },
        { label: t.admin.p95, values: of((f) => f.responseTimeMs.p95), color: "warn" },
      ],
    },
    {
      title: t.admin.firstToken,
      format: time,
      lines: [
        { label: t.admin.p50, values: of((f) => f.firstTokenMs.p50), color: "accent" },
        { label: t.admin.p95, values: of((f) => f.firstTokenMs.p95), color: "warn" },
      ],
    },
    {
      title: `${t.admin.errorRate} · ${t.admin.stops}`,
      format: share,
      lines: [
        { label: t.admin.errorRate, values: of((f) => f.errorRate), color: "danger" },
        {
          label: t.admin.stops,
          values: of((f) => f.stops / Math.max(1, f.messages + f.errors + f.stops)),
          color: "warn",
        },
      ],
    },
    {
      title: t.admin.satisfaction,
      format: share,
      lines: [{ label: t.admin.satisfaction, values: of((f) => f.satisfaction), color: "good" }],
    },
    {
      title: t.admin.cost,
      format: (value) => dollars(String(value), language),
      lines: [
        { label: t.admin.cost, values: of((f) => (f.cost ? Number(f.cost.usd) : null)), color: "accent", bars: true },
      ],
    },
  ];
}

function GroupTable({ figures, open }: { figures: FiguresOf; open: boolean }) {
  const t = useWords();
  const language = useLanguage();
  const number = (value: number | null): string => (value === null ? "–" : whole(value, language));
  const time = (value: number | null): string => (value === null ? "–" : duration(value, language));
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
            : { head: t.admin.time, cell: (row) => (row.at === null ? "–" : fullTime(row.at, language)) },
          { head: t.admin.replies, number: true, cell: (row) => number(row.messages) },
          { head: t.admin.sessions, number: true, cell: (row) => number(row.sessions) },
          { head: t.admin.tokensIn, number: true, cell: (row) => number(row.inputTokens) },
          { head: t.admin.tokensOut, number: true, cell: (row) => number(row.outputTokens) },
          { head: t.admin.cost, number: true, cell: (row) => (row.cost ? dollars(row.cost.usd, language) : "–") },
          { head: `${t.admin.responseTime} p50`, number: true, cell: (row) => time(row.responseTimeMs.p50) },
          { head: `${t.admin.responseTime} p95`, number: true, cell: (row) => time(row.responseTimeMs.p95) },
          { head: `${t.admin.firstToken} p50`, number: true, cell: (row) => time(row.firstTokenMs.p50) },
          { head: `${t.admin.firstToken} p95`, number: true, cell: (row) => time(row.firstTokenMs.p95) },
          { head: t.admin.errorRate, number: true, cell: (row) => number(row.errors) },
          { head: t.admin.stops, number: true, cell: (row) => number(row.stops) },
          {
            head: t.admin.satisfaction,
            number: true,
            cell: (row) => (row.satisfaction === null ? "–" : percent(row.satisfaction, language)),
          },
        ]}
      />
    </details>
  );
}
