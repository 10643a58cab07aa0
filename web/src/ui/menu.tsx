import { clsx } from "clsx";
import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";

import { IconButton, type IconButtonProps } from "./button.tsx";

export interface MenuItem {
  readonly label: string;
  readonly icon?: ReactNode;
  readonly danger?: boolean;
  readonly checked?: boolean;
  readonly onSelect: () => void;
}

interface MenuProps extends Omit<IconButtonProps, "onSelect"> {
  readonly items: readonly MenuItem[];
}

/** A button that opens a list of actions: arrows move, Esc and a click beside it close it. */
export function Menu({ items, className, ...button }: MenuProps) {
  const [open, setOpen] = useState(false);
  const anchor = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();

  useEffect(() => {
    const menu = list.current;
    const at = anchor.current;
    if (!open || !menu || !at) return;
    menu.showPopover();
    const box = at.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = menu;
    const below = box.bottom + 4 + height <= innerHeight - 8;
    menu.style.top = `${Math.max(8, below ? box.bottom + 4 : box.top - height - 4)}px`;
    menu.style.left = `${Math.min(Math.max(8, box.right - width), innerWidth - width - 8)}px`;
    menu.querySelector<HTMLElement>("[role^=menuitem]")?.focus();
  }, [open]);

  const move = (event: KeyboardEvent): void => {
    const choices = [...(list.current?.querySelectorAll<HTMLElement>("[role^=menuitem]") ?? [])];
    const now = choices.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: choices.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      choices.at(to % choices.length)?.focus();
    } else if (event.key === "Tab") {
      close(true);
    } else if (event.key === "Escape") {
      // The same key stops a reply: here it only closes the menu.
      event.stopPropagation();
      event.preventDefault();
      close(true);
    }
  };

  const close = (giveBack: boolean): void => {
    setOpen(false);
    if (giveBack) anchor.current?.focus();
  };

  return (
    <>
      <IconButton
        ref={anchor}
        {...button}
        aria-haspopup="menu"
        aria-expanded={open}
        {...(open ? { "aria-controls": id } : {})}
        className={clsx(open && "bg-hover !text-ink", className)}
        onClick={(event) => {
          event.stopPropagation();
          setOpen((was) => !was);
        }}
      />
      {open && (
        <div
          ref={list}
          id={id}
          role="menu"
          popover="auto"
          aria-label={button.label}
          onKeyDown={move}
          onToggle={(event) => event.newState === "closed" && setOpen(false)}
          className="fixed m-0 max-h-[80dvh] max-w-72 min-w-44 overflow-y-auto rounded-xl border border-line bg-raise p-1 text-ink shadow-float"
        >
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role={item.checked === undefined ? "menuitem" : "menuitemradio"}
              {...(item.checked === undefined ? {} : { "aria-checked": item.checked })}
              tabIndex={-1}
              onClick={(event) => {
                event.stopPropagation();
                close(true);
                item.onSelect();
              }}
              className={clsx(
                "flex min-h-9 w-full items-center gap-3 rounded-lg px-3 py-1.5 text-left text-sm outline-offset-[-2px] hover:bg-hover focus:bg-hover",
                item.danger && "text-danger",
              )}
            >
              {item.icon && <span className={clsx("shrink-0", !item.danger && "text-ink-faint")}>{item.icon}</span>}
              <span className="min-w-0 break-words">{item.label}</span>
            </button>
          ))}
        </div>
      )}
    </>
  );
}
