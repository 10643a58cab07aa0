import { LegatoError, type SignInWays } from "@legato/client";
import { Eye, EyeOff } from "lucide-react";
import { type FormEvent, type ReactNode, useEffect, useState } from "react";

import type { Strings } from "../strings/en.ts";
import { Button, IconButton } from "../ui/button.tsx";
import { TextField } from "../ui/field.tsx";
import { Logo } from "../ui/logo.tsx";
import { Loading } from "../ui/notices.tsx";
import { api } from "./server.ts";
import { goToIssuer, signIn, signInWithPassword, takeSignInFault } from "./session.ts";
import { useWords } from "./words.ts";

const KEYS_ALONE: SignInWays = { auth: "keys", password: false, issuer: null };

/** The ways in that the server has: an account's password, its issuer, and a key. */
export function SignIn() {
  const t = useWords();
  const [ways, setWays] = useState<SignInWays | null>(null);
  const [byKey, setByKey] = useState(false);
  const [fault, setFault] = useState<string | null>(null);

  useEffect(() => {
    let gone = false;
    const why = takeSignInFault();
    if (why !== null) setFault(issuerFault(t, why));
    // A server that does not say has keys.
    api.signInWays().then(
      (found) => gone || setWays(found),
      () => gone || setWays(KEYS_ALONE),
    );
    return () => {
      gone = true;
    };
  }, []);

  if (ways === null) {
    return (
      <main className="flex h-full items-center justify-center">
        <Loading label={t.app.loading} />
      </main>
    );
  }
  const people = ways.password || ways.issuer !== null;
  const keyForm = byKey || !people;
  return (
    <main className="flex h-full justify-center overflow-y-auto p-6">
      <div className="my-auto flex w-full max-w-sm flex-col gap-6">
        <Logo />
        <div>
          <h1 className="text-2xl font-semibold tracking-tight">{t.signIn.title}</h1>
          <p className="mt-2 text-sm leading-relaxed text-ink-soft">
            {keyForm ? t.signIn.hint : t.signIn.accountHint}
          </p>
        </div>
        {fault && (
          <p role="alert" className="rounded-lg border border-danger bg-danger-soft px-3 py-2 text-sm text-danger">
            {fault}
          </p>
        )}
        {keyForm && <KeyForm />}
        {!keyForm && ways.password && <PasswordForm />}
        {!keyForm && ways.password && ways.issuer && <Or words={t.signIn.or} />}
        {!keyForm && ways.issuer && (
          <IssuerButton label={ways.issuer.label} look={ways.password ? "plain" : "accent"} onFault={setFault} />
        )}
        {people && (
          <Button look="quiet" className="self-center" onClick={() => setByKey(!byKey)}>
            {byKey ? (ways.password ? t.signIn.withPassword : t.signIn.back) : t.signIn.withKey}
          </Button>
        )}
      </div>
    </main>
  );
}

function KeyForm() {
  const t = useWords();
  const [key, setKey] = useState("");
  const { wrong, busy, attempt } = useAttempt(t.signIn.wrong);

  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const given = key.trim();
    const fault = given.startsWith("lp_") ? t.signIn.publishable : given.startsWith("lk_") ? null : t.signIn.shape;
    void attempt(() => signIn(given), fault);
  };

  return (
    <form onSubmit={submit} className="flex flex-col gap-6">
      <SecretField
        label={t.signIn.key}
        show={t.signIn.show}
        hide={t.signIn.hide}
        value={key}
        onChange={setKey}
        error={wrong}
        autoFocus
        mono
      />
      <Button look="accent" type="submit" disabled={busy || !key.trim()} className="min-h-11">
        {t.signIn.button}
      </Button>
    </form>
  );
}

function PasswordForm() {
  const t = useWords();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const { wrong, busy, attempt } = useAttempt(t.signIn.wrongPassword);

  const submit = (event: FormEvent): void => {
    event.preventDefault();
    void attempt(() => signInWithPassword(name, password));
  };

  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      <TextField
        label={t.signIn.name}
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        autoFocus
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <SecretField
        label={t.signIn.password}
        show={t.signIn.showPassword}
        hide={t.signIn.hidePassword}
        value={password}
        onChange={setPassword}
        error={wrong}
      />
      <Button look="accent" type="submit" disabled={busy || !name.trim() || !password} className="mt-2 min-h-11">
        {t.signIn.button}
      </Button>
    </form>
  );
}

function IssuerButton(props: { label: string; look: "plain" | "accent"; onFault: (words: string) => void }) {
  const t = useWords();
  const [busy, setBusy] = useState(false);

  const go = async (): Promise<void> => {
    setBusy(true);
    try {
      await goToIssuer();
    } catch (error) {
      setBusy(false);
      const code = error instanceof LegatoError ? error.code : "";
      props.onFault(code === "issuer_unavailable" ? t.signIn.issuerFaults.unreachable : wordsOfFault(t, error));
    }
  };

  return (
    <Button look={props.look} disabled={busy} className="min-h-11" onClick={() => void go()}>
      {t.signIn.issuer(props.label)}
    </Button>
  );
}

function Or({ words }: { words: string }) {
  return (
    <div className="flex items-center gap-3 text-xs text-ink-soft" aria-hidden>
      <span className="h-px flex-1 bg-line-strong" />
      {words}
      <span className="h-px flex-1 bg-line-strong" />
    </div>
  );
}

interface SecretProps {
  readonly label: string;
  readonly show: string;
  readonly hide: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly error: string | null;
  readonly autoFocus?: boolean;
  readonly mono?: boolean;
}

/** A field whose words are hidden until they are wanted. */
function SecretField({ label, show, hide, value, onChange, error, autoFocus = false, mono = false }: SecretProps) {
  const [shown, setShown] = useState(false);
  const icon: ReactNode = shown ? <EyeOff size={18} /> : <Eye size={18} />;
  return (
    <div className="flex items-start gap-2">
      <div className="min-w-0 flex-1">
        <TextField
          label={label}
          error={error}
          type={shown ? "text" : "password"}
          autoComplete="current-password"
          spellCheck={false}
          autoFocus={autoFocus}
          className={mono ? "font-mono" : ""}
          value={value}
          onChange={(event) => onChange(event.target.value)}
        />
      </div>
      <IconButton
        label={shown ? hide : show}
        icon={icon}
        className="mt-[1.75rem]"
        onClick={() => setShown(!shown)}
      />
    </div>
  );
}

function useAttempt(refused: string) {
  const t = useWords();
  const [wrong, setWrong] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  const attempt = async (work: () => Promise<void>, fault: string | null = null): Promise<void> => {
    setWrong(fault);
    if (fault !== null) return;
    setBusy(true);
    try {
      await work();
    } catch (error) {
      const status = error instanceof LegatoError ? error.status : null;
      setWrong(status === 401 || status === 403 || status === 422 ? refused : wordsOfFault(t, error));
    } finally {
      setBusy(false);
    }
  };
  return { wrong, busy, attempt };
}

function wordsOfFault(t: Strings, error: unknown): string {
  return error instanceof LegatoError && error.status === 429 ? t.signIn.often : t.errors.unreachable;
}

function issuerFault(t: Strings, why: string): string {
  const faults: Readonly<Record<string, string>> = t.signIn.issuerFaults;
  return Object.hasOwn(faults, why) ? (faults[why] ?? t.signIn.issuerFaults.failed) : t.signIn.issuerFaults.failed;
}
