import type { ConversationOut } from "@legato/client";
import { clsx } from "clsx";
import { Archive, ArchiveRestore, Ellipsis, PenLine, Pin, PinOff, Trash2 } from "lucide-react";
import { type KeyboardEvent, memo, useEffect, useRef, useState } from "react";

import { conversationPath, navigate } from "../app/route.ts";
import { useWords } from "../app/words.ts";
import { Menu, type MenuItem } from "../ui/menu.tsx";
import { pin, remove, rename, setArchived } from "./actions.ts";

interface RowProps {
  readonly conversation: ConversationOut;
  readonly current: boolean;
  readonly onOpen: () => void;
}

/** The conversation whose row was renamed, moved or brought back by key: drawn anew, it takes the focus again. */
let wanted: string | null = null;

export const Row = memo(function Row({ conversation, current, onOpen }: RowProps) {
  const t = useWords();
  const [renaming, setRenaming] = useState(false);
  const { pinned, archived } = conversation;
  const link = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    if (wanted !== conversation.id || !link.current) return;
    if (document.activeElement === document.body) link.current.focus();
    wanted = null;
  });
  /** Where the focus goes when this row leaves the list: the next one, or the one before. */
  const leaving = (): (() => void) => {
    wanted = conversation.id;
    const row = link.current?.closest("li");
    const near = [row?.nextElementSibling, row?.previousElementSibling].map((each) => each?.querySelector("a"));
    return () => near.find((each) => each?.isConnected)?.focus();
  };
  const title = conversation.title || t.app.newChat;
  const items: MenuItem[] = [
    { label: t.sidebar.rename, icon: <PenLine size={16} />, onSelect: () => setRenaming(true) },
    ...(archived
      ? []
      : [
          {
            label: pinned ? t.sidebar.unpin : t.sidebar.pin,
            icon: pinned ? <PinOff size={16} /> : <Pin size={16} />,
            onSelect: () => {
              wanted = conversation.id;
              void pin(conversation, !pinned, t);
            },
          },
        ]),
    {
      label: archived ? t.sidebar.unarchive : t.sidebar.archiveOne,
      icon: archived ? <ArchiveRestore size={16} /> : <Archive size={16} />,
      onSelect: () => void setArchived(conversation, !archived, t, leaving()),
    },
    {
      label: t.sidebar.remove,
      icon: <Trash2 size={16} />,
      danger: true,
      onSelect: () => remove(conversation, t, leaving()),
    },
  ];
  if (renaming) {
    const end = (byKey: boolean): void => {
      if (byKey) wanted = conversation.id;
      setRenaming(false);
    };
    return <Rename conversation={conversation} onEnd={end} />;
  }
  return (
    <li className={clsx("group relative flex items-center rounded-lg", current ? "bg-hover" : "hover:bg-hover")}>
      <a
        ref={link}
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

function Rename({ conversation, onEnd }: { conversation: ConversationOut; onEnd: (byKey: boolean) => void }) {
  const t = useWords();
  const [title, setTitle] = useState(conversation.title);
  const save = (byKey: boolean): void => {
    const given = title.trim();
    if (given && given !== conversation.title) void rename(conversation, given, t);
    onEnd(byKey);
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter") save(true);
    if (event.key === "Escape") {
      event.stopPropagation();
      onEnd(true);
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
        onBlur={() => save(false)}
        className="h-9 w-full rounded-lg border border-accent bg-raise px-3 text-sm outline-offset-0"
      />
    </li>
  );
}
