import { Archive, ChartColumn, CircleUser, Keyboard, LogOut, Settings2, Upload } from "lucide-react";
import { useState } from "react";

import { Account } from "../app/account.tsx";
import { changePreferences, type Language, type Theme, usePreferences } from "../app/preferences.ts";
import { signOut, useMe } from "../app/session.ts";
import { useWords } from "../app/words.ts";
import { Dialog } from "../ui/dialog.tsx";
import { Select } from "../ui/field.tsx";
import { Menu, type MenuItem } from "../ui/menu.tsx";

interface FootProps {
  readonly onArchive: () => void;
  readonly onKeyboard: () => void;
  readonly onImport: () => void;
}

export function Foot({ onArchive, onKeyboard, onImport }: FootProps) {
  const t = useWords();
  const me = useMe();
  const [choosing, setChoosing] = useState(false);
  const [looking, setLooking] = useState(false);
  const items: MenuItem[] = [
    { label: t.app.preferences, icon: <Settings2 size={16} />, onSelect: () => setChoosing(true) },
    { label: t.app.keyboard, icon: <Keyboard size={16} />, onSelect: onKeyboard },
    { label: t.sidebar.import, icon: <Upload size={16} />, onSelect: onImport },
    { label: t.sidebar.archive, icon: <Archive size={16} />, onSelect: onArchive },
    ...(me?.role === "admin"
      ? [{ label: t.app.admin, icon: <ChartColumn size={16} />, onSelect: () => location.assign("/admin") }]
      : []),
    ...(me?.via === "session"
      ? [
          { label: t.account.title, icon: <CircleUser size={16} />, onSelect: () => setLooking(true) },
          { label: t.app.signOut, icon: <LogOut size={16} />, onSelect: () => void signOut() },
        ]
      : []),
  ];
  return (
    <div className="flex items-center justify-between border-t border-line px-3 py-2">
      <span className="min-w-0 truncate pl-1 text-xs text-ink-faint">{me ? `Legato ${me.version}` : ""}</span>
      <Menu label={t.app.more} icon={<Settings2 size={18} />} items={items} />
      {choosing && <Choices onClose={() => setChoosing(false)} />}
      {looking && <Account onClose={() => setLooking(false)} />}
    </div>
  );
}

export function Choices({ onClose }: { onClose: () => void }) {
  const t = useWords();
  const { theme, language } = usePreferences();
  return (
    <Dialog title={t.app.preferences} onClose={onClose}>
      <Select
        label={t.app.theme}
        value={theme}
        onChange={(event) => changePreferences({ theme: event.target.value as Theme })}
      >
        <option value="system">{t.app.themes.system}</option>
        <option value="light">{t.app.themes.light}</option>
        <option value="dark">{t.app.themes.dark}</option>
      </Select>
      <Select
        label={t.app.languageLabel}
        value={language ?? ""}
        onChange={(event) => changePreferences({ language: (event.target.value || null) as Language | null })}
      >
        <option value="">{t.app.languageSystem}</option>
        <option value="en">English</option>
        <option value="de">Deutsch</option>
      </Select>
    </Dialog>
  );
}
