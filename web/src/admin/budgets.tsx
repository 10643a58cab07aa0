import {
  type Budget,
  type BudgetPer,
  type BudgetPeriod,
  type Budgets as BudgetsOf,
  type BudgetUse,
  LegatoError,
} from "@legato/client";
import { Plus, Wallet } from "lucide-react";
import { type FormEvent, useState } from "react";

import { api } from "../app/server.ts";
import { useLanguage, useWords } from "../app/words.ts";
import { errorText } from "../conversation/error_words.ts";
import { dollars, percent } from "../format/amounts.ts";
import { fullTime } from "../format/times.ts";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { Select, TextField } from "../ui/field.tsx";
import { Empty } from "../ui/notices.tsx";
import { toast } from "../ui/toast.tsx";
import { Shown } from "./parts.tsx";
import { useAsked } from "./use_asked.ts";

const askBudgets = async (): Promise<BudgetsOf> => await api.admin.budgets();
const PERS: readonly BudgetPer[] = ["server", "principal", "key", "session", "model"];
const PERIODS: readonly BudgetPeriod[] = ["day", "month", "all"];

interface Open {
  readonly what: "set" | "remove";
  readonly budget: Budget | null;
}

/** What may be spent, what is, and where both are changed. */
export function Budgets() {
  const words = useWords().admin.budgets;
  const asked = useAsked(askBudgets, 5_000);
  const [open, setOpen] = useState<Open | null>(null);
  const close = () => setOpen(null);
  const add = (
    <Button onClick={() => setOpen({ what: "set", budget: null })}>
      <Plus size={16} aria-hidden />
      {words.add}
    </Button>
  );
  return (
    <>
      <Shown asked={asked}>
        {({ budgets, unpriced }) =>
          budgets.length === 0 ? (
            <Empty icon={<Wallet size={28} />} title={words.none}>
              <p className="mb-4">{words.noneHint}</p>
              {add}
            </Empty>
          ) : (
            <div className="flex flex-col items-start gap-4">
              {unpriced.length > 0 && <p className="text-sm text-ink-soft">{words.unpriced(unpriced.join(", "))}</p>}
              {add}
              <ul className="flex w-full flex-col gap-3">
                {budgets.map((budget) => (
                  <Line
                    key={`${budget.per} ${budget.name} ${budget.period} ${budget.fixed}`}
                    budget={budget}
                    onOpen={(what) => setOpen({ what, budget })}
                  />
                ))}
              </ul>
            </div>
          )
        }
      </Shown>
      {open?.what === "set" && <SetBudget budget={open.budget} onClose={close} onChanged={asked.again} />}
      {open?.what === "remove" && open.budget && (
        <RemoveBudget budget={open.budget} onClose={close} onChanged={asked.again} />
      )}
    </>
  );
}

function Line({ budget, onOpen }: { budget: Budget; onOpen: (what: Open["what"]) => void }) {
  const language = useLanguage();
  const words = useWords().admin.budgets;
  const isEach = budget.name === "*" && budget.per !== "server";
  return (
    <li className="rounded-2xl border border-line bg-raise p-4" data-budget={budget.per}>
      <div className="flex flex-wrap items-baseline gap-x-3 gap-y-1">
        <h2 className="text-sm font-medium">
          {words.pers[budget.per]} {isEach && `(${words.each})`}
          {!isEach && budget.per !== "server" && <span className="font-mono break-all">{budget.name}</span>}
        </h2>
        <span className="text-sm tabular-nums">
          {dollars(budget.limit.usd, language)} {words.periods[budget.period]}
        </span>
        {budget.until !== null && (
          <span className="text-xs text-ink-soft">{words.until(fullTime(budget.until, language))}</span>
        )}
        <span className="text-xs text-ink-soft">{words.warns(percent(budget.warnPercent / 100, language))}</span>
        {(budget.fixed || budget.overridden) && (
          <span className="rounded-md bg-panel px-2 py-0.5 text-xs text-ink-soft">
            {budget.fixed ? words.fixed : words.overridden}
          </span>
        )}
      </div>
      {budget.uses.length === 0 && <p className="mt-2 text-sm text-ink-soft">{words.unused}</p>}
      <ul className="mt-2 flex flex-col gap-3">
        {budget.uses.map((use, at) => (
          <Spent key={use.subject ?? at} use={use} budget={budget} isNamed={isEach} />
        ))}
      </ul>
      {!budget.fixed && !budget.overridden && (
        <div className="mt-3 flex flex-wrap gap-2">
          <Button onClick={() => onOpen("set")}>{words.change}</Button>
          <Button look="danger" onClick={() => onOpen("remove")}>
            {words.remove}
          </Button>
        </div>
      )}
    </li>
  );
}

