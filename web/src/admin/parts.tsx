import { LegatoError } from "@legato/client";
import { clsx } from "clsx";
import { type ReactNode, type RefObject, useEffect, useRef, useState } from "react";

import { useLanguage, useWords } from "../app/words.ts";
import { errorText } from "../conversation/error_words.ts";
import { fullTime } from "../format/times.ts";
import { Button } from "../ui/button.tsx";
import { Loading, Trouble } from "../ui/notices.tsx";
import type { Asked } from "./use_asked.ts";

/** What was asked for, and whether it is old; or why it is not there. */
export function Shown<T>({ asked, children }: { asked: Asked<T>; children: (value: T) => ReactNode }) {
  const t = useWords();
  const language = useLanguage();
  const { value, loadedAt, failed, again } = asked;
  if (value === null && failed === null) return <Loading label={t.app.loading} />;
  const hasCode = failed instanceof LegatoError && failed.code !== "unreachable";
  const why = { hint: errorText(failed, t), code: hasCode ? t.errors.code(failed.code) : null };
  if (value === null) {
    const retry = <Button onClick={again}>{t.app.retry}</Button>;
    return <Trouble title={t.admin.loadFailed} {...why} actions={retry} />;
  }
  return (
    <>
      {failed !== null && (
        <div className="mb-3">
          <Trouble tone="warn" title={t.admin.notRefreshed(fullTime(loadedAt, language))} {...why} />
        </div>
      )}
      {children(value)}
    </>
  );
}

export function Tile({ label, value, note }: { label: string; value: string; note?: string | null }) {
  return (
    <div className="min-w-0 rounded-2xl border border-line bg-raise p-3 break-words hyphens-auto sm:p-4">
      <dt className="text-xs text-ink-soft sm:text-sm">{label}</dt>
      <dd className="mt-1 text-xl font-semibold tracking-tight tabular-nums sm:text-2xl">{value}</dd>
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

/** Whether there is more of a wide table beyond its right edge. */
function useMoreBeyond(holder: RefObject<HTMLElement | null>): boolean {
  const [isMore, setMore] = useState(false);
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const look = () => setMore(element.scrollWidth - element.clientWidth - element.scrollLeft > 1);
    const observer = new ResizeObserver(look);
    for (const each of [element, ...element.children]) observer.observe(each);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [holder]);
  return isMore;
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
  const holder = useRef<HTMLDivElement>(null);
  const isMore = useMoreBeyond(holder);
  return (
    <div className="relative">
      <div
        ref={holder}
        className="overflow-x-auto rounded-xl border border-line"
        tabIndex={0}
        role="region"
        aria-label={label}
      >
        <table className="w-full border-collapse text-sm">
          <thead>
            <tr>
              {columns.map(({ head, number }) => (
                <th
                  key={head}
                  scope="col"
                  className={clsx(
                    "bg-panel px-2 py-2 align-bottom font-medium sm:px-3",
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
                      "max-w-72 px-2 py-2 align-top break-words sm:px-3",
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
      {isMore && (
        <div
          aria-hidden
          className="pointer-events-none absolute inset-y-0 right-0 w-8 rounded-r-xl bg-linear-to-l from-page to-transparent"
        />
      )}
    </div>
  );
}
