import { X } from "lucide-react";
import { type ReactNode, useId, useLayoutEffect, useRef } from "react";

import { useWords } from "../app/words.ts";
import { IconButton } from "./button.tsx";

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ReactNode;
  /** A panel at the side instead of a box in the middle. */
  readonly side?: boolean;
}

/** A modal box: the browser keeps the focus inside, closes it with Esc, and gives the focus back. */
export function Dialog({ title, onClose, children, side = false }: DialogProps) {
  const t = useWords();
  const ref = useRef<HTMLDialogElement>(null);
  const heading = useId();
  // Before it leaves the page: a box that is taken away while it is open gives no focus back.
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) {
      dialog.showModal();
      // Where something is to be filled in, that is what one came for.
      dialog.querySelector<HTMLElement>("input, select, textarea")?.focus();
    }
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      aria-labelledby={heading}
      onClose={onClose}
      onClick={(event) => event.target === ref.current && onClose()}
      className={
        side
          ? "rise fixed top-0 right-0 bottom-0 left-auto m-0 h-dvh max-h-none w-full max-w-md overflow-y-auto border-l border-line bg-page text-ink shadow-float sm:max-w-sm"
          : "rise m-auto max-h-[min(90dvh,48rem)] w-[calc(100%-2rem)] max-w-lg overflow-y-auto rounded-2xl border border-line bg-page text-ink shadow-float"
      }
    >
      <div className="flex min-h-full flex-col gap-5 p-6">
        <div className="flex items-center justify-between gap-4">
          <h2 id={heading} className="text-lg font-semibold tracking-tight">
            {title}
          </h2>
          <IconButton label={t.app.close} icon={<X size={18} />} onClick={onClose} className="-mr-2" />
        </div>
        {children}
      </div>
    </dialog>
  );
}
