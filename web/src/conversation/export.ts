/** Saves a conversation as a file. */
import { api } from "../app/server.ts";

/** A title as a file's name: without what some systems refuse, and not too long. Pure. */
export function fileName(title: string, extension: string): string {
  const name = title
    .replace(/[\\/:*?"<>|\u0000-\u001f]+/g, " ")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, 80)
    .replace(/^\.+|[. ]+$/g, "");
  return `${name || "conversation"}.${extension}`;
}

function save(text: string, type: string, name: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** @throws LegatoError */
export async function saveMarkdown(id: string, title: string): Promise<void> {
  save(await api.conversations.exportMarkdown(id), "text/markdown", fileName(title, "md"));
}

/** @throws LegatoError */
export async function saveJson(id: string, title: string): Promise<void> {
  save(JSON.stringify(await api.conversations.exportOne(id), null, 2), "application/json", fileName(title, "json"));
}
