import "uplot/dist/uPlot.min.css";

import { useEffect, useRef } from "react";
import uPlot from "uplot";

import { useDarkTheme } from "../app/dark.ts";

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
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  readonly language: string;
}

const HEIGHT = 180;

/** Values over time. The same numbers stand in the table below the plots. */
export function Plot({ label, times, span, timeLabel, lines, format, language }: PlotProps) {
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
    const plot = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        cursor: { y: false },
        legend: { show: true, live: true },
        scales: {
          x: { range: [span[0] / 1000, span[1] / 1000] },
          y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] },
        },
        axes: [
          {
            ...axis,
            values: (_, splits, __, ___, step) =>
              splits.map((at) =>
                new Date(at * 1000).toLocaleString(
                  language,
                  step < 86_400 ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" },
                ),
              ),
          },
          { ...axis, size: 64, values: (_, splits) => splits.map((value) => format(value)) },
        ],
        series: [
          {
            label: timeLabel,
            value: (_, at) =>
              at === null
                ? ""
                : new Date(at * 1000).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" }),
          },
          ...lines.map((line) => ({
            label: line.label,
            stroke: color(line.color),
            width: 2,
            spanGaps: true,
            points: { show: times.length < 40, size: 6 },
            ...(line.bars && uPlot.paths.bars
              ? {
                  fill: `color-mix(in srgb, ${color(line.color)} 40%, transparent)`,
                  paths: uPlot.paths.bars({ size: [0.7, 48] }),
                  points: { show: false },
                }
              : {}),
            value: (_: uPlot, value: number | null) => (value === null ? "–" : format(value)),
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
  }, [times, span, timeLabel, lines, format, language, dark]);
  return <div ref={holder} role="img" aria-label={label} className="plot min-w-0 overflow-hidden" />;
}
