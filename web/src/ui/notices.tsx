import { clsx } from "clsx";
import { CircleAlert, LoaderCircle } from "lucide-react";
import type { ReactNode } from "react";

/** A place where nothing is, and what to do about it. */
export function Empty({ icon, title, children }: { icon?: ReactNode; title: string; children?: ReactNode }) {
  return (
    <div className="flex flex-col items-center justify-center gap-2 px-6 py-12 text-center">
      {icon && <div className="mb-2 text-ink-faint">{icon}</div>}
      <p className="max-w-full text-[15px] font-medium break-words">{title}</p>
      {children && <div className="max-w-[min(24rem,100%)] text-sm break-words text-ink-soft">{children}</div>}
    </div>
  );
}

export function Loading({ label, className }: { label: string; className?: string }) {
  return (
    <div className={clsx("flex items-center justify-center gap-3 p-8 text-sm text-ink-soft", className)} role="status">
      <LoaderCircle size={18} className="animate-spin" aria-hidden />
      {label}
    </div>
  );
}

/** Something went wrong: what happened, then what to do. */
export function Trouble({
  title,
  hint,
  code,
  actions,
  tone = "danger",
}: {
  title: string;
  hint?: ReactNode;
  code?: string | null;
  actions?: ReactNode;
  tone?: "danger" | "warn";
}) {
  return (
    <div
      role="alert"
      className={clsx("flex gap-3 rounded-xl px-4 py-3 text-sm", tone === "danger" ? "bg-danger-soft" : "bg-warn-soft")}
      data-testid="trouble"
    >
      <CircleAlert
        size={18}
        className={clsx("mt-0.5 shrink-0", tone === "danger" ? "text-danger" : "text-warn")}
        aria-hidden
      />
      <div className="min-w-0 flex-1">
        <p className="font-medium break-words">{title}</p>
        {hint && <div className="mt-0.5 break-words text-ink-soft">{hint}</div>}
        {code && <p className="mt-1 font-mono text-xs break-words text-ink-soft">{code}</p>}
        {actions && <div className="mt-3 flex flex-wrap gap-2">{actions}</div>}
      </div>
    </div>
  );
}
