/** Figures as they are written. Pure: "unknown" is what nobody counted, "–" what there was none of. */
import type { Figure } from "@legato/client";

import type { Language } from "../app/preferences.ts";
import { compact, dollars, duration, percent } from "../format/amounts.ts";
import type { Strings } from "../strings/en.ts";

type Format = (value: number | null) => string;

export interface Formats {
  readonly count: Format;
  readonly time: Format;
  readonly share: Format;
  readonly cost: Format;
}

export function formatsOf(t: Strings, language: Language): Formats {
  const or =
    (none: string, format: (value: number, language: Language) => string): Format =>
    (value) =>
      value === null ? none : format(value, language);
  return {
    count: or(t.admin.unknown, compact),
    time: or("–", duration),
    share: or("–", percent),
    cost: or(t.admin.unknown, (usd) => dollars(String(usd), language)),
  };
}

export const usdOf = ({ cost }: Figure): number | null => (cost === null ? null : Number(cost.usd));
