/** Times as a person reads them. Pure: the present is passed in. */
import type { Language } from "../app/preferences.ts";

export type Age = "today" | "yesterday" | "week" | "older";

/** How long ago, by days of the reader's calendar. */
export function ageOf(atMs: number, nowMs: number): Age {
  const midnight = new Date(nowMs).setHours(0, 0, 0, 0);
  if (atMs >= midnight) return "today";
  // A day may have 23 or 25 hours: count calendar days, not milliseconds.
  const back = (days: number): number => {
    const date = new Date(midnight);
    date.setDate(date.getDate() - days);
    return date.getTime();
  };
  if (atMs >= back(1)) return "yesterday";
  return atMs >= back(7) ? "week" : "older";
}

/** "14:05" today, "3 Mar" this year, "3 Mar 2025" before. */
export function shortTime(atMs: number, nowMs: number, language: Language): string {
  const at = new Date(atMs);
  if (ageOf(atMs, nowMs) === "today") return at.toLocaleTimeString(language, { hour: "numeric", minute: "2-digit" });
  const sameYear = at.getFullYear() === new Date(nowMs).getFullYear();
  return at.toLocaleDateString(language, { day: "numeric", month: "short", ...(sameYear ? {} : { year: "numeric" }) });
}

export const fullTime = (atMs: number, language: Language): string =>
  new Date(atMs).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });

/** As `fullTime`, with seconds. */
export const exactTime = (atMs: number, language: Language): string =>
  new Date(atMs).toLocaleString(language, { dateStyle: "medium", timeStyle: "medium" });

/** A day that is counted in UTC: the reader's own may have begun before or after. */
export const utcDay = (atMs: number, language: Language): string =>
  new Date(atMs).toLocaleDateString(language, { dateStyle: "medium", timeZone: "UTC" });

/** "in 4 minutes", "2 hours ago". */
export function relative(atMs: number, nowMs: number, language: Language): string {
  const seconds = Math.round((atMs - nowMs) / 1000);
  const format = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const size = Math.abs(seconds);
  if (size < 90) return format.format(seconds, "second");
  if (size < 5400) return format.format(Math.round(seconds / 60), "minute");
  if (size < 129_600) return format.format(Math.round(seconds / 3600), "hour");
  return format.format(Math.round(seconds / 86_400), "day");
}
