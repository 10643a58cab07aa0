import { clsx } from "clsx";
import type { ReactNode } from "react";

import { useWords } from "../app/words.ts";
import { errorText } from "../conversation/error_words.ts";
import { Button } from "../ui/button.tsx";
import { Loading, Trouble } from "../ui/notices.tsx";
import type { Asked } from "./use_asked.ts";

/** What was asked for, or why it is not there. */
export function Shown<T>({ asked, children }: { asked: Asked<T>; children: (value: T) => ReactNode }) {
  const t = useWords();
  if (asked.value !== null) return children(asked.value);
  if (!asked.failed) return <Loading label={t.app.loading} />;
  return (
    <Trouble
      title={t.admin.loadFailed}
      hint={errorText(asked.failed, t)}
      actions={<Button onClick={asked.again}>{t.app.retry}</Button>}
    />
  );
}

export function Tile({ label, value, note }: { label: string; value: string; note?: string | null }) {
  return (
    <div className="rounded-2xl border border-line bg-raise p-4">
      <dt className="text-sm text-ink-soft">{label}</dt>
      <dd className="mt-1 text-2xl font-semibold tracking-tight tabular-nums">{value}</dd>
      {note && <dd className="mt-0.5 text-xs text-ink-soft tabular-nums">{note}</dd>}
    </div>
  );
}

export function Panel({ title, children, className }: { title: string; children: ReactNode; className?: string }) {
  return (
    <section aria-label={title} className={clsx("min-w-0 rounded-2xl border border-line bg-raise p-4", className)}>
      <h2 className="mb-3 text-sm font-medium">{title}</h2>
      {children}
    </section>
  );
}

export interface Column<Row> {
  readonly head: string;
  readonly cell: (row: Row) => ReactNode;
  readonly number?: boolean;
}

export function DataTable<Row>({
  label,
  columns,
  rows,
  keyOf,
}: {
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row, at: number) => string;
}) {
  return (
    <div className="overflow-x-auto rounded-xl border border-line" tabIndex={0} role="region" aria-label={label}>
      <table className="w-full border-collapse text-sm">
        <thead>
          <tr>
            {columns.map(({ head, number }) => (
              <th
                key={head}
                scope="col"
                className={clsx(
                  "bg-panel px-3 py-2 font-medium whitespace-nowrap",
                  number ? "text-right" : "text-left",
                )}
              >
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, at) => (
            <tr key={keyOf(row, at)} className="border-t border-line">
              {columns.map(({ head, cell, number }) => (
                <td
                  key={head}
                  className={clsx(
                    "max-w-72 px-3 py-2 align-top break-words",
                    number && "text-right whitespace-nowrap tabular-nums",
                  )}
                >
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
