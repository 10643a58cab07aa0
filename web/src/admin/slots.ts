/** The days or hours of a span, with those that the server leaves out: they had no replies. Pure. */
import type { Figure, Figures } from "@legato/client";

export interface Slot {
  /** Its beginning, UTC, in epoch milliseconds. */
  readonly at: number;
  /** `null` where there were no replies. */
  readonly figure: Figure | null;
}

type Span = Pick<Figures, "from" | "to" | "groups">;

/** Every day or hour of [from, to), each of `stepMs`. */
export function slotsOf({ from, to, groups }: Span, stepMs: number): Slot[] {
  const known = new Map(groups.map((figure) => [figure.at, figure]));
  const slots: Slot[] = [];
  for (let at = Math.floor(from / stepMs) * stepMs; at < to; at += stepMs)
    slots.push({ at, figure: known.get(at) ?? null });
  return slots;
}

/** A line's values: `none` of a slot without replies; all unknown where nothing of the line is known. */
export function valuesOf(
  slots: readonly Slot[],
  pick: (figure: Figure) => number | null,
  none: 0 | null,
): (number | null)[] {
  const isKnown = slots.some(({ figure }) => figure !== null && pick(figure) !== null);
  return slots.map(({ figure }) => (figure ? pick(figure) : isKnown ? none : null));
}
