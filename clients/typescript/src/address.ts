/** A server's address: whether it is one, and how it is named to people. */

import { LegatoError } from "./errors.ts";

/** Return where a server is, without name, password, query and fragment; as it was given where it is no address. */
export function addressOf(baseUrl: string): string {
  const url = parse(baseUrl);
  if (url !== null) return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
  return baseUrl.replace(/[?#].*$/s, "").replace(/^(.*\/\/)?[^/]*@/, "$1");
}

/** Throw a LegatoError where no request can be made of an address, and say what would be right. */
export function checkAddress(baseUrl: string): void {
  const url = parse(baseUrl);
  const wrong = url === null ? faultOf(baseUrl) : faultOfUrl(url);
  if (wrong !== null) throw new LegatoError(`baseUrl ${wrong}`, { code: "bad_address" });
}

/** Return the error for a server that does not answer; `wasThere` tells whether it did before. */
export function unreachable(baseUrl: string, wasThere: boolean, cause: unknown): LegatoError {
  const address = addressOf(baseUrl);
  const page = pageOrigin();
  // A browser tells nobody which of the two it is.
  const isElsewhere = page !== null && parse(baseUrl)?.origin !== page;
  const orBarred = isElsewhere ? `, or it lets no page of ${page} in: its LEGATO_ALLOWED_ORIGINS` : "";
  const message = wasThere
    ? `the server at ${address} was lost and has not come back; the reply may be there when it is`
    : `no server answers at ${address}${orBarred}`;
  return new LegatoError(message, { code: "unreachable", retryable: true, cause });
}

function faultOf(baseUrl: string): string {
  if (baseUrl === "" || baseUrl.startsWith("/")) return "has no page here to be relative to: give http://HOST:PORT";
  const address = addressOf(baseUrl);
  const meant = address.replace(/^[a-z][a-z+.-]*:\/*(?!\d+(\/|$))/i, "");
  return `"${address}" is no address of a server: http://${meant} perhaps`;
}

function faultOfUrl(url: URL): string | null {
  if (url.username !== "" || url.password !== "") {
    return "has a name and a password in it, with which nothing can be fetched: send them in headers";
  }
  if (url.search !== "" || url.hash !== "") return `ends in a query or a fragment: give ${addressOf(url.href)} alone`;
  return null;
}

/** Return an address of http or https, relative to the page in a browser; null for anything else. */
function parse(baseUrl: string): URL | null {
  try {
    const url = new URL(baseUrl, pageOrigin() ?? undefined);
    return url.protocol === "http:" || url.protocol === "https:" ? url : null;
  } catch {
    return null;
  }
}

/** Return the page's own origin, null outside of a page and where it has none. */
function pageOrigin(): string | null {
  const origin = (globalThis as { location?: { origin?: string } }).location?.origin;
  return origin === undefined || origin === "null" ? null : origin;
}
