import { LegatoError } from "@legato/client";
import { Eye, EyeOff } from "lucide-react";
import { type FormEvent, useState } from "react";

import { Button, IconButton } from "../ui/button.tsx";
import { TextField } from "../ui/field.tsx";
import { Logo } from "../ui/logo.tsx";
import { signIn } from "./session.ts";
import { useWords } from "./words.ts";

export function SignIn() {
  const t = useWords();
  const [key, setKey] = useState("");
  const [shown, setShown] = useState(false);
  const [wrong, setWrong] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    const given = key.trim();
    if (given.startsWith("lp_")) return setWrong(t.signIn.publishable);
    if (!given.startsWith("lk_")) return setWrong(t.signIn.shape);
    setBusy(true);
    setWrong(null);
    try {
      await signIn(given);
    } catch (error) {
      const known = error instanceof LegatoError && (error.status === 401 || error.status === 403);
      setWrong(
        known
          ? t.signIn.wrong
          : error instanceof LegatoError && error.status === 429
            ? t.errors.rateLimited
            : t.errors.unreachable,
      );
    } finally {
      setBusy(false);
    }
  };

  return (
    <main className="flex min-h-full items-center justify-center overflow-y-auto p-6">
      <form onSubmit={(event) => void submit(event)} className="flex w-full max-w-sm flex-col gap-6">
        <Logo />
        <div>
          <h1 className="text-2xl font-semibold tracking-tight">{t.signIn.title}</h1>
          <p className="mt-2 text-sm leading-relaxed text-ink-soft">{t.signIn.hint}</p>
        </div>
        <div className="flex items-start gap-2">
          <div className="min-w-0 flex-1">
            <TextField
              label={t.signIn.key}
              error={wrong}
              type={shown ? "text" : "password"}
              autoComplete="current-password"
              spellCheck={false}
              autoFocus
              className="font-mono"
              value={key}
              onChange={(event) => setKey(event.target.value)}
            />
          </div>
          <IconButton
            label={shown ? t.signIn.hide : t.signIn.show}
            icon={shown ? <EyeOff size={18} /> : <Eye size={18} />}
            className="mt-[1.75rem]"
            onClick={() => setShown(!shown)}
          />
        </div>
        <Button look="accent" type="submit" disabled={busy || !key.trim()} className="min-h-11">
          {t.signIn.button}
        </Button>
      </form>
    </main>
  );
}
