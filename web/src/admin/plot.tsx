import "uplot/dist/uPlot.min.css";

import { useEffect, useRef } from "react";
import uPlot from "uplot";

import { useDarkTheme } from "../app/dark.ts";
import type { Language } from "../app/preferences.ts";
import { fullTime, utcDay } from "../format/times.ts";

export interface Line {
  readonly label: string;
  readonly values: readonly (number | null)[];
  /** A name of a colour of the page: `accent`, `warn` … */
  readonly color: string;
  readonly bars?: boolean;
}

interface PlotProps {
  /** Read by screen readers in place of the picture. */
  readonly label: string;
  /** Epoch milliseconds, rising. */
  readonly times: readonly number[];
  /** What the plot spans, in epoch milliseconds. */
  readonly span: readonly [number, number];
  readonly timeLabel: string;
  /** The times are days, in UTC. */
  readonly areDays: boolean;
  readonly lines: readonly Line[];
  readonly format: (value: number | null) => string;
  /** No marks between whole numbers. */
  readonly isWhole: boolean;
  readonly language: Language;
}

const HEIGHT = 180;
const DAY_S = 86_400;
const DAY_STEPS = [1, 2, 7, 14, 30, 60].map((days) => days * DAY_S);
const WHOLE_STEPS = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

const isKnown = (value: number | null | undefined): boolean => typeof value === "number";

/** Where a line has a value between two that are missing. */
const lone = ({ values }: Line): number[] =>
  [...values.keys()].filter((at) => isKnown(values[at]) && !isKnown(values[at - 1]) && !isKnown(values[at + 1]));

/** Values over time. The same numbers stand in the table below the plots. */
export function Plot({ label, times, span, timeLabel, areDays, lines, format, isWhole, language }: PlotProps) {
  const holder = useRef<HTMLDivElement>(null);
  const dark = useDarkTheme();
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const color = (name: string): string => {
      // The colour of an element is that of the theme; the property itself still names both.
      element.style.color = `var(--${name})`;
      const found = getComputedStyle(element).color;
      element.style.color = "";
      return found;
    };
    const axis = {
      stroke: color("ink-soft"),
      grid: { stroke: color("line"), width: 1 },
      ticks: { stroke: color("line"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    // What the legend tells while no pointer is over the plot.
    const latest = times.findLastIndex((_, at) => lines.some(({ values }) => isKnown(values[at])));
    const plot = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        // Else the axis would be marked where the reader's own days begin.
        ...(areDays ? { tzDate: (at: number) => uPlot.tzDate(new Date(at * 1000), "UTC") } : {}),
        cursor: { y: false },
        legend: { show: true, live: true },
        scales: {
          x: { range: [span[0] / 1000, span[1] / 1000] },
          y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] },
        },
        axes: [
          {
            ...axis,
            ...(areDays ? { incrs: DAY_STEPS } : {}),
            values: (_, splits, __, ___, step) => {
              const isDay = areDays || step >= DAY_S;
              const date = new Intl.DateTimeFormat(language, {
                ...(isDay ? { day: "numeric", month: "short" } : { hour: "numeric", minute: "2-digit" }),
                ...(areDays ? { timeZone: "UTC" } : {}),
              });
              return splits.map((at) => date.format(at * 1000));
            },
          },
          {
            ...axis,
            ...(isWhole ? { incrs: WHOLE_STEPS } : {}),
            size: 64,
            values: (_, splits) => splits.map((value) => format(value)),
          },
        ],
        series: [
          {
            label: timeLabel,
            value: (_, __, ___, at) => (areDays ? utcDay : fullTime)(times[at ?? latest] ?? 0, language),
          },
          ...lines.map((line) => ({
            label: line.label,
            stroke: color(line.color),
            width: 2,
            // A value between two that are missing is no line: without its point nothing of it would be seen.
            points: {
              show: times.length < 40,
              size: 6,
              filter: (_: uPlot, __: number, isShown: boolean) => (isShown ? null : lone(line)),
            },
            ...(line.bars && uPlot.paths.bars
              ? {
                  fill: `color-mix(in srgb, ${color(line.color)} 40%, transparent)`,
                  paths: uPlot.paths.bars({ size: [0.7, 48] }),
                  points: { show: false },
                }
              : {}),
            value: (_: uPlot, __: number, ___: number, at: number | null) => format(line.values[at ?? latest] ?? null),
          })),
        ],
      },
      [times.map((at) => at / 1000), ...lines.map(({ values }) => [...values])] as uPlot.AlignedData,
      element,
    );
    const observer = new ResizeObserver(() =>
      plot.setSize({ width: Math.max(200, element.clientWidth), height: HEIGHT }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [times, span, timeLabel, areDays, lines, format, isWhole, language, dark]);
  return <div ref={holder} role="img" aria-label={label} className="plot min-w-0 overflow-hidden" />;
}
