/** The shared cases of protocol/. */

import { readFileSync } from "node:fs";

import type { ReplyMessage } from "../src/message.ts";
import type { Answer, EventName } from "../src/reconnect.ts";

export interface SseCase {
  readonly name: string;
  readonly text?: string;
  readonly hex?: string;
  readonly events: readonly { name: string; data: string; id: string | null; lastEventId: string }[];
  readonly retryMs?: number;
}

export interface NativeCases {
  readonly empty: ReplyMessage;
  readonly cases: readonly {
    readonly name: string;
    readonly stream: readonly string[];
    readonly events: readonly (readonly [string, string | null])[];
    readonly message: Partial<ReplyMessage>;
  }[];
  readonly foreign: readonly { name: string; stream: readonly string[]; message: Partial<ReplyMessage> }[];
  readonly bad: readonly { name: string; stream: readonly string[] }[];
}

export interface ReconnectCases {
  readonly states: readonly string[];
  readonly final: readonly string[];
  readonly events: readonly string[];
  readonly table: Readonly<Record<string, Readonly<Record<string, readonly [string, string]>>>>;
  readonly paths: readonly { name: string; steps: readonly (readonly [string, string, string])[] }[];
  readonly answers: readonly (Answer & { readonly name: string; readonly event: EventName })[];
}

export interface DelayCase {
  readonly attempt: number;
  readonly jitter: number;
  readonly askedMs: number;
  readonly delayMs: number;
}

export interface DeliveryCase {
  readonly name: string;
  readonly steps: readonly (readonly [string, string?, string?])[];
  readonly error: string | null;
}

export interface CursorCase {
  readonly text: string;
  readonly cursor: { runId: string; epoch: number; seq: number } | null;
}

/** Return what a file of protocol/ holds. */
export function load<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../../protocol/${name}.json`, import.meta.url), "utf8")) as T;
}

/** Return a stream's blocks as the bytes that are sent. */
export function bytesOf(blocks: readonly string[]): Uint8Array {
  return new TextEncoder().encode(blocks.map((block) => `${block}\n\n`).join(""));
}
