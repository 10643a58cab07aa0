/** One place in the conversation of `ChatInterface`, drawn again only when what stands there changed. */

import { memo, type RefObject, useEffect, useRef, useState } from "react";

import { EditForm } from "./edit_form.tsx";
import { actionFor } from "./problem.ts";
import type { ChatActions } from "./store.ts";
import type { ChatStrings } from "./strings.ts";
import { ToolItem } from "./tool_item.tsx";
import type { ChatMessage } from "./types.ts";
import { VersionSwitcher } from "./version_switcher.tsx";

/** What happened in a message that concerns the whole chat. */
export interface MessageEvents {
  /** Another version is shown; its place is from 0. */
  readonly switched: (at: number, of: number) => void;
  /** An edit was sent: there is nothing left here to hold the focus. */
  readonly edited: () => void;
}

export interface MessageItemProps {
  readonly message: ChatMessage;
  readonly strings: ChatStrings;
  /** Nothing can be sent: buttons stay where they are, so that the focus does too, and do nothing. */
  readonly busy: boolean;
  readonly actions: Pick<ChatActions, "retry" | "discard" | "regenerate" | "decide" | "edit" | "selectBranch">;
  readonly events: MessageEvents;
}

export const MessageItem = memo(function MessageItem(props: MessageItemProps) {
  const { message, strings, actions } = props;
  const isUser = message.role === "user";
  const making = message.status === "running" || (message.status === "sending" && !isUser);
  const reasoning = message.parts.map((part) => (part.type === "reasoning" ? part.text : "")).join("");
  // A place outlives its message where another version is shown in it; what was being written there does not.
  const [editing, setEditing] = useState<string | null>(null);
  const isEdited = editing === message.key;
  const editButton = useRef<HTMLButtonElement>(null);
  const wasEdited = useRef(false);
  useEffect(() => {
    if (wasEdited.current && !isEdited) editButton.current?.focus();
    wasEdited.current = isEdited;
  }, [isEdited]);
  const edit = (text: string): void => {
    if (!actions.edit(message.id, text)) return;
    wasEdited.current = false;
    setEditing(null);
    props.events.edited();
  };
  return (
    <article className="legato-message" data-role={message.role} data-status={message.status}>
      <h3 className="legato-message-role">{isUser ? strings.you : strings.assistant}</h3>
      {reasoning !== "" && (
        <details className="legato-tool">
          <summary>{strings.thinking}</summary>
          <div className="legato-message-text">{reasoning}</div>
        </details>
      )}
      {message.tools.map((call) => (
        <ToolItem key={call.callId} call={call} strings={strings} decide={actions.decide} />
      ))}
      {isEdited ? (
        <EditForm
          text={message.content}
          strings={strings}
          disabled={props.busy}
          onSend={edit}
          onCancel={() => setEditing(null)}
        />
      ) : (
        <div className="legato-message-text">
          {message.content}
          {making && <span className="legato-cursor" aria-hidden="true" />}
        </div>
      )}
      <Ending message={message} strings={strings} actions={actions} />
      {!isEdited && <Tools {...props} making={making} editButton={editButton} onEdit={() => setEditing(message.key)} />}
    </article>
  );
});

/** What is to be said of a message's end, or of its waiting. */
function Ending({ message, strings, actions }: Pick<MessageItemProps, "message" | "strings" | "actions">) {
  const { status, error } = message;
  return (
    <>
      {status === "queued" && <p className="legato-note">{strings.queued}</p>}
      {status === "stopped" && <p className="legato-note">{strings.stopped}</p>}
      {status === "unsent" && (
        <p className="legato-note">
          {strings.unsent}{" "}
          <button type="button" onClick={() => actions.retry(message.id)}>
            {strings.retry}
          </button>{" "}
          <button type="button" onClick={() => actions.discard(message.id)}>
            {strings.discard}
          </button>
        </p>
      )}
      {error !== null && (
        <p className="legato-note">
          {strings.failed}: {error.message} {strings.help[actionFor(error.code, error.retryable, false)]}
        </p>
      )}
    </>
  );
}

interface ToolsProps extends MessageItemProps {
  readonly making: boolean;
  readonly editButton: RefObject<HTMLButtonElement | null>;
  readonly onEdit: () => void;
}

function Tools({ message, strings, busy, actions, events, making, editButton, onEdit }: ToolsProps) {
  const { role, siblings } = message;
  // The first reply to a message has nothing that could be pressed before it is there.
  if (role === "assistant" && siblings.length < 2 && (making || message.status === "queued")) return null;
  const select = (messageId: string, at: number): void => {
    void actions.selectBranch(messageId);
    events.switched(at, siblings.length);
  };
  return (
    <div className="legato-tools">
      <VersionSwitcher message={message} strings={strings} disabled={busy} onSelect={select} />
      {role === "user" ? (
        <button type="button" ref={editButton} aria-disabled={busy} onClick={() => busy || onEdit()}>
          {strings.edit}
        </button>
      ) : (
        <button type="button" aria-disabled={busy} onClick={() => busy || actions.regenerate(message.id)}>
          {strings.regenerate}
        </button>
      )}
    </div>
  );
}
