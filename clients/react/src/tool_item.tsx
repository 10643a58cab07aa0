/** One tool call of `ChatInterface`: folded, and open while a person is asked. */

import type { ToolCall } from "@legato/client";

import type { ChatActions } from "./store.ts";
import type { ChatStrings } from "./strings.ts";

export interface ToolItemProps {
  readonly call: ToolCall;
  readonly strings: ChatStrings;
  readonly decide: ChatActions["decide"];
}

export function ToolItem({ call, strings, decide }: ToolItemProps) {
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