function Spent({ use, budget, isNamed }: { use: BudgetUse; budget: Budget; isNamed: boolean }) {
  const language = useLanguage();
  const words = useWords().admin.budgets;
  const limit = Number(budget.limit.usd);
  const share = limit > 0 ? Math.min(1, Number(use.spent.usd) / limit) : 1;
  const isMuch = share * 100 >= budget.warnPercent;
  const text = words.spent(dollars(use.spent.usd, language), dollars(budget.limit.usd, language));
  return (
    <li>
      <div className="flex flex-wrap items-baseline justify-between gap-x-3">
        {isNamed && <span className="font-mono text-xs break-all">{use.subject ?? "–"}</span>}
        <span className="text-xs text-ink-soft tabular-nums">
          {text} ({percent(share, language)})
          {Number(use.reserved.usd) > 0 && ` · ${words.reserved(dollars(use.reserved.usd, language))}`}
        </span>
      </div>
      <div
        role="meter"
        aria-label={use.subject ?? words.pers[budget.per]}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(share * 100)}
        aria-valuetext={text}
        className="mt-1 h-2 overflow-hidden rounded-full bg-line"
      >
        <div className={isMuch ? "h-full bg-danger" : "h-full bg-accent"} style={{ width: `${share * 100}%` }} />
      </div>
    </li>
  );
}

interface Changing {
  readonly onClose: () => void;
  readonly onChanged: () => void;
}

function SetBudget({ budget, onClose, onChanged }: Changing & { budget: Budget | null }) {
  const t = useWords();
  const words = t.admin.budgets;
  const [per, setPer] = useState<BudgetPer>(budget?.per ?? "principal");
  const [name, setName] = useState(budget?.name ?? "*");
  const [period, setPeriod] = useState<BudgetPeriod>(budget?.period ?? "month");
  const [limitUsd, setLimit] = useState(budget?.limit.usd ?? "");
  const [warn, setWarn] = useState(String(budget?.warnPercent ?? 80));
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const isKnown = budget !== null;
  const save = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      const key = { per, name: per === "server" ? "*" : name.trim(), period };
      await api.admin.setBudget({ ...key, limitUsd: limitUsd.trim(), warnPercent: Number(warn) });
      toast({ text: words.saved });
      onClose();
    } catch (fault) {
      const isLimit = fault instanceof LegatoError && fault.fields.some(({ field }) => field === "limitUsd");
      setError(isLimit ? words.wrongLimit : errorText(fault, t));
    } finally {
      setBusy(false);
      onChanged();
    }
  };
  return (
    <Dialog title={isKnown ? words.change : words.add} onClose={onClose}>
      <form className="flex flex-col gap-4" onSubmit={(event) => void save(event)}>
        <Select
          label={words.per}
          value={per}
          disabled={isKnown}
          onChange={(event) => setPer(event.target.value as BudgetPer)}
        >
          {PERS.map((each) => (
            <option key={each} value={each}>
              {words.pers[each]}
            </option>
          ))}
        </Select>
        {per !== "server" && (
          <TextField
            label={words.name}
            hint={words.nameHint}
            value={name}
            required
            maxLength={200}
            disabled={isKnown}
            onChange={(event) => setName(event.target.value)}
          />
        )}
        <Select
          label={words.period}
          value={period}
          disabled={isKnown}
          onChange={(event) => setPeriod(event.target.value as BudgetPeriod)}
        >
          {PERIODS.map((each) => (
            <option key={each} value={each}>
              {words.periods[each]}
            </option>
          ))}
        </Select>
        <TextField
          label={words.limit}
          value={limitUsd}
          required
          inputMode="decimal"
          placeholder="12.50"
          error={error}
          onChange={(event) => setLimit(event.target.value)}
        />
        <TextField
          label={words.warn}
          hint={words.warnHint}
          type="number"
          min={1}
          max={100}
          required
          value={warn}
          onChange={(event) => setWarn(event.target.value)}
        />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>{t.app.cancel}</Button>
          <Button type="submit" look="accent" disabled={busy}>
            {words.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function RemoveBudget({ budget, onClose, onChanged }: Changing & { budget: Budget }) {
  const t = useWords();
  const words = t.admin.budgets;
  const remove = async () => {
    try {
      await api.admin.removeBudget({ per: budget.per, name: budget.name, period: budget.period });
      toast({ text: words.removed });
    } catch (fault) {
      toast({ text: errorText(fault, t), tone: "danger" });
    }
    onClose();
    onChanged();
  };
  return (
    <Dialog title={words.removeSure} onClose={onClose}>
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>{t.app.cancel}</Button>
        <Button look="danger" onClick={() => void remove()}>
          {words.remove}
        </Button>
      </div>
    </Dialog>
  );
}
