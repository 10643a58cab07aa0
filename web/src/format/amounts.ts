/** Numbers as a person reads them. Pure; unknown is shown as unknown, never as 0. */
import type { Language } from "../app/preferences.ts";

/** `ms` as "340 ms", "2.4 s", "1 min 5 s". */
export function duration(ms: number, language: Language): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toLocaleString(language, { maximumFractionDigits: ms < 9_950 ? 1 : 0 })} s`;
  const seconds = Math.round(ms / 1000);
  return seconds % 60 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : `${seconds / 60} min`;
}

export const whole = (value: number, language: Language): string => value.toLocaleString(language);

export const compact = (value: number, language: Language): string =>
  value.toLocaleString(language, { notation: "compact", maximumFractionDigits: 1 });

/** US dollars, given as a decimal string: small amounts keep two digits that tell something. */
export function dollars(usd: string, language: Language): string {
  const value = Number(usd);
  if (!Number.isFinite(value)) return usd;
  const digits = value === 0 || Math.abs(value) >= 1 ? 2 : Math.min(8, 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString(language, {
    style: "currency",
    currency: "USD",
    minimumFractionDigits: 2,
    maximumFractionDigits: Math.max(2, digits),
  });
}

/** What was charged; `null` where it is not known, and where it was nothing. */
export const charged = (cost: { readonly usd: string } | null, language: Language): string | null =>
  cost !== null && Number(cost.usd) > 0 ? dollars(cost.usd, language) : null;

export const percent = (share: number, language: Language): string =>
  share.toLocaleString(language, { style: "percent", maximumFractionDigits: share > 0 && share < 0.1 ? 1 : 0 });

export const bytes = (size: number, language: Language): string =>
  size < 1000
    ? `${size} B`
    : size < 1e6
      ? `${(size / 1e3).toLocaleString(language, { maximumFractionDigits: 0 })} kB`
      : `${(size / 1e6).toLocaleString(language, { maximumFractionDigits: 1 })} MB`;
