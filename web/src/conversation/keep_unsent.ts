/** What the server has not taken is not lost with the view: it is a draft again where it was written. */
import type { ChatMessage } from "@legato/react";
import { useEffect, useRef } from "react";

import { loadDraft, saveDraft } from "../composer/draft.ts";

/** The draft to be kept: unsent messages, oldest first, before what was being written. Pure. */
export function draftOf(messages: readonly Pick<ChatMessage, "status" | "content">[], written: string): string {
  const unsent = messages.filter(({ status }) => status === "unsent").map(({ content }) => content);
  return [...unsent.filter((text) => !written.includes(text)), written].filter(Boolean).join("\n\n");
}

/** Keeps them when the view goes away: signed out, another conversation, a reload. */
export function useKeptUnsent(messages: readonly ChatMessage[], draftKey: string): void {
  const latest = useRef({ messages, draftKey });
  useEffect(() => {
    latest.current = { messages, draftKey };
  });
  useEffect(() => {
    const keep = (): void => {
      const now = latest.current;
      if (now.messages.some(({ status }) => status === "unsent"))
        saveDraft(now.draftKey, draftOf(now.messages, loadDraft(now.draftKey)));
    };
    addEventListener("pagehide", keep);
    return () => {
      removeEventListener("pagehide", keep);
      keep();
    };
  }, []);
}
