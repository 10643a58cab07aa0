import { clsx } from "clsx";
import { useMemo } from "react";

import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { fullTime } from "../format/times.ts";
import type { Strings } from "../strings/en.ts";
import { Trouble } from "../ui/notices.tsx";
import { layoutOf, NODE_HEIGHT, NODE_WIDTH } from "./graph_layout.ts";
import { DataTable, Panel, Shown } from "./parts.tsx";
import type { GraphNode, StepInfo, Steps as StepsOf } from "@legato/client";
import { useAsked } from "./use_asked.ts";

type Graph = StepsOf["graph"];

const ask = async (): Promise<StepsOf> => await api.admin.steps();

/** Which step listens to what, and what it makes others do. */
export function Steps() {
  const t = useWords();
  const asked = useAsked(ask);
  return (
    <Shown asked={asked}>
      {({ steps, unheard, graph }) => (
        <div className="flex flex-col gap-5">
          {unheard.map(({ step, topic }) => (
            <Trouble key={`${step} ${topic}`} tone="warn" title={t.admin.unheard(step, topic)} />
          ))}
          <Panel title={t.admin.graph}>
            <Drawn graph={graph} />
            <Shapes />
          </Panel>
          <DataTable
            label={t.admin.sections.steps}
            rows={steps}
            keyOf={({ name }) => name}
            columns={[
              {
                head: t.admin.step,
                cell: (step) => (
                  <>
                    <span className="font-mono text-[13px] font-medium">{step.name}</span>
                    {step.builtIn && (
                      <span className="ml-2 rounded-full bg-hover px-2 py-0.5 text-xs whitespace-nowrap text-ink-soft">
                        {t.admin.builtIn}
                      </span>
                    )}
                    <span className="mt-0.5 block text-xs text-ink-soft">{describe(step, t)}</span>
                  </>
                ),
              },
              {
                head: t.admin.flow,
                cell: ({ flows }) => <span className="whitespace-nowrap">{flows.join(", ") || "–"}</span>,
              },
              { head: t.admin.listens, cell: ({ topics, http }) => <Words words={[...http, ...topics]} /> },
              { head: t.admin.cron, cell: ({ cron }) => <Schedule cron={cron} /> },
              { head: t.admin.enqueues, cell: ({ enqueues }) => <Words words={enqueues} /> },
            ]}
          />
        </div>
      )}
    </Shown>
  );
}

function describe({ name, builtIn, description }: StepInfo, t: Strings): string {
  return (builtIn && t.admin.stepWords[name]) || description;
}

function Schedule({ cron }: Pick<StepInfo, "cron">) {
  const t = useWords();
  const language = useLanguage();
  if (cron.length === 0) return "–";
  return cron.map(({ expression, timezone, next }) => (
    <div key={`${expression} ${timezone}`} className="text-xs whitespace-nowrap">
      <span className="block font-mono">{expression}</span>
      <span className="block text-ink-soft">{timezone}</span>
      {next[0] && (
        <span className="block text-ink-soft">{t.admin.nextTime(fullTime(Date.parse(next[0]), language))}</span>
      )}
    </div>
  ));
}

function Words({ words }: { words: readonly string[] }) {
  if (words.length === 0) return "–";
  return words.map((word) => (
    <span key={word} className="block font-mono text-xs whitespace-nowrap">
      {word}
    </span>
  ));
}

const SHAPES: Record<GraphNode["kind"], string> = {
  step: "fill-accent-soft stroke-accent",
  topic: "fill-raise stroke-line-strong",
  http: "fill-panel stroke-line-strong",
  cron: "fill-warn-soft stroke-warn",
};

/** What the shapes of the graph are. */
function Shapes() {
  const t = useWords();
  return (
    <ul className="mt-3 flex flex-wrap gap-x-4 gap-y-1 text-xs text-ink-soft">
      {(Object.keys(SHAPES) as GraphNode["kind"][]).map((kind) => (
        <li key={kind} className="flex items-center gap-1.5">
          <svg width={26} height={14} aria-hidden>
            <rect x={0.5} y={0.5} width={25} height={13} rx={kind === "step" ? 4 : 6.5} className={SHAPES[kind]} />
          </svg>
          {t.admin.shapes[kind]}
        </li>
      ))}
    </ul>
  );
}

function shortened(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function Drawn({ graph }: { graph: Graph }) {
  const t = useWords();
  const { nodes, edges, width, height } = useMemo(() => layoutOf(graph), [graph]);
  return (
    <div className="overflow-x-auto" tabIndex={0} role="region" aria-label={t.admin.graph}>
      <svg viewBox={`0 0 ${width} ${height}`} width={width} height={height} role="img" aria-label={t.admin.graph}>
        <defs>
          <marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
            <path d="M0 0L8 4L0 8z" className="fill-line-strong" />
          </marker>
        </defs>
        {edges.map(({ key, path }) => (
          <path
            key={key}
            d={path}
            fill="none"
            className="stroke-line-strong"
            strokeWidth={1.25}
            markerEnd="url(#arrow)"
          />
        ))}
        {nodes.map(({ node, x, y }) => (
          <g key={node.id} transform={`translate(${x} ${y})`}>
            <title>{node.flow === null ? node.label : `${node.label} (${node.flow})`}</title>
            <rect
              width={NODE_WIDTH}
              height={NODE_HEIGHT}
              rx={node.kind === "step" ? 12 : 22}
              className={clsx(SHAPES[node.kind])}
            />
            <text
              x={NODE_WIDTH / 2}
              y={node.flow === null ? NODE_HEIGHT / 2 : 16}
              textAnchor="middle"
              dominantBaseline="central"
              className="fill-ink font-mono text-xs"
            >
              {shortened(node.label, 23)}
            </text>
            {node.flow !== null && (
              <text
                x={NODE_WIDTH / 2}
                y={NODE_HEIGHT - 12}
                textAnchor="middle"
                dominantBaseline="central"
                className="fill-ink-soft text-[11px]"
              >
                {shortened(node.flow, 28)}
              </text>
            )}
          </g>
        ))}
      </svg>
    </div>
  );
}
