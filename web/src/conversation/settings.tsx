import type { ConversationChange, ConversationOut } from "@legato/client";
import { type FormEvent, useState } from "react";

import { useModels } from "../app/session.ts";
import { useWords } from "../app/words.ts";
import { Button } from "../ui/button.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { Select, TextArea, TextField } from "../ui/field.tsx";
import { UsedSoFar } from "./used_so_far.tsx";

/** What a conversation's replies are made with; `null` is the server's own. */
export interface ReplySettings {
  readonly model: string | null;
  readonly systemPrompt: string | null;
  readonly temperature: number | null;
  readonly maxTokens: number | null;
}

export const NO_SETTINGS: ReplySettings = { model: null, systemPrompt: null, temperature: null, maxTokens: null };

export const settingsOf = ({ model, systemPrompt, temperature, maxTokens }: ConversationOut): ReplySettings => ({
  model,
  systemPrompt,
  temperature,
  maxTokens,
});

interface SettingsProps {
  /** `null` of a conversation that has not begun. */
  readonly conversationId: string | null;
  readonly settings: ReplySettings;
  readonly onSave: (settings: ReplySettings & ConversationChange) => void;
  readonly onClose: () => void;
}

export function Settings({ conversationId, settings, onSave, onClose }: SettingsProps) {
  const t = useWords();
  const models = useModels();
  const [model, setModel] = useState(settings.model ?? "");
  const [prompt, setPrompt] = useState(settings.systemPrompt ?? "");
  const [temperature, setTemperature] = useState(settings.temperature?.toString() ?? "");
  const [maxTokens, setMaxTokens] = useState(settings.maxTokens?.toString() ?? "");
  const known = models?.models ?? [];
  const save = (event: FormEvent): void => {
    event.preventDefault();
    onSave({
      model: model || null,
      systemPrompt: prompt.trim() || null,
      temperature: temperature === "" ? null : Number(temperature),
      maxTokens: maxTokens === "" ? null : Number(maxTokens),
    });
    onClose();
  };
  return (
    <Dialog title={t.settings.title} onClose={onClose} side>
      <form onSubmit={save} className="flex flex-1 flex-col gap-5">
        <Select label={t.settings.model} value={model} onChange={(event) => setModel(event.target.value)}>
          <option value="">{models?.default ? t.settings.modelDefault(models.default) : t.settings.modelNone}</option>
          {known.map(({ id }) => (
            <option key={id} value={id}>
              {id}
            </option>
          ))}
          {model && !known.some(({ id }) => id === model) && <option value={model}>{model}</option>}
        </Select>
        <TextArea
          label={t.settings.systemPrompt}
          hint={t.settings.systemPromptHint}
          value={prompt}
          onChange={(event) => setPrompt(event.target.value)}
          className="min-h-40"
        />
        <TextField
          label={t.settings.temperature}
          hint={t.settings.temperatureHint}
          type="number"
          min={0}
          max={2}
          step={0.1}
          value={temperature}
          onChange={(event) => setTemperature(event.target.value)}
        />
        <TextField
          label={t.settings.maxTokens}
          hint={t.settings.maxTokensHint}
          type="number"
          min={1}
          max={1_000_000}
          step={1}
          value={maxTokens}
          onChange={(event) => setMaxTokens(event.target.value)}
        />
        {conversationId !== null && <UsedSoFar conversationId={conversationId} />}
        <div className="mt-auto flex justify-end gap-2 pt-2">
          <Button onClick={onClose}>{t.app.cancel}</Button>
          <Button look="accent" type="submit">
            {t.app.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
