/** One message of `ChatInterface`, drawn again only when it changed. */

import type { ToolCall } from "@legato/client";
import { memo } from "react";

import { actionFor } from "./problem.ts";
import type { ChatActions } from "./store.ts";
import type { ChatStrings } from "./strings.ts";
import type { ChatMessage } from "./types.ts";

export interface MessageItemProps {
  readonly message: ChatMessage;
  readonly strings: ChatStrings;
  readonly actions: Pick<ChatActions, "retry" | "discard" | "regenerate" | "decide">;
}

export const MessageItem = memo(function MessageItem({ message, strings, actions }: MessageItemProps) {
  const isUser = message.role === "user";
  const making = message.status === "running" || (message.status === "sending" && !isUser);
  return (
    <article className="legato-message" data-role={message.role} data-status={message.status}>
      <h3 className="legato-message-role">{isUser ? strings.you : strings.assistant}</h3>
      {message.tools.map((call) => (
        <ToolItem key={call.callId} call={call} strings={strings} decide={actions.decide} />
      ))}
      <div className="legato-message-text">
        {message.content}
        {making && <span className="legato-cursor" aria-hidden="true" />}
      </div>
      {message.status === "queued" && <p className="legato-note">{strings.queued}</p>}
      {message.status === "stopped" && <p className="legato-note">{strings.stopped}</p>}
      {message.status === "unsent" && (
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
      {message.error !== null && (
        <p className="legato-note">
          {strings.failed}: {message.error.message}{" "}
          {strings.help[actionFor(message.error.code, message.error.retryable, false)]}{" "}
          <button type="button" onClick={() => actions.regenerate(message.id)}>
            {strings.regenerate}
          </button>
        </p>
      )}
    </article>
  );
});

interface ToolItemProps {
  readonly call: ToolCall;
  readonly strings: ChatStrings;
  readonly decide: ChatActions["decide"];
}

function ToolItem({ call, strings, decide }: ToolItemProps) {
  const asked = call.approval?.status === "asked" && call.output === null;
  return (
    <details className="legato-tool" data-status={call.status} open={asked}>
      <summary>
        {call.name}
        {call.elapsedMs === null ? "" : ` (${call.elapsedMs} ms)`}
      </summary>
      <h4>{strings.input}</h4>
      <pre tabIndex={0}>{call.arguments}</pre>
      {call.output !== null && (
        <>
          <h4>{strings.output}</h4>
          <pre tabIndex={0}>{call.output}</pre>
        </>
      )}
      {asked && (
        <p>
          <button type="button" onClick={() => void decide(call.callId, true)}>
            {strings.approve}
          </button>{" "}
          <button type="button" onClick={() => void decide(call.callId, false)}>
            {strings.deny}
          </button>
        </p>
      )}
    </details>
  );
}
