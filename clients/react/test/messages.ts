/** Messages for tests of pure parts. */

import { messageOfRow } from "../src/apply.ts";
import type { MessageRow } from "../src/server.ts";
import type { ChatMessage } from "../src/types.ts";

export function row(id: string, parentId: string | null, more: Partial<MessageRow> = {}): MessageRow {
  return {
    id,
    role: id.startsWith("u") ? "user" : "assistant",
    content: `text of ${id}`,
    parts: [{ type: "text", text: `text of ${id}` }],
    timestamp: 1,
    status: "complete",
    parentId,
    runId: id.startsWith("u") ? null : `run-${id}`,
    model: null,
    usage: null,
    feedback: null,
    metadata: null,
    siblings: [id],
    responseTimeMs: null,
    firstTokenMs: null,
    finishReason: null,
    error: null,
    cost: null,
    ...more,
  };
}

export function message(id: string, parentId: string | null, depth: number, more: Partial<MessageRow> = {}): ChatMessage {
  return messageOfRow(row(id, parentId, more), depth);
}
