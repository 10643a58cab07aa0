import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";

import { announce } from "../app/announcer.tsx";
import { useWords } from "../app/words.ts";
import { IconButton } from "./button.tsx";
import { toast } from "./toast.tsx";

interface CopyButtonProps {
  /** Asked when it is pressed. */
  readonly text: () => string;
  readonly label?: string;
  readonly className?: string;
}

export function CopyButton({ text, label, className }: CopyButtonProps) {
  const t = useWords();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1800);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async (): Promise<void> => {
    if (await copyText(text())) {
      setCopied(true);
      announce(t.app.copied);
    } else {
      toast({ text: t.app.copyFailed, tone: "danger" });
    }
  };
  return (
    <IconButton
      label={copied ? t.app.copied : (label ?? t.app.copy)}
      icon={copied ? <Check size={16} className="text-good" /> : <Copy size={16} />}
      size="small"
      onClick={() => void copy()}
      {...(className ? { className } : {})}
    />
  );
}

/** Whether the text is on the clipboard now. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
