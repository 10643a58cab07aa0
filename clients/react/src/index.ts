/** A conversation with a Legato server in React: a store, a hook over it, and a plain component. */

export { ChatInterface, type ChatInterfaceProps } from "./chat_interface.tsx";
export { actionFor, problemOf } from "./problem.ts";
export { BATCH_MS, type Scheduler, SLICE_CHARS, systemScheduler } from "./schedule.ts";
export { type ChatActions, ConversationStore } from "./store.ts";
export { type ChatStrings, ENGLISH } from "./strings.ts";
export type * from "./types.ts";
export { type Chat, useChat } from "./use_chat.ts";
