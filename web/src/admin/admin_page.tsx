/** What administrators see: figures, the queue, the steps, what is going on. Loaded on its own. */
import { clsx } from "clsx";
import {
  ArrowLeft,
  ChartColumn,
  Inbox,
  type LucideIcon,
  MessagesSquare,
  ScrollText,
  ShieldCheck,
  Users,
  Wallet,
  Workflow,
} from "lucide-react";
import { useEffect, useRef } from "react";

import { navigate } from "../app/route.ts";
import { useMe } from "../app/session.ts";
import { useWords } from "../app/words.ts";
import { Button } from "../ui/button.tsx";
import { Logo } from "../ui/logo.tsx";
import { Empty } from "../ui/notices.tsx";
import { Audit } from "./audit.tsx";
import { Budgets } from "./budgets.tsx";
import { Figures } from "./figures.tsx";
import { Runs, Sessions } from "./live.tsx";
import { Queue } from "./queue.tsx";
import { Reviews } from "./reviews.tsx";
import { Steps } from "./steps.tsx";

const SECTIONS = {
  figures: { icon: ChartColumn, View: Figures },
  queue: { icon: Inbox, View: Queue },
  steps: { icon: Workflow, View: Steps },
  reviews: { icon: ShieldCheck, View: Reviews },
  runs: { icon: MessagesSquare, View: Runs },
  sessions: { icon: Users, View: Sessions },
  budgets: { icon: Wallet, View: Budgets },
  audit: { icon: ScrollText, View: Audit },
} satisfies Record<string, { icon: LucideIcon; View: () => React.ReactNode }>;

type Name = keyof typeof SECTIONS;

export default function AdminPage({ section }: { section: string }) {
  const t = useWords();
  const me = useMe();
  const name: Name = Object.hasOwn(SECTIONS, section) ? (section as Name) : "figures";
  const { View } = SECTIONS[name];
  const title = t.admin.sections[name];
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => {
    document.title = `${title} · ${t.app.name}`;
    // On a phone the list is wider than the page.
    list.current?.querySelector("[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  }, [title, t]);
  if (me?.role !== "admin") {
    return (
      <main className="flex h-full items-center justify-center">
        <Empty title={t.admin.only}>
          <Button onClick={() => navigate("/")}>{t.app.toChat}</Button>
        </Empty>
      </main>
    );
  }
  return (
    <div className="flex h-full flex-col md:flex-row">
      <nav
        aria-label={t.admin.title}
        className="flex shrink-0 flex-col gap-2 border-line bg-panel p-3 max-md:border-b md:w-60 md:border-r"
      >
        <div className="px-1 py-1 max-md:hidden">
          <Logo small />
        </div>
        <ul ref={list} className="flex gap-1 overflow-x-auto md:flex-col">
          {(Object.keys(SECTIONS) as Name[]).map((each) => {
            const { icon: Icon } = SECTIONS[each];
            return (
              <li key={each}>
                <a
                  href={`/admin#${each}`}
                  {...(each === name ? { "aria-current": "page" as const } : {})}
                  onClick={(event) => {
                    event.preventDefault();
                    navigate(`/admin#${each}`);
                  }}
                  className={clsx(
                    "flex min-h-9 items-center gap-3 rounded-lg px-3 text-sm whitespace-nowrap hover:bg-hover",
                    each === name && "bg-hover font-medium",
                  )}
                >
                  <Icon size={16} aria-hidden className="shrink-0 text-ink-faint" />
                  {t.admin.sections[each]}
                </a>
              </li>
            );
          })}
        </ul>
        <Button look="quiet" className="md:mt-auto !justify-start" onClick={() => navigate("/")}>
          <ArrowLeft size={16} aria-hidden />
          {t.app.toChat}
        </Button>
      </nav>
      <main className="min-h-0 min-w-0 flex-1 overflow-y-auto" tabIndex={-1}>
        <div className="mx-auto max-w-6xl p-5 md:p-8">
          <h1 className="mb-5 text-xl font-semibold tracking-tight">{title}</h1>
          <View />
        </div>
      </main>
    </div>
  );
}
