import { LegatoError, type SignedInPage } from "@legato/client";
import { type FormEvent, useEffect, useState } from "react";

import { browserOf } from "../format/browser.ts";
import { shortTime } from "../format/times.ts";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { TextField } from "../ui/field.tsx";
import { Loading } from "../ui/notices.tsx";
import { api } from "./server.ts";
import { checkSession, useMe } from "./session.ts";
import { useLanguage, useWords } from "./words.ts";

/** Who one is here, the pages that are signed in, and the password where there is one. */
export function Account({ onClose }: { onClose: () => void }) {
  const t = useWords();
  const me = useMe();
  return (
    <Dialog title={t.account.title} onClose={onClose}>
      <p className="text-sm text-ink-soft">{t.account.who(me?.name ?? me?.id ?? "", me?.role === "admin")}</p>
      <Pages />
      {me?.signedInBy === "password" && <NewPassword />}
    </Dialog>
  );
}

function Pages() {
  const t = useWords();
  const language = useLanguage();
  const [pages, setPages] = useState<readonly SignedInPage[] | null>(null);
  const [failed, setFailed] = useState(false);

  const load = (): void => {
    api.signedInPages().then(setPages, () => setFailed(true));
  };
  useEffect(load, []);

  const end = async (page?: SignedInPage): Promise<void> => {
    try {
      await api.signOutPage(page?.id);
      if (page === undefined || page.current) await checkSession();
      else load();
    } catch {
      setFailed(true);
    }
  };

  return (
    <section className="flex flex-col gap-3">
      <h3 className="text-sm font-medium">{t.account.pages}</h3>
      {failed && (
        <p role="alert" className="text-sm text-danger">
          {t.errors.unreachable}
        </p>
      )}
      {pages === null && !failed && <Loading label={t.app.loading} />}
      <ul className="flex flex-col gap-2">
        {pages?.map((page) => (
          <li key={page.id} className="flex items-center gap-3 rounded-lg border border-line px-3 py-2">
            <div className="min-w-0 flex-1">
              <p className="truncate text-sm" title={page.agent}>
                {page.current ? t.account.thisPage : named(page.agent) || t.account.unknownBrowser}
              </p>
              <p className="text-xs text-ink-soft">{t.account.used(shortTime(page.lastUsedAt, Date.now(), language))}</p>
            </div>
            {!page.current && <Button onClick={() => void end(page)}>{t.app.signOut}</Button>}
          </li>
        ))}
      </ul>
      <Button look="danger" onClick={() => void end()}>
        {t.account.everywhere}
      </Button>
    </section>
  );
}

const named = (agent: string): string => browserOf(agent)?.join(" · ") ?? agent;

function NewPassword() {
  const t = useWords();
  const [current, setCurrent] = useState("");
  const [password, setPassword] = useState("");
  const [wrong, setWrong] = useState<{ field: "current" | "password"; words: string } | null>(null);
  const [done, setDone] = useState(false);

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    setWrong(null);
    setDone(false);
    try {
      await api.changePassword(current, password);
      setCurrent("");
      setPassword("");
      setDone(true);
    } catch (error) {
      const status = error instanceof LegatoError ? error.status : null;
      if (status === 403) setWrong({ field: "current", words: t.account.wrongCurrent });
      else if (status === 422) setWrong({ field: "password", words: t.account.weak });
      else setWrong({ field: "current", words: status === 429 ? t.signIn.often : t.errors.unreachable });
    }
  };

  return (
    <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-3 border-t border-line pt-5">
      <h3 className="text-sm font-medium">{t.account.changePassword}</h3>
      <TextField
        label={t.account.current}
        type="password"
        autoComplete="current-password"
        error={wrong?.field === "current" ? wrong.words : null}
        value={current}
        onChange={(event) => setCurrent(event.target.value)}
      />
      <TextField
        label={t.account.next}
        type="password"
        autoComplete="new-password"
        hint={t.account.passwordHint}
        error={wrong?.field === "password" ? wrong.words : null}
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
      <Button look="accent" type="submit" disabled={!current || !password}>
        {t.account.change}
      </Button>
      <p role="status" className="text-sm text-ink-soft">
        {done ? t.account.changed : ""}
      </p>
    </form>
  );
}
