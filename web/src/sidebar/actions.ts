/** What can be done with a conversation from the list. Each is shown at once, and taken back where the server refuses. */
import type { ConversationOut } from "@legato/client";

import { navigate } from "../app/route.ts";
import { api } from "../app/server.ts";
import type { Strings } from "../strings/en.ts";
import { toast } from "../ui/toast.tsx";
import { errorText } from "../conversation/error_words.ts";
import { active, archive } from "./list_store.ts";

const place = (conversation: ConversationOut): void => {
  active.change(conversation);
  archive.change(conversation);
};

/** The latest change of each conversation: the answer to one before it would take this one back. */
const latest = new Map<string, object>();

async function change(
  conversation: ConversationOut,
  changes: Partial<Pick<ConversationOut, "pinned" | "archived" | "title">>,
  t: Strings,
): Promise<boolean> {
  latest.set(conversation.id, changes);
  const settle = (found: ConversationOut): void => {
    if (latest.get(conversation.id) !== changes) return;
    latest.delete(conversation.id);
    place(found);
  };
  place({ ...conversation, ...changes });
  try {
    settle(await api.conversations.update(conversation.id, changes));
    return true;
  } catch (error) {
    settle(conversation);
    toast({ text: errorText(error, t), tone: "danger" });
    return false;
  }
}

export const rename = (conversation: ConversationOut, title: string, t: Strings): Promise<boolean> =>
  change(conversation, { title }, t);

export const pin = (conversation: ConversationOut, pinned: boolean, t: Strings): Promise<boolean> =>
  change(conversation, { pinned }, t);

/** `onLeave` finds another place for the focus, once the row and the note have gone. */
export async function setArchived(
  conversation: ConversationOut,
  archived: boolean,
  t: Strings,
  onLeave: () => void,
): Promise<void> {
  const takesFocus = byKey();
  if (!(await change(conversation, { archived }, t)) || !archived) return;
  toast({
    text: t.sidebar.archived(conversation.title),
    // Unless it is somewhere else by now.
    takesFocus: takesFocus && document.activeElement === document.body,
    onLeave,
    action: { label: t.app.undo, run: () => void change({ ...conversation, archived: true }, { archived: false }, t) },
  });
}

/** Whether the last thing was done by key: then what was pressed has a ring. */
const byKey = (): boolean => document.activeElement?.matches(":focus-visible") ?? false;

/** Takes a conversation off the list at once, and off the server when the way back has gone. */
export function remove(conversation: ConversationOut, t: Strings, onLeave: () => void): void {
  const takesFocus = byKey();
  const { id } = conversation;
  const hide = (hidden: boolean): void => {
    active.hide(id, hidden);
    archive.hide(id, hidden);
  };
  hide(true);
  const shown = location.pathname === `/c/${encodeURIComponent(id)}`;
  if (shown) navigate("/");
  toast({
    text: t.sidebar.removed(conversation.title),
    takesFocus,
    onLeave,
    stayMs: 7000,
    action: {
      label: t.app.undo,
      run: () => {
        hide(false);
        if (shown) navigate(`/c/${encodeURIComponent(id)}`);
      },
    },
    onGone: () =>
      void api.conversations.remove(id).then(
        () => {
          active.forget(id);
          archive.forget(id);
        },
        (error: unknown) => {
          hide(false);
          toast({ text: errorText(error, t), tone: "danger" });
        },
      ),
  });
}

/** Reads a file of an exported conversation and opens what it makes. */
export async function importFile(file: File, t: Strings): Promise<void> {
  let document: unknown;
  try {
    document = JSON.parse(await file.text());
  } catch {
    toast({ text: t.sidebar.importFailed(t.sidebar.notJson), tone: "danger" });
    return;
  }
  try {
    const made = await api.conversations.importOne(kept(document));
    place(made);
    navigate(`/c/${encodeURIComponent(made.id)}`);
    toast({ text: t.sidebar.imported });
  } catch (error) {
    toast({ text: t.sidebar.importFailed(errorText(error, t)), tone: "danger", stayMs: 12_000 });
  }
}

type Imported = Parameters<typeof api.conversations.importOne>[0];

/** The document, so that what it makes stays until it is deleted; what is no such document the server refuses. */
function kept(document: unknown): Imported {
  const { conversation, ...rest } = Object(document) as { readonly conversation?: unknown };
  if (typeof conversation !== "object" || conversation === null) return document as Imported;
  return { ...rest, conversation: { ...conversation, retention: "keep" } } as unknown as Imported;
}
