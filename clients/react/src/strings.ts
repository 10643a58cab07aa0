/** What `ChatInterface` says, in English; give others by its prop `strings`. */

import type { ProblemAction } from "./types.ts";

export interface ChatStrings {
  readonly conversation: string;
  readonly you: string;
  readonly assistant: string;
  readonly message: string;
  readonly send: string;
  readonly stop: string;
  readonly stopping: string;
  readonly older: string;
  readonly loading: string;
  readonly empty: string;
  readonly retry: string;
  /** Reads the conversation again. */
  readonly reload: string;
  readonly discard: string;
  readonly dismiss: string;
  readonly regenerate: string;
  readonly edit: string;
  /** Label of the field in which a message is edited. */
  readonly editing: string;
  readonly cancel: string;
  /** Shows the version before this one. */
  readonly previous: string;
  /** Shows the version after this one. */
  readonly next: string;
  /** Which version is shown; `at` counts from 1. */
  readonly version: (at: number, of: number) => string;
  readonly unsent: string;
  readonly queued: string;
  readonly replying: string;
  readonly thinking: string;
  readonly reconnecting: string;
  readonly offline: string;
  readonly stopped: string;
  readonly failed: string;
  readonly input: string;
  readonly output: string;
  readonly approve: string;
  readonly deny: string;
  /** What helps, beside the words of the error itself; empty says nothing. */
  readonly help: Readonly<Record<ProblemAction, string>>;
}

export const ENGLISH: ChatStrings = {
  conversation: "Conversation",
  you: "You",
  assistant: "Assistant",
  message: "Message",
  send: "Send",
  stop: "Stop",
  stopping: "Stopping…",
  older: "Show older messages",
  loading: "Loading…",
  empty: "Say something to begin.",
  retry: "Try again",
  reload: "Load again",
  discard: "Discard",
  dismiss: "Dismiss",
  regenerate: "Ask again",
  edit: "Edit",
  editing: "Edit your message",
  cancel: "Cancel",
  previous: "Previous version",
  next: "Next version",
  version: (at, of) => `Version ${at} of ${of}`,
  unsent: "Not sent",
  queued: "Waiting for an earlier reply…",
  replying: "The assistant is replying.",
  thinking: "Reasoning",
  reconnecting: "The connection was lost; it is being opened again…",
  offline: "There is no network.",
  stopped: "Stopped",
  failed: "The reply could not be completed",
  input: "Input",
  output: "Output",
  approve: "Allow",
  deny: "Refuse",
  help: {
    retry: "Try again.",
    wait: "Wait a little, then try again.",
    sign_in: "Sign in, or ask for a key that may do this.",
    shorten: "Shorten the message.",
    configure: "The server has no model that answers: its operator has to configure one.",
    reload: "The conversation has changed: load it again.",
    none: "",
  },
};
