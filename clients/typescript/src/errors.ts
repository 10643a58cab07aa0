/**
 * What the client throws: one class, told apart by `code`. A reply that failed is no exception, but the event `error`.
 */

/** One wrong field of a request. */
export interface FieldFault {
  /** Its dotted name. */
  readonly field: string;
  readonly message: string;
  /** The known name that an unknown one was probably meant to be. */
  readonly nearest?: string | null;
}

/**
 * Codes of the client itself. All others are the server's (docs/reference/errors.md).
 *
 * - `unreachable`: no server answers, or one that was cut off has not come back
 * - `bad_address`: `baseUrl` is no address of a server
 * - `not_legato`: what answers is no Legato server
 * - `bad_stream`: what answers does not speak the protocol
 * - `aborted`: `abort()` was called or the signal was; the reply goes on
 * - `headers_failed`: the function that gives the headers threw
 * - `diverged`: the server has another text than the one that was shown
 */
export type ClientCode =
  | "unreachable"
  | "bad_address"
  | "not_legato"
  | "bad_stream"
  | "aborted"
  | "headers_failed"
  | "diverged";

/** Codes of the server that a client commonly tells apart. */
export type ServerCode =
  | "invalid_request"
  | "idempotency_key_reused"
  | "message_too_long"
  | "body_too_large"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "cursor_diverged"
  | "run_gone"
  | "budget_exceeded"
  | "conversation_busy"
  | "rate_limited"
  | "overloaded"
  | "draining"
  | "issuer_unavailable"
  | "storage_unavailable";

export type LegatoErrorCode = ClientCode | ServerCode | (string & {});

export interface LegatoErrorInit {
  readonly code: LegatoErrorCode;
  readonly status?: number | null;
  readonly retryable?: boolean;
  readonly retryAfterS?: number | null;
  readonly fields?: readonly FieldFault[];
  readonly cause?: unknown;
}

/** A request was refused, or could not be made. */
export class LegatoError extends Error {
  override readonly name = "LegatoError";
  /** Stable, snake_case. */
  readonly code: LegatoErrorCode;
  /** Of the HTTP answer; `null` where there was none. */
  readonly status: number | null;
  /** Whether the same call may succeed later, unchanged. */
  readonly retryable: boolean;
  /** Seconds that the server asks to wait before that. */
  readonly retryAfterS: number | null;
  /** Each wrong field of the request; empty where none was named. */
  readonly fields: readonly FieldFault[];

  constructor(message: string, init: LegatoErrorInit) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.status = init.status ?? null;
    this.retryable = init.retryable ?? false;
    this.retryAfterS = init.retryAfterS ?? null;
    this.fields = init.fields ?? [];
  }
}
