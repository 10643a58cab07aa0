import type { ConversationOut } from "@legato/client";
import { clsx } from "clsx";
import { Archive, ArchiveRestore, Ellipsis, PenLine, Pin, PinOff, Trash2 } from "lucide-react";
import { type KeyboardEvent, memo, useState } from "react";

import { conversationPath, navigate } from "../app/route.ts";
import { useWords } from "../app/words.ts";
import { Menu, type MenuItem } from "../ui/menu.tsx";
import { pin, remove, rename, setArchived } from "./actions.ts";

interface RowProps {
  readonly conversation: ConversationOut;
  readonly current: boolean;
  readonly onOpen: () => void;
}

export const Row = memo(function Row({ conversation, current, onOpen }: RowProps) {
  const t = useWords();
  const [renaming, setRenaming] = useState(false);
  const { pinned, archived } = conversation;
  const title = conversation.title || t.app.newChat;
  const items: MenuItem[] = [
    { label: t.sidebar.rename, icon: <PenLine size={16} />, onSelect: () => setRenaming(true) },
    ...(archived
      ? []
      : [
          {
            label: pinned ? t.sidebar.unpin : t.sidebar.pin,
            icon: pinned ? <PinOff size={16} /> : <Pin size={16} />,
            onSelect: () => void pin(conversation, !pinned, t),
          },
        ]),
    {
      label: archived ? t.sidebar.unarchive : t.sidebar.archiveOne,
      icon: archived ? <ArchiveRestore size={16} /> : <Archive size={16} />,
      onSelect: () => void setArchived(conversation, !archived, t),
    },
    { label: t.sidebar.remove, icon: <Trash2 size={16} />, danger: true, onSelect: () => remove(conversation, t) },
  ];
  if (renaming) return <Rename conversation={conversation} onEnd={() => setRenaming(false)} />;
  return (
    <li className={clsx("group relative flex items-center rounded-lg", current ? "bg-hover" : "hover:bg-hover")}>
      <a
        href={conversationPath(conversation.id)}
        {...(current ? { "aria-current": "page" as const } : {})}
        className="flex min-h-9 min-w-0 flex-1 items-center gap-2 rounded-lg py-1.5 pr-9 pl-3 text-sm"
        onClick={(event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return;
          event.preventDefault();
          navigate(conversationPath(conversation.id));
          onOpen();
        }}
      >
        <span className={clsx("min-w-0 flex-1 truncate", current && "font-medium")} title={title}>
          {title}
        </span>
        {conversation.activeRunId && (
          <span
            className="size-2 shrink-0 animate-pulse rounded-full bg-accent group-hover:opacity-0"
            role="img"
            aria-label={t.sidebar.answering}
          />
        )}
      </a>
      <Menu
        label={t.sidebar.menu(title)}
        icon={<Ellipsis size={16} />}
        size="small"
        items={items}
        className="!absolute right-0.5 opacity-0 group-focus-within:opacity-100 group-hover:opacity-100 aria-expanded:opacity-100 pointer-coarse:opacity-100"
      />
    </li>
  );
});

function Rename({ conversation, onEnd }: { conversation: ConversationOut; onEnd: () => void }) {
  const t = useWords();
  const [title, setTitle] = useState(conversation.title);
  const save = (): void => {
    const given = title.trim();
    if (given && given !== conversation.title) void rename(conversation, given, t);
    onEnd();
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.key === "Enter") save();
    if (event.key === "Escape") {
      event.stopPropagation();
      onEnd();
    }
  };
  return (
    <li>
      <input
        autoFocus
        aria-label={t.sidebar.renameLabel}
        value={title}
        maxLength={500}
        onChange={(event) => setTitle(event.target.value)}
        onFocus={(event) => event.target.select()}
        onKeyDown={keys}
        onBlur={save}
        className="h-9 w-full rounded-lg border border-accent bg-raise px-3 text-sm outline-offset-0"
      />
    </li>
  );
}
