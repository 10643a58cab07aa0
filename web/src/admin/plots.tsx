import type { Figure, Figures as FiguresOf } from "@legato/client";
import { useMemo } from "react";

import type { Language } from "../app/preferences.ts";
import { useLanguage, useWords } from "../app/words.ts";
import type { Strings } from "../strings/en.ts";
import { formatsOf, usdOf } from "./figure_formats.ts";
import { Panel } from "./parts.tsx";
import { type Line, Plot } from "./plot.tsx";
import { type Slot, slotsOf, valuesOf } from "./slots.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export function Plots({ figures }: { figures: FiguresOf }) {
  const t = useWords();
  const language = useLanguage();
  const areDays = figures.by === "day";
  const stepMs = areDays ? DAY_MS : HOUR_MS;
  const slots = useMemo(() => slotsOf(figures, stepMs), [figures, stepMs]);
  const plots = useMemo(() => plotsOf(slots, t, language), [slots, t, language]);
  const times = useMemo(() => slots.map(({ at }) => at), [slots]);
  // Half a step on both sides, so that no bar is cut.
  const span = useMemo(
    () => [(times[0] ?? figures.from) - stepMs / 2, figures.to + stepMs / 2] as const,
    [figures, times, stepMs],
  );
  return (
    <>
      {areDays && <p className="text-sm text-ink-soft">{t.admin.daysUtc}</p>}
      <div className="grid gap-3 lg:grid-cols-2">
        {plots.map(({ title, lines, format, isWhole }) => (
          <Panel key={title} title={title}>
            {lines.every(({ values }) => values.every((value) => value === null)) ? (
              <p className="text-sm text-ink-soft">{t.admin.nothingKnown}</p>
            ) : (
              <Plot
                label={title}
                times={times}
                span={span}
                timeLabel={areDays ? t.admin.day : t.admin.time}
                areDays={areDays}
                lines={lines}
                format={format}
                isWhole={isWhole ?? false}
                language={language}
              />
            )}
          </Panel>
        ))}
      </div>
    </>
  );
}

interface PlotOf {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly format: (value: number | null) => string;
  /** Nothing lies between two whole numbers. */
  readonly isWhole?: boolean;
}

function plotsOf(slots: readonly Slot[], t: Strings, language: Language): PlotOf[] {
  const { count, time, share, cost } = formatsOf(t, language);
  const sum = (pick: (figure: Figure) => number | null): (number | null)[] => valuesOf(slots, pick, 0);
  const rate = (pick: (figure: Figure) => number | null): (number | null)[] => valuesOf(slots, pick, null);
  const spread = (title: string, pick: (figure: Figure) => { p50: number | null; p95: number | null }): PlotOf => ({
    title,
    format: time,
    isWhole: true,
    lines: [
      { label: t.admin.p50, values: rate((f) => pick(f).p50), color: "accent" },
      { label: t.admin.p95, values: rate((f) => pick(f).p95), color: "warn" },
    ],
  });
  return [
    {
      title: t.admin.replies,
      format: count,
      isWhole: true,
      lines: [
        { label: t.admin.replies, values: sum((f) => f.messages), color: "accent", bars: true },
        { label: t.admin.sessions, values: sum((f) => f.sessions), color: "warn" },
      ],
    },
    {
      title: t.admin.tokens,
      format: count,
      isWhole: true,
      lines: [
        { label: t.admin.tokensIn, values: sum((f) => f.inputTokens), color: "warn" },
        { label: t.admin.tokensOut, values: sum((f) => f.outputTokens), color: "accent" },
      ],
    },
    spread(t.admin.responseTime, (f) => f.responseTimeMs),
    spread(t.admin.firstToken, (f) => f.firstTokenMs),
    {
      title: `${t.admin.errorRate} · ${t.admin.stops}`,
      format: share,
      lines: [
        { label: t.admin.errorRate, values: rate((f) => f.errorRate), color: "danger" },
        {
          label: t.admin.stops,
          values: rate((f) => f.stops / Math.max(1, f.messages + f.errors + f.stops)),
          color: "warn",
        },
      ],
    },
    {
      title: t.admin.satisfaction,
      format: share,
      lines: [{ label: t.admin.satisfaction, values: rate((f) => f.satisfaction), color: "good" }],
    },
    {
      title: t.admin.cost,
      format: cost,
      lines: [{ label: t.admin.cost, values: sum(usdOf), color: "accent", bars: true }],
    },
  ];
}
