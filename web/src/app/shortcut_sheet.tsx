import { Dialog } from "../ui/dialog.tsx";
import { keysOf } from "./shortcuts.ts";
import { useWords } from "./words.ts";

const apple = /Mac|iPhone|iPad/.test(navigator.platform);

export function ShortcutSheet({ onClose }: { onClose: () => void }) {
  const t = useWords();
  const rows = [
    ["send", t.shortcuts.send],
    ["newLine", t.shortcuts.newLine],
    ["stop", t.shortcuts.stop],
    ["editLast", t.shortcuts.editLast],
    ["copyLast", t.shortcuts.copyLast],
    ["focus", t.shortcuts.focus],
    ["find", t.shortcuts.find],
    ["settings", t.shortcuts.settings],
    ["new", t.shortcuts.newChat],
    ["search", t.shortcuts.search],
    ["move", t.shortcuts.move],
    ["sidebar", t.shortcuts.sidebar],
    ["help", t.shortcuts.help],
  ] as const;
  return (
    <Dialog title={t.shortcuts.title} onClose={onClose}>
      <dl className="flex flex-col">
        {rows.map(([name, words]) => (
          <div key={name} className="flex items-center justify-between gap-4 border-b border-line py-2 last:border-0">
            <dt className="text-sm">{words}</dt>
            <dd className="flex shrink-0 gap-1">
              {keysOf(name, apple, t.shortcuts.keys).map((key) => (
                <kbd
                  key={key}
                  className="min-w-7 rounded-md border border-line bg-panel px-1.5 py-0.5 text-center font-sans text-xs text-ink-soft"
                >
                  {key}
                </kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
