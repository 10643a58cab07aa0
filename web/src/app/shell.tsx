/** The chat page: the list beside the conversation, or over it where there is no room. */
import { clsx } from "clsx";
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { flushSync } from "react-dom";

import { type ConversationHandle, ConversationView } from "../conversation/conversation_view.tsx";
import { active } from "../sidebar/list_store.ts";
import { Sidebar } from "../sidebar/sidebar.tsx";
import { announce } from "./announcer.tsx";
import { changePreferences, usePreferences } from "./preferences.ts";
import { conversationPath, navigate, type Route } from "./route.ts";
import { type Shortcut, useShortcuts } from "./shortcuts.ts";
import { ShortcutSheet } from "./shortcut_sheet.tsx";
import { useNarrow } from "./narrow.ts";
import { useWords } from "./words.ts";

export function Shell({ route }: { route: Route & { page: "chat" } }) {
  const t = useWords();
  const { conversationId } = route;
  const narrow = useNarrow();
  const { sidebar: wide } = usePreferences();
  const [drawer, setDrawer] = useState(false);
  const [sheet, setSheet] = useState(false);
  const [temporary, setTemporary] = useState(false);
  const view = useRef<ConversationHandle>(null);
  const searchField = useRef<HTMLInputElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const open = narrow ? drawer : wide;

  // A conversation that is named while it is shown stays the same view; any other gets a view of its own.
  const [shown, setShown] = useState({ id: conversationId, key: 0, named: null as string | null });
  if (shown.id !== conversationId) {
    const isOwn = conversationId !== null && shown.named === conversationId;
    setShown({ id: conversationId, key: isOwn ? shown.key : shown.key + 1, named: isOwn ? shown.named : null });
    if (!isOwn && conversationId !== null) setTemporary(false);
  }
  const onNamed = useCallback((id: string) => {
    setShown((now) => ({ ...now, named: id }));
    navigate(conversationPath(id), true);
  }, []);

  const noteFocus = useDrawerFocus(narrow && drawer, panel);
  const setOpen = (next: boolean): void => {
    if (!narrow) return changePreferences({ sidebar: next });
    if (next && !drawer) noteFocus();
    setDrawer(next);
  };
  const onNew = (isTemporary = false): void => {
    setTemporary(isTemporary);
    navigate("/");
    setShown((now) => ({ id: null, key: now.key + 1, named: null }));
    setDrawer(false);
    requestAnimationFrame(() => view.current?.focus());
  };

  useShortcuts((shortcut: Shortcut): boolean => {
    switch (shortcut) {
      case "stop":
        if (narrow && drawer) {
          setDrawer(false);
          return true;
        }
        return view.current?.stop() ?? false;
      case "new":
        onNew();
        return true;
      case "search":
        // At once, so that the next key is written there.
        flushSync(() => setOpen(true));
        searchField.current?.focus();
        return true;
      case "sidebar":
        setOpen(!open);
        return true;
      case "find":
        if (conversationId === null) return false;
        view.current?.find();
        return true;
      case "settings":
        view.current?.settings();
        return true;
      case "focus":
        view.current?.focus();
        return true;
      case "copyLast":
        void view.current?.copyLast().then((done) => done && announce(t.app.copied));
        return true;
      case "help":
        setSheet(true);
        return true;
      case "next":
      case "previous": {
        const ids = active.snapshot().conversations.map(({ id }) => id);
        const at = conversationId === null ? -1 : ids.indexOf(conversationId);
        const id = ids[shortcut === "next" ? at + 1 : at - 1];
        if (id !== undefined) navigate(conversationPath(id));
        return true;
      }
    }
  });

  useEffect(() => {
    if (!narrow) setDrawer(false);
  }, [narrow]);

  return (
    <div className="flex h-full">
      <a
        href="#message"
        inert={narrow && drawer}
        className="sr-only z-50 rounded-lg bg-raise px-4 py-2 focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
        onClick={(event) => {
          event.preventDefault();
          view.current?.focus();
        }}
      >
        {t.app.skip}
      </a>
      {narrow && drawer && (
        <div className="fixed inset-0 z-20 bg-(--shade)" onClick={() => setDrawer(false)} aria-hidden />
      )}
      {open && (
        <div
          ref={panel}
          {...(narrow ? { role: "dialog", "aria-modal": true, "aria-label": t.sidebar.label } : {})}
          className={clsx(
            narrow
              ? "fixed inset-y-0 left-0 z-30 w-[min(20rem,calc(100vw-3rem))] shadow-float"
              : "w-72 shrink-0 border-r border-line",
          )}
          data-testid="sidebar"
        >
          <Sidebar
            currentId={conversationId}
            searchField={searchField}
            onNew={onNew}
            onClose={() => setOpen(false)}
            onOpen={() => setDrawer(false)}
            onKeyboard={() => setSheet(true)}
          />
        </div>
      )}
      <main className="h-full min-w-0 flex-1" inert={narrow && drawer}>
        <ConversationView
          key={shown.key}
          ref={view}
          conversationId={conversationId}
          messageId={route.messageId}
          temporary={temporary}
          // Under the open list its button stays: it is where the focus goes back to.
          sidebarOpen={open && !narrow}
          onSidebar={() => setOpen(true)}
          onNew={() => onNew()}
          onNamed={onNamed}
        />
      </main>
      {sheet && <ShortcutSheet onClose={() => setSheet(false)} />}
    </div>
  );
}

/** Moves the focus into the list that lies over the page, and back to where it was; returns what notes that place. */
function useDrawerFocus(open: boolean, panel: RefObject<HTMLElement | null>): () => void {
  const before = useRef<Element | null>(null);
  useLayoutEffect(() => {
    if (open) return panel.current?.querySelector("button")?.focus();
    const back = before.current;
    before.current = null;
    // Whoever closed the list to go elsewhere has the focus there.
    if (back instanceof HTMLElement && back.isConnected && document.activeElement === document.body) back.focus();
  }, [open, panel]);
  return () => {
    before.current = document.activeElement;
  };
}
