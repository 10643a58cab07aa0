/** The list cut by age. Pure. */
import type { ConversationOut } from "@legato/client";

import { type Age, ageOf } from "../format/times.ts";

export interface Group {
  readonly name: Age | "pinned";
  readonly conversations: readonly ConversationOut[];
}

/** Groups in the order in which they are shown; `conversations` come in order. */
export function byAge(conversations: readonly ConversationOut[], nowMs: number): Group[] {
  const groups: { name: Group["name"]; conversations: ConversationOut[] }[] = [];
  for (const each of conversations) {
    const name = each.pinned ? "pinned" : ageOf(each.lastMessageAt, nowMs);
    const last = groups.at(-1);
    if (last?.name === name) last.conversations.push(each);
    else groups.push({ name, conversations: [each] });
  }
  return groups;
}
