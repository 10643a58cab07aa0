import { clsx } from "clsx";
import { ChevronDown } from "lucide-react";
import { type ComponentProps, type ReactNode, useId } from "react";

const BOX = "w-full rounded-lg border border-line-strong bg-raise px-3 text-[15px] text-ink aria-invalid:border-danger";

interface Labelled {
  readonly label: string;
  readonly hint?: ReactNode;
  readonly error?: string | null;
}

function Frame({ label, hint, error, id, children }: Labelled & { id: string; children: ReactNode }) {
  return (
    <div className="flex flex-col gap-1.5">
      <label htmlFor={id} className="text-sm font-medium">
        {label}
      </label>
      {children}
      {hint && (
        <p id={`${id}-hint`} className="text-xs leading-relaxed text-ink-soft">
          {hint}
        </p>
      )}
      {error && (
        <p id={`${id}-error`} role="alert" className="text-sm text-danger">
          {error}
        </p>
      )}
    </div>
  );
}

const described = (id: string, { hint, error }: Labelled): { "aria-describedby"?: string } => {
  const ids = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return ids ? { "aria-describedby": ids } : {};
};

export function TextField({ label, hint, error, className, ...rest }: ComponentProps<"input"> & Labelled) {
  const id = useId();
  const words = { label, hint, error: error ?? null };
  return (
    <Frame {...words} id={id}>
      <input
        id={id}
        className={clsx(BOX, "h-10", className)}
        aria-invalid={error ? true : undefined}
        {...described(id, words)}
        {...rest}
      />
    </Frame>
  );
}

export function TextArea({ label, hint, error, className, ...rest }: ComponentProps<"textarea"> & Labelled) {
  const id = useId();
  const words = { label, hint, error: error ?? null };
  return (
    <Frame {...words} id={id}>
      <textarea
        id={id}
        className={clsx(BOX, "min-h-24 resize-y py-2 leading-relaxed", className)}
        {...described(id, words)}
        {...rest}
      />
    </Frame>
  );
}

export function Select({ label, hint, error, className, ...rest }: ComponentProps<"select"> & Labelled) {
  const id = useId();
  const words = { label, hint, error: error ?? null };
  return (
    <Frame {...words} id={id}>
      <div className="relative">
        {/* The browser's own arrow sticks to the border, and moves the words in. */}
        <select
          id={id}
          className={clsx(BOX, "h-10 appearance-none pr-9", className)}
          {...described(id, words)}
          {...rest}
        />
        <ChevronDown size={16} className="pointer-events-none absolute top-3 right-3 text-ink-faint" aria-hidden />
      </div>
    </Frame>
  );
}
