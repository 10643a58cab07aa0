import { clsx } from "clsx";
import type { ComponentProps, ReactNode } from "react";

type Look = "plain" | "accent" | "danger" | "quiet";

const LOOKS: Record<Look, string> = {
  plain: "border border-line-strong bg-raise text-ink hover:bg-hover",
  accent: "bg-accent text-on-accent hover:bg-accent-hover",
  danger: "border border-danger bg-danger-soft text-danger hover:bg-hover",
  quiet: "text-ink-soft hover:bg-hover hover:text-ink",
};

export function Button({ look = "plain", className, ...rest }: ComponentProps<"button"> & { look?: Look }) {
  return (
    <button
      type="button"
      className={clsx(
        "inline-flex min-h-9 items-center justify-center gap-2 rounded-lg px-3 text-sm font-medium transition-colors disabled:opacity-60",
        LOOKS[look],
        className,
      )}
      {...rest}
    />
  );
}

export interface IconButtonProps extends Omit<ComponentProps<"button">, "children"> {
  /** What it does, in words: shown as a hint and read by screen readers. */
  readonly label: string;
  readonly icon: ReactNode;
  readonly size?: "small" | "medium";
  /** Of a switch: whether it is on. */
  readonly on?: boolean | undefined;
}

export function IconButton({ label, icon, size = "medium", on, className, ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      {...(on === undefined ? {} : { "aria-pressed": on })}
      className={clsx(
        "inline-flex shrink-0 items-center justify-center rounded-lg transition-colors hover:bg-hover hover:text-ink disabled:opacity-50",
        size === "small" ? "size-8" : "size-9",
        on ? "text-accent" : "text-ink-soft",
        className,
      )}
      {...rest}
    >
      {icon}
    </button>
  );
}
