/** The TypeScript client of Legato: replies that survive cuts, and the server's JSON API with types. */

export type * from "./admin_types.ts";
export * from "./api.ts";
export * from "./api_admin.ts";
export type * from "./api_types.ts";
export {
  ChatClient,
  type ChatRequest,
  type FollowOptions,
  isLegatoError,
  type ReadOptions,
  type RegenerateRequest,
} from "./chat_client.ts";
export type { Clock, Network } from "./clock.ts";
export {
  type ClientCode,
  type FieldFault,
  LegatoError,
  type LegatoErrorCode,
  type LegatoErrorInit,
  type ServerCode,
} from "./errors.ts";
export type * from "./events.ts";
export { fold, foldAll } from "./fold.ts";
export { newId } from "./ids.ts";
export * from "./message.ts";
export { type ClientOptions, DEFAULT_RETRY, type HeadersSource, type RetryOptions } from "./options.ts";
export { ReplyStream } from "./reply_stream.ts";
export { type SseEvent, SseParser } from "./sse.ts";
