/**
 * The parts of a reply in their order: what the model said without a break (a stretch), then the tool calls that it
 * asked for, then their results in the order of the calls; then the next stretch.
 *
 * Pure. The same order as the server's own (core/stretch.py), which protocol/native.json holds both to.
 */

import type { Part, TextPart, ToolCallPart, ToolResultPart } from "./message.ts";

/** Return `parts` with more text or reasoning; in a stretch the reasoning stands before the text. */
export function withText(parts: readonly Part[], type: TextPart["type"], text: string): readonly Part[] {
  if (text === "") return parts;
  const last = parts.length - 1;
  const at = lastSaid(parts, type);
  if (at >= 0) return parts.with(at, { type, text: (parts[at] as TextPart).text + text });
  const said: TextPart = { type, text };
  const before = type === "reasoning" && parts[last]?.type === "text";
  return before ? [...parts.slice(0, last), said, ...parts.slice(last)] : [...parts, said];
}

/** Return `parts` with one more tool call. */
export function withCall(parts: readonly Part[], call: Omit<ToolCallPart, "type">): readonly Part[] {
  return [...parts, { type: "tool-call", ...call }];
}

/** Return `parts` with where a call's approval stands. */
export function withApproval(
  parts: readonly Part[],
  callId: string,
  approval: NonNullable<ToolCallPart["approval"]>,
): readonly Part[] {
  return parts.map((part) => (part.type === "tool-call" && part.callId === callId ? { ...part, approval } : part));
}

/** Return `parts` with a call's result, which stands where the call does among the calls; an unknown call has none. */
export function withResult(parts: readonly Part[], result: Omit<ToolResultPart, "type">): readonly Part[] {
  const order = parts.flatMap((part) => (part.type === "tool-call" ? [part.callId] : []));
  const place = order.indexOf(result.callId);
  if (place < 0) return parts;
  const part: ToolResultPart = { type: "tool-result", ...result };
  // Results follow all calls of their round: behind the results of earlier calls, before those of later ones.
  let at = parts.findIndex((each) => each.type === "tool-call" && each.callId === result.callId) + 1;
  while (at < parts.length && goesBefore(parts[at] as Part, order, place)) at += 1;
  return [...parts.slice(0, at), part, ...parts.slice(at)];
}

function goesBefore(part: Part, order: readonly string[], place: number): boolean {
  if (part.type === "tool-call") return true;
  return part.type === "tool-result" && order.indexOf(part.callId) < place;
}

/** Return where the present stretch has its part of this type, or -1: calls end a stretch. */
function lastSaid(parts: readonly Part[], type: TextPart["type"]): number {
  for (let at = parts.length - 1; at >= 0; at -= 1) {
    const part = parts[at] as Part;
    if (part.type === type) return at;
    if (part.type === "tool-call" || part.type === "tool-result") return -1;
  }
  return -1;
}
