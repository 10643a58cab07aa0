import { ArrowLeft, Ghost, MessagesSquare, PanelLeftClose, Search, SquarePen, X } from "lucide-react";
import { type RefObject, useDeferredValue, useEffect, useRef, useState } from "react";

import { navigate } from "../app/route.ts";
import { useWords } from "../app/words.ts";
import { Button, IconButton } from "../ui/button.tsx";
import { Logo } from "../ui/logo.tsx";
import { Empty, Loading, Trouble } from "../ui/notices.tsx";
import { importFile } from "./actions.ts";
import { byAge } from "./groups.ts";
import { active, archive, useList } from "./list_store.ts";
import { Foot } from "./preferences_menu.tsx";
import { Row } from "./row.tsx";
import { SearchResults } from "./search.tsx";

interface SidebarProps {
  readonly currentId: string | null;
  readonly searchField: RefObject<HTMLInputElement | null>;
  readonly onNew: (temporary: boolean) => void;
  readonly onClose: () => void;
  /** Something was opened: on a narrow page the list goes away. */
  readonly onOpen: () => void;
  readonly onKeyboard: () => void;
}

export function Sidebar({ currentId, searchField, onNew, onClose, onOpen, onKeyboard }: SidebarProps) {
  const t = useWords();
  const [query, setQuery] = useState("");
  const [inArchive, setInArchive] = useState(false);
  const file = useRef<HTMLInputElement>(null);
  const asked = useDeferredValue(query.trim());
  return (
    <nav aria-label={t.sidebar.label} className="flex h-full flex-col bg-panel">
      <div className="flex items-center justify-between px-3 pt-3 pb-1">
        <a
          href="/"
          className="rounded-lg px-1 py-1"
          onClick={(event) => {
            event.preventDefault();
            navigate("/");
            onOpen();
          }}
        >
          <Logo small />
        </a>
        <IconButton label={t.app.closeSidebar} icon={<PanelLeftClose size={18} />} onClick={onClose} />
      </div>
      <div className="flex gap-1 px-3 py-2">
        <Button className="flex-1 !justify-start" onClick={() => onNew(false)}>
          <SquarePen size={16} aria-hidden />
          {t.app.newChat}
        </Button>
        <IconButton label={t.app.temporaryChat} icon={<Ghost size={18} />} onClick={() => onNew(true)} />
      </div>
      <div className="relative px-3 pb-2">
        <Search size={16} className="pointer-events-none absolute top-2.5 left-6 text-ink-faint" aria-hidden />
        <input
          ref={searchField}
          type="search"
          aria-label={t.sidebar.search}
          placeholder={t.sidebar.searchShort}
          value={query}
          onChange={(event) => setQuery(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Escape" || !query) return;
            event.stopPropagation();
            setQuery("");
          }}
          className="h-9 w-full rounded-lg border border-transparent bg-hover pr-9 pl-9 text-sm [&::-webkit-search-cancel-button]:hidden"
        />
        {query && (
          <IconButton
            label={t.sidebar.clear}
            icon={<X size={14} />}
            size="small"
            className="!absolute top-0.5 right-3.5"
            onClick={() => setQuery("")}
          />
        )}
      </div>
      <div className="min-h-0 flex-1 overflow-y-auto" tabIndex={-1}>
        {asked ? (
          <SearchResults query={asked} onOpen={onOpen} />
        ) : (
          <Conversations
            inArchive={inArchive}
            currentId={currentId}
            onOpen={onOpen}
            onBack={() => setInArchive(false)}
          />
        )}
      </div>
      <Foot onArchive={() => setInArchive(true)} onKeyboard={onKeyboard} onImport={() => file.current?.click()} />
      <input
        ref={file}
        type="file"
        accept="application/json,.json"
        className="hidden"
        aria-label={t.sidebar.import}
        onChange={(event) => {
          const chosen = event.target.files?.[0];
          event.target.value = "";
          if (chosen) void importFile(chosen, t).then(onOpen);
        }}
      />
    </nav>
  );
}

function Conversations({
  inArchive,
  currentId,
  onOpen,
  onBack,
}: {
  inArchive: boolean;
  currentId: string | null;
  onOpen: () => void;
  onBack: () => void;
}) {
  const t = useWords();
  const list = inArchive ? archive : active;
  const { conversations, state, more } = useList(list);
  const end = useRef<HTMLDivElement>(null);

  useEffect(() => {
    void list.refresh();
    const seen = (): void => void (document.hidden || list.refresh());
    document.addEventListener("visibilitychange", seen);
    addEventListener("focus", seen);
    addEventListener("online", seen);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      removeEventListener("focus", seen);
      removeEventListener("online", seen);
    };
  }, [list]);

  useEffect(() => {
    if (!more || !end.current) return;
    const observer = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && void list.loadMore(),
      { rootMargin: "400px" },
    );
    observer.observe(end.current);
    return () => observer.disconnect();
  }, [list, more, conversations.length]);

  return (
    <>
      {inArchive && (
        <div className="px-2 pt-1">
          <Button look="quiet" onClick={onBack} className="!justify-start">
            <ArrowLeft size={16} aria-hidden />
            {t.sidebar.backToChats}
          </Button>
          <h2 className="px-3 pt-2 text-sm font-semibold">{t.sidebar.archive}</h2>
        </div>
      )}
      {state === "loading" && !conversations.length && <Loading label={t.app.loading} />}
      {state === "failed" && (
        <div className="p-3">
          <Trouble
            title={t.sidebar.loadFailed}
            actions={<Button onClick={() => void list.refresh()}>{t.app.retry}</Button>}
          />
        </div>
      )}
      {state === "ready" && !conversations.length && (
        <Empty icon={<MessagesSquare size={24} />} title={inArchive ? t.sidebar.noArchived : t.sidebar.none}>
          {inArchive ? null : t.sidebar.noneHint}
        </Empty>
      )}
      {byAge(conversations, Date.now()).map(({ name, conversations: group }) => (
        <section key={name} className="px-2 pb-2" aria-label={t.sidebar[name]}>
          <h2 className="px-3 pt-3 pb-1 text-xs font-medium text-ink-faint">{t.sidebar[name]}</h2>
          <ul className="flex flex-col gap-0.5">
            {group.map((each) => (
              <Row key={each.id} conversation={each} current={each.id === currentId} onOpen={onOpen} />
            ))}
          </ul>
        </section>
      ))}
      <div ref={end} />
    </>
  );
}
