import { clsx } from "clsx";

import { useLanguage, useWords } from "../app/words.ts";
import { formatsOf, usdOf } from "./figure_formats.ts";
import { Panel } from "./parts.tsx";
import type { Figure } from "@legato/client";

interface Bar {
  /** Absent where a panel has one bar for each model. */
  readonly label?: string;
  readonly color: "bg-accent" | "bg-warn";
  readonly pick: (figure: Figure) => number | null;
}

interface BarsOf {
  readonly title: string;
  readonly bars: readonly Bar[];
  readonly format: (value: number | null) => string;
}

/** What models have done, one beside the other. The same numbers stand in the table below. */
export function ModelBars({ groups }: { groups: readonly Figure[] }) {
  const t = useWords();
  const language = useLanguage();
  const { count, time, cost } = formatsOf(t, language);
  const panels: readonly BarsOf[] = [
    { title: t.admin.replies, format: count, bars: [{ color: "bg-accent", pick: (f) => f.messages }] },
    {
      title: t.admin.tokens,
      format: count,
      bars: [
        { label: t.admin.tokensOut, color: "bg-accent", pick: (f) => f.outputTokens },
        { label: t.admin.tokensIn, color: "bg-warn", pick: (f) => f.inputTokens },
      ],
    },
    {
      title: t.admin.responseTime,
      format: time,
      bars: [
        { label: t.admin.p50, color: "bg-accent", pick: (f) => f.responseTimeMs.p50 },
        { label: t.admin.p95, color: "bg-warn", pick: (f) => f.responseTimeMs.p95 },
      ],
    },
    {
      title: t.admin.cost,
      format: cost,
      bars: [{ color: "bg-accent", pick: usdOf }],
    },
  ];
  return (
    <div className="grid gap-3 lg:grid-cols-2">
      {panels.map((panel) => (
        <Panel key={panel.title} title={panel.title}>
          <Bars {...panel} groups={groups} />
        </Panel>
      ))}
    </div>
  );
}

function Bars({ bars, format, groups }: BarsOf & { groups: readonly Figure[] }) {
  const most = Math.max(...groups.flatMap((figure) => bars.map(({ pick }) => pick(figure) ?? 0)), Number.MIN_VALUE);
  return (
    <dl className="flex flex-col gap-3 text-sm">
      {groups.map((figure) => (
        <div key={figure.model ?? ""} data-model={figure.model ?? ""}>
          <dt className="mb-1 truncate font-medium">{figure.model ?? "–"}</dt>
          {bars.map(({ label, color, pick }) => {
            const value = pick(figure);
            return (
              <dd key={label ?? ""} className="flex items-center gap-2 text-xs text-ink-soft tabular-nums">
                {label && <span className="w-20 shrink-0">{label}</span>}
                <span className="min-w-0 flex-1" aria-hidden>
                  <span
                    data-bar
                    className={clsx("block h-3 rounded-sm", color)}
                    style={{ width: `${((value ?? 0) / most) * 100}%` }}
                  />
                </span>
                <span className="w-16 shrink-0 text-right">{format(value)}</span>
              </dd>
            );
          })}
        </div>
      ))}
    </dl>
  );
}
