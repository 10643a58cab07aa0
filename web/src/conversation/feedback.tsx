import type { ChatMessage } from "@legato/react";
import { ThumbsDown, ThumbsUp } from "lucide-react";
import { type FormEvent, useState } from "react";

import { useWords } from "../app/words.ts";
import { Button, IconButton } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { TextArea } from "../ui/field.tsx";
import { toast } from "../ui/toast.tsx";

interface FeedbackProps {
  readonly message: ChatMessage;
  readonly onFeedback: (messageId: string, thumb: "up" | "down" | null, reason?: string) => Promise<void> | void;
}

/** Thumbs: the press counts at once, a reason may follow. */
export function Feedback({ message, onFeedback }: FeedbackProps) {
  const t = useWords();
  const [asking, setAsking] = useState<"up" | "down" | null>(null);
  const [reason, setReason] = useState("");
  const given = message.feedback?.thumb ?? null;
  const press = (thumb: "up" | "down"): void => {
    if (given === thumb) {
      void onFeedback(message.id, null);
      toast({ text: t.feedback.takenBack });
      return;
    }
    void onFeedback(message.id, thumb);
    setReason("");
    setAsking(thumb);
  };
  const send = (event: FormEvent): void => {
    event.preventDefault();
    if (asking && reason.trim()) void onFeedback(message.id, asking, reason.trim());
    setAsking(null);
    toast({ text: t.feedback.thanks });
  };
  return (
    <>
      <IconButton
        label={t.conversation.good}
        icon={<ThumbsUp size={16} fill={given === "up" ? "currentColor" : "none"} />}
        size="small"
        on={given === "up"}
        onClick={() => press("up")}
      />
      <IconButton
        label={t.conversation.bad}
        icon={<ThumbsDown size={16} fill={given === "down" ? "currentColor" : "none"} />}
        size="small"
        on={given === "down"}
        onClick={() => press("down")}
      />
      {asking && (
        <Dialog title={asking === "up" ? t.feedback.titleGood : t.feedback.titleBad} onClose={() => setAsking(null)}>
          <form onSubmit={send} className="flex flex-col gap-4">
            <TextArea
              label={t.feedback.label}
              hint={t.feedback.hint}
              autoFocus
              maxLength={2000}
              value={reason}
              onChange={(event) => setReason(event.target.value)}
            />
            <div className="flex justify-end gap-2">
              <Button onClick={() => setAsking(null)}>{t.app.cancel}</Button>
              <Button look="accent" type="submit">
                {t.feedback.send}
              </Button>
            </div>
          </form>
        </Dialog>
      )}
    </>
  );
}
