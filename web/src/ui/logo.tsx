import { useWords } from "../app/words.ts";

/** Two notes bound by a slur. */
export function Logo({ small = false }: { small?: boolean }) {
  const t = useWords();
  return (
    <span className="flex items-center gap-2.5 font-semibold tracking-tight">
      <svg viewBox="0 0 32 32" width={small ? 22 : 28} height={small ? 22 : 28} aria-hidden>
        <rect width="32" height="32" rx="8" className="fill-accent" />
        <path
          d="M7.5 14.5c3.5-7 13.5-7 17 0"
          fill="none"
          className="stroke-on-accent"
          strokeWidth="2.2"
          strokeLinecap="round"
        />
        <circle cx="9.5" cy="21" r="2.6" className="fill-on-accent" />
        <circle cx="22.5" cy="21" r="2.6" className="fill-on-accent" />
      </svg>
      {t.app.name}
    </span>
  );
}
