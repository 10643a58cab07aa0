import type { ConversationOut } from "@legato/client";
import { Download, Ellipsis, FileJson, Ghost, PanelLeft, Search, SlidersHorizontal, SquarePen } from "lucide-react";

import { useModels } from "../app/session.ts";
import { useWords } from "../app/words.ts";
import { active, useList } from "../sidebar/list_store.ts";
import { IconButton } from "../ui/button.tsx";
import { Menu, type MenuItem } from "../ui/menu.tsx";
import { toast } from "../ui/toast.tsx";
import { errorText } from "./error_words.ts";
import { saveJson, saveMarkdown } from "./export.ts";

interface HeaderProps {
  /** `null` of a conversation that has not begun. */
  readonly conversationId: string | null;
  /** `null` before it is read. */
  readonly conversation: ConversationOut | null;
  readonly model: string | null;
  readonly temporary: boolean;
  readonly sidebarOpen: boolean;
  readonly onSidebar: () => void;
  readonly onNew: () => void;
  readonly onFind: () => void;
  readonly onSettings: () => void;
}

export function Header({
  conversationId,
  conversation,
  model,
  temporary,
  sidebarOpen,
  onSidebar,
  onNew,
  onFind,
  onSettings,
}: HeaderProps) {
  const t = useWords();
  const models = useModels();
  const { conversations } = useList(active);
  const known = conversation ?? conversations.find(({ id }) => id === conversationId);
  const unnamed = temporary ? t.app.temporaryChat : t.app.newChat;
  // An address of which nothing is known, yet or ever, has no title.
  const title = known || conversationId === null ? known?.title || unnamed : "";
  const answers = model ?? models?.default ?? null;
  const saving = (save: (id: string, title: string) => Promise<void>) => () => {
    if (conversation)
      save(conversation.id, conversation.title).catch((error: unknown) =>
        toast({ text: errorText(error, t), tone: "danger" }),
      );
  };
  const items: MenuItem[] = [
    {
      label: t.settings.exportMarkdown,
      icon: <Download size={16} />,
      onSelect: saving(saveMarkdown),
    },
    {
      label: t.settings.exportJson,
      icon: <FileJson size={16} />,
      onSelect: saving(saveJson),
    },
  ];
  return (
    <header className="flex h-14 shrink-0 items-center gap-1 border-b border-line px-3">
      {!sidebarOpen && <IconButton label={t.app.openSidebar} icon={<PanelLeft size={18} />} onClick={onSidebar} />}
      <div className="flex min-w-0 flex-1 items-center gap-2 px-2">
        {temporary && <Ghost size={16} className="shrink-0 text-ink-faint" aria-hidden />}
        {title && (
          <h1 className="min-w-0 truncate text-[15px] font-medium" title={title}>
            {title}
          </h1>
        )}
        {answers && (
          <button
            type="button"
            onClick={onSettings}
            title={t.settings.open}
            className="max-w-40 shrink-0 truncate rounded-full bg-hover px-2.5 py-1 text-xs text-ink-soft hover:text-ink max-sm:hidden"
          >
            {answers}
          </button>
        )}
      </div>
      {conversation && <IconButton label={t.find.label} icon={<Search size={18} />} onClick={onFind} />}
      <IconButton label={t.settings.open} icon={<SlidersHorizontal size={18} />} onClick={onSettings} />
      {conversation && <Menu label={t.settings.exportTitle} icon={<Ellipsis size={18} />} items={items} />}
      {!sidebarOpen && <IconButton label={t.app.newChat} icon={<SquarePen size={18} />} onClick={onNew} />}
    </header>
  );
}
