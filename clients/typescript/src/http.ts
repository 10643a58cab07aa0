/** Requests of a server, and what its answers say when they are refusals. */

import { checkAddress } from "./address.ts";
import { type FieldFault, LegatoError } from "./errors.ts";
import type { Settings } from "./options.ts";
import { isObject } from "./read_event.ts";
import { SseParser } from "./sse.ts";

export interface RequestParts {
  readonly method: string;
  /** From the server's root on, with a slash at its beginning. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly signal?: AbortSignal;
}

/** Most characters that are read of an answer that is an error. */
const MOST_ERROR_CHARS = 65_536;

/**
 * Make a request; what is thrown is `fetch`'s own, or a LegatoError of an address or headers that cannot be sent.
 *
 * Redirections are not followed: they would lose body or key.
 */
export async function request(settings: Settings, parts: RequestParts): Promise<Response> {
  checkAddress(settings.baseUrl);
  const headers = new Headers(await ownHeaders(settings));
  for (const [name, value] of Object.entries(parts.headers ?? {})) headers.set(name, value);
  if (parts.body !== undefined) headers.set("Content-Type", "application/json");
  return await settings.fetch(settings.baseUrl + parts.path, {
    method: parts.method,
    headers,
    cache: "no-store",
    redirect: "manual",
    ...(parts.body !== undefined && { body: JSON.stringify(parts.body) }),
    ...(parts.signal && { signal: parts.signal }),
  });
}

async function ownHeaders(settings: Settings): Promise<Record<string, string>> {
  if (typeof settings.headers !== "function") return settings.headers;
  try {
    return await settings.headers();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new LegatoError(`no headers for the request: ${why}`, { code: "headers_failed", cause: error });
  }
}

/** Whether an answer is an event stream by its content type. */
export function isEventStream(response: Response): boolean {
  const type = response.headers.get("content-type") ?? "";
  return type.split(";", 1)[0]?.trim().toLowerCase() === "text/event-stream";
}

/** Return what an answer that is no success says. It reads the body; one that cannot be read says nothing. */
export async function refusal(response: Response): Promise<LegatoError> {
  const { status } = response;
  const retryAfterS = retryAfter(response.headers.get("retry-after"));
  if (status === 0 || (status >= 300 && status < 400)) {
    await response.body?.cancel().catch(() => {});
    return notLegato("the server redirects elsewhere: give its real address as baseUrl", status || null);
  }
  const told = problemOf(await bodyText(response), response);
  if (told === null) {
    const message = `what answers at this address is no Legato server (status ${status})`;
    return new LegatoError(message, { code: "not_legato", status, retryAfterS, retryable: status >= 502 || status === 429 });
  }
  return new LegatoError(told.message, { ...told, status, retryAfterS });
}

/** Return the error for an answer that is none of Legato's. */
export function notLegato(message: string, status: number | null): LegatoError {
  return new LegatoError(message, { code: "not_legato", status });
}

/** Return seconds of a `Retry-After` header, a number or a date; `null` where it says neither. */
export function retryAfter(header: string | null, nowMs: number = Date.now()): number | null {
  if (header === null) return null;
  if (/^\s*[0-9]+(\.[0-9]+)?\s*$/.test(header)) return Number(header);
  const atMs = Date.parse(header);
  return Number.isNaN(atMs) ? null : Math.max(0, (atMs - nowMs) / 1000);
}

async function bodyText(response: Response): Promise<string> {
  try {
    return (await response.text()).slice(0, MOST_ERROR_CHARS);
  } catch {
    return "";
  }
}

interface Told {
  readonly message: string;
  readonly code: string;
  readonly retryable: boolean;
  readonly fields: readonly FieldFault[];
}

/** Return the error that a body tells, in either of its two forms: problem details, or an `error` event. */
function problemOf(text: string, response: Response): Told | null {
  let problem: unknown;
  try {
    problem = JSON.parse(isEventStream(response) ? eventData(text) : text);
  } catch {
    return null;
  }
  if (!isObject(problem) || typeof problem["code"] !== "string") return null;
  const words = [problem["detail"], problem["error"], problem["title"]].find((each) => typeof each === "string");
  return {
    message: typeof words === "string" ? words : "the server refused the request",
    code: problem["code"],
    retryable: problem["retryable"] === true,
    fields: fieldsOf(problem["errors"]),
  };
}

function eventData(text: string): string {
  const events = new SseParser().feed(new TextEncoder().encode(text));
  return events.find((event) => event.name === "error")?.data ?? "";
}

function fieldsOf(errors: unknown): readonly FieldFault[] {
  if (!Array.isArray(errors)) return [];
  return errors.flatMap((each: unknown) => {
    if (!isObject(each) || typeof each["field"] !== "string" || typeof each["message"] !== "string") return [];
    const nearest = typeof each["nearest"] === "string" ? each["nearest"] : null;
    return [{ field: each["field"], message: each["message"], nearest }];
  });
}
